"""What a device of two has of a training step, and what the two exchange."""

from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import fnn
from fnn.memory.hlo import Collective, collectives_of
from fnn.train.shardings import shardings

NET = fnn.Serial(fnn.Repeat(fnn.Serial(fnn.Dense(16), fnn.tanh), 3), fnn.Dense(4))
MESHES = {
    kind.name: jax.make_mesh((2,), ("data",), axis_types=(kind,))
    for kind in (AxisType.Auto, AxisType.Explicit)
}


def report(kind: str, preset: str, target: str | None = "here") -> fnn.memory.Memory:
    mesh = MESHES[kind]
    x = jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=NamedSharding(mesh, P("data")))
    params = jax.eval_shape(lambda: fnn.init(NET, jax.random.key(0), jnp.ones((8, 16), jnp.float32)))
    lie = shardings(NET, params, mesh, preset)
    return fnn.memory.report(NET, params, x, optax.sgd(0.1, 0.9), target, shardings=lie)


@pytest.mark.parametrize("kind", MESHES)
def test_replicated_params_exchange_their_gradients_in_a_loop_as_often_as_it_runs(kind):
    found = report(kind, "data").per_device
    assert found is not None and found.params == found.gradients == found.optimizer == found_params()
    assert {one.op for one in found.collectives} == {"all-reduce"}
    # Beside the gradients, one number of a cotangent, which a recomputation hangs on.
    assert sum(one.bytes * one.times for one in found.collectives) - found.gradients in (0, 4)
    assert {one.times for one in found.collectives} == {1, 3}
    assert all("while/body" in one.where for one in found.collectives if one.times == 3)


def found_params() -> int:
    return 4 * (3 * (16 * 16 + 16) + 16 * 4 + 4)


@pytest.mark.parametrize("kind", MESHES)
def test_sharded_params_take_half_of_the_bytes_and_are_gathered(kind):
    found = report(kind, "fsdp")
    own = found.per_device
    assert own is not None and own.params == own.gradients == own.optimizer == found_params() // 2
    assert found.params == found_params() and found.compiled == own.compiled
    assert own.compiled is not None and own.compiled.arguments < 2 * found_params()
    assert "all-gather" in {one.op for one in own.collectives}
    assert "on each device: optimizer" in str(found) and "x all-gather of" in str(found)


def test_without_a_target_nothing_is_compiled_and_nothing_changes_without_shardings():
    found = report("Auto", "fsdp", None).per_device
    assert found is not None and found.compiled is None and found.collectives == ()
    assert fnn.memory.report(NET, None, jax.ShapeDtypeStruct((8, 16), jnp.float32)).per_device is None


def test_what_cannot_be_compiled_is_refused():
    with pytest.raises(fnn.InputError, match='target="here" or None, with shardings, got .h100.'):
        report("Auto", "fsdp", "h100")
    params = fnn.init(NET, jax.random.key(0), jnp.ones((8, 16)))
    lie = shardings(NET, params, MESHES["Auto"])
    with pytest.raises(fnn.InputError, match="x with a sharding on the mesh"):
        fnn.memory.report(NET, params, jnp.ones((8, 16)), target="here", shardings=lie)


PROGRAM = """HloModule step
%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %c = f32[] add(%a, %b)
}
%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %r = (f32[8]{0}, bf16[2,2]{1,0}) all-reduce(%x, %y), to_apply=%add, metadata={op_name="jit(step)/while/body/dot" id=1}
}
%condition (p: (s32[], f32[8])) -> pred[] {
  ROOT %l = pred[] compare(%a, %b)
}
%one (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} collective-permute(%p), source_target_pairs={{0,1}}
}
%two (p: f32[8]) -> f32[8] {
  %s = (f32[8]{0}, f32[16]{0}) all-gather-start(%p), dimensions={0}
  %d = f32[16]{0} all-gather-done(%s)
}
ENTRY %main (p: f32[8]) -> f32[8] {
  %w = (s32[], f32[8]) while(%t), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %b = f32[8] conditional(%i, %p, %p), branch_computations={%one, %two}
}
"""


