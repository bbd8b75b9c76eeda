"""Models of Flax, Linen and NNX, under fnn's readers, against a gradient for each example."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from tests.function.functions import draw
from tests.function.models import DOUBLE, compare, shaken

pytestmark = pytest.mark.filterwarnings("default")  # theirs are not ours to mend


def linen() -> dict[str, tuple[Any, Any]]:
    """Give for each model what makes it, and an input."""
    from flax import linen as nn

    class Perceptron(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.Dense(2, **DOUBLE)(nn.relu(nn.Dense(4, **DOUBLE)(x)))

    class Images(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = nn.Conv(4, (3, 3), strides=2, **DOUBLE)(x)
            x = nn.relu(nn.GroupNorm(2, **DOUBLE)(x))
            y = nn.Conv(4, (3, 3), feature_group_count=2, **DOUBLE)(x)
            x = nn.avg_pool(x + y, (2, 2))
            return nn.Dense(3, **DOUBLE)(x.reshape(x.shape[0], -1))

    class Residual(nn.Module):
        width: int
        stride: int

        @nn.compact
        def __call__(self, x: Any) -> Any:
            y = nn.Conv(self.width, (3, 3), self.stride, use_bias=False, **DOUBLE)(x)
            y = nn.relu(nn.GroupNorm(2, **DOUBLE)(y))
            y = nn.GroupNorm(2, **DOUBLE)(nn.Conv(self.width, (3, 3), use_bias=False, **DOUBLE)(y))
            if x.shape != y.shape:
                x = nn.Conv(self.width, (1, 1), self.stride, use_bias=False, **DOUBLE)(x)
            return nn.relu(x + y)

    class ResNet(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = nn.max_pool(nn.Conv(2, (3, 3), **DOUBLE)(x), (2, 2), (2, 2))
            x = Residual(4, 2)(Residual(2, 1)(x))
            return nn.Dense(3, **DOUBLE)(x.mean((1, 2)))

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = x + self.param("positions", nn.initializers.normal(), (3, 4), jnp.float64)[None]
            y = nn.LayerNorm(**DOUBLE)(x)
            x = x + nn.MultiHeadDotProductAttention(2, **DOUBLE)(y, y)
            y = nn.gelu(nn.Dense(5, **DOUBLE)(nn.LayerNorm(**DOUBLE)(x)))
            return x + nn.Dense(4, **DOUBLE)(y)

    class Scanned(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            shared = {"variable_broadcast": "params", "split_rngs": {"params": False}}
            cell = nn.scan(nn.GRUCell, in_axes=1, out_axes=1, **shared)(4, **DOUBLE)
            return cell(jnp.zeros((x.shape[0], 4)), x)[1]

    class Stacked(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            class Layer(nn.Module):
                @nn.compact
                def __call__(self, x: Any, _: Any) -> Any:
                    return x + nn.tanh(nn.DenseGeneral((2, 2), **DOUBLE)(x)).reshape(x.shape), None

            layers = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
            return layers()(x, None)[0]

    class Tied(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            table = nn.Embed(6, 4, **DOUBLE)
            return table.attend(jnp.tanh(table(jnp.abs(x[..., 0] * 2).astype(int) % 6)))

    class LowRank(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            own = jax.lax.stop_gradient(self.param("frozen", nn.initializers.normal(), (4, 3), jnp.float64))
            return x @ own + nn.Dense(3, False, **DOUBLE)(nn.Dense(2, False, **DOUBLE)(x))

    images, tokens = draw(0, 3, 8, 8, 2), draw(0, 3, 3, 4)
    return {
        "mlp": (Perceptron, tokens),
        "cnn": (Images, images),
        "resnet": (ResNet, images),
        "attention": (Block, tokens),
        "rnn by scan": (Scanned, tokens),
        "layers by scan": (Stacked, tokens),
        "tied": (Tied, tokens),
        "lora": (LowRank, tokens),
    }


LINEN = ["mlp", "cnn", "resnet", "attention", "rnn by scan", "layers by scan", "tied", "lora"]


@pytest.mark.parametrize("name", LINEN)
def test_linen(name):
    make, x = linen()[name]
    model = make()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        params = model.init(jax.random.key(0), x)
    compare(model.apply, shaken(params), x)


def nnx_models() -> dict[str, tuple[Any, Any]]:
    from flax import nnx

    class Perceptron(nnx.Module):
        def __init__(self, rngs: Any):
            double = {**DOUBLE, "rngs": rngs}
            self.inner, self.outer = nnx.Linear(4, 5, **double), nnx.Linear(5, 2, **double)
            self.norm = nnx.LayerNorm(5, **double)

        def __call__(self, x: Any) -> Any:
            return self.outer(jnp.tanh(self.norm(self.inner(x))))

    class Images(nnx.Module):
        def __init__(self, rngs: Any):
            double = {**DOUBLE, "rngs": rngs}
            self.conv, self.norm = nnx.Conv(2, 4, (3, 3), 2, **double), nnx.GroupNorm(4, 2, **double)
            self.head = nnx.Linear(4, 3, **double)

        def __call__(self, x: Any) -> Any:
            return self.head(nnx.relu(self.norm(self.conv(x))).mean((1, 2)))

    class Attention(nnx.Module):
        def __init__(self, rngs: Any):
            self.attention = nnx.MultiHeadAttention(2, 4, decode=False, **DOUBLE, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return x + self.attention(x)

    class LowRank(nnx.Module):
        def __init__(self, rngs: Any):
            low = {**DOUBLE, "lora_dtype": jnp.float64, "lora_param_dtype": jnp.float64}
            self.linear = nnx.LoRALinear(4, 3, lora_rank=2, lora_param_type=nnx.Param, **low, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.linear(x)

    images, tokens = draw(0, 3, 6, 6, 2), draw(0, 3, 3, 4)
    return {
        "mlp": (Perceptron, tokens),
        "cnn": (Images, images),
        "attention": (Attention, tokens),
        "lora": (LowRank, tokens),
    }


@pytest.mark.parametrize("name", ["mlp", "cnn", "attention", "lora"])
def test_nnx(name):
    from flax import nnx

    make, x = nnx_models()[name]
    structure, state, rest = nnx.split(make(nnx.Rngs(0)), nnx.Param, ...)
    params = nnx.to_pure_dict(state)

    def apply(params: Any, x: Any) -> Any:
        own = jax.tree.map(lambda v: v, state)
        nnx.replace_by_pure_dict(own, params)
        return nnx.merge(structure, own, rest)(x)

    compare(apply, shaken(params), x)
