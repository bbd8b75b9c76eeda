"""What eight devices exchange, counted in programs: no more than jax.grad's with the same shardings.

And what one of them holds under data parallelism: no reader but those of all pairs more than 0.15 of what one
device holds alone.
"""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import fnn
from experiments.bench import on_mesh, on_mesh_readers
from experiments.bench.on_mesh import LAYOUTS, Counts, Sizes, counted, networks, placed

NETWORKS = networks(Sizes(rows=512, tokens=8, width=64, hidden=128, layers=2, vocabulary=512))
# The bytes beyond jax.grad's that are known: statistics of rows, a few numbers each, in norms and losses.
STATISTICS = 40 * 512 * 8
QUICK = {("data", "head"), ("fsdp", "blocks"), ("tensor", "gated blocks, ordered")}


@pytest.fixture(autouse=True)
def _as_users_have_it():
    """Let jax.grad's programs promote, which are written as users write them."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), jax.enable_x64(False):
        yield


def both(layout: str, name: str) -> tuple[Counts, Counts]:
    own, _, explicit = on_mesh.gradients(NETWORKS[name], LAYOUTS[layout], jax.devices())
    return explicit, own


def pairs() -> list[Any]:
    return [
        pytest.param(layout, name, marks=() if (layout, name) in QUICK else pytest.mark.slow)
        for layout in LAYOUTS
        for name in NETWORKS
        if (layout, name) != ("tensor", "gated blocks")  # the halves of its gates are moved twice
    ]


@pytest.mark.parametrize("layout, name", pairs())
def test_a_gradient_exchanges_no_more_bytes_than_by_autodiff(layout, name):
    ours, theirs = both(layout, name)
    assert ours.bytes <= theirs.bytes + (STATISTICS if "tensor" in layout else 0)
    if layout == "data":
        assert (ours.bytes, ours.number) == (theirs.bytes, theirs.number)


READERS = on_mesh_readers.programs(NETWORKS["mlp"])
SMALL = networks(Sizes(rows=4096, width=32, hidden=64, layers=2))["mlp"]


def spread(network: Any, f: Any) -> tuple[Counts, Counts]:
    alone, _ = placed(network, LAYOUTS["data"], jax.devices()[:1], AxisType.Explicit)
    args, _ = placed(network, LAYOUTS["data"], jax.devices(), AxisType.Explicit)
    return counted(f, alone), counted(f, args)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=() if name in ("variance", "clipped sum, microbatches") else pytest.mark.slow
        )
        for name in READERS
        if name not in ("Gram matrix", "TracIn")
    ],
)
def test_a_reader_holds_an_eighth_and_exchanges_what_it_returns(name):
    alone, each = spread(SMALL, on_mesh_readers.programs(SMALL)[name])
    assert each.temporaries <= 0.15 * alone.temporaries
    returned = 6 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(SMALL.params))
    assert each.bytes <= returned  # nothing that grows with the rows


def test_a_sum_in_a_loop_over_chunks_is_added_up_once():
    head = fnn.LinearCrossEntropy(512, chunk=8, bias=False)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))

    def shape(sizes: tuple[int, ...], dtype: Any, spec: P) -> Any:
        return jax.ShapeDtypeStruct(sizes, dtype, sharding=NamedSharding(mesh, spec))

    params = {"kernel": shape((32, 512), jnp.float32, P())}
    rows = shape((512, 32), jnp.float32, P("data")), shape((512,), jnp.int32, P("data"))
    found = counted(head.value_and_grad, (params, *rows))
    assert found.bytes <= 32 * 512 * 4 + 64
    assert all(one.times == 1 for one in found.collectives)

    def by_chunk(params: Any, x: Any, label: Any) -> Any:  # the mistake that this test is for
        def step(total: Any, rows: Any) -> tuple[Any, None]:
            grads = head.value_and_grad(params, *rows)[1][0]["kernel"]
            return total + grads, None

        return jax.lax.scan(step, jnp.zeros((32, 512)), (x[None].repeat(4, 0), label[None].repeat(4, 0)))[0]

    wrong = counted(by_chunk, (params, *rows))
    assert wrong.bytes > 32 * 512 * 4 + 64
