"""The gradient of a training step, with what its metrics read in the same pass."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import gcd
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fnn.arrays import widened
from fnn.chunks import by_shard, cut_up, own_key, put_together, shares_axes
from fnn.core import Layer, Params, forward, pull
from fnn.describe.activations import activations
from fnn.errors import InputError
from fnn.losses.objective import Objective
from fnn.reader import Reader, gradient, zip_readers
from fnn.readers.coupling import check_loss_uncoupled, check_uncoupled
from fnn.reading import Stacked
from fnn.readings import unzip
from fnn.sharding import as_cotangent, placed_like, shards_of, varying_like, zeros_like
from fnn.train.stacks import stacked_axes


class Found(NamedTuple):
    """What a pass found.

    Args:
        value: the value of the loss.
        grads: the gradient.
        readings: of each reader a tree like the params.
        watched: what each function of the activations returned, with an axis 0 of the microbatches.
    """

    value: Any
    grads: Params
    readings: tuple[Any, ...]
    watched: tuple[Any, ...]


@dataclass(frozen=True)
class Pass:
    """A forward and a backward pass, called as `(params, x, target, key, weights, scale) -> Found`.

    Args:
        net: the network.
        loss: the loss, of reduction "mean" or "sum".
        readers: what is read beside the gradient.
        watches: functions of the activations, as `fnn.describe.activations` returns them.
    """

    net: Layer
    loss: Objective
    readers: tuple[Reader, ...] = ()
    watches: tuple[Callable[[Any], Any], ...] = ()

    def __call__(self, params: Params, x: Any, target: Any, key: Any, weights: Any, scale: Any) -> Found:
        """Run the pass. Args: as for the function of `fnn.value_and_grad`."""
        if any(reader.joins == "concatenate" for reader in self.readers):
            check_uncoupled("make_step", self.net, self.loss.split(params)[0], x)
        reader = zip_readers(gradient, *self.readers) if self.readers else gradient
        value, readings, watched = self._run(reader, params, x, target, key, weights, scale)
        grads, *more = unzip(params, readings) if self.readers else (readings,)
        return Found(value, grads, tuple(more), jax.tree.map(lambda leaf: leaf[None], watched))

    def _run(
        self, reader: Reader, params: Params, x: Any, target: Any, key: Any, weights: Any, scale: Any
    ) -> Any:
        reading = Stacked(reader, (params,))
        if not self.watches:
            return *self.loss.through(self.net, params, x, target, key, weights, reading, scale), ()
        of_net, own = self.loss.split(params)
        y, residuals = forward(self.net, of_net, x, key)
        seen = activations(self.net, of_net, residuals)
        watched = tuple(watch(seen) for watch in self.watches)
        if self.loss.reads_net:  # its forward is the same program, which the compiler runs once
            return *self.loss.through(self.net, params, x, target, key, weights, reading, scale), watched
        of_own = reading.mapped(lambda tree: self.loss.split(tree)[1])
        with jax.named_scope("loss"):
            value, dy, of_loss = self.loss.pull(own, y, target, weights, of_own, scale)
        share = reading.mapped(lambda tree: self.loss.split(tree)[0])
        readings, _ = pull(self.net, of_net, *residuals, dy, share)
        return value, self.loss.merge(readings, of_loss), watched


@dataclass(frozen=True)
class InParts:
    """A pass over a batch in microbatches of equal size, in a scan: the gradients are added up.

    The value and the gradient are those of the whole batch, whatever rows the parts hold, up to the order of
    the sum: of a mean each row has its share of the whole. The sum is made in float32 or wider.

    Under data parallelism over Explicit axes each device walks over its own rows, and the sums are added up
    over the devices once; not where params are sharded over the same axes (FSDP), as no device has room for
    all of them, nor where activations are watched, as these are of whole microbatches.

    Args:
        whole: the pass.
        size: the number of examples at a time.
    """

    whole: Pass
    size: int

    def __call__(self, params: Params, x: Any, target: Any, key: Any, weights: Any, scale: Any) -> Found:
        """Run the pass. Args: as for `Pass`."""
        net, loss = self.whole.net, self.whole.loss
        self._check(params, x, target)
        y = jax.eval_shape(lambda params, x: forward(net, loss.split(params)[0], x, None)[0], params, x)
        data = x, target, loss.coefficients(y, target, weights)
        run, shared = partial(self._scanned, _examples(x) // self.size), (params, key, scale)
        apart = self.size % max(map(shards_of, jax.tree.leaves(data))) == 0 and not self.whole.watches
        if apart and not shares_axes(params, data):
            (value, grads, sums), (each, watched) = by_shard(run, shared, data)
        else:
            (value, grads, sums), (each, watched) = run(shared, data)

        def back(axes: Any, readings: Any) -> Any:
            return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, axes.ndim), readings)

        summed, joined = iter(sums), (jax.tree.map(back, self._stacked(params, x), one) for one in each)
        found = (next(summed if reader.joins == "sum" else joined) for reader in self.whole.readers)
        return Found(value, jax.tree.map(placed_like, grads, params), tuple(found), watched)

    def _scanned(self, parts: int, shared: tuple[Params, Any, Any], data: tuple) -> tuple[Any, tuple]:
        """Return the sums of value, gradient and readings, and the other readings, examples on axis 0."""
        (params, key, scale), leaves = shared, jax.tree.leaves(data)
        shards = gcd(leaves[0].shape[0] // parts, max(map(shards_of, leaves)))
        keys = None if key is None else jax.random.split(own_key(key, data), parts)
        one = replace(self.whole, loss=self.whole.loss.with_reduction("sum"))
        own = varying_like(params, data)  # so that shards are added up once, and not part by part
        sums = [reader.joins == "sum" for reader in self.whole.readers]

        def of_part(part: Any) -> tuple[Any, Any]:
            (x, target, weights), key = part
            found = one(own, x, target, key, weights, scale)
            summed = [reading for reading, adds in zip(found.readings, sums, strict=True) if adds]
            each = [reading for reading, adds in zip(found.readings, sums, strict=True) if not adds]
            return (found.value, jax.tree.map(widened, found.grads), summed), (each, found.watched)

        def step(total: Any, part: Any) -> tuple[Any, Any]:
            more, each = of_part(part)
            return jax.tree.map(jnp.add, total, more), each

        cut = jax.tree.map(lambda leaf: cut_up(leaf, parts, shards), data)
        first = jax.tree.map(lambda leaf: leaf[0], (cut, keys))
        start = jax.tree.map(zeros_like, jax.eval_shape(of_part, first)[0])
        (value, grads, summed), (each, watched) = lax.scan(step, start, (cut, keys))
        grads = jax.tree.map(lambda grad, param: as_cotangent(grad.astype(param.dtype), param), grads, params)

        def joined(axes: Any, readings: Any) -> Any:
            def one(leaf: Any) -> Any:  # (parts, *axes, examples, ...) -> (all examples, *axes, ...)
                return put_together(jnp.moveaxis(leaf, 1 + axes.ndim, 1), shards)

            return jax.tree.map(one, readings)

        each = [jax.tree.map(joined, self._stacked(params, data[0]), reading) for reading in each]
        flat = jax.tree.map(lambda leaf: leaf[:, 0], watched)  # each part had an axis of one part
        return (value, grads, summed), (each, flat)

    def _stacked(self, params: Params, x: Any) -> Any:
        """Return a shape with the stacked axes of each param."""
        of_net, of_loss = self.whole.loss.split(params)
        unstacked = jax.tree.map(lambda _: jnp.zeros(()), of_loss)
        return self.whole.loss.merge(stacked_axes(self.whole.net, of_net, x), unstacked)

    def _check(self, params: Params, x: Any, target: Any) -> None:
        net, loss = self.whole.net, self.whole.loss
        n = _examples(x)
        if self.size < 1 or n % self.size:
            largest = max((size for size in range(1, max(self.size, 1)) if n % size == 0), default=1)
            fix = f"fnn.train.make_step(net, loss, optimizer, microbatch={largest})"
            raise InputError("make_step", f"a microbatch that divides the {n} examples", repr(self.size), fix)
        check_uncoupled("make_step", net, loss.split(params)[0], x)
        if loss.couples_examples is not False:
            y = jax.eval_shape(lambda params, x: forward(net, params, x)[0], loss.split(params)[0], x)
            check_loss_uncoupled("make_step", loss, y, target)
        for reader in self.whole.readers:
            if reader.joins not in ("sum", "concatenate"):
                wanted = 'metrics whose readers declare that they join by "sum" or "concatenate"'
                fix = "fnn.train.Metric(compute, read=fnn.readers.squared_norm)"
                raise InputError("make_step", wanted, f"joins={reader.joins!r}, with microbatches", fix)


def _examples(x: Any) -> int:
    return jax.tree.leaves(x)[0].shape[0]
