"""Where params lie on a mesh of devices: by rules over the names of their axes."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax

from fnn.core import Layer, Params
from fnn.errors import InputError
from fnn.losses.objective import LossLike
from fnn.memory.placed import shardings_like as shardings_like
from fnn.train.axes import Param, params_of
from fnn.train.presets import Spec, choose

MeshAxes = str | tuple[str, ...] | None
ByName = Mapping[str, MeshAxes]  # the mesh's axes by the name of a param's axis
Rules = str | ByName | Sequence[tuple[str, ByName]]


def shardings(
    net: Layer,
    params: Params,
    mesh: Any,
    rules: Rules = "fsdp",
    x: Any = None,
    *,
    loss: LossLike | None = None,
    large: int = 2**20,
) -> Any:
    """Return where each param lies on a mesh, by rules over the names of the params' axes.

    `jax.device_put(params, shardings(...))` places the params; on a mesh with Explicit axes gradients then
    lie where their params lie, on one with Auto axes the shardings are given as `out_shardings` too.

    Args:
        net: the network, any layer.
        params: its params, or their shapes; a pair with those of the loss where that has some.
        mesh: a `jax.sharding.Mesh`, with axes of type Auto or Explicit.
        rules: a mapping from names of axes, as `param_axes` returns them, to an axis of the mesh, a tuple of
            these, or None, such as `{"out": "model"}`; or pairs `(pattern, mapping)`, of which a param takes
            the first whose pattern fits its path, as `jax.tree_util.keystr` writes it, or its place in the
            network: "*" and "?" are wildcards; or the name of a preset:

            - "data": every param is on every device.
            - "fsdp": the largest axis is sharded over the mesh's axis "fsdp", or "data" where it has none.
            - "tensor": over "tensor", or "model" where there is none, weights are sharded by column and by
              row in turn, embeddings and heads by vocabulary.
            - "fsdp+tensor": both, over two axes of the mesh, "tensor" first.

            A mesh's axis is used once for each param, and left out where it does not divide the param's axis.
        x: the input, an array or a shape, or a tree of these; None where it follows from the params, as for
            `param_axes`.
        loss: the loss, where params of its own are among these.
        large: the number of elements from which on a `UserWarning` names a param that a preset but "data"
            leaves on every device.

    Returns:
        a tree like the params of `jax.sharding.NamedSharding`.

    Raises:
        InputError: where the rules name an axis that the mesh or the params do not have, a pattern fits no
            param, there is no such preset, or `x` does not follow from the params.

    >>> import fnn
    >>> mesh, net = jax.make_mesh((1,), ("model",)), fnn.mlp([4, 8, 2])
    >>> params = fnn.init(net, jax.random.key(0), jax.ShapeDtypeStruct((1, 4), "float32"))
    >>> found = shardings(net, params, mesh, "tensor")
    >>> found["first"]["kernel"].spec, found["output"]["kernel"].spec
    (P(None, 'model'), P('model', None))
    """
    listed, whole = params_of(net, params, x, loss)
    specs = [Spec(param, mesh) for param in listed]
    if isinstance(rules, str):
        choose(specs, whole, mesh, rules, large)
    else:
        pairs = [("*", rules)] if isinstance(rules, Mapping) else list(rules)
        _check(listed, mesh, pairs)
        for spec in specs:
            mapping = next((mapping for pattern, mapping in pairs if _fits(spec.param, pattern)), {})
            for axis, name in enumerate(spec.param.axes):
                for of_mesh in _names(mapping.get(name)) if name else ():
                    spec.take(axis, of_mesh)
    return jax.tree.structure(params).unflatten([spec.sharding() for spec in specs])


def _names(axes: MeshAxes) -> tuple[str, ...]:
    return axes if isinstance(axes, tuple) else (axes,) if axes else ()


def _fits(param: Param, pattern: str) -> bool:
    """Return whether a pattern fits a param's path or place; brackets stand for themselves."""
    pattern = pattern.replace("[", "[[]")
    return fnmatchcase(param.path, pattern) or fnmatchcase(param.place, pattern)


def _check(listed: Sequence[Param], mesh: Any, pairs: Sequence[tuple[str, ByName]]) -> None:
    """Raise InputError where rules are none, or name what is not there."""
    fix = f'fnn.train.shardings(net, params, mesh, {{"out": {mesh.axis_names[0]!r}}})'
    named = dict.fromkeys(name for param in listed for name in param.axes if name)
    for pair in pairs:
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], Mapping)):
            wanted = "rules: a mapping by names of axes, pairs (pattern, mapping), or a preset"
            raise InputError("shardings", wanted, repr(pair), fix)
        pattern, mapping = pair
        for name, axes in mapping.items():
            if name not in named:
                wanted = f"names of axes that params have: {', '.join(named) or 'none has any'}"
                raise InputError("shardings", wanted, repr(name), "fnn.train.param_axes(net, params)")
            for axis in _names(axes):
                if axis not in mesh.axis_names:
                    wanted = f"axes of the mesh: {', '.join(mesh.axis_names)}"
                    raise InputError("shardings", wanted, repr(axis), fix)
        if listed and not any(_fits(param, pattern) for param in listed):
            wanted = f"patterns that fit a param: {', '.join(param.path for param in listed[:8])}"
            right = f'fnn.train.shardings(net, params, mesh, [("*", {dict(mapping)!r})])'
            raise InputError("shardings", wanted, repr(pattern), right)
