"""Opacus' clipped gradients of PyTorch networks, for the tables of this folder."""

# pyright: reportMissingImports=false

from collections.abc import Callable
from typing import Any

import numpy as np


def programs(make: Callable[[Any], Any], x: Any, label: Any, norm: float) -> dict[str, Callable[[], None]]:
    """Give PyTorch's rows, each a function without arguments; none where Opacus is not installed.

    `make(torch)` makes the network, `x` is its batch, and the losses are clipped to `norm`.
    """
    try:
        import torch
        from opacus.grad_sample import GradSampleModule
        from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import (
            GradSampleModuleFastGradientClipping as Ghost,
        )
    except ImportError:
        return {}
    inputs, labels = torch.tensor(np.asarray(x)), torch.tensor(np.asarray(label), dtype=torch.long)

    def losses(module, reduction):
        return torch.nn.functional.cross_entropy(module(inputs), labels, reduction=reduction)

    def clear(module):
        for param in module.parameters():
            param.grad = param.grad_sample = None

    plain, sampled = make(torch), GradSampleModule(make(torch))
    ghost = Ghost(make(torch), max_grad_norm=norm)

    def gradient():
        clear(plain)
        losses(plain, "sum").backward()

    def per_sample():
        clear(sampled)
        losses(sampled, "mean").backward()
        norms = torch.stack([p.grad_sample.flatten(1).norm(dim=1) for p in sampled.parameters()]).norm(dim=0)
        c = (norm / norms).clamp(max=1)
        for p in sampled.parameters():
            p.grad = torch.einsum("n,n...->...", c, p.grad_sample)

    def ghosts():
        clear(ghost)
        each = losses(ghost, "none")
        each.mean().backward(retain_graph=True)
        c = ghost.get_clipping_coef()
        clear(ghost)
        ghost.disable_hooks()
        (c * each).sum().backward()
        ghost.enable_hooks()

    return {
        "PyTorch: plain gradient": gradient,
        "Opacus: clipped, per-sample gradients": per_sample,
        "Opacus: clipped, ghost norms": ghosts,
    }


def mlp(torch: Any, sizes: list[int]) -> Any:
    """Make dense layers with ReLU between them."""
    layers = []
    for k, j in zip(sizes, sizes[1:], strict=False):
        layers += [torch.nn.Linear(k, j), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def cnn(torch: Any, side: int, channels: int) -> Any:
    """Make the network of `experiments.bench.function.cnn`, for images (n, side, side, channels)."""

    class Images(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Conv2d(channels, 16, 3, 2, 1)
            self.second = torch.nn.Conv2d(16, 32, 3, 2, 1)
            self.head = torch.nn.Linear((side // 4) ** 2 * 32, 10)

        def forward(self, x):
            x = torch.relu(self.first(x.permute(0, 3, 1, 2)))
            return self.head(torch.relu(self.second(x)).flatten(1))

    return Images()


def transformer(torch: Any, k: int, heads: int) -> Any:
    """Make the network of `experiments.bench.function.transformer`."""

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v, self.out = (torch.nn.Linear(k, k, bias=False) for _ in range(4))
            self.up = torch.nn.Linear(k, 4 * k, bias=False)
            self.down = torch.nn.Linear(4 * k, k, bias=False)
            self.head = torch.nn.Linear(k, 10, bias=False)

        def forward(self, x):
            n, t, _ = x.shape
            q, key, v = (f(x).view(n, t, heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
            scores = torch.softmax(q @ key.transpose(2, 3) * q.shape[-1] ** -0.5, -1)
            x = x + self.out((scores @ v).transpose(1, 2).reshape(n, t, k))
            x = x + self.down(torch.nn.functional.gelu(self.up(x), approximate="tanh"))
            return self.head(x.mean(1))

    return Block()
