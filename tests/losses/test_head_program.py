"""What the compiler makes of a head: three products and no logits at once. And planted mistakes."""

import dataclasses
import re
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn.losses import logits, rows, tied, walk
from tests.losses.heads import run
from tests.losses.networks import TIED, setting
from tests.proof import assert_equal


def compiled(f, *args):
    return str(jax.jit(f).lower(*args).compile().as_text())


def largest(text):
    """Give the size of the largest array in an optimized program."""
    return max(
        int(np.prod([int(d) for d in dims.split(",")])) for dims in re.findall(r"\[(\d+(?:,\d+)*)\]", text)
    )


@pytest.mark.parametrize("tied", [(), pytest.param(("embedding",), marks=pytest.mark.slow)], ids=["", "tied"])
def test_three_products_for_the_gradient_one_for_the_value_and_no_logits_at_once(tied):
    n, k, v = 96, 8, 640
    head = fnn.LinearCrossEntropy(v, tied=tied, chunk=16)
    shape = (v, k) if tied else (k, v)
    params = {head.weight: jnp.ones(shape, jnp.float32), "bias": jnp.zeros(v, jnp.float32)}
    data = params, jnp.ones((n, k), jnp.float32), jnp.zeros(n, jnp.int32)
    wanted = {head: 1, head.value_and_grad: 3, jax.grad(head, (0, 1)): 3}
    for f, products in wanted.items():
        text = compiled(f, *data)
        assert text.count(" dot(") + text.count("matmul") == products
        assert largest(text) < n * v


@pytest.mark.parametrize("tied", [(), ("embedding",)], ids=["", "tied"])
def test_products_have_operands_of_the_compute_dtype_and_results_of_float32(tied):
    head = fnn.LinearCrossEntropy(6, tied=tied, dtype=jnp.bfloat16)
    params = {
        head.weight: jnp.ones((6, 4) if tied else (4, 6), jnp.float32),
        "bias": jnp.zeros(6, jnp.float32),
    }
    data = params, jnp.ones((5, 4), jnp.float32), jnp.zeros(5, jnp.int32)
    program = jax.jit(lambda *data: head.value_and_grad(*data)).lower(*data).as_text()
    kinds = [re.findall(r"x([a-z]+\d+)>", line) for line in program.splitlines() if "dot_general" in line]
    assert kinds == [["bf16", "bf16", "f32"]] * 3


def test_a_value_alone_makes_no_gradient_that_a_compiler_would_have_to_drop():
    head, params = fnn.LinearCrossEntropy(6, bias=False), {"kernel": jnp.ones((4, 6))}
    program = jax.make_jaxpr(lambda *data: head(*data))(params, jnp.ones((5, 4)), jnp.zeros(5, jnp.int32))
    assert str(program).count("dot_general") == 1


@pytest.mark.parametrize("reader", ["clipped", pytest.param("norms", marks=pytest.mark.slow)])
def test_readers_make_no_logits_at_once(reader):
    n, k, v = 96, 8, 640
    net, head = fnn.Dense(k), fnn.LinearCrossEntropy(v, bias=False, chunk=16)
    x = jnp.ones((n, k), jnp.float32)
    params = fnn.init(net, jax.random.key(0), x), {"kernel": jnp.ones((k, v), jnp.float32)}
    norms = fnn.readers.losses_and_readings(
        net, head, fnn.readers.zip_readers(fnn.readers.squared_norm, fnn.readers.gradient)
    )
    f = {"clipped": fnn.privacy.clipped_gradient(net, head, 1.0), "norms": norms}[reader]
    assert largest(compiled(f, params, x, jnp.zeros(n, jnp.int32))) < n * v


def no_smoothing(right):
    def wrong(z, label, label_smoothing, z_loss):
        return right(z, label, label_smoothing, z_loss)[0], right(z, label, 0.0, z_loss)[1]

    return wrong


def no_z_loss(right):
    def wrong(z, label, label_smoothing, z_loss):
        return right(z, label, label_smoothing, z_loss)[0], right(z, label, label_smoothing, 0.0)[1]

    return wrong


def next_chunk(right):
    def wrong(chunk, shared, rows, size, reduce=None):
        total, each = right(chunk, shared, rows, size)
        return total, jax.tree.map(lambda leaf: jnp.roll(leaf, size, 0), each)

    return wrong


def embedding_alone(right):
    return lambda reader, of_net, of_head, table, leaves: reader(of_net, table, *leaves)


def head_alone(right):
    def wrong(reader, of_net, of_head, table, leaves):
        return right(reader, jax.tree.map(jnp.zeros_like, of_net), of_head, table, leaves)

    return wrong


def all_rows(right):
    return lambda self, target: jnp.ones(target.shape, bool)


MISTAKES = {
    "label smoothing left out of dz": (logits, "cross_entropy", no_smoothing),
    "z-loss left out of dz": (logits, "cross_entropy", no_z_loss),
    "chunk offset": (walk, "over_chunks", next_chunk),
    "ignored rows in the mean": (rows.Counting, "counted", all_rows),
    "tied: the embedding's gradient alone": (tied, "both_uses", embedding_alone),
    "tied: the head's gradient alone": (tied, "both_uses", head_alone),
}


@cache
def right_gradients(head):
    _, _, params, x, target, plain_of = setting("tied")
    return run(lambda: jax.grad(lambda params: plain_of(params, x, target, head))(params))


@pytest.mark.parametrize("mistake", [None, *MISTAKES])
def test_a_planted_mistake_turns_the_proof_red(mistake, monkeypatch):
    net, _, params, x, target, _ = setting("tied")
    head = dataclasses.replace(TIED, label_smoothing=0.1, z_loss=0.2)
    wanted = right_gradients(head)
    if mistake is not None:
        owner, name, wrong = MISTAKES[mistake]
        monkeypatch.setattr(owner, name, wrong(getattr(owner, name)))
    got = run(lambda: fnn.value_and_grad(net, head)(params, x, target)[1])
    if mistake is None:
        assert_equal(got, wanted)
        return
    with pytest.raises(AssertionError):
        assert_equal(got, wanted)
