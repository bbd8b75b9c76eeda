"""Sums of weighted losses, each of one entry of the outputs where it says which.

`0.5 * fnn.huber().on("value") + fnn.softmax_cross_entropy().on("policy")` is a loss of outputs and
targets that are dicts with these entries. A head may be among the losses: its params are then those of
the sum.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import jax
import numpy as np

from fnn.core import Layer
from fnn.errors import InputError, describe
from fnn.losses.ending import InSum
from fnn.losses.objective import Likelihood, Objective, Reduction, as_objective
from fnn.losses.terms import Coefficients, Key, Root, Sample, Term, added_values, entry, gathered
from fnn.losses.tied import through_tied
from fnn.reader import gradient
from fnn.reading import Reading, Stacked

if TYPE_CHECKING:
    from fnn.losses.linear import LinearCrossEntropy


@dataclass(frozen=True, repr=False)
class Combined(Objective):
    """A weighted sum of losses, all reduced alike; `+`, `*` and `on` make it.

    With reduction "mean" every loss is the mean over its own rows. With "none" the values of losses with
    as many rows are added row by row, others example by example. `weights` are for all losses, or a tree
    with the entries that the losses are of.

    Params: none where no loss has any; those of the loss that has some; a tuple of them where several have.
    The likelihood, where all losses have one and no weight is negative, is that of independent outputs: its
    Hessian is the weighted sum of theirs.

    Args:
        terms: the losses with their weights and entries.

    Raises:
        InputError: where losses are reduced differently, or one of several has a weight tied to the network.

    >>> import fnn, jax.numpy as jnp
    >>> loss = fnn.squared_error() + 0.5 * fnn.losses.absolute_error()
    >>> float(loss(jnp.array([[2.0]]), jnp.array([[0.0]])))
    5.0
    """

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        losses = [term.loss for term in self.terms]
        reductions = {loss.reduction for loss in losses}
        if len(reductions) > 1:
            raise InputError(
                "+", "losses reduced alike", repr(self), f"loss.with_reduction({losses[0].reduction!r})"
            )
        if sum(loss.reads_net for loss in losses) > 1:
            got = f"{self!r}, with several tied weights"
            raise InputError("+", "one head with a tied weight", got, "fnn.LinearCrossEntropy(V)")
        coupled = [loss.couples_examples for loss in losses]
        known = all(loss.likelihood for loss in losses) and all(term.weight >= 0 for term in self.terms)
        vars(self).update(
            reduction=losses[0].reduction,
            has_params=any(loss.has_params for loss in losses),
            reads_net=any(loss.reads_net for loss in losses),
            couples_examples=True if True in coupled else None if None in coupled else False,
            likelihood=Likelihood(Root(self.terms), Sample(self.terms)) if known else None,
        )

    def __repr__(self) -> str:
        def one(term: Term) -> str:
            on = "".join(f".on({key!r})" for key in term.path)
            return f"{'' if term.weight == 1 else f'{term.weight} * '}{term.loss!r}{on}"

        return " + ".join(map(one, self.terms))

    def init(self, key: Any, y: Any) -> Any:
        """Make the params of the losses that have some."""
        keys = jax.random.split(key, len(self.terms))
        own = [
            term.loss.init(key, entry(y, term)) for term, key in zip(self.terms, keys, strict=True)
            if term.loss.has_params
        ]  # fmt: skip
        return () if not own else own[0] if len(own) == 1 else tuple(own)

    def with_reduction(self, reduction: Reduction) -> "Combined":
        """Return the same losses, reduced in another way."""
        return Combined(tuple(replace(term, loss=term.loss.with_reduction(reduction)) for term in self.terms))

    def split(self, tree: Any) -> tuple[Any, Any]:
        """Return the network's and the losses' part of a pair; the tree and `()` if the losses have none."""
        if not self.has_params:
            return tree, ()
        if not isinstance(tree, (tuple, list)) or len(tree) != 2:
            fix = "(fnn.init(net, key, x), loss.init(key, y))"
            raise InputError(self, "params of the network and of the loss, a pair", describe(tree), fix)
        return tree[0], tree[1]

    def merge(self, of_net: Any, of_loss: Any) -> Any:
        """Return the pair, where the losses have params."""
        return (of_net, of_loss) if self.has_params else of_net

    def coefficients(self, y: Any, target: Any, weights: Any = None) -> Coefficients:
        """Return those of every loss, to be passed as `weights`."""
        entries = [self._entries(i, y, target, weights) for i in range(len(self.terms))]
        pairs = zip(self.terms, entries, strict=True)
        return Coefficients(tuple(term.loss.coefficients(*own) for term, own in pairs))

    def pull(
        self, params: Any, y: Any, target: Any, weights: Any, read: Reading, scale: Any = None
    ) -> tuple[Any, Any, Any]:
        """Run every loss on its entry, and add up the values and the gradients by `y`."""
        found = [self._pull_one(i, params, y, target, weights, read, scale) for i in range(len(self.terms))]
        return self._joined(y, found)

    def through(
        self,
        net: Layer,
        params: Any,
        x: Any,
        target: Any,
        key: Any,
        weights: Any,
        read: Reading,
        scale: Any = None,
    ) -> tuple[Any, Any]:
        """Run network and losses, a head with a tied weight among them too."""
        for i, term in enumerate(self.terms):
            if term.loss.reads_net:
                end = partial(InSum, self, i, params, target, weights, read, scale)
                by = _product(term.weight, scale)
                head = cast("LinearCrossEntropy", term.loss)  # no other loss reads the network's params
                return through_tied(head, end, net, params, x, target, key, weights, read, by)
        return super().through(net, params, x, target, key, weights, read, scale)

    def _pull_one(
        self, i: int, params: Any, y: Any, target: Any, weights: Any, read: Reading, scale: Any
    ) -> tuple[Any, Any, Any]:
        """Return the value of loss `i`, without its weight, its gradient, and its readings."""
        term = self.terms[i]
        own = read.mapped(lambda tree: self._own(tree, i))
        entries = self._entries(i, y, target, weights)
        return term.loss.pull(self._own(params, i), *entries, own, _product(term.weight, scale))

    def _joined(self, y: Any, found: list[tuple[Any, Any, Any]]) -> tuple[Any, Any, Any]:
        """Add up what `_pull_one` found of all losses."""
        values, dys, readings = zip(*found, strict=True)
        weights = [term.weight for term in self.terms]
        values = [value if w == 1 else w * value for value, w in zip(values, weights, strict=True)]
        return added_values(values), gathered(self.terms, list(dys), y), self._of_losses(list(readings))

    def _of_losses(self, readings: list[Any]) -> Any:
        """Return the readings of all losses in the structure of their params."""
        own = [r for r, term in zip(readings, self.terms, strict=True) if term.loss.has_params]
        return () if not own else own[0] if len(own) == 1 else tuple(own)

    def value(self, *args: Any) -> Any:
        """Return the value alone, as plain code: arguments as for a call."""
        return self._called(args, "value")

    def __call__(self, *args: Any) -> Any:
        """Return the value of `(y, target, weights=None)`; params first where the losses have some."""
        return self._called(args, "__call__")

    def value_and_grad(self, *args: Any, scale: Any = None) -> tuple[Any, Any]:
        """Return the value and the gradient by `y`, or, where the losses have params, by (params, y)."""
        params, y, target, weights = self._arguments(args)
        value, dy, grads = self.pull(params, y, target, weights, Stacked(gradient, (params,)), scale)
        return value, (grads, dy) if self.has_params else dy

    def _called(self, args: Any, how: str) -> Any:
        params, y, target, weights = self._arguments(args)
        values = []
        for i, term in enumerate(self.terms):
            own = (self._own(params, i),) if term.loss.has_params else ()
            run: Any = {"value": term.loss.value, "__call__": term.loss}[how]
            value = run(*own, *self._entries(i, y, target, weights))
            values.append(value if term.weight == 1 else term.weight * value)
        return added_values(values)

    def _arguments(self, args: Any) -> tuple[Any, Any, Any, Any]:
        params, (y, target, *weights) = (args[0], args[1:]) if self.has_params else ((), args)
        return params, y, target, weights[0] if weights else None

    def _own(self, tree: Any, i: int) -> Any:
        """Return the share of loss `i` of the losses' params."""
        having = [j for j, term in enumerate(self.terms) if term.loss.has_params]
        if i not in having:
            return ()
        return tree if len(having) == 1 else tree[having.index(i)]

    def _entries(self, i: int, y: Any, target: Any, weights: Any) -> tuple[Any, Any, Any]:
        term = self.terms[i]
        if isinstance(weights, Coefficients):
            return entry(y, term), entry(target, term), weights.of_losses[i]
        shared = weights is None or isinstance(weights, (jax.Array, np.ndarray))
        return entry(y, term), entry(target, term), weights if shared else entry(weights, term)


