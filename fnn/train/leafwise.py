"""A check that an optimizer updates every param independently of the others."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fnn.core import Params
from fnn.errors import InputError


def check_leafwise(who: str, optimizer: Any, params: Params) -> None:
    """Check that an optimizer's update of each param is the same alone as beside the others.

    Two steps are computed on random trees like the params, with at most 2 for every length. In the second the
    first gradient is not finite, which detects a norm over all params whatever its bound. The params
    themselves are not used, so this works at trace time.

    Args:
        who: the name of the caller, for the error message.
        optimizer: an optax optimizer.
        params: the params or their shapes.

    Raises:
        InputError: where an update differs.
    """
    random = np.random.default_rng(0)

    def draw(param: Any) -> Any:
        return jnp.asarray(random.standard_normal([min(size, 2) for size in param.shape]), param.dtype)

    with jax.ensure_compile_time_eval(), jax.numpy_dtype_promotion("standard"):  # optax asks for promotions
        probe, first, second = (jax.tree.map(draw, params) for _ in range(3))
        leaves, structure = jax.tree.flatten(second)
        second = structure.unflatten([jnp.full_like(leaf, np.nan) for leaf in leaves[:1]] + leaves[1:])
        try:
            beside = _updates(optimizer, probe, first, second)
            alone = jax.tree.map(lambda *leaf: _updates(optimizer, *leaf), probe, first, second)
        except Exception as error:
            wanted = (
                "an optimizer that can update a param alone; a tree of masks or labels wants one for each"
            )
            fix = f"fnn.train.{who}(net, loss, jax.tree.map(lambda label: optimizers[label], labels))"
            got = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(who, wanted, got, fix) from error
    together = jax.tree.map(lambda _, *steps: steps, probe, *beside)
    pairs = zip(*(structure.flatten_up_to(tree) for tree in (together, alone)), strict=True)
    for (path, _), (a, b) in zip(jax.tree.leaves_with_path(probe), pairs, strict=True):
        if not all(map(_close, a, b)):
            raise _refusal(who, f"another update of params{jax.tree_util.keystr(path)}")


def _updates(optimizer: Any, params: Params, *grads: Any) -> tuple[Any, ...]:
    """Return the updates of some steps in a row."""
    state, found = optimizer.init(params), []
    for grad in grads:
        updates, state = optimizer.update(grad, state, params)
        found.append(updates)
    return tuple(found)


def _close(a: Any, b: Any) -> bool:
    """Tell whether two updates differ by rounding alone, NaN equal to NaN: to half of the digits."""
    tolerance = float(jnp.finfo(a.dtype).eps) ** 0.5
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.allclose(a, b, tolerance, tolerance * np.max(np.abs(b), initial=0, where=~np.isnan(b)), True)


def _refusal(who: str, got: str) -> InputError:
    wanted = "an optimizer that updates each param beside the others as it does alone"
    return InputError(who, wanted, got, f"fnn.train.{who}(net, loss, optax.adam(1e-3), clip=1.0)")


def check_state(state: Any, params: Params) -> None:
    """Check that a state begins like the params.

    Args:
        state: the state of the optimizer.
        params: the params.

    Raises:
        InputError: where it does not.
    """
    try:
        jax.tree.structure(params).flatten_up_to(state)
    except (ValueError, TypeError, KeyError):
        wanted = "a state with the optimizer's own in the place of each param"
        got = str(jax.tree.structure(state))
        raise InputError("update_in_backward", wanted, got, "state = init(params, x)") from None
