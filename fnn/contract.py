"""What a layer owes to whoever runs it: its declarations, and what its two equations return."""

from collections.abc import Set
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from fnn.errors import InputError, describe, is_array
from fnn.factors import Examples, Factor, Outer, Rows, Scaled, Total, is_factor

if TYPE_CHECKING:
    from fnn.core import Layer

SIDES = {"input", "output"}
FLAGS = {
    "noisy": (False, True),
    "cheap": (False, True),
    "couples_examples": (None, False, True),
}


def check_layer(who: str, net: Any) -> None:
    """Raise InputError where a network is no layer. Args: `who`, the caller; `net`, the network."""
    if isinstance(net, type):
        name = net.__name__
        raise InputError(who, "a layer, which a class makes", f"the class {name}", f"fnn.{name}()")
    try:
        _ = net.needs, net.noisy
    except AttributeError:
        fix = "fnn.Serial(*net)" if isinstance(net, list | tuple) else "fnn.function.Function(net)"
        raise InputError(who, "a network, an fnn.Layer", describe(net), fix) from None


def check_declared(layer: "Layer") -> None:
    """Raise InputError where what a layer says of itself has no meaning."""
    check_layer("fnn", layer)
    needs = layer.needs
    if not isinstance(needs, Set) or not needs <= SIDES:
        wanted = 'needs, a frozenset of "input" and "output", the sides that backward reads'
        raise InputError(layer, wanted, repr(needs), 'needs = frozenset(("input", "output"))')
    said = {"noisy": layer.noisy, "cheap": layer.cheap, "couples_examples": layer.couples_examples}
    for name, allowed in FLAGS.items():
        if not any(said[name] is value for value in allowed):
            wanted = f"{name} to be one of {', '.join(map(str, allowed))}"
            raise InputError(layer, wanted, repr(said[name]), f"{name} = {allowed[0]}")


def make(layer: "Layer", key: Any, x: Any) -> Any:
    """Make a layer's params.

    Args:
        layer: the layer.
        key: a random key.
        x: the shapes of its input.

    Raises:
        InputError: unless they are a pytree of arrays.
    """
    check_declared(layer)
    params = layer.init(key, x)
    for leaf in jax.tree.leaves(params):
        if not is_array(leaf):
            raise InputError(layer, "an init that returns a pytree of arrays", repr(leaf), "return ()")
    return params


def run(layer: "Layer", params: Any, x: Any, key: Any) -> tuple[Any, Any]:
    """Run a layer forwards: return its `(y, extras)`.

    Args:
        layer: the layer.
        params: its params.
        x: its input.
        key: a random key, or None.

    Raises:
        InputError: where it returns anything else.
    """
    check_declared(layer)
    returned = layer.forward(params, x, key)
    if not isinstance(returned, tuple) or len(returned) != 2:
        got = _got(returned)
        raise InputError(layer, "a forward that returns (y, extras)", got, "return y, ()")
    y, extras = returned
    for name, tree, fix in (("y", y, "return jnp.asarray(y), extras"), ("extras", extras, "return y, ()")):
        for leaf in jax.tree.leaves(tree):
            if not is_array(leaf):
                wanted = f"a forward whose {name} is a pytree of arrays"
                raise InputError(layer, wanted, repr(leaf), fix)
    return y, extras


def checked_pair(layer: "Layer", x: Any, returned: Any) -> tuple[Any, Any]:
    """Return `(factors, dx)`, what a layer's backward returned.

    Args:
        layer: the layer.
        x: its input, or None where that is not kept.
        returned: what its backward returned.

    Raises:
        InputError: for anything but a pair with a `dx` like `x`, float0 where that is an integer.
    """
    if not isinstance(returned, tuple) or len(returned) != 2:
        wanted = "a backward that returns (factors, dx)"
        raise InputError(layer, wanted, _got(returned), "return factors, dx")
    factors, dx = returned
    if x is not None and not _is_cotangent(dx, x):
        wanted = f"a backward whose dx is like x, {describe(x)}"
        raise InputError(layer, wanted, describe(dx), "return factors, jax.tree.map(jnp.zeros_like, x)")
    return factors, dx


def sides(layer: "Layer", x: Any, y: Any) -> tuple[Any, Any]:
    """Return the two sides of a layer, None for one that its backward does not read.

    Args:
        layer: the layer.
        x: its input.
        y: its output.
    """
    return x if "input" in layer.needs else None, y if "output" in layer.needs else None


def check_residuals(residuals: Any, kind: type) -> None:
    """Check that residuals are what a forward pass left.

    Args:
        residuals: the residuals.
        kind: their type.

    Raises:
        InputError: where they are not.
    """
    if not isinstance(residuals, kind):
        fix = "fnn.backward(net, params, residuals, dy)"
        raise InputError("backward", "residuals, as forward returns them", describe(residuals), fix)


def check_factors(factors: Any, params: Any, who: object) -> None:
    """Raise unless a leaf's factors are those of its params.

    Args:
        factors: a tree in the structure of the params, with a factor or a gradient at each.
        params: the params.
        who: the leaf that made the factors, for the error message.

    Raises:
        InputError: where the structure is another, JAX does not know a factor's type, an array is not like
            its param, or a factor of a type of `fnn.factors` is that of another shape.
    """
    zeros = "jax.tree.map(jnp.zeros_like, params)"
    if jax.tree.structure(factors, is_leaf=is_factor) != jax.tree.structure(params):
        wanted = f"factors in the structure of its params, {describe(params)}"
        got = str(jax.tree.map(lambda f: type(f).__name__, factors, is_leaf=is_factor))
        raise InputError(who, wanted, got, zeros)
    leaves = jax.tree.leaves(factors, is_leaf=is_factor)
    for factor, param in zip(leaves, jax.tree.leaves(params), strict=True):
        name, known = type(factor).__name__, isinstance(factor, Factor)
        if known and any(leaf is factor for leaf in jax.tree.leaves(factor)):
            fix = f"jax.tree_util.register_dataclass({name})"
            raise InputError(who, "factors that are pytrees", f"a {name}, which JAX does not know", fix)
        shape = _last_axes(factor) if known else jnp.shape(factor)
        if shape != param.shape[param.ndim - len(shape) :] or not (known or len(shape) == param.ndim):
            wanted = f"a factor of the param {describe(param)}, or a gradient like it"
            raise InputError(who, wanted, f"{name} of {shape}" if known else describe(factor), zeros)


def _last_axes(factor: Factor) -> tuple[int, ...]:
    """Return the last axes of a factor's param, as far as its type shows them."""
    match factor:
        case Outer(x, dz):
            return x.shape[-1], dz.shape[-1]
        case Total(dz) | Scaled(_, dz) | Rows(_, dz):
            return dz.shape[-1:]
        case Examples(g, rank):
            return g.shape[g.ndim - rank :]
    return ()


def _is_cotangent(dx: Any, x: Any) -> bool:
    leaves, primals = jax.tree.leaves(dx), jax.tree.leaves(x)
    if jax.tree.structure(dx) != jax.tree.structure(x) or not all(map(is_array, leaves)):
        return False
    floating = [jnp.issubdtype(v.dtype, jnp.inexact) for v in primals]
    wanted = [(v.shape, v.dtype if f else jax.dtypes.float0) for v, f in zip(primals, floating, strict=True)]
    return [(leaf.shape, leaf.dtype) for leaf in leaves] == wanted


def _got(returned: Any) -> str:
    if isinstance(returned, tuple):
        return f"a tuple of {len(returned)}"
    return describe(returned)
