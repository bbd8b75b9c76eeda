"""The dense layer: z = x W + b."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fnn.arrays import accumulator
from fnn.core import Leaf, Sides
from fnn.errors import InputError, brief, check_cotangent, check_floating, check_params, check_size, describe
from fnn.factors import Outer, Total
from fnn.initializers import lecun_normal, zeros
from fnn.layers.affine import row
from fnn.sharding import dtype_of_parts, gathered, sharding_along, sharding_of

Initializer = Callable[..., Array]  # one of `fnn.initializers`, or of `jax.nn.initializers`
Params = dict[str, Array]
In = Float[Array, "*n k"]
Out = Float[Array, "*n j"]


def product(a: Any, b: Any, axis: int = 0, like: Any = None, reduce: Any = None) -> Any:
    """Contract the last axis of `a` with an axis of the matrix `b`, accumulating in float32 or wider.

    Args:
        a: a floating array (..., k).
        b: a matrix (k, j), or (j, k) where `axis` is 1, of the same dtype.
        axis: the axis of `b` that is contracted, 0 or 1.
        like: an array (..., j) whose sharding the result gets; None for that of the axes of `a` and `b`.
        reduce: the dtype in which the devices' products are added up, where what is contracted is sharded
            over Explicit axes; None for float32 or wider.

    Returns:
        an array (..., j) in float32 or wider.
    """
    contract = (((a.ndim - 1,), (axis,)), ((), ()))
    rows = [(a, i) for i in range(a.ndim - 1)]
    sharding = sharding_along(*rows, (b, 1 - axis)) if like is None else sharding_of(like)
    acc, b = accumulator(a.dtype, b.dtype), gathered(b, rows)
    parts = dtype_of_parts(acc, reduce, (a, a.ndim - 1), (b, axis))
    found = lax.dot_general(a, b, contract, preferred_element_type=parts, out_sharding=sharding)
    return found.astype(acc)


@dataclass(frozen=True, repr=False)
class Dense(Leaf):
    """Multiply by a weight and add a bias, z = x W + b: (..., k) -> (..., features).

    params: `{"kernel": (k, features), "bias": (features,)}`, without "bias" where `bias=False`; k is that of
    the input given to `init`. The backward reads the input. Products are accumulated in float32 or wider.
    Cost: 2nkj flops forward and 4nkj backward (2nkj where dx is not wanted), j = `features`.

    Args:
        features: the number of outputs, an integer >= 1.
        bias: whether there is a bias.
        inputs: the number of inputs k, which `init` checks; None for any.
        dtype: the dtype in which the layer computes, and of its output; None for the input's.
        kernel_init: the initializer of the weight: one of `fnn.initializers`, or any function `(key, shape,
            dtype)`, such as those of `jax.nn.initializers`. Layers are equal where it is equal.
        bias_init: the initializer of the bias, likewise.
        reduce: the dtype in which products, the weight's gradient among them, are added up over devices,
            where the features or rows that are contracted are sharded over Explicit axes; None for `dtype`,
            in half precision half of the bytes of float32: each device's part is rounded before it is added.
            A gradient in float16 is added up in float32 all the same, unless this says so.

    Raises:
        InputError: where a size is no integer >= 1, or, on use, input or params have another shape or dtype.

    >>> import fnn
    >>> fnn.init(fnn.Dense(3), jax.random.key(0), jnp.ones((5, 2)))["kernel"].shape
    (2, 3)
    """

    features: int
    bias: bool = True
    inputs: int | None = None
    dtype: Any = None
    kernel_init: Initializer = field(default=lecun_normal(), repr=False)
    bias_init: Initializer = field(default=zeros(), repr=False)
    reduce: Any = None
    __repr__ = brief
    needs: ClassVar[Sides] = frozenset(("input",))
    couples_examples: ClassVar[bool | None] = False
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"kernel": ("in", "out"), "bias": ("out",)}

    def __post_init__(self) -> None:
        check_size("Dense", "features", self.features, "fnn.Dense(j)")
        if self.inputs is not None:
            check_size("Dense", "inputs", self.inputs, f"fnn.Dense({self.features})")
        bias = ("d{bias} = sum(d{y})",) if self.bias else ()
        forward = "{y} = {x} {kernel}" + " + {bias}" * self.bias
        equations = (forward,), ("d{kernel} = {x}^T d{y}", *bias, "d{x} = d{y} {kernel}^T")
        vars(self).update(equations=equations)

    def init(self, key: Any, x: jax.ShapeDtypeStruct) -> dict[str, Any]:
        """Draw the weight and the bias in the input's dtype, float32 at least."""
        self._check_input(x, self.inputs)
        dtype = accumulator(x.dtype)
        w_key, b_key = jax.random.split(key)
        params = {"kernel": self.kernel_init(w_key, (x.shape[-1], self.features), dtype)}
        return params | ({"bias": self.bias_init(b_key, (self.features,), dtype)} if self.bias else {})

    def forward(self, params: Params, x: In, key: Any) -> tuple[Out, tuple[()]]:
        """z = x W + b"""
        self._check_input(x, None)
        check_params(self, params, self._shapes(params, x))
        return self.recompute(params, x, ()), ()

    def recompute(self, params: Params, x: In, extras: tuple[()]) -> Out:
        """z = x W + b"""
        bias, dtype = params["bias"] if self.bias else None, self._dtype(x)
        return affine(x, params["kernel"], bias, dtype=dtype, reduce=jnp.dtype(self.reduce or dtype))

    def backward(self, params: Params, x: In, y: None, extras: tuple[()], dy: Out) -> tuple[Any, In]:
        """dW = x^T dz, db = sum dz, dx = dz W^T (Rumelhart, Hinton, Williams 1986)."""
        dtype = self._dtype(x)
        check_cotangent(self, dy, (*x.shape[:-1], self.features), dtype)
        kernel, reduce = params["kernel"].astype(dtype), jnp.dtype(self.reduce or dtype)
        dx = product(dy, kernel, axis=1, like=x, reduce=reduce).astype(x.dtype)
        factor = Outer(x.astype(dtype), dy, self.reduce)
        return {"kernel": factor} | ({"bias": Total(dy, self.reduce)} if self.bias else {}), dx

    def _dtype(self, x: Any) -> Any:
        return x.dtype if self.dtype is None else jnp.dtype(self.dtype)

    def _shapes(self, params: Any, x: Any) -> dict[str, tuple[int, ...]]:
        """Return the params' right shapes; a wrong feature count is blamed on `x` if the params are ours."""
        shapes = {"kernel": (x.shape[-1], self.features)} | ({"bias": (self.features,)} if self.bias else {})
        if isinstance(params, dict) and params.keys() == shapes.keys():
            w = jnp.shape(params["kernel"])
            if len(w) == 2 and w[1] == self.features:
                self._check_input(x, w[0])
        return shapes

    def _check_input(self, x: Any, inputs: int | None) -> None:
        check_floating(self, x)
        k = "k" if inputs is None else inputs
        if x.ndim == 0:
            raise InputError(self, f"x of shape (..., {k})", describe(x), "x.reshape(1)")
        if x.shape[-1] == 0 and inputs is None:
            raise InputError(self, "x of shape (..., k) with k >= 1", describe(x), "jnp.zeros((n, 1))")
        if inputs is not None and x.shape[-1] != inputs:
            if x.shape[0] == inputs and x.ndim == 2:
                fix = "x.T"  # features first, an example in each column
            elif inputs > 0 and math.prod(x.shape) % inputs == 0:
                fix = f"x.reshape(-1, {inputs})"
            elif self.inputs is None:
                fix = "params = fnn.init(net, key, x)"
            else:
                fix = f"fnn.{replace(self, inputs=None)!r}"
            raise InputError(self, f"x of shape (..., {inputs})", describe(x), fix)


def _affine(x: Any, kernel: Any, bias: Any, dtype: Any, reduce: Any = None) -> Any:
    z = product(x.astype(dtype), kernel.astype(dtype), reduce=reduce)
    return (z if bias is None else z + row(bias, z)).astype(dtype)


_STATIC = ("dtype", "reduce")
_called = jax.jit(_affine, static_argnames=_STATIC)  # one call where nothing is compiled, lowered once
_written_out = jax.jit(_affine, static_argnames=_STATIC, inline=True)


def affine(x: Any, kernel: Any, bias: Any, dtype: Any, reduce: Any = None) -> Any:
    """Return x W + b.

    On Explicit axes it is written out: the compiler would partition a function that is called twice by
    itself, and then gather a weight for the forward pass and again for the backward pass.

    Args:
        x: a floating array (..., k).
        kernel: the matrix (k, j).
        bias: the vector (j,), or None.
        dtype: the dtype of the product's operands, and of the result.
        reduce: as for `product`.
    """
    run = _called if sharding_of(x, kernel) is None else _written_out
    return run(x, kernel, bias, dtype=dtype, reduce=reduce)
