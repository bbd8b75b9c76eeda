"""A layer whose output lies where a rule says, on a mesh of devices."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import jax
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from fnn.compose.boundaries import rebuilds
from fnn.compose.checks import check_layers
from fnn.contract import make, run
from fnn.core import Composition, Layer, Part, pull, sides
from fnn.errors import InputError, at
from fnn.reading import Reading
from fnn.sharding import placed, sharding_of

MeshAxes = str | tuple[str, ...] | None
AXES = ("batch", "tokens", "features")
FIX = 'fnn.train.constrain(net, {"batch": "data", "features": None})'


@dataclass(frozen=True)
class Rule:
    """Where activations lie: the mesh's axes over which each of their axes is sharded.

    Args:
        axes: pairs of "batch", "tokens" or "features" and the names of mesh axes, in order; an axis without a
            pair is not constrained.
        mesh: the mesh; None for that of the array, or of `jax.set_mesh`.
    """

    axes: tuple[tuple[str, tuple[str, ...]], ...]
    mesh: Any = None

    def __repr__(self) -> str:
        return repr({name: own[0] if len(own) == 1 else own or None for name, own in self.axes})

    def __call__(self, tree: Any) -> Any:
        """Return a tree of arrays that lie so; float0 cotangents, and all where no mesh is, as they are."""
        return jax.tree.map(lambda leaf: leaf if leaf.dtype == jax.dtypes.float0 else self.on(leaf), tree)

    def on(self, leaf: Any) -> Any:
        """Return one array that lies so. Raises: InputError, where the mesh has no such axis."""
        own = sharding_of(leaf)
        there = own.mesh if own else jax.sharding.get_abstract_mesh()
        mesh = there if self.mesh is None else self.mesh
        if mesh.empty or not leaf.ndim:
            return leaf
        before = own.spec if own else PartitionSpec(*(None,) * leaf.ndim)
        explicit = self._spec(leaf, mesh, AxisType.Explicit, before)
        if AxisType.Explicit in mesh.axis_types:
            leaf = placed(leaf, NamedSharding(mesh, explicit))
        if AxisType.Auto not in mesh.axis_types:
            return leaf
        free = PartitionSpec(*(PartitionSpec.UNCONSTRAINED,) * leaf.ndim)
        spec = self._spec(leaf, mesh, AxisType.Auto, free)
        return leaf if spec == free else lax.with_sharding_constraint(leaf, NamedSharding(mesh, spec))

    def _spec(self, leaf: Any, mesh: Any, kind: AxisType, before: PartitionSpec) -> PartitionSpec:
        """Return the partitions over a mesh's axes of one type, `before` where the rule says nothing."""
        kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
        rule, used = dict(self.axes), {name for _, own in self.axes for name in own}
        partitions = [own if own is PartitionSpec.UNCONSTRAINED else _without(own, used) for own in before]
        for axis, size in enumerate(leaf.shape):
            name = "features" if axis == leaf.ndim - 1 else "tokens" if axis else "batch"
            if name not in rule:
                continue
            for wanted in rule[name]:
                if wanted not in kinds:
                    axes = ", ".join(map(repr, mesh.axis_names))
                    raise InputError("constrain", f"axes of the mesh: {axes}", repr(wanted), FIX)
            names = tuple(wanted for wanted in rule[name] if kinds[wanted] == kind)
            if size % prod(mesh.shape[wanted] for wanted in names) == 0:
                partitions[axis] = names or None
        return PartitionSpec(*partitions)


def _without(partition: Any, used: set[str]) -> Any:
    names = partition if isinstance(partition, tuple) else (partition,)
    return tuple(name for name in names if name and name not in used) or None


@jax.tree_util.register_static
class Places(tuple[Any, ...]):
    """The shardings of a layer's outputs before they are constrained: static, a part of the structure."""


