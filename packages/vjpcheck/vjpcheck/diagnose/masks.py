"""A mask that is drawn at random, and drawn again on the way back: the mask that was used is solved for.

The gradient is linear in the mask that the cotangent is multiplied by. Where what was given fixes the mask,
and the mask is one indeed, zeros and one other value, it is that of another draw.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from vjpcheck.catalogue import Kind
from vjpcheck.diagnose.hypothesis import Arrays, Evidence, Hypothesis
from vjpcheck.diagnose.search import Match, matched
from vjpcheck.diagnose.sites import Stage
from vjpcheck.effort import in_float64
from vjpcheck.jaxprs import every

MOST = 512  # elements of a mask, each of which costs a run
DRAWS = {"random_bits", "threefry2x32", "rng_bit_generator"}


def explanations(e: Evidence, wrong: Sequence[int]) -> Iterator[Match]:
    """Return every mask that another draw of it explains.

    Args: `e`, what was given and what is right; `wrong`, the numbers of the wrong leaves.
    """
    if not any(q.primitive.name in DRAWS for q in every(e.bench.traced.jaxpr.jaxpr)):
        return
    with in_float64():
        stage = Stage(e.bench.traced, masks=True)
    for n, site in enumerate(stage.sites):
        if np.prod(site.shape) > MOST:
            continue

        def predict(e: Evidence, n: int = n) -> Arrays:
            found = _solved(stage, e, n, wrong)
            return e.right if found is None else stage.gradients(e, n, [found[None]] * stage.runs(e))

        text = f"{site.name}: the mask is not that of the forward pass, but another draw"
        h = Hypothesis(Kind.MASK_DRAWN_AGAIN, text, predict, site.where, False)
        yield from matched(h, predict(e), e, wrong)


def _solved(stage: Stage, e: Evidence, n: int, wrong: Sequence[int]) -> np.ndarray | None:
    """Return the mask that was used, None where it is not fixed or is no mask."""
    shape, columns = stage.sites[n].shape, []

    def at(array: np.ndarray) -> np.ndarray:
        e.bench.budget.tick()
        gradients = stage.gradients(e, n, [array[None]] * stage.runs(e))
        return np.concatenate([gradients[i].ravel() for i in wrong])

    nothing = at(np.zeros(shape))
    for k in range(int(np.prod(shape))):
        array = np.zeros(int(np.prod(shape)))
        array[k] = 1
        columns.append(at(array.reshape(shape)) - nothing)
    full = np.stack(columns, 1)
    used = np.any(full != 0, 0)
    given = np.concatenate([e.given[i].ravel() for i in wrong]) - nothing
    if not used.any():
        return None
    values, _, rank, _ = np.linalg.lstsq(full[:, used], given, rcond=1e-10)
    top = float(np.max(values))
    on = values > top / 2
    if rank < used.sum() or on.all() or np.max(np.abs(values - top * on)) > 1e-4 * top:
        return None
    mask = np.zeros(len(used))
    mask[used] = top * on
    return mask.reshape(shape)