def summed(a: Objective, b: Any) -> Combined:
    """Return the sum of two losses.

    Args:
        a: a loss.
        b: a loss, or a function of your own, as for `fnn.Loss`.
    """
    return Combined((*_terms(a), *_terms(as_objective("+", b))))


def weighted(loss: Objective, factor: Any) -> Combined:
    """Return a loss times a number.

    Args:
        loss: the loss.
        factor: a Python or NumPy number.

    Raises:
        InputError: where the factor is none.
    """
    if isinstance(factor, bool) or not isinstance(factor, (int, float, np.floating, np.integer)):
        wanted = "a loss times a number; one that changes is the `scale` of value_and_grad"
        raise InputError("*", wanted, describe(factor), "0.5 * fnn.huber()")
    return Combined(tuple(replace(t, weight=t.weight * float(factor)) for t in _terms(loss)))


def picked(loss: Objective, key: Key) -> Combined:
    """Return the loss of one entry of outputs and targets.

    Args:
        loss: the loss of the entry.
        key: the entry's name or number.
    """
    return Combined(tuple(replace(t, path=(key, *t.path)) for t in _terms(loss)))


def _terms(loss: Objective) -> tuple[Term, ...]:
    return loss.terms if isinstance(loss, Combined) else (Term(loss),)


def _product(weight: float, scale: Any) -> Any:
    if scale is None:
        return None if weight == 1 else weight
    return weight * scale
