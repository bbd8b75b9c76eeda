"""Params after some steps against those of the ordinary step; what memory holds."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import fnn
from fnn import Dense, Embedding, Repeat, Serial
from fnn.train import update
from tests.cases import CASES, SEVERAL, SINE, VOCABULARY, Case, example
from tests.proof import assert_equal

LOSS = fnn.half_squared_error()


def schedule(count: Any) -> Any:
    return 0.1 / (1.0 + count)


# The bound below a root keeps a gradient that is zero but for rounding from becoming a step.
ADAM = optax.adamw(schedule, eps=1e-3, weight_decay=0.1)
MOMENTUM = optax.sgd(0.1, momentum=0.9)  # compiles in less time
LEAFWISE = {
    "sgd": optax.sgd(0.1),
    "nesterov": optax.sgd(schedule, momentum=0.9, nesterov=True),
    "l2": optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9)),
    "adam": optax.adam(0.1, eps=1e-3),
    "adabelief": optax.adabelief(schedule, eps=1e-3),
    "trace": optax.chain(optax.trace(0.9), optax.scale_by_schedule(lambda i: -0.1 / (1 + i))),
    "in steps": optax.MultiSteps(optax.adam(0.1, eps=1e-3), 2),
}
BRIEF = ["shared-of-repeat", "deep-nesting"]  # and, below, a repeat of repeats: recomputed segments
SMALL = Case("small", Serial(Dense(4), Repeat(Serial(SINE, Dense(4)), 3)), (7, 5))


def batches(case: Case, dtype: Any = jnp.float64, steps: int = 3) -> tuple[Any, list[tuple[Any, Any, Any]]]:
    """Give params, and for each step an input, a target and a key."""
    drawn = [example(case, dtype, seed) for seed in range(steps)]
    return drawn[0].params, [(one.x, one.dy, one.key) for one in drawn]


def ordinary(case: Case, optimizer: Any, params: Any, data: Any) -> tuple[Any, Any]:
    """Give params and the last value after the steps that a JAX user writes."""
    gradient = fnn.value_and_grad(case.net, LOSS)

    @jax.jit
    def step(params, state, x, target, key):
        value, grads = gradient(params, x, target, key)
        with jax.numpy_dtype_promotion("standard"):  # optax asks for promotions
            updates, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state, value

    state, value = optimizer.init(params), None
    for x, target, key in data:
        params, state, value = step(params, state, x, target, key)
    return params, value


def in_backward(case: Case, optimizer: Any, params: Any, data: Any, **options: Any) -> tuple[Any, Any]:
    """Give the same of our steps, under jit with donation."""
    init, step = fnn.train.update_in_backward(case.net, LOSS, optimizer, **options)
    state, value = init(params, data[0][0]), None
    params = jax.tree.map(jnp.copy, params)  # these are donated
    step = jax.jit(step, donate_argnums=(0, 1))
    for x, target, key in data:
        params, state, value = step(params, state, x, target, key)
    return params, value


def some_slow(names: Any, brief: list[str]) -> list[Any]:
    """Mark all but a few as slow."""
    return [pytest.param(name, marks=[] if name in brief else pytest.mark.slow) for name in names]


def named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


@pytest.mark.parametrize("name", some_slow([case.name for case in CASES if case not in SEVERAL], BRIEF))
def test_params_after_steps_are_those_of_the_ordinary_step(name):
    case = named(name)
    params, data = batches(case)
    assert_equal(in_backward(case, ADAM, params, data), ordinary(case, ADAM, params, data))


@pytest.mark.parametrize("name", some_slow(LEAFWISE, ["adabelief"]))
def test_every_optimizer_that_goes_leaf_by_leaf(name):
    params, data = batches(SMALL, steps=4)
    optimizer = LEAFWISE[name]
    assert_equal(in_backward(SMALL, optimizer, params, data), ordinary(SMALL, optimizer, params, data))


@pytest.mark.parametrize("name", some_slow(["adafactor", "lamb"], ["adafactor"]))
def test_an_optimizer_that_looks_at_whole_params_sees_the_layers_of_a_repeat(name):
    optimizer = {"adafactor": optax.adafactor(0.1, min_dim_size_to_factor=2), "lamb": optax.lamb(0.1)}[name]
    block = Serial(Dense(6), SINE)
    stacked, unrolled = (
        Case("stacked", Repeat(block, 2), (7, 6)),
        Case("unrolled", Serial(*[block] * 2), (7, 6)),
    )
    params, data = batches(stacked)
    apart = sum((jax.tree.map(lambda leaf: leaf[i], params) for i in range(2)), ())  # noqa: B023
    wanted, value = ordinary(unrolled, optimizer, apart, data)
    got, got_value = in_backward(stacked, optimizer, params, data)
    assert_equal(sum((jax.tree.map(lambda leaf: leaf[i], got) for i in range(2)), ()), wanted)  # noqa: B023
    assert_equal(got_value, value)


def test_recomputed_segments_update_in_place_too():
    plain = Case("plain", Repeat(Serial(Dense(5), SINE), 6), (4, 5))
    cut = Case("cut", Repeat(Serial(Dense(5), SINE), 6, every=2), (4, 5))
    params, data = batches(plain)
    assert_equal(in_backward(cut, MOMENTUM, params, data), ordinary(plain, MOMENTUM, params, data))


WIDE = Case(
    "wide",
    Serial(Embedding(VOCABULARY, 20), Repeat(Serial(SINE, Dense(20)), 3), Dense(4)),
    (2, 3),
    integer=True,
)
WIDE_SHARED = Case(
    "wide-shared", Repeat(Repeat(Serial(Dense(20, bias=False), fnn.tanh), 2), 2, shared=True), (3, 20)
)


@pytest.mark.parametrize(
    ("case", "part"),
    [
        (WIDE, 0.3),
        *(
            pytest.param(case, part, marks=pytest.mark.slow)
            for case in (SMALL, WIDE, WIDE_SHARED, named("repeat-of-repeat"), named("embedding-chain"))
            for part in (0.3, 1.5)
        ),
    ],
    ids=str,
)
def test_clipping_by_the_global_norm_takes_one_backward_pass(case, part):
    params, data = batches(case)
    _, grads = jax.jit(fnn.value_and_grad(case.net, LOSS))(params, *data[0])
    clip = part * float(optax.tree.norm(grads))
    wanted = ordinary(case, optax.chain(optax.clip_by_global_norm(clip), MOMENTUM), params, data)
    assert_equal(in_backward(case, MOMENTUM, params, data, clip=clip), wanted)


@pytest.mark.parametrize(("n", "kept"), [(4, fnn.factors.Outer), (5, jax.ShapeDtypeStruct)])
def test_what_is_kept_until_the_norm_is_known_is_the_smaller_of_factor_and_gradient(n, kept):
    net, params, x = Dense(8, bias=False), {"kernel": jnp.zeros((8, 8))}, jnp.zeros((n, 8))
    _, residuals = fnn.forward(net, params, x)
    readings, _ = jax.eval_shape(
        partial(fnn.backward, net, params, residuals, read=partial(update._smaller, ())), x
    )
    assert isinstance(readings["kernel"][1], kept)


def test_a_training_loop_in_a_scan():
    params, data = batches(SMALL, steps=4)
    init, step = fnn.train.update_in_backward(SMALL.net, LOSS, MOMENTUM)

    def body(carry, batch):
        *carry, value = step(*carry, *batch)
        return tuple(carry), value

    xs = jax.tree.map(lambda *leaves: jnp.stack(leaves), *data)
    (got, _), values = jax.jit(partial(jax.lax.scan, body))((params, init(params, data[0][0])), xs)
    assert_equal((got, values[-1]), ordinary(SMALL, MOMENTUM, params, data))


def test_weights_and_other_dtypes():
    net = Repeat(Dense(5), 2)
    params, [(x, target, _)] = batches(Case("narrow", net, (7, 5)), jnp.float32, steps=1)
    weights = jnp.linspace(0.0, 2.0, 7, dtype=jnp.float32)
    init, step = fnn.train.update_in_backward(net, LOSS, optax.sgd(schedule, momentum=0.9))
    state = init(params, x)
    new, new_state, value = jax.jit(step)(params, state, x, target, weights=weights)
    assert dtypes((new, new_state)) == dtypes((params, state))
    wanted, grads = jax.jit(fnn.value_and_grad(net, LOSS))(params, x, target, None, weights)
    assert_equal(value, wanted, 1e-6)
    downhill = jax.tree.map(lambda old, new, g: bool(jnp.all((new - old) * g < 0)), params, new, grads)
    assert jax.tree.all(downhill)


def test_eagerly():
    case = Case("eager", Dense(2), (3, 2))
    params, [(x, target, _)] = batches(case, steps=1)
    init, step = fnn.train.update_in_backward(case.net, LOSS, optax.sgd(0.1))
    new, _, value = step(params, init(params, x), x, target)
    assert_equal((new, value), ordinary(case, optax.sgd(0.1), params, [(x, target, None)]))


def dtypes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def bytes_of(tree: Any) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", some_slow(LEAFWISE, ["l2"]))
def test_memory_holds_one_copy_of_params_and_state_and_no_stack_of_gradients(name):
    """In place: outputs are the donated arguments, and the temporaries a fraction of the ordinary step's."""
    case = Case("deep", Repeat(Serial(Dense(96), fnn.relu), 12), (2, 96))
    params, [(x, target, _)] = batches(case, steps=1)
    optimizer = LEAFWISE[name]
    init, step = fnn.train.update_in_backward(case.net, LOSS, optimizer)
    state = init(params, x)

    def compiled(step: Any, state: Any) -> Any:
        lowered = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, x, target)
        return lowered.compile().memory_analysis()

    def usual(params, state, x, target):
        value, grads = fnn.value_and_grad(case.net, LOSS)(params, x, target)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state, value

    ours, theirs = compiled(step, state), compiled(usual, optimizer.init(params))
    held = bytes_of((params, state))
    assert ours.alias_size_in_bytes == held
    assert ours.argument_size_in_bytes == held + bytes_of((x, target))
    assert held <= ours.output_size_in_bytes < held + 1024  # the value, and a table of pointers
    assert ours.temp_size_in_bytes < 0.3 * theirs.temp_size_in_bytes


def test_a_mask_by_shape_is_taken():
    decay = optax.add_decayed_weights(0.1, mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params))
    optimizer, case = optax.chain(decay, optax.sgd(0.1)), named("mlp")
    params, data = batches(case)
    assert_equal(in_backward(case, optimizer, params, data), ordinary(case, optimizer, params, data))


def test_bad_input_is_named():
    net, params = Dense(3), {"kernel": jnp.zeros((5, 3)), "bias": jnp.zeros(3)}
    x, target, adam = jnp.zeros((7, 5)), jnp.zeros((7, 3)), optax.adam(0.1)
    with pytest.raises(fnn.InputError, match="expected a loss"):
        fnn.train.update_in_backward(net, 3, adam)  # pyright: ignore[reportArgumentType]
    with pytest.raises(fnn.InputError, match="expected an optax optimizer"):
        fnn.train.update_in_backward(net, LOSS, 0.1)
    with pytest.raises(fnn.InputError, match="clip > 0"):
        fnn.train.update_in_backward(net, LOSS, adam, clip=0.0)
    with pytest.raises(fnn.InputError, match=r"try `state = init\(params, x\)`"):
        fnn.train.update_in_backward(net, LOSS, adam).step(params, adam.init(params), x, target)
