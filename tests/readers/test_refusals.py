"""What the readers of examples refuse, and what they make of nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import fnn
from tests.readers.brute import LOSS


@dataclasses.dataclass(frozen=True)
class BatchNorm(fnn.Leaf):
    """A toy: subtract the batch's mean. The output of one example depends on all."""

    cheap = True
    needs = frozenset()
    couples_examples = True

    def init(self, key, x):
        return {"bias": jnp.zeros(x.shape[-1:])}

    def forward(self, params, x, key):
        return x - x.mean(0, keepdims=True) + params["bias"][None], ()

    def recompute(self, params, x, extras):
        return self.forward(params, x, None)[0]

    def backward(self, params, x, y, extras, dy):
        return {"bias": fnn.factors.Total(dy)}, dy - dy.mean(0, keepdims=True)


@dataclasses.dataclass(frozen=True)
class Summed(BatchNorm):
    """A toy that gives the gradient itself."""

    couples_examples = False

    def backward(self, params, x, y, extras, dy):
        return {"bias": dy.sum(0)}, dy


def _setting(layer):
    net = fnn.Serial(fnn.Dense(3), fnn.Skip(layer), fnn.Dense(2))
    x = jnp.ones((4, 5))
    return net, fnn.init(net, jax.random.key(0), x), x, jnp.zeros(4, jnp.int32)


def test_a_layer_that_couples_examples_is_refused():
    net, params, x, label = _setting(BatchNorm())
    with pytest.raises(fnn.InputError, match=r"net\.layers\[1\]\.layer: .*BatchNorm.*couples"):
        fnn.readers.losses_and_readings(net, LOSS, fnn.readers.squared_norm)(params, x, label)
    with pytest.raises(fnn.InputError, match="couples"):
        fnn.readers.tangent_kernel(net)(params, x)
    fnn.value_and_grad(net, LOSS)(params, x, label)  # training is not refused


def test_a_gradient_where_a_factor_could_stand_is_refused():
    net, params, x, label = _setting(Summed())
    for read in (
        fnn.readers.squared_norm,
        fnn.readers.example_gradient,
        fnn.readers.gram,
        fnn.readers.variance,
    ):
        with pytest.raises(fnn.InputError, match="expected a factor"):
            fnn.readers.losses_and_readings(net, LOSS, read)(params, x, label)


def test_bad_input_is_named():
    net, params, x, label = _setting(fnn.relu)
    with pytest.raises(fnn.InputError, match="examples on axis 0"):
        fnn.readers.losses_and_readings(fnn.Dense(2), LOSS, fnn.readers.squared_norm)(
            fnn.init(fnn.Dense(2), jax.random.key(0), x[0]), x[0], jnp.int32(0)
        )
    run = fnn.readers.losses_and_readings(net, LOSS, fnn.readers.inner_product)
    with pytest.raises(fnn.InputError, match="begins like the params"):
        run(params, x, label, trees=(params[0],))
    with pytest.raises(fnn.InputError, match="a direction float"):
        run(params, x, label, trees=(jax.tree.map(lambda p: p[None], params),))
    with pytest.raises(fnn.InputError, match="a loss"):
        fnn.readers.losses_and_readings(net, 3, fnn.readers.squared_norm)  # pyright: ignore[reportArgumentType]
    with pytest.raises(fnn.InputError, match="other like x"):
        fnn.readers.tangent_kernel(net)(params, x, x[:, :2])
    with pytest.raises(fnn.InputError, match="at least one param"):
        fnn.readers.sum_over_params(())
    with pytest.raises(fnn.InputError, match="at least one param"):
        fnn.readers.unzip(((), ()), ((), ()))


def test_an_empty_batch_has_no_readings():
    net, params, x, label = _setting(fnn.relu)
    read = fnn.readers.zip_readers(
        fnn.readers.squared_norm,
        fnn.readers.example_gradient,
        fnn.readers.second_moment,
        fnn.readers.variance,
    )
    losses, several = fnn.readers.losses_and_readings(net, LOSS, read)(params, x[:0], label[:0])
    norms, _, moments, _ = fnn.readers.unzip(params, several)
    assert losses.shape == fnn.readers.sum_over_params(norms).shape == (0,)
    assert all(not leaf.any() for leaf in jax.tree.leaves(moments))


def squares(y, t):
    return jnp.square(y - t).sum(-1)


COUPLED = {
    "the hardest two": lambda y, t: (lambda own: jnp.where(own >= jax.lax.top_k(own, 2)[0][-1], own, 0.0))(
        squares(y, t)
    ),
    "a margin to the others": lambda y, t: (
        jnp.maximum(0.0, 0.5 - jnp.abs(y[:, None] - y[None]).sum(-1)).sum(1) + squares(y, t)
    ),
    "a scale of the largest": lambda y, t: squares(y / jnp.maximum(1.0, jnp.abs(y).max() / 10), t),
    "beyond a bound": lambda y, t: squares(y, t) * jnp.where(y.max() > 50, 2.0, 1.0),
    "weights of the targets": lambda y, t: squares(y, t) * (t > 0).astype(y.dtype).mean(),
    "their number": lambda y, t: squares(y, t) / y.shape[0],
}
APART = {
    "squares": squares,
    "huber": lambda y, t: jnp.where(jnp.abs(y - t) < 1, jnp.square(y - t) / 2, jnp.abs(y - t) - 0.5).sum(-1),
    "probabilities as targets": lambda y, t: (t * jnp.log(t) - t * y).sum(-1),
}


@pytest.mark.parametrize("name", COUPLED)
def test_a_loss_that_couples_examples_at_some_numbers_is_refused(name):
    net, x, target = fnn.Dense(3), jnp.ones((4, 5)), jnp.ones((4, 3))
    params = fnn.init(net, jax.random.key(0), x)
    with pytest.raises(fnn.InputError, match="a loss that keeps examples apart"):
        fnn.privacy.clipped_gradient(net, COUPLED[name], 1.0)(params, x, target)


@pytest.mark.parametrize("name", APART)
def test_a_loss_that_keeps_them_apart_is_not(name):
    net, x, target = fnn.Dense(3), jnp.ones((4, 5)), jnp.ones((4, 3))
    params = fnn.init(net, jax.random.key(0), x)
    assert fnn.privacy.clipped_gradient(net, APART[name], 1.0)(params, x, target).finite.all()