def test_a_program_is_read_through_loops_and_branches():
    assert collectives_of(PROGRAM) == (
        Collective("all-reduce", 40, 5, "while/body/dot"),
        Collective("all-gather", 64, 1, ""),
        Collective("collective-permute", 32, 1, ""),
    )


def test_a_collective_without_a_name_has_that_of_the_first_that_takes_it():
    lines = (
        "ENTRY %main (p: f32[8]) -> f32[8] {",
        "  %a = f32[8]{0} all-gather(%p), channel_id=1",
        "  %b = f32[8]{0} copy(%a)",
        '  %c = f32[8]{0} add(%b, %b), metadata={op_name="jit(f)/layers[0]/add"}',
        '  ROOT %d = f32[8]{0} multiply(%a, %c), metadata={op_name="jit(f)/layers[1]/mul"}',
        "}",
    )
    assert collectives_of("\n".join(lines)) == (Collective("all-gather", 32, 1, "layers[0]/add"),)


# Three blocks on four devices under "fsdp+tensor": of what the compiler for v5e:2x2 made of
# `experiments.bench.on_mesh`'s "blocks", the lines that hold collectives and loops.
OF_A_TPU = (Path(__file__).parent / "loops_of_v5e.hlo").read_text()


def test_loops_of_a_tpu_run_as_often_as_they_count_and_a_chain_is_one_collective():
    found = collectives_of(OF_A_TPU)
    in_loops = [one for one in found if "while/body" in one.where]
    assert {one.times for one in in_loops} == {3, 9}  # scales and biases have one size: three in each turn
    assert {one.times for one in found if one not in in_loops} == {1, 2, 3}
    weights = [one for one in in_loops if one.op == "all-gather" and one.bytes == 256 * 256 * 2]
    assert len(weights) == 4 and {one.times for one in weights} == {3}  # forwards and backwards
    assert OF_A_TPU.count('chain_id="0"') == 3
    scattered = {(one.times, one.bytes, one.where) for one in found if one.op == "reduce-scatter"}
    inside = "blocks/while/body/closed_call/layer/layer/layers[1]/dot_general"
    assert scattered == {(3, 2 * 256 * 256 * 4, inside), (1, 2 * 256 * 128 * 4, "first/dot_general")}


@pytest.mark.parametrize(
    "shown, changed, times",
    [
        ("constant(3)", "constant(7)", 7),  # it counts to seven
        (" %constant.578.clone = s32[] constant(0)", " %constant.578.clone = s32[] constant(2)", 1),
        ("constant(1)", "constant(2)", 2),  # it counts by two
        ("direction=LT", "direction=NE", 1),  # nobody knows
        ("constant(3)", "parameter(1)", 1),
        ("copy(%constant.578.clone)", "parameter(2)", 1),
    ],
)
def test_a_loop_runs_as_often_as_its_start_its_end_and_its_step_say(shown, changed, times):
    assert shown in OF_A_TPU
    found = collectives_of(OF_A_TPU.replace(shown, changed))
    (weight,) = {one.times for one in found if one.where.endswith("layers[3]/convert_element_type")}
    assert weight == times
    assert {one.times for one in found if one.where.startswith("output/")} == {1}


def test_a_reduce_scatter_counts_what_it_adds_up():
    lines = (
        "ENTRY %main (p: f32[8,4]) -> f32[2,4] {",
        "  %p = f32[8,4]{1,0} parameter(0)",
        "  ROOT %r = f32[2,4]{1,0} reduce-scatter(%p), dimensions={0}, to_apply=%add",
        "}",
    )
    assert collectives_of("\n".join(lines)) == (Collective("reduce-scatter", 128, 1, ""),)