@dataclass(frozen=True, repr=False)
class Constrained(Composition):
    """Run a layer, and place its output on a mesh as a rule says. params: the layer's.

    The values are the layer's, as are those of its gradients; the cotangent of the output is placed as the
    output is, that of the input as the input. Where there is no mesh, it is the layer.

    Args:
        layer: the layer.
        rule: where its output lies.

    Raises:
        InputError: where `layer` is no layer, or, on use, the mesh has no axis that the rule names.

    >>> import fnn
    >>> Constrained(fnn.Dense(3), Rule((("batch", ("data",)),)))
    Constrained(Dense(3), {'batch': 'data'})
    """

    layer: Layer
    rule: Rule

    def __repr__(self) -> str:
        return f"Constrained({self.layer!r}, {self.rule!r})"

    def __post_init__(self) -> None:
        check_layers("Constrained", (self.layer,), FIX)
        inner = self.layer
        vars(self).update(
            layers=(inner,),
            needs=inner.needs,
            cheap=inner.cheap,
            couples_examples=inner.couples_examples,
            rebuilds=rebuilds(inner),
            reverses=isinstance(inner, Composition) and inner.reverses,
        )

    def with_layers(self, *layers: Layer) -> "Constrained":
        """Return another layer under the same rule."""
        return Constrained(layers[0], self.rule)

    def parts(self, params: Any, x: Any, key: Any = None) -> list[Part]:
        """List the layer."""
        return [Part(".layer", self.layer, params, x, key)]

    def init(self, key: Any, x: Any) -> Any:
        """Make the layer's params."""
        with at(".layer"):
            return make(self.layer, key, x)

    def forward(self, params: Any, x: Any, key: Any) -> tuple[Any, tuple[Places, Any]]:
        """y = f(x), and where f(x) lay"""
        with at(".layer"):
            y, extras = run(self.layer, params, x, key)
        return self.rule(y), (Places(map(sharding_of, jax.tree.leaves(y))), extras)

    def recompute(self, params: Any, x: Any, extras: tuple[Places, Any]) -> Any:
        """y = f(x)"""
        with at(".layer"):
            return self.rule(self.layer.recompute(params, x, extras[1]))

    def backward(
        self, params: Any, x: Any, y: Any, extras: tuple[Places, Any], dy: Any, read: Reading
    ) -> tuple[Any, Any]:
        """dx = the layer's dx at dy"""
        y, dy = self._back(y, extras[0]), self._back(self.rule(dy), extras[0])
        with at(".layer"):
            return pull(self.layer, params, *sides(self.layer, x, y), extras[1], dy, read)

    def rebuild(self, params: Any, extras: tuple[Places, Any]) -> Any:
        """Return the output again, without the input."""
        assert isinstance(self.layer, Composition)
        with at(".layer"):
            return self.rule(self.layer.rebuild(params, extras[1]))

    def backward_and_input(
        self, params: Any, y: Any, extras: tuple[Places, Any], dy: Any, read: Reading
    ) -> tuple[Any, Any, Any]:
        """Return the layer's readings, dx and x."""
        assert isinstance(self.layer, Composition)
        y, dy = self._back(y, extras[0]), self._back(self.rule(dy), extras[0])
        with at(".layer"):
            return self.layer.backward_and_input(params, y, extras[1], dy, read)

    def inside(self, params: Any, x: Any, y: Any, extras: tuple[Places, Any]) -> list[tuple[Part, Any, Any]]:
        """List the layer."""
        return [(Part(".layer", self.layer, params, x), y, extras[1])]

    def _back(self, tree: Any, places: Places) -> Any:
        """Return the output, or its cotangent, where the layer made the output."""
        leaves, structure = jax.tree.flatten(tree)
        if not leaves:
            return tree
        pairs = zip(leaves, places, strict=True)
        return structure.unflatten([v if v.dtype == jax.dtypes.float0 else placed(v, p) for v, p in pairs])


def constrain(net: Layer, rules: Mapping[str, MeshAxes], mesh: Any = None) -> Layer:
    """Return a network whose activations lie on a mesh as rules say. Params, values and gradients stay.

    The output of each layer of a chain is placed, in a `fnn.Repeat` too; a layer with branches, such as
    `fnn.Skip`, is placed as a whole, so that what is inside stays free: to place that, constrain it before it
    is put in. Cotangents are placed like their primals. On Explicit axes what a loop carries stays where its
    input lay.

    Args:
        net: the network, any layer.
        rules: for "batch" (axis 0), "features" (the last axis, which an array of one axis has alone) and
            "tokens" (those between) an axis of the mesh, a tuple of these, or None for not sharded; an axis
            that is not named is left to the compiler, or where the mesh's axes are Explicit stays as it is.
            So does one that the mesh's axes do not divide.
        mesh: the mesh; None for that of the arrays, or of `jax.set_mesh`. Where there is none, nothing is
            placed, so that the network runs on one device too.

    Returns:
        the network with a `Constrained` around each of these layers.

    Raises:
        InputError: where a rule has another name, or, on use, an axis that the mesh does not have.

    >>> import fnn
    >>> constrain(fnn.Repeat(fnn.Skip(fnn.Dense(4)), 2), {"batch": "data", "features": None})
    Repeat(Constrained(Skip(Dense(4)), {'batch': 'data', 'features': None}), 2)
    """
    axes = {name: own if isinstance(own, tuple) else (own,) if own else () for name, own in rules.items()}
    used = [name for own in axes.values() for name in own]
    if not set(axes) <= set(AXES) or len(set(used)) < len(used):
        wanted = f"rules for {', '.join(AXES)}, each with mesh axes of its own"
        raise InputError("constrain", wanted, repr(dict(rules)), FIX)
    return _wrapped(net, Rule(tuple(axes.items()), mesh))


def _wrapped(layer: Layer, rule: Rule) -> Layer:
    """Return a chain with each of its layers constrained, or any other layer constrained itself."""
    if isinstance(layer, Composition) and layer.equations is None and layer.layers:
        return layer.with_layers(*(_wrapped(inner, rule) for inner in layer.layers))
    return Constrained(layer, rule)
