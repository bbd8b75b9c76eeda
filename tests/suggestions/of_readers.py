"""Wrong calls of readers and of what is built on them: curvature, privacy, attribution, training, memory."""

# pyright: reportArgumentType=false

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import optax

import fnn
from fnn import Dense, curvature, memory, privacy, readers, train
from fnn.memory.storing import Stored
from fnn.readers.seeding import row_losses
from tests.contract.batch_norm import BatchNorm
from tests.suggestions.row import KEY, Late, Row, X, drawn, installs, without

LABEL = jnp.array([0, 1, 2, 0])
LOSS = fnn.softmax_cross_entropy()
NET = fnn.Serial(Dense(4), fnn.tanh, Dense(3))
PARAMS = drawn(NET, X)
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)
ADAM = optax.adam(1e-3)
KNOWN = {"net": NET, "loss": LOSS, "params": PARAMS, "x": X, "key": KEY}
HEADS = fnn.Heads(
    (
        Dense(2),
        fnn.Serial(
            fnn.Select("tokens"),
        ),
    )
)
OPTIMIZERS = {"frozen": optax.set_to_zero(), "moving": ADAM}
LABELS = jax.tree.map(lambda p: "moving" if p.ndim > 1 else "frozen", PARAMS)


def over(net=NET, read=readers.squared_norm, x=X, loss=LOSS, **more):
    params = PARAMS if net is NET else fnn.init(net, KEY, x)
    return readers.losses_and_readings(net, loss, read)(params, x, LABEL if x.ndim > 1 else LABEL[0], **more)


def step(update, loss=LOSS):
    init, run = update
    return run(PARAMS, init(PARAMS, X), X, LABEL)


def private():
    return privacy.private_gradient(NET, LOSS, 1.0, 1.1, 4)


def norms(net, loss=None):
    """Read a net whose outputs are meant as (n, 1)."""
    params = fnn.init(net, KEY, X)
    target = jnp.zeros_like(fnn.output(net, params, X))
    return readers.losses_and_readings(net, loss or fnn.squared_error(), readers.squared_norm)(
        params, X, target
    )


def gradient(private):
    return private(PARAMS, X, LABEL, KEY)


@cache
def blocks():
    return curvature.kronecker_factors(NET, LOSS, bias="separate")(PARAMS, X, LABEL).factors


@cache
def eigen():
    return curvature.eigen(blocks())


W = jnp.ones(6, jnp.float32)
SCALARS = fnn.function.Function(lambda w, x: x @ w, init=lambda key, x: W)
PLAIN = fnn.Loss(lambda y, t: jnp.abs(y).sum(-1))
COUPLED = fnn.Loss(lambda y, t: y.sum(-1) + y.mean())
TOKENS = fnn.Heads((Dense(2), Dense(3)))


@dataclasses.dataclass(frozen=True)
class Unknown(fnn.factors.Factor):
    """A factor that JAX does not know."""

    dz: jax.Array
    rank = 1

    def form(self):
        return fnn.factors.Total(self.dz)


@dataclasses.dataclass(frozen=True)
class Biased(fnn.Leaf):
    """A leaf with such a factor."""

    def init(self, key, x):
        return jnp.zeros(x.shape[-1:], x.dtype)

    def forward(self, params, x, key):
        return x + jnp.broadcast_to(params, x.shape), ()

    def backward(self, params, x, y, extras, dy):
        return Unknown(dy), dy


def nothing(factor, param):
    """A rule that knows no form."""


def two_rows():
    """A net with an output that has more rows than the other."""
    net = fnn.Each({"a": Dense(2), "b": Dense(2)})
    x = {"a": X, "b": jnp.ones((4, 2, 6), jnp.float32)}
    loss = fnn.squared_error().on("a") + fnn.squared_error().on("b")
    target = {"a": jnp.ones((4, 2)), "b": jnp.ones((4, 2, 2))}
    return net, x, loss, target


def of_two_rows(run):
    net, x, _, target = two_rows()
    return run(fnn.init(net, KEY, x), x, target)


UNEQUAL, _, LOSSES, _ = two_rows()


