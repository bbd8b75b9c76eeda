"""Forward and backward block by block, and the bytes of the arrays that are alive after each."""

import gc
from collections.abc import Iterator
from typing import Any

import jax

import fnn


def live_bytes() -> int:
    """Give the bytes of all arrays that are alive; what only waits for the garbage collector is not."""
    gc.collect()
    return sum(array.nbytes for array in jax.live_arrays())


def eager(blocks: Any, params: Any, x: Any, dy: Any, free: bool) -> Iterator[tuple[str, int]]:
    """Run forward and backward block by block; give after each the bytes beyond those that were there."""
    before = live_bytes()
    kept, grads, v = [], [], x
    for i, (block, p) in enumerate(zip(blocks, params, strict=True)):
        v, residuals = fnn.forward(block, p, v)
        kept.append(residuals)
        del residuals
        yield f"forward {i + 1}", live_bytes() - before
    del v
    dv = dy
    for i in reversed(range(len(blocks))):
        gradient, dv = fnn.backward(blocks[i], params[i], kept[i], dv)
        grads.append(jax.block_until_ready(gradient))
        if free:
            kept[i] = None
        yield f"backward {i + 1}", live_bytes() - before
    del dv, kept
    yield "end", live_bytes() - before


def donated(blocks: Any, params: Any, x: Any, dy: Any, old: Any) -> tuple[list[tuple[str, int]], Any]:
    """Do the same with the residuals written into the buffers of the last step's; give these, too.

    The buffers count from the start: in the first step they hold nothing yet, but they are there.
    """

    @jax.jit
    def first(params: Any, x: Any) -> Any:
        return chain(blocks, params, x)

    def again(params: Any, x: Any, old: Any) -> Any:
        return chain(blocks, params, x)

    before = live_bytes() - sum(leaf.nbytes for leaf in jax.tree.leaves(old))
    if old is None:
        kept = first(params, x)
    else:
        kept = jax.jit(again, donate_argnums=2, keep_unused=True)(params, x, old)
    jax.block_until_ready(kept)
    told = [(f"forward {i + 1}", live_bytes() - before) for i in range(len(blocks))]
    grads, dv = [], dy
    for i in reversed(range(len(blocks))):
        gradient, dv = fnn.backward(blocks[i], params[i], kept[i], dv)
        grads.append(jax.block_until_ready(gradient))
        told.append((f"backward {i + 1}", live_bytes() - before))
    del dv
    return [*told, ("end", live_bytes() - before)], kept


def chain(blocks: Any, params: Any, x: Any) -> list[Any]:
    """Run the blocks forward; give the residuals of each."""
    kept = []
    for block, p in zip(blocks, params, strict=True):
        x, residuals = fnn.forward(block, p, x)
        kept.append(residuals)
    return kept


def addresses(kept: Any) -> list[int]:
    """Give where the residuals lie."""
    return [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(kept)]
