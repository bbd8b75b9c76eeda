"""Narrow dense layers as one: on a GPU a kernel for all of them, forwards and backwards."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fnn.activations.piecewise import clamped
from fnn.activations.table import Activation, relu
from fnn.core import Leaf, Sides
from fnn.errors import InputError, brief, check_cotangent, check_params, describe
from fnn.factors import Outer, Total
from fnn.layers import blocks
from fnn.layers.dense import Dense, affine, product

Params = tuple[dict[str, Array], ...]
In = Float[Array, "*n k"]
Out = Float[Array, "*n j"]
Run = Literal["auto", "plain", "interpreted"]

NARROW = 256  # columns, of which a block of rows still fits beside the weights


class Code(NamedTuple):
    """What the layers are run by, where in a kernel not all is known that is known outside.

    Args:
        affine: `affine(x, kernel, bias, dtype)`.
        product: `product(a, b, axis, like)`.
        activation: the value of an activation, `activation(f, z)`.
    """

    affine: Callable[..., Any]
    product: Callable[..., Any]
    activation: Callable[..., Any]


PLAIN = Code(affine, product, lambda f, z: f(z))
IN_BLOCKS = Code(blocks.affine, blocks.product, lambda f, z: clamped(z) if f == relu else f(z))


@dataclass(frozen=True, repr=False)
class Fused(Leaf):
    """Run narrow dense layers with an activation between them as one: (..., k) -> (..., features[-1]).

    What `Serial(Dense(features[0]), activation, ..., Dense(features[-1]))` computes, with only the input
    kept. On a GPU a kernel runs all layers on a block of rows without writing what is between them, and
    another makes that again in the backward pass and writes the factors: of narrow layers it is reading and
    writing that takes the time. Elsewhere, where a layer has more than 256 columns, and for float64 it is
    plain code. No kernel has run on a GPU yet: it is proven by JAX's interpreter, and lowered for one by
    Pallas's Triton, which JAX calls deprecated from 0.12 on.

    params: for each layer `{"kernel": (k, j), "bias": (j,)}`, in a tuple. Products are accumulated in float32
    or wider. The compiler cannot cut a kernel over devices: call it within `jax.shard_map` there.

    Args:
        features: the number of outputs of each layer, integers >= 1.
        activation: the activation between two layers.
        run: "auto"; "plain" for plain code everywhere; "interpreted" for the kernels by JAX's interpreter,
            which is slow, on any device.

    Raises:
        InputError: where there are no features, `run` is another, or, on use, input or params do not fit.

    Source: Müller 2021, tiny-cuda-nn; Müller et al. 2022, arXiv 2201.05989.

    >>> import fnn
    >>> net, x = fnn.Fused((4, 4, 2), fnn.tanh), jnp.ones((5, 3))
    >>> [own["kernel"].shape for own in fnn.init(net, jax.random.key(0), x)]
    [(3, 4), (4, 4), (4, 2)]
    """

    features: tuple[int, ...]
    activation: Activation = relu
    run: Run = "auto"
    __repr__ = brief
    needs: ClassVar[Sides] = frozenset(("input",))
    couples_examples: ClassVar[bool | None] = False

    def __post_init__(self) -> None:
        fix = "fnn.Fused((64, 64, 10), fnn.relu)"
        if not isinstance(self.features, tuple) or not self.features:
            raise InputError("Fused", "features, a tuple of one or more sizes", repr(self.features), fix)
        if self.run not in get_args(Run):
            fix = 'fnn.Fused((64, 64, 10), fnn.relu, run="auto")'
            raise InputError("Fused", f"run to be one of {get_args(Run)}", repr(self.run), fix)
        names = [{f"{i}.kernel": ("in", "out"), f"{i}.bias": ("out",)} for i in range(len(self.features))]
        vars(self).update(axes={name: axes for own in names for name, axes in own.items()})

    @property
    def _layers(self) -> tuple[Dense, ...]:
        return tuple(map(Dense, self.features))

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> Params:
        """Draw the params as `Dense` does, layer by layer."""
        params, keys = [], jax.random.split(key, len(self.features))
        for layer, own in zip(self._layers, keys, strict=True):
            params.append(layer.init(own, x))
            x = jax.ShapeDtypeStruct((*x.shape[:-1], layer.features), x.dtype)
        return tuple(params)

    def forward(self, params: Params, x: In, key: Any) -> tuple[Out, tuple[()]]:
        """z = x W + b, x = f(z), and so on to the last z."""
        self._check(params, x)
        return self._either(self._chain, self._chain_in_blocks, *_split(params), x), ()

    def recompute(self, params: Params, x: In, extras: tuple[()]) -> Out:
        """z = x W + b, x = f(z), and so on to the last z."""
        return self.forward(params, x, None)[0]

    def backward(self, params: Params, x: In, y: None, extras: tuple[()], dy: Out) -> tuple[Any, In]:
        """dW = x^T dz, db = sum dz, dx = dz W^T, dz = dx f'(z), from the last on; every x is made again."""
        check_cotangent(self, dy, (*x.shape[:-1], self.features[-1]), x.dtype)
        inputs, dzs, dx = self._either(self._walk, self._walk_in_blocks, *_split(params), x, dy)
        pairs = zip(inputs, dzs, strict=True)
        return tuple({"kernel": Outer(h, dz), "bias": Total(dz)} for h, dz in pairs), dx

    def _chain(self, kernels: Any, biases: Any, x: Any, run: Any = PLAIN) -> Any:
        """Return the output, by the products of `run`."""
        return run.affine(
            self._inputs(kernels, biases, x, run)[-1][1], kernels[-1], biases[-1], dtype=x.dtype
        )

    def _inputs(self, kernels: Any, biases: Any, x: Any, run: Any) -> list[tuple[Any, Any]]:
        """Return of each layer the activation's input, None of the first, and its own input."""
        found = [(None, x)]
        for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
            z = run.affine(found[-1][1], kernel, bias, dtype=x.dtype)
            found.append((z, run.activation(self.activation, z)))
        return found

    def _walk(
        self, kernels: Any, biases: Any, x: Any, dy: Any, run: Any = PLAIN
    ) -> tuple[list[Any], list[Any], Any]:
        """Return the input and the cotangent dz of each layer, and dx."""
        found, dzs, dh = self._inputs(kernels, biases, x, run), [dy], dy
        for (z, h), kernel in reversed(list(zip(found, kernels, strict=True))):
            dh = run.product(dzs[0], kernel.astype(h.dtype), axis=1, like=h).astype(h.dtype)
            if z is not None:
                dzs.insert(0, self.activation.backward((), z, h, (), dh)[1])
        return [h for _, h in found], dzs, dh

    def _chain_in_blocks(self, kernels: Any, biases: Any, x: Any) -> Any:
        """Return the output, by a kernel."""

        def chain(kernels: Any, biases: Any, given: Any) -> list[Any]:
            return [self._chain(kernels, biases, given[0], IN_BLOCKS)]

        return self._in_blocks(chain, [self.features[-1]], kernels, biases, [x])[0]

    def _walk_in_blocks(self, kernels: Any, biases: Any, x: Any, dy: Any) -> tuple[list[Any], list[Any], Any]:
        """Return what `_walk` does, by a kernel that writes what is not there yet."""

        def walk(kernels: Any, biases: Any, given: Any) -> list[Any]:
            inputs, dzs, dx = self._walk(kernels, biases, *given, run=IN_BLOCKS)
            return [*inputs[1:], *dzs[:-1], dx]

        inner, k = self.features[:-1], x.shape[-1]
        *new, dx = self._in_blocks(walk, [*inner, *inner, k], kernels, biases, [x, dy])
        return [x, *new[: len(inner)]], [*new[len(inner) :], dy], dx

    def _in_blocks(self, body: Any, widths: Any, kernels: Any, biases: Any, arrays: Any) -> list[Any]:
        return blocks.in_blocks(body, widths, kernels, biases, arrays, self.run == "interpreted")

    def _either(self, plain: Callable[..., Any], in_blocks: Callable[..., Any], *args: Any) -> Any:
        """Run plain code, or a kernel, whose derivatives are those of the plain code."""
        x = args[2]
        if self.run == "plain" or not x.size or max(x.shape[-1], *self.features) > NARROW:
            return plain(*args)
        kernel = jax.custom_jvp(in_blocks)
        kernel.defjvp(lambda args, along: jax.jvp(plain, args, along))
        if self.run == "interpreted":
            return kernel(*args)
        if x.dtype == jnp.float64 or not blocks.for_a_gpu():
            return plain(*args)
        return lax.platform_dependent(*args, cuda=kernel, default=plain)

    def _check(self, params: Any, x: Any) -> None:
        first = self._layers[0]
        first._check_input(x, None)
        if not isinstance(params, tuple) or len(params) != len(self.features):
            wanted = f"params of {len(self.features)} layers"
            raise InputError(self, wanted, describe(params), "params = fnn.init(net, key, x)")
        sizes = (x.shape[-1], *self.features)
        for own, k, j in zip(params, sizes, sizes[1:], strict=False):
            check_params(self, own, {"kernel": (k, j), "bias": (j,)})


def _split(params: Params) -> tuple[list[Array], list[Array]]:
    return [own["kernel"] for own in params], [own["bias"] for own in params]
