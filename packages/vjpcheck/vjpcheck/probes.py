"""The inputs that a check runs on: those given, and others that bring rare mistakes to light."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from inspect import getclosurevars, isfunction
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vjpcheck.arguments import Arguments, exact, is_inexact

SCALES = (1e-3, 30.0, 1e3)


@dataclass(frozen=True)
class Probe:
    """One set of arguments and what is special about it.

    Args: `name`, what is special about it; `arguments`, the arguments.
    """

    name: str
    arguments: Arguments


def same_shape(arguments: Arguments, rng: np.random.Generator) -> Iterator[Probe]:
    """Return the probes of the given shapes: other scales, mixed ones, zeros, and duplicate indices.

    Args: `arguments`, the arguments given; `rng`, the generator to draw from.
    """
    for scale in SCALES:
        yield Probe(f"inputs x {scale:g}", _mapped(arguments, lambda x, s=scale: x * s))
    spread = lambda x: x * 10.0 ** rng.uniform(-3, 3, x.shape)  # noqa: E731
    yield Probe("inputs x 1e-3 to 1e3", _mapped(arguments, spread))
    yield Probe("inputs zero", _mapped(arguments, np.zeros_like))
    yield Probe("first row zero", _mapped(arguments, _first_row_zero))
    if any(_is_index(x) for x in arguments.leaves):
        doubled = [_doubled(x) if _is_index(x) else x for x in arguments.leaves]
        yield Probe("duplicate indices", arguments.with_leaves(doubled))


def fresh(arguments: Arguments, rng: np.random.Generator) -> Probe:
    """Return a probe with other values of the same kind: what explains a mistake must explain it here too.

    Args: `arguments`, those whose active and integer leaves are drawn anew; `rng`, the generator for that.
    """
    leaves = [
        _permuted(x, rng) if not is_inexact(x) else _redrawn(x, x.shape, rng) if i in arguments.active else x
        for i, x in enumerate(arguments.leaves)
    ]
    return Probe("fresh inputs", arguments.with_leaves(leaves))


def fixed_sizes(arguments: Arguments, *functions: Any) -> frozenset[int]:
    """Return the sizes of the arguments' axes that functions close over, alone or multiplied by one another.

    Args:
        arguments: the arguments.
        functions: rules; one that takes a size from there is right or wrong for that size alone.
    """
    known, shapes = _closed_over(functions), [x.shape for x in arguments.leaves if is_array(x)]
    return frozenset(
        size
        for shape in shapes
        for count in range(1, len(shape) + 1)
        for some in combinations(shape, count)
        if math.prod(some) in known
        for size in some
        if size > 1
    )


def _closed_over(functions: tuple[Any, ...]) -> set[int]:
    """Return the whole numbers in the closures of functions, and the sizes of the arrays there."""
    found, seen, left = set(), set(), list(functions)
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, int | np.integer) and not isinstance(value, bool):
            found.add(int(value))
        elif isinstance(value, np.ndarray | jax.Array):
            found |= set(value.shape)
        elif isinstance(value, tuple | list):
            left += value
        elif isinstance(value, partial):
            left += [value.func, *value.args, *value.keywords.values()]
        elif isfunction(value):
            left += getclosurevars(value).nonlocals.values()
    return found


def batch_size(arguments: Arguments, output: tuple[int, ...]) -> int | None:
    """Return the size of the batch, or None where there is none.

    Args:
        arguments: the arguments; where the output is a scalar, the number of rows that most of them have.
        output: the shape of the first floating output, whose rows it is otherwise.
    """
    if output:
        return output[0]
    rows = {
        (x.shape[0], owner) for x, owner in _leaves(arguments) if x.ndim > 1 or x.ndim and not is_inexact(x)
    }
    counts = Counter(size for size, _ in rows)
    wide = [x.shape[0] for x, _ in _leaves(arguments) if x.ndim > 1]
    return max(wide, key=lambda size: counts[size], default=None)


def _leaves(arguments: Arguments) -> list[tuple[Any, int]]:
    both = zip(arguments.leaves, arguments.owners, strict=True)
    return [(x, owner) for x, owner in both if is_array(x)]


def _indexed_sizes(arguments: Arguments) -> frozenset[int]:
    """Return the sizes that indices may point into: made smaller, they would leave those out of range."""
    largest = [int(x.max()) for x, _ in _leaves(arguments) if jnp.issubdtype(x.dtype, jnp.integer) and x.size]
    own = {n for x, _ in _leaves(arguments) if jnp.issubdtype(x.dtype, jnp.integer) for n in x.shape}
    sizes = {n for x, _ in _leaves(arguments) for n in x.shape}
    return frozenset(n for n in sizes - own if any(1 <= top < n for top in largest))


def other_shapes(
    arguments: Arguments, batch: int | None, fixed: frozenset[int], rng: np.random.Generator
) -> Iterator[list[Probe]]:
    """Return lists of alternatives: the first probe of each that the primal accepts is the one to run.

    Args:
        arguments: the arguments given.
        batch: the size of the batch, or None.
        fixed: the sizes that stay as they are.
        rng: the generator to draw from.
    """
    primes: dict[int, int] = {}
    sizes = {s for x in arguments.leaves if is_array(x) for s in x.shape if s > 1}
    for s in sorted(sizes - fixed):
        primes[s] = _prime(s, set(primes.values()))
    moved = [{s: p} for s, p in primes.items() if s != p]
    if moved:
        maps = [primes, *sorted(moved, key=lambda m: batch not in m)]
        yield [Probe("prime sizes", _resized(arguments, m, rng)) for m in maps]
    if batch is not None and batch > 1 and batch not in fixed | _indexed_sizes(arguments):
        yield [Probe("batch of one", _resized(arguments, {batch: 1}, rng))]


def is_array(x: Any) -> bool:
    """Whether a leaf is a plain array: no random key."""
    return not jnp.issubdtype(x.dtype, jax.dtypes.extended)


def _mapped(arguments: Arguments, change: Any) -> Arguments:
    """Change what is differentiated by; what is held fixed may have a meaning that this would break."""
    with np.errstate(all="ignore"):
        leaves = [
            jnp.asarray(np.asarray(change(exact(x)))).astype(x.dtype)
            if i in arguments.active and not _is_constrained(x)
            else x
            for i, x in enumerate(arguments.leaves)
        ]
    return arguments.with_leaves(leaves)


def _is_constrained(x: Any) -> bool:
    """Whether the values look like flags or probabilities, which a rule may rely on."""
    values = exact(x)
    if values.size < 2 or np.iscomplexobj(values):
        return False
    flags = bool(np.all((values == 0) | (values == 1))) and len(np.unique(values)) == 2
    sums = values.ndim > 0 and values.shape[-1] > 1 and np.allclose(values.sum(-1), 1, atol=1e-3)
    return flags or bool(sums and np.all(values >= 0))


def _first_row_zero(x: np.ndarray) -> np.ndarray:
    if x.ndim < 2 or len(x) == 0:
        return x
    x = x.copy()
    x[0] = 0
    return x


def _is_index(x: Any) -> bool:
    if not is_array(x) or not jnp.issubdtype(x.dtype, jnp.integer) or x.size < 2:
        return False
    values = np.sort(np.asarray(x).ravel())
    return not np.array_equal(values, np.arange(values.size))  # a permutation stays one


def _doubled(x: Any) -> Any:
    flat = np.asarray(x).ravel().copy()
    flat[1::2] = flat[: len(flat[1::2])]
    flat[-1] = flat[0]
    return jnp.asarray(flat.reshape(x.shape), x.dtype)


def _permuted(x: Any, rng: np.random.Generator) -> Any:
    if not is_array(x) or x.size < 2:
        return x
    return jnp.asarray(rng.permutation(np.asarray(x).ravel()).reshape(x.shape), x.dtype)


def _redrawn(x: Any, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """Draw from the values of `x`, so that what holds for each of them (a sign, a range) still holds."""
    values = exact(x)
    if values.size == 0 or 0 in shape:
        return jnp.zeros(shape, x.dtype)
    if _is_constrained(x) and values.ndim and np.allclose(values.sum(-1), 1, atol=1e-3):
        drawn = rng.dirichlet(np.ones(shape[-1]), shape[:-1])
        onehot = np.eye(shape[-1])[rng.integers(0, shape[-1], shape[:-1])]
        return jnp.asarray(onehot if len(np.unique(values)) == 2 else drawn, x.dtype)
    drawn = rng.choice(values.ravel(), shape)
    if len(np.unique(values)) > 2:
        drawn = drawn * rng.uniform(0.8, 1.0, shape)
    return jnp.asarray(drawn, x.dtype)


def _resized(arguments: Arguments, sizes: dict[int, int], rng: np.random.Generator) -> Arguments:
    leaves = []
    for x in arguments.leaves:
        shape = tuple(sizes[s] if s in sizes else s for s in x.shape)
        if not is_array(x) or shape == x.shape:
            leaves.append(x)
        elif is_inexact(x):
            leaves.append(_redrawn(x, shape, rng))
        else:
            permutation = np.array_equal(np.sort(np.asarray(x).ravel()), np.arange(x.size)) and x.ndim == 1
            drawn = rng.permutation(shape[0]) if permutation else np.resize(np.asarray(x), shape)
            smallest = min(sizes.values())
            leaves.append(
                jnp.asarray(drawn if smallest > 1 or permutation else np.zeros_like(drawn), x.dtype)
            )
    return arguments.with_leaves(leaves)


def _prime(at_least: int, taken: set[int]) -> int:
    n = at_least
    while n in taken or any(n % d == 0 for d in range(2, int(n**0.5) + 1)):
        n += 1
    return n
