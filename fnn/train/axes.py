"""The names of the axes of a network's params, found by a fold over its parts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fnn.arrays import shapes_of
from fnn.contract import run
from fnn.core import Composition, Layer, Leaf, Params, Part
from fnn.errors import InputError, describe
from fnn.losses.objective import LossLike, as_objective

# The axes of the params of fnn's heads: a loss declares none itself.
HEADS: dict[str, tuple[str, ...]] = {"kernel": ("in", "vocabulary"), "bias": ("vocabulary",)}


class Axes(tuple[str | None, ...]):
    """The name of each axis of a param, None for one without a name: a leaf of a tree, not a node."""


@dataclass(frozen=True)
class Node:
    """A layer of a network, with the places of its params among all params.

    Args:
        place: where the layer stands in the network, as `fnn.describe.summary` shows it.
        layer: the layer.
        params: the shapes of its params, of one run.
        numbers: for each leaf of these its number among the leaves of all params; None where the composition
            outside made it of several.
        x: the shape of its input, which compositions alone are asked for.
    """

    place: str
    layer: Layer
    params: Params
    numbers: tuple[int | None, ...]
    x: Any

    def inside(self) -> list[tuple[Part, "Node"]]:
        """List the parts of a composition, in the order in which they run; of a leaf, none.

        A part's params are those of the composition where these are the same objects. A loop's are made of
        slices; where their tree has the structure of the composition's, a slice stands where its stack does.
        """
        if not isinstance(self.layer, Composition):
            return []
        leaves, structure = jax.tree.flatten(self.params)
        leaves = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]  # objects of their own
        number = {id(leaf): own for leaf, own in zip(leaves, self.numbers, strict=True)}
        found = []
        for part in self.layer.parts(structure.unflatten(leaves), self.x):
            own, like = jax.tree.flatten(part.params)
            numbers = [number.get(id(leaf)) for leaf in own]
            if like == structure:
                pairs = zip(numbers, self.numbers, strict=True)
                numbers = [there if number is None else number for number, there in pairs]
            place = self.place + part.place
            found.append((part, Node(place, part.layer, part.params, tuple(numbers), part.x)))
        return found

    def named(self) -> list[tuple[int | None, str, tuple[str | None, ...], tuple[int, ...]]]:
        """List the number, the name, the axes and the shape of each param of a leaf.

        Raises:
            InputError: where the layer declares names for another number of axes.
        """
        declared, found = self.layer.axes if isinstance(self.layer, Leaf) else {}, []
        for number, (path, leaf) in zip(self.numbers, jax.tree.leaves_with_path(self.params), strict=True):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            axes = declared.get(name, (None,) * leaf.ndim)
            if len(axes) != leaf.ndim:
                wanted = f"axes with a name for each of the {leaf.ndim} axes of {name}, {describe(leaf)}"
                fix = f"axes = {{{name!r}: {(*'abcdefgh',)[: leaf.ndim]}}}"
                raise InputError(self.layer, wanted, repr(axes), fix)
            found.append((number, name, axes, leaf.shape))
        return found

    def leaves(self) -> Iterator["Node"]:
        """Return the leaves inside, in the order in which they run."""
        if not isinstance(self.layer, Composition):
            yield self
        for _, node in self.inside():
            yield from node.leaves()


@dataclass(frozen=True)
class Param:
    """A param with what rules ask of it.

    Args:
        path: its path among all params, as `jax.tree_util.keystr` writes it.
        place: the place of its layer in the network, and its path there; "" for that of a loss.
        shape: its shape.
        axes: the names of its axes.
    """

    path: str
    place: str
    shape: tuple[int, ...]
    axes: Axes

    def __str__(self) -> str:
        return f"params{self.path} {self.shape}"


def params_of(
    net: Layer, params: Params, x: Any = None, loss: LossLike | None = None
) -> tuple[list[Param], Node]:
    """Return what rules ask of each param, in the order of the leaves, and the node of the whole network.

    Args:
        net: the network, any layer.
        params: its params, or their shapes; a pair with those of the loss where that has some.
        x: the input, an array or a shape, or a tree of these; None where it follows from the params.
        loss: the loss, where params of its own are among these.

    Raises:
        InputError: where `x` is asked for, or the params are not the network's.
    """
    paths, structure = jax.tree.flatten_with_path(params)
    shapes = [jax.ShapeDtypeStruct(jnp.shape(leaf), leaf.dtype) for _, leaf in paths]
    number = {id(leaf): i for i, leaf in enumerate(shapes)}
    of_net, of_loss = structure.unflatten(shapes), ()
    if loss is not None:
        of_net, of_loss = as_objective("param_axes", loss).split(of_net)
    numbers = tuple(number[id(leaf)] for leaf in jax.tree.leaves(of_net))
    if isinstance(net, Composition) and numbers:
        x = _input_of(net, of_net) if x is None else shapes_of("param_axes", x)
    whole = Node("", net, of_net, numbers, x)
    keys = [jax.tree_util.keystr(path) for path, _ in paths]
    found = [Param(key, "", s.shape, Axes((None,) * s.ndim)) for key, s in zip(keys, shapes, strict=True)]
    for node in _leaves_of(whole, params, loss) if numbers else ():
        for i, name, axes, shape in node.named():
            stacked = -1 if i is None else len(shapes[i].shape) - len(shape)
            if i is None or stacked < 0 or (found[i].place and not set(found[i].axes) <= {None, "layers"}):
                continue  # it is used twice: its first use says what it is
            place = f"{node.place}[{name!r}]"
            found[i] = Param(keys[i], place, shapes[i].shape, Axes(("layers",) * stacked + tuple(axes)))
    for path, leaf in jax.tree.leaves_with_path(of_loss):
        i, name = number[id(leaf)], jax.tree_util.keystr(path[-1:], simple=True)
        if len(HEADS.get(name, ())) == leaf.ndim:
            found[i] = Param(keys[i], "", leaf.shape, Axes(HEADS[name]))
    return found, whole


def _leaves_of(whole: Node, params: Params, loss: LossLike | None) -> list[Node]:
    """Return the leaves of a network. Raises: InputError, where params are not those of the network."""
    try:
        return list(whole.leaves())
    except InputError:
        raise
    except (AttributeError, TypeError, LookupError) as error:  # of a composition that looks for a part's
        wanted = "params of the network" + ", or of it and the loss, with the loss" * (loss is None)
        fix = "fnn.train.shardings(net, params, mesh, x=x, loss=loss)"
        raise InputError("shardings", wanted, describe(params), fix) from error


def param_axes(net: Layer, params: Params, x: Any = None, loss: LossLike | None = None) -> Any:
    """Return the names of the axes of each param, as the layers declare them in `axes`.

    The names of fnn's own layers are "in" and "out", of the features that a layer takes and returns,
    "vocabulary", and "layers", the axis on which `fnn.Repeat` stacks params.

    Args:
        net: the network, any layer.
        params: its params, or their shapes; a pair with those of the loss where that has some.
        x: the input, an array or a `jax.ShapeDtypeStruct`, or a tree of these; None where it follows from the
            params: floats (1, k) or integers (1,).
        loss: the loss, where params of its own are among these; those of a head are named.

    Returns:
        a tree like the params with a tuple of names at each, None for an axis that no layer names, such as
        those of `fnn.function.Function`. The tuples are leaves of the tree.

    Raises:
        InputError: where `x` does not follow from the params, or a layer declares too few or too many names.

    >>> import fnn
    >>> net = fnn.Repeat(fnn.Dense(4), 10)
    >>> param_axes(net, fnn.init(net, jax.random.key(0), jnp.ones((2, 4))))
    {'bias': ('layers', 'out'), 'kernel': ('layers', 'in', 'out')}
    """
    found, _ = params_of(net, params, x, loss)
    return jax.tree.structure(params).unflatten([param.axes for param in found])


def _input_of(net: Layer, params: Params) -> Any:
    """Return the shape of an input that the network takes: rows of one of the params' sizes, or indices."""
    leaves = jax.tree.leaves(params)
    rows = [leaf.shape[-2] for leaf in leaves if leaf.ndim > 1]
    sizes = dict.fromkeys([*rows, *(leaf.shape[-1] for leaf in leaves if leaf.ndim)])
    floating = [leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
    dtype = floating[0] if floating else jnp.float32
    halves = [2 * size for size in sizes]  # of what runs on the halves of the features
    likely = [jax.ShapeDtypeStruct((1, size), dtype) for size in (*sizes, *halves)]
    for x in (*likely, jax.ShapeDtypeStruct((1,), jnp.int32)):
        try:
            jax.eval_shape(lambda params, x: run(net, params, x, None)[0], params, x)
        except (TypeError, ValueError, LookupError):  # of a layer, for an input that is another's
            continue
        return x
    wanted = "x, an input or its shape, as it does not follow from these params; and a loss of which some are"
    raise InputError("shardings", wanted, "x=None", "fnn.train.shardings(net, params, mesh, x=x)")
