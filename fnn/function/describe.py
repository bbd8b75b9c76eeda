"""What a function does with its params: every use, its line, the form of its factor and what that costs."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fnn.arrays import bytes_of
from fnn.factors import Factor, is_factor
from fnn.function import collect
from fnn.function.apart import coupling
from fnn.function.called import Called
from fnn.function.convolved import Convolved
from fnn.function.forms import Several
from fnn.function.losses import examples
from fnn.function.padded import run_batch
from fnn.function.planned import planned
from fnn.function.run import zeros_for
from fnn.function.sites import Plan, Site, count
from fnn.function.trace import Traced, check_params, followed

KINDS = {
    "dot": "product",
    "conv": "convolution",
    "rows": "lookup",
    "scale": "multiplied",
    "total": "broadcast into",
    "call": "not known",
    "made": "made into a value without examples by",
}


@dataclass(frozen=True)
class Use:
    """One use of a param.

    Args:
        operation: JAX's name for the operation.
        kind: what is done with the param, such as "product".
        where: the line of the program, "model.py:12 (forward)".
        zeros: the number of elements of its cotangent, that of all steps where it lies in loops.
    """

    operation: str
    kind: str
    where: str
    zeros: int


@dataclass(frozen=True)
class Described:
    """What is said of one param.

    Args:
        name: its path in the params, such as "['kernel']".
        shape: its shape.
        uses: its uses, and those of what is made of it alone.
        form: the type of its factor, such as "Outer".
        factor_bytes: the bytes of its factor.
        each: the number of elements that readers make which need the gradients of all examples; 0 where none
            does.
    """

    name: str
    shape: tuple[int, ...]
    uses: tuple[Use, ...]
    form: str
    factor_bytes: int
    each: int


@dataclass(frozen=True)
class Description:
    """What is said of a function; `print` shows it as a table.

    Args:
        params: what is said of each param, in the order of the leaves.
        coupled: the line where examples meet; None where they are kept apart.
    """

    params: tuple[Described, ...]
    coupled: str | None

    def __str__(self) -> str:
        lines = []
        for own in self.params:
            shape = "x".join(map(str, own.shape)) or "number"
            cost = f"{own.factor_bytes:,} bytes"
            if own.each:
                cost += f", and {own.each:,} numbers to read it: the examples' gradients"
            lines.append(f"params{own.name} {shape}: {own.form}, {cost}")
            lines += [f"    {use.kind} {use.operation} in {use.where}" for use in own.uses]
            lines += [] if own.uses else ["    does not enter: every reading is zero"]
        lines.append(f"examples are coupled: {self.coupled}" if self.coupled else "examples are kept apart")
        return "\n".join(lines)


def describe(f: Callable[..., Any], params: Any, *args: Any, wrt: Any = None) -> Description:
    """Tell for every param of `f(params, *args)` its uses, and what its factor is and costs.

    Nothing is computed.

    Args:
        f: a function of a batch, as `factors` or `Function` takes it.
        params: its params, a tree of arrays or shapes.
        args: its further arguments, trees of arrays or shapes with the examples on axis 0; numbers, of no
            axis, are the same for all.
        wrt: `wrt(path, leaf) -> bool` says which params are followed, path as in `jax.tree_util`; None for
            all.

    Returns:
        a `Description`, to print.

    Raises:
        InputError: where `f` cannot be traced for any number of examples, has side effects, followed params
            that are not floating-point, an output made of params alone or a derivative through a
            `while_loop`, or where arrays differ in their number of examples.

    >>> print(describe(lambda w, x: jnp.tanh(x @ w), jnp.ones((3, 2)), jnp.ones((4, 3))).params[0].form)
    Outer
    """
    own = followed(params, wrt)
    check_params(params, own)
    arrays = jax.tree.leaves(args)
    n = examples(arrays)
    traced = planned(f, params, args, n, own, [0 if a.ndim else None for a in arrays])
    pairs = jax.tree.leaves_with_path(params)
    found = iter(_factors(traced, [leaf for _, leaf in pairs], arrays, n))
    roots = iter(range(len(traced.plan.roots)))
    rows = []
    for (path, leaf), one in zip(pairs, own, strict=True):
        factor = (
            next(found)
            if one
            else jax.eval_shape(lambda leaf=leaf: collect.unused(n, leaf.shape, leaf.dtype))
        )
        uses = _uses(traced.plan, next(roots)) if one else ()
        each = n * math.prod(leaf.shape) if _by_examples(factor) else 0
        name = jax.tree_util.keystr(path)
        rows.append(Described(name, tuple(leaf.shape), uses, _form(factor), bytes_of(factor), each))
    return Description(tuple(rows), coupling(traced))


def _factors(traced: Traced, leaves: list[Any], arrays: list[Any], n: int) -> list[Any]:
    """Return the factors of the params that are followed, as shapes."""
    plan = traced.plan

    def all_of(leaves: list[Any], arrays: list[Any]) -> list[Any]:
        def forward(zeros: Any) -> Any:
            return run_batch(plan, [*leaves, *arrays], zeros)

        outs, pull, kept = jax.vjp(forward, zeros_for(plan), has_aux=True)
        (dzs,) = pull([jnp.zeros_like(o) for o in outs])
        return collect.factors(plan, n, kept, dzs)

    return jax.eval_shape(all_of, leaves, arrays)


def _uses(plan: Plan, root: int) -> tuple[Use, ...]:
    """List the uses of a root, and of what is made of it."""
    found: list[Use] = []
    for number, site in enumerate(plan.sites):
        if not any(view.root == root for _, view in site.views):
            continue
        found.append(_use(site))
        for other, made in enumerate(plan.roots):
            if made.site == number:
                found += _uses(plan, other)
    return tuple(dict.fromkeys(found))


def _use(site: Site) -> Use:
    return Use(site.eqn.primitive.name, KINDS[site.kind], site.where, count(site))


def _form(factor: Factor) -> str:
    inside = _inside(factor)
    name = type(factor).__name__
    return f"{name}({', '.join(_form(own) for own in inside)})" if inside else name


def _inside(factor: Factor) -> list[Any]:
    if isinstance(factor, Several):
        return list(factor.factors)
    own = vars(factor).get("factor")
    return [own] if is_factor(own) else []


def _by_examples(factor: Factor) -> bool:
    """Tell whether readers that need more than sums make the gradients of the examples."""
    if isinstance(factor, (Several, Called, Convolved)):
        return True
    return any(_by_examples(own) for own in _inside(factor))
