"""Hypothesis draws random nestings: what holds for the table holds for networks that nobody thought of."""

import jax
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fnn
from fnn import Dense, Dropout, LayerNorm, Parallel, Repeat, RMSNorm, Serial, Skip
from tests.cases import Case, example
from tests.proof import assert_equal, explicit, reference

WIDTH = 4
LEAVES = [
    Dense(WIDTH), Dense(WIDTH, bias=False), fnn.relu, fnn.tanh, fnn.silu, LayerNorm(), RMSNorm(),
    Dropout(0.3),    fnn.Scale(), fnn.Bias(), Serial(fnn.gated(3), Dense(WIDTH)), fnn.activations.softplus, Serial(),
]  # fmt: skip


def compose(inner: st.SearchStrategy) -> st.SearchStrategy:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        several.map(lambda layers: Serial(*layers)),
        inner.map(Skip),
        several.map(lambda layers: Parallel(*layers)),
        several.map(lambda layers: Serial(Parallel(*layers, join="concatenate"), Dense(WIDTH))),
        st.tuples(inner, st.integers(1, 3), st.booleans()).map(lambda args: Repeat(*args)),
    )


networks = st.recursive(st.sampled_from(LEAVES), compose, max_leaves=6)
shapes = st.sampled_from([(WIDTH,), (1, WIDTH), (3, WIDTH), (2, 3, WIDTH)])


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(net=networks, shape=shapes)
def test_a_random_nesting_has_the_right_gradients_and_keeps_what_the_summary_says(net, shape):
    drawn = example(Case("nesting", net, shape))
    got, wanted = jax.jit(lambda drawn: (explicit(drawn), reference(drawn)))(drawn)
    assert_equal(got, wanted, 1e-11)
    _, residuals = jax.eval_shape(lambda d: fnn.forward(net, d.params, d.x, d.key), drawn)
    kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(residuals))
    assert fnn.summary(net, drawn.x, drawn.key).kept_bytes == kept
    assert str(fnn.explain(net, drawn.x)).startswith("forward") or isinstance(net, Serial)
