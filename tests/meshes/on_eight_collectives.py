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
from experiments.bench import on_mesh, on_mesh_readers, on_mesh_training
from experiments.bench.on_mesh import LAYOUTS, Counts, Sizes, counted, networks, placed

SIZES = Sizes(rows=512, tokens=8, width=64, hidden=128, layers=2, vocabulary=512)
NETWORKS = networks(SIZES)
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


TRAININGS = on_mesh_training.programs(SIZES)
ABOVE = {("microbatches", "fsdp"), ("Reversible", "tensor")}  # the benchmarks' page says why


def trained(name: str, layout: str) -> tuple[Counts, Counts]:
    theirs, _, ours = on_mesh_training.trained(TRAININGS[name], layout, jax.devices())
    return ours, theirs


def gathers(counts: Counts) -> int:
    return sum(one.times for one in counts.collectives if one.op == "all-gather")


@pytest.mark.parametrize(
    "name, layout",
    [
        pytest.param(name, layout, marks=pytest.mark.slow)
        for name, program in TRAININGS.items()
        for layout in program.layouts
        if (name, layout) not in ABOVE
    ],
)
def test_what_trains_with_less_memory_exchanges_no_more_bytes_than_around_autodiff(name, layout):
    ours, theirs = trained(name, layout)
    assert ours.bytes <= theirs.bytes + (STATISTICS if "tensor" in layout else 0)


@pytest.mark.parametrize("layout", ["fsdp", pytest.param("data", marks=pytest.mark.slow)])
def test_an_update_in_the_backward_exchanges_what_the_gradient_does(layout):
    """No leaf of the optimizer's state asks for the gradient anew, and no number is sent for the order."""
    ours, _ = trained("update in backward", layout)
    gradient, _ = both(layout, "blocks")
    assert (ours.number, ours.bytes) == (gradient.number, gradient.bytes)


def test_microbatches_are_added_up_once():
    ours, theirs = trained("microbatches", "data")
    assert [one.times for one in ours.collectives] == [1]
    assert theirs.bytes > 3 * ours.bytes


@pytest.mark.parametrize("layout", ["tensor", pytest.param("fsdp+tensor", marks=pytest.mark.slow)])
def test_what_is_stored_in_bits_stays_on_its_device(layout):
    stored, _ = trained("Bits(4)", layout)
    gradient, _ = both(layout, "blocks")
    assert (stored.number, stored.bytes) == (gradient.number, gradient.bytes)


def test_a_block_of_bits_is_of_one_device_and_decoded_within_half_a_step():
    mesh, codec = jax.make_mesh((8,), ("model",), axis_types=(AxisType.Explicit,)), fnn.memory.Bits(4)
    x = jax.random.normal(jax.random.key(0), (16, 8 * 24))
    there = jax.device_put(x, NamedSharding(mesh, P(None, "model")))
    stored = jax.jit(lambda x: codec.encode(x, None))(there)
    assert stored.words.shape == (16, 8, 12) and stored.words.sharding.spec[1] == "model"
    decoded = jax.jit(codec.decode)(stored)
    assert decoded.sharding.spec == there.sharding.spec
    step = jax.device_get((stored.high - stored.low) / 15)
    error = jnp.abs(jax.device_get(decoded) - x).reshape(16, 8, 24)
    assert jnp.all(error <= step * (0.5 + 1e-5))
    assert not counted(lambda x: codec.decode(codec.encode(x, None)), (there,)).collectives
    few = jax.device_put(x[:, :40], NamedSharding(mesh, P(None, "model")))  # five features each: no block
    error = jnp.abs(jax.device_get(jax.jit(lambda x: codec.decode(codec.encode(x, None)))(few)) - x[:, :40])
    assert error.max() <= 0.5 * (x.max() - x.min()) / 15


def test_a_reversible_block_gathers_a_weight_once_forwards_and_once_backwards():
    """The second run and dx share what is gathered. Around autodiff the compiler moves rows instead."""
    ours, theirs = trained("Reversible", "fsdp")
    params = TRAININGS["Reversible"].network.params
    of_blocks, all_of_them = len(jax.tree.leaves(params["blocks"])), len(jax.tree.leaves(params))
    assert gathers(ours) <= 2 * SIZES.layers * of_blocks + (all_of_them - of_blocks)
    assert ours.bytes <= theirs.bytes
