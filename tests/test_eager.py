"""What runs a loop outside of `jit` is traced and compiled once, not with every call."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

import fnn

X, LABELS, KEY = jnp.ones((8, 5), jnp.float32), jnp.zeros(8, jnp.int32), jax.random.key(0)
NET = fnn.Serial(fnn.Dense(4), fnn.Repeat(fnn.Serial(fnn.Dense(4), fnn.gelu), 3), fnn.Dense(3))
SHARED = fnn.Serial(fnn.Dense(4), fnn.Repeat(fnn.Serial(fnn.Dense(4), fnn.gelu), 3, shared=True))
LOSS = fnn.softmax_cross_entropy()
CALLS = {
    "output": lambda net: partial(fnn.output, net),
    "gradient": lambda net: fnn.value_and_grad(net, LOSS),
    "norms": lambda net: fnn.readers.losses_and_readings(net, LOSS, fnn.readers.squared_norm),
    "clipped": lambda net: fnn.privacy.clipped_gradient(net, LOSS, 1.0),
    "clipped in parts": lambda net: fnn.privacy.clipped_gradient(net, LOSS, 1.0, microbatch=4),
}


def compiled(run) -> int:
    """Count what is compiled while something runs."""
    found = []

    def listen(event: str, duration_secs: float, **_: object) -> None:
        found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        run()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return sum("compile" in name or "trace" in name for name in found)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("net", [NET, SHARED], ids=["stacked", "shared"])
def test_a_second_call_outside_of_jit_is_not_traced_again(call, net):
    params = fnn.init(net, KEY, X)
    function = CALLS[call](net)
    run = lambda: function(params, X, *(() if call == "output" else (LABELS,)))  # noqa: E731
    assert compiled(run) > 0  # the count counts
    assert compiled(run) == 0


def test_a_head_outside_of_jit_is_not_traced_again():
    head = fnn.LinearCrossEntropy(7)
    params = head.init(KEY, X)
    run = lambda: head.value_and_grad(params, X, LABELS)  # noqa: E731
    assert compiled(run) > 0
    assert compiled(run) == 0


def test_a_layer_that_has_no_hash_runs_as_it_is():
    class Listed(fnn.Leaf):
        sizes: list[int]

        def init(self, key, x):
            return ()

        def forward(self, params, x, key):
            return jnp.sin(x), x

        def backward(self, params, x, y, extras, dy):
            return (), jnp.cos(extras) * dy

        __hash__ = None  # pyright: ignore[reportAssignmentType]

    net = fnn.Repeat(Listed(), 2)
    assert jnp.allclose(fnn.output(net, fnn.init(net, KEY, X), X), jnp.sin(jnp.sin(X)))
