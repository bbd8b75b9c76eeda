"""The names of a chain's layers, and so the structure of its params.

A chain runs its layers one after the other whatever its names; names decide on the tree of params, on the
keys that params are drawn from, and on the places in errors, and on nothing else.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, Union

import jax

from fnn.compose.names import Name, check_shares, gathered, own_key, place_of, share
from fnn.contract import make, run
from fnn.core import Layer
from fnn.errors import at

Item: TypeAlias = Union[int, "Spelling"]  # the number of a layer in the whole chain, or a chain inside


@dataclass(frozen=True)
class Spelling:
    """The names of a chain's items, and for each the number of its layer or the spelling of its chain.

    Args:
        names: the items' names, or their numbers where they have none.
        items: for each the number of a layer, or the spelling of a chain inside.
    """

    names: tuple[Name, ...]
    items: tuple[Item, ...]

    @property
    def named(self) -> bool:
        """Whether the items have names, and not numbers."""
        return any(isinstance(name, str) for name in self.names)

    @property
    def size(self) -> int:
        """The number of layers."""
        return sum(1 if isinstance(item, int) else item.size for item in self.items)

    @property
    def start(self) -> int:
        """The number of the first layer, 0 where there is none."""
        return next(
            (i if isinstance(i, int) else i.start for i in self.items if isinstance(i, int) or i.size), 0
        )

    def item(self, index: int | str) -> Item:
        """Return the item at a number or name. Raises IndexError or KeyError where there is none."""
        if isinstance(index, str):
            if index not in self.names:
                raise KeyError(f"{index!r}, in a chain of {', '.join(map(repr, self.names))}")
            index = self.names.index(index)
        return self.items[index]

    def shifted(self, by: int) -> "Spelling":
        """Return the same spelling of layers that stand `by` places further back."""
        return Spelling(self.names, tuple(_shifted(item, by) for item in self.items))

    def between(self, start: int, stop: int) -> tuple["Spelling", int]:
        """Return the spelling of some items, and the number of the first one's layer.

        Args:
            start: the number of the first item.
            stop: the number after that of the last.
        """
        skipped = Spelling(self.names[:start], self.items[:start]).size
        items = tuple(_shifted(item, -skipped) for item in self.items[start:stop])
        names = self.names[start:stop] if self.named else tuple(range(len(items)))
        return Spelling(names, items), skipped

    def paths(self, before: tuple[Name, ...] = ()) -> Iterator[tuple[Name, ...]]:
        """List for each layer the names that lead to it."""
        for name, item in zip(self.names, self.items, strict=True):
            if isinstance(item, int):
                yield (*before, name)
            else:
                yield from item.paths((*before, name))

    def places(self, before: str = "") -> Iterator[str]:
        """List the layers' places: `.layers[1]` in a chain of layers, else `["a"].layers[1]`, `[0]["a"]`."""
        flat = not self.named and all(isinstance(item, int) for item in self.items)
        for name, item in zip(self.names, self.items, strict=True):
            place = before + (f".layers[{name}]" if flat else place_of(name))
            if isinstance(item, int):
                yield place
            else:
                yield from item.places(place)

    def check(self, who: str, params: Any) -> None:
        """Check that params are those of such a chain.

        Args:
            who: the name of the composition, for the error message.
            params: the params.

        Raises:
            InputError: where they are not.
        """
        check_shares(who, params, self.names)
        for name, item in zip(self.names, self.items, strict=True):
            if not isinstance(item, int) and (not self.named or name in params):
                with at(place_of(name)):
                    item.check(who, share(params, name))

    def shares(self, tree: Any) -> tuple[Any, ...]:
        """Return for each layer its part of params, or of a tree that begins like them; `()` for none."""
        found = []
        for name, item in zip(self.names, self.items, strict=True):
            own = _share(tree, name)
            found += (own,) if isinstance(item, int) else item.shares(own)
        return tuple(found)

    def gathered(self, shares: Sequence[Any], like: Any) -> Any:
        """Undo `shares`: return the params with these shares.

        Args:
            shares: the share of each layer.
            like: params of the chain, for the structure.
        """
        values, start = {}, 0
        for name, item in zip(self.names, self.items, strict=True):
            stop = start + (1 if isinstance(item, int) else item.size)
            own = shares[start:stop]
            values[name] = own[0] if isinstance(item, int) else item.gathered(own, _share(like, name))
            start = stop
        return gathered(values, like)

    def init(self, layers: Sequence[Layer], key: Any, x: Any, places: Iterator[str]) -> tuple[Any, Any]:
        """Make the params of each layer for the shape that reaches it.

        A layer draws from a key by its name, or by the number of layers with params before it: one without
        params changes nothing for those after it.

        Args:
            layers: the layers of the whole chain.
            key: the random key.
            x: the shape of the input.
            places: the places of the layers, for error messages.

        Returns:
            the params, and the shape of the output.
        """
        values, count = {}, 0
        for name, item in zip(self.names, self.items, strict=True):
            own = own_key(key, name if self.named else count)
            if isinstance(item, int):
                with at(next(places)):
                    values[name] = make(layers[item], own, x)
                    x, _ = jax.eval_shape(partial(run, layers[item]), values[name], x, None)
            else:
                values[name], x = item.init(layers, own, x, places)
            count += bool(jax.tree.leaves(values[name]))
        return gathered(values), x


def spliced(entries: Mapping[Name, Spelling | None], named: bool) -> tuple[Spelling, list[int]]:
    """Return the spelling of a chain of layers and chains, and the number of the first layer of each.

    A chain without names in a chain without names is a part of it.

    Args:
        entries: for each name the spelling of a chain; None for a layer.
        named: whether the new chain has names.
    """
    names, items, starts, start = [], [], [], 0
    for name, inner in entries.items():
        starts.append(start)
        if inner is None:
            names, items, start = [*names, name], [*items, start], start + 1
        else:
            shifted = inner.shifted(start)
            whole = named or inner.named
            names += [name] if whole else shifted.names
            items += [shifted] if whole else shifted.items
            start += inner.size
    return Spelling(tuple(names) if named else tuple(range(len(items))), tuple(items)), starts


def _shifted(item: Item, by: int) -> Item:
    return item + by if isinstance(item, int) else item.shifted(by)


def _share(tree: Any, name: Name) -> Any:
    """Return the share of a name; of a chain without params, which has no entry itself, `()`."""
    return () if isinstance(tree, tuple) and not tree else share(tree, name)