ROWS = {
    # Readers.
    "no reader": Row(lambda: fnn.backward(NET, PARAMS, fnn.forward(NET, PARAMS, X)[1], jnp.ones((4, 3)), read=3), lambda read: over(read=read)),
    "a reader of nothing": Row(lambda: over(read=nothing), lambda found: found, {"factor": None}),
    "no factor": Row(lambda: readers.squared_norm(jnp.ones(3), jnp.ones(3)), lambda value: value, KNOWN | {"net": fnn.relu, "params": (), "residuals": fnn.forward(fnn.relu, (), X)[1], "dy": X}),
    "a factor that is no pytree": Row(lambda: over(Biased(), readers.as_factors), lambda known: known, {"Unknown": dataclasses.dataclass(frozen=True)(type("Unknown", (), {"__annotations__": {"dz": jax.Array}}))}),
    "no examples": Row(lambda: over(Dense(3), x=X[0, :]), lambda x: over(Dense(3), x=jnp.concatenate([x] * 4)), {"x": X[0]}),
    "no axis of examples to read": Row(lambda: readers.losses_and_readings(fnn.Embedding(3, 3), LOSS, readers.squared_norm)({"embedding": jnp.ones((3, 3))}, jnp.int32(0), jnp.int32(0)), lambda x: x, {"x": jnp.int32(0)}),
    "dz without examples": Row(lambda: readers.squared_norm(fnn.factors.Total(X[0]), X[0]), lambda dz: readers.squared_norm(fnn.factors.Total(dz), X[0]), {"x": X[0]}),
    "unequal examples": Row(lambda: readers.losses_and_readings(fnn.Concatenate(), LOSS, readers.squared_norm)((), (X, X[:2]), LABEL), lambda x: x, {"x": (X, X[:2]), "n": 2}),
    "a layer that couples": Row(lambda: over(fnn.Serial(Dense(3), BatchNorm())), lambda layer: over(fnn.Serial(Dense(3), layer))),
    "a function that couples": Row(
        lambda: readers.losses_and_readings(fnn.function.Function(lambda w, x: x @ w - (x @ w).mean(0, keepdims=True)), LOSS, readers.squared_norm)(X.T[:, :3], X, LABEL),
        lambda run: run(PARAMS, X, LABEL),
        KNOWN,
    ),
    "a loss that couples": Row(lambda: over(loss=COUPLED), lambda run: run(PARAMS, X, X[:, :3]), {"net": NET, "loss": COUPLED}),
    "a direction of another tree": Row(lambda: over(read=readers.inner_product, trees=(PARAMS[0],)), lambda tree: over(read=readers.inner_product, trees=(tree,)), KNOWN),
    "a direction of other shapes": Row(lambda: over(read=readers.inner_product, trees=(jax.tree.map(lambda p: p[None], PARAMS),)), lambda tree: over(read=readers.inner_product, trees=(tree,)), KNOWN),
    "other examples": Row(lambda: readers.tangent_kernel(NET)(PARAMS, X, X[:, :2]), lambda x: readers.tangent_kernel(NET)(PARAMS, X, x), {"x": X, "m": 2}),
    "no params to sum over": Row(lambda: readers.sum_over_params(()), lambda layer: over(layer)),
    "no params to unzip": Row(lambda: readers.unzip((), ()), lambda layer: over(layer)),
    "outputs without an axis": Row(lambda: norms(SCALARS), norms, {"net": SCALARS}),
    "outputs without an axis, and a loss of one's own": Row(lambda: norms(SCALARS, PLAIN), norms, {"net": SCALARS}),
    "outputs without an axis of blocks": Row(lambda: curvature.kronecker_factors(SCALARS, fnn.squared_error())(W, X, LABEL), norms, {"net": SCALARS}),
    "outputs of no rows": Row(lambda: row_losses(PLAIN, X[0], X[0]), lambda y: row_losses(PLAIN, y, y), {"y": X[0]}),
    # Curvature.
    "a fisher": Row(lambda: curvature.ggn_diagonal(NET, LOSS, "observed"), lambda run: run(PARAMS, X, LABEL), KNOWN),
    "a loss without a likelihood": Row(lambda: curvature.kronecker_factors(NET, PLAIN), lambda run: run(PARAMS, X, LABEL), KNOWN),
    "a fisher of a product": Row(lambda: curvature.fisher_product(NET, LOSS, "exact"), lambda run: run(PARAMS, X, LABEL, ZEROS), KNOWN),
    "a vector of another tree": Row(lambda: curvature.ggn_product(NET, LOSS)(PARAMS, X, LABEL, PARAMS[0]), lambda v: curvature.ggn_product(NET, LOSS)(PARAMS, X, LABEL, v), KNOWN),
    "a vector of other shapes": Row(lambda: curvature.ggn_product(NET, LOSS)(PARAMS, X, LABEL, jax.tree.map(lambda p: p[None], PARAMS)), lambda v: curvature.ggn_product(NET, LOSS)(PARAMS, X, LABEL, v), KNOWN),
    "damping below zero": Row(lambda: curvature.conjugate_gradients(lambda v: v, -1.0), lambda solve: solve(ZEROS), {"product": lambda v: v}),
    "no damping": Row(lambda: curvature.kronecker_solve(eigen(), PARAMS, 0.0), lambda tree: tree, {"blocks": Late(eigen), "gradient": PARAMS}),
    "an inverse that is no function": Row(lambda: fnn.attribution.influence(NET, LOSS, eigen()), lambda inverse: inverse(PARAMS), {"inverse": Late(eigen)}),
    "no damping of influence": Row(lambda: over(read=fnn.attribution.self_influence(0.0), trees=(eigen(),)), lambda read: over(read=read, trees=(eigen(),))),
    "blocks of another net": Row(lambda: curvature.kronecker_multiply(eigen()[0], PARAMS), lambda eigen: curvature.kronecker_multiply(eigen, PARAMS), {"factors": Late(blocks)}),
    "factors in the place of blocks": Row(lambda: curvature.kronecker_multiply(blocks(), PARAMS), lambda found: found, {"factors": Late(blocks), "gradient": PARAMS}),
    "factors to solve by": Row(lambda: curvature.kronecker_solve(blocks(), PARAMS, 1e-2), lambda found: found, {"factors": Late(blocks), "gradient": PARAMS}),
    "factors to correct": Row(lambda: curvature.ekfac(NET, LOSS)(PARAMS, X, LABEL, blocks()), lambda own: curvature.ekfac(NET, LOSS)(PARAMS, X, LABEL, own), {"factors": Late(blocks)}),
    "factors to read influence by": Row(lambda: over(read=fnn.attribution.self_influence(1e-2), trees=(blocks(),)), lambda found: found, {"factors": Late(blocks)}),
    "an eigenbasis of an eigenbasis": Row(lambda: curvature.eigen(eigen()), lambda found: found, {"curved": Late(lambda: curvature.Curved(None, None, blocks()))}),
    "blocks of other shapes": Row(lambda: curvature.kronecker_multiply(eigen(), jax.tree.map(lambda p: jnp.concatenate([p, p]), PARAMS)), lambda tree: tree, {"blocks": Late(eigen), "gradient": PARAMS}),
    "tokens": Row(lambda: curvature.kronecker_factors(NET, LOSS, tokens="sum"), lambda run: run(PARAMS, X, LABEL), KNOWN),
    "a reduction of a loss of curvature": Row(lambda: curvature.kronecker_factors(NET, LOSS.with_reduction("none")), lambda run: run(PARAMS, X, LABEL), KNOWN | {"loss": LOSS.with_reduction("none")}),
    "no key to sample by": Row(lambda: curvature.kronecker_factors(NET, LOSS, "sampled")(PARAMS, X, LABEL), lambda key: curvature.kronecker_factors(NET, LOSS, "sampled")(PARAMS, X, LABEL, key)),
    "outputs of other rows": Row(
        lambda: of_two_rows(curvature.kronecker_factors(UNEQUAL, LOSSES, "empirical")),
        lambda loss: of_two_rows(curvature.kronecker_factors(UNEQUAL, loss, "empirical")),
        {"loss": LOSSES},
    ),
    "outputs of other tokens": Row(
        lambda: of_two_rows(curvature.ggn_diagonal(UNEQUAL, LOSSES)), of_two_rows, {"net": UNEQUAL, "loss": LOSSES},
    ),
    "damping that is no number": Row(lambda: curvature.kronecker_solve(eigen(), PARAMS, "small"), lambda tree: tree, {"blocks": Late(eigen), "gradient": PARAMS}),
    "damping of a product that is no number": Row(lambda: curvature.conjugate_gradients(lambda v: v, ZEROS), lambda solve: solve(ZEROS), {"product": lambda v: v}),
    **{
        f"kfac's {name} {value!r}": Row(partial(curvature.kfac, NET, X, 0.1, **{name: value}), lambda optimizer: optimizer.init(PARAMS), KNOWN)
        for name, value in (("damping", 0), ("damping", None), ("decay", True), ("every", 0), ("momentum", 1), ("momentum", "no"))
    },
    "kfac's decay": Row(lambda: curvature.kfac(NET, X, 0.1, decay=2), lambda optimizer: optimizer.init(PARAMS), KNOWN),
    "kfac's factors": Row(
        lambda: curvature.kfac(NET, X, 0.1).update(ZEROS, curvature.kfac(NET, X, 0.1).init(PARAMS), PARAMS),
        lambda run: curvature.kfac(NET, X, 0.1).update(ZEROS, curvature.kfac(NET, X, 0.1).init(PARAMS), PARAMS, factors=run(PARAMS, X, LABEL, KEY).factors),
        KNOWN,
    ),
    # Privacy and attribution.
    "no norm": Row(lambda: privacy.clipped_gradient(NET, LOSS, 0), gradient, KNOWN),
    **{
        f"a norm {norm!r}": Row(partial(privacy.clipped_gradient, NET, LOSS, norm), gradient, KNOWN)
        for norm in (-1.0, float("nan"), None, "1", True, (1.0,), 1j)
    },
    "a norm for each example": Row(lambda: privacy.clipped_gradient(NET, LOSS, jnp.ones(4)), gradient, KNOWN),
    "a traced norm for each example": Row(lambda: jax.jit(lambda norm: gradient(privacy.clipped_gradient(NET, LOSS, norm)))(jnp.ones(4)), gradient, KNOWN),
    "no bound, automatic": Row(lambda: privacy.clipped_gradient(NET, LOSS, float("inf"), automatic=True), gradient, KNOWN),
    "no bound, private": Row(lambda: privacy.private_gradient(NET, LOSS, float("inf"), 1.1, 4), gradient, KNOWN),
    **{
        f"noise {value!r}": Row(partial(privacy.private_gradient, NET, LOSS, 1.0, value, 4), gradient, KNOWN)
        for value in (None, "1", float("nan"))
    },
    **{
        f"a batch of {value!r}": Row(partial(privacy.private_gradient, NET, LOSS, 1.0, 1.1, value), gradient, KNOWN)
        for value in (None, 0)
    },
    **{
        f"a key {value!r}": Row(lambda value=value: private()(PARAMS, X, LABEL, value), lambda found: found, KNOWN | {"private": private(), "target": LABEL})
        for value in (None, 0, "seed")
    },
    "a key for each example": Row(lambda: private()(PARAMS, X, LABEL, jax.random.split(KEY, 4)), lambda found: found, KNOWN | {"private": private(), "target": LABEL}),
    "a scale that is no number": Row(lambda: privacy.clipped_gradient(NET, LOSS, 1.0)(PARAMS, X, LABEL, scale="two"), lambda clipped: clipped, KNOWN | {"norm": 1.0, "target": LABEL}),
    "a mask that is a list": Row(lambda: privacy.clipped_gradient(NET, LOSS, 1.0)(PARAMS, X, LABEL, None, [1, 1, 0, 1]), lambda mask: privacy.clipped_gradient(NET, LOSS, 1.0)(PARAMS, X, LABEL, None, mask)),
    "a microbatch that is no number": Row(lambda: privacy.clipped_gradient(NET, LOSS, 1.0, microbatch="2"), gradient, KNOWN | {"norm": 1.0}),
    "half an example": Row(lambda: privacy.clipped_gradient(NET, LOSS, 1.0, microbatch=2.5), gradient, KNOWN | {"norm": 1.0}),
    "per": Row(lambda: privacy.clipped_gradient(NET, LOSS, 1.0, per="param"), gradient, KNOWN | {"norm": 1.0}),
    "a scale": Row(lambda: privacy.clipped_gradient(NET, LOSS, 1.0)(PARAMS, X, LABEL, scale=0), lambda clipped: clipped, KNOWN | {"norm": 1.0, "target": LABEL}),
    "a mask": Row(lambda: privacy.clipped_gradient(NET, LOSS, 1.0)(PARAMS, X, LABEL, None, jnp.ones(3, bool)), lambda mask: privacy.clipped_gradient(NET, LOSS, 1.0)(PARAMS, X, LABEL, None, mask)),
    "a microbatch": Row(lambda: privacy.clipped_gradient(NET, LOSS, 1.0, microbatch=3)(PARAMS, X, LABEL), gradient, KNOWN | {"norm": 1.0}),
    "a microbatch below zero": Row(lambda: privacy.clipped_gradient(NET, LOSS, 1.0, microbatch=-2)(PARAMS, X, LABEL), gradient, KNOWN | {"norm": 1.0}),
    "noise below zero": Row(lambda: privacy.private_gradient(NET, LOSS, 1.0, noise_multiplier=-1, batch_size=4), gradient, KNOWN),
    "sampling": Row(lambda: privacy.privacy_spent(1.1, sampling=2, steps=1, delta=1e-5)),
    "no accountant": Row(without("dp_accounting", lambda: privacy.privacy_spent(1.1, sampling=1.0, steps=1, delta=1e-5)), installs("dp-accounting")),
    "no epsilon": Row(lambda: privacy.noise_for(-1.0, sampling=1.0, steps=1, delta=1e-5)),
    "no checkpoints": Row(lambda: fnn.attribution.tracin(NET, LOSS)([], X, LABEL, X, LABEL), lambda pairs: fnn.attribution.tracin(NET, LOSS)(pairs, X, LABEL, X, LABEL), KNOWN | {"learning_rate": 0.1}),
    "matrices": Row(lambda: fnn.feedback.direct_feedback(NET, LOSS)(PARAMS, (), X, LABEL), lambda matrices: fnn.feedback.direct_feedback(NET, LOSS)(PARAMS, matrices, X, LABEL), KNOWN),
    "no chain": Row(lambda: fnn.feedback.direct_feedback_matrices(Dense(3), KEY, PARAMS[0], X), lambda net: fnn.feedback.direct_feedback_matrices(net, KEY, PARAMS[:1], X), {"layer": Dense(4)}),
    # Training.
    "clip": Row(lambda: train.update_in_backward(NET, LOSS, ADAM, clip=0), step, KNOWN | {"optimizer": ADAM}),
    "no optimizer": Row(lambda: train.update_in_backward(NET, LOSS, 3), step, KNOWN),
    "optimizers of another tree": Row(lambda: step(train.update_in_backward(NET, LOSS, (ADAM, ADAM))), lambda tree: step(train.update_in_backward(NET, LOSS, tree)), KNOWN),
    "a norm of all": Row(lambda: step(train.update_in_backward(NET, LOSS, optax.chain(optax.clip_by_global_norm(1.0), ADAM))), step, KNOWN),
    "a mask of all": Row(lambda: step(train.update_in_backward(NET, LOSS, optax.multi_transform(OPTIMIZERS, LABELS))), step, KNOWN | {"optimizers": OPTIMIZERS, "labels": LABELS}),
    "a state of another": Row(lambda: train.update_in_backward(NET, LOSS, ADAM).step(PARAMS, (), X, LABEL), lambda state: train.update_in_backward(NET, LOSS, ADAM).step(PARAMS, state, X, LABEL), KNOWN | {"init": train.update_in_backward(NET, LOSS, ADAM).init}),
    # Memory.
    "a budget": Row(lambda: memory.fit(NET, X, 0), lambda net: net, KNOWN),
    "too small a budget": Row(lambda: memory.fit(NET, X, 1), lambda net: net, KNOWN),
    "params of another net": Row(lambda: memory.report(NET, PARAMS[0], X), lambda params: memory.report(NET, params, X), KNOWN),
    "bits": Row(lambda: memory.Bits(3), lambda codec: memory.stored(NET, codec)),
    "a block": Row(lambda: memory.Bits(4, block=-8), lambda codec: memory.stored(NET, codec)),
    "a composition to store": Row(lambda: Stored(NET, memory.Rounded()), lambda net: net, KNOWN | {"codec": memory.Rounded()}),
    "second derivatives of bits": Row(
        lambda: curvature.hessian_product(memory.stored(NET, memory.Bits(8)), LOSS)(PARAMS, X, LABEL, ZEROS),
        lambda codec: curvature.hessian_product(memory.stored(NET, codec), LOSS)(PARAMS, X, LABEL, ZEROS),
    ),
    "no key": Row(lambda: fnn.init(NET, 0, X), lambda params: params, KNOWN),
    "no shape": Row(lambda: fnn.init(NET, KEY, 3), lambda x: x, {"x": 3}),
    "the sizes of a shape": Row(lambda: fnn.init(NET, KEY, (4, 6)), lambda x: over(x=jnp.ones(x.shape, x.dtype))),
    "the sizes of a shape, in a list": Row(lambda: fnn.init(NET, KEY, [4, 6]), lambda x: over(x=jnp.ones(x.shape, x.dtype))),
}  # fmt: skip
