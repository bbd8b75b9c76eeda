"""Losses and projections of Optax."""

# pyright: reportMissingImports=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportIndexIssue=false

from collections.abc import Iterator

from tests.wild.row import Row, integers, normal, positive, row, unit


def rows() -> Iterator[Row]:
    import jax
    import jax.numpy as jnp
    import optax

    z, y, labels = normal(5, 4), unit(5, 4), integers(4, 5)
    for name in (
        "huber_loss",
        "l2_loss",
        "log_cosh",
        "squared_error",
        "cosine_similarity",
        "cosine_distance",
    ):
        yield row(f"optax.{name}", lambda a, b, f=getattr(optax, name): f(a, b), z, normal(5, 4, seed=1))
    yield row(
        "optax.softmax_cross_entropy", optax.softmax_cross_entropy, z, jax.nn.softmax(normal(5, 4, seed=2))
    )
    hard = optax.softmax_cross_entropy_with_integer_labels
    yield row("optax.softmax_cross_entropy_with_integer_labels", lambda z, i: hard(z, i), z, labels)
    yield row("optax.sigmoid_binary_cross_entropy", optax.sigmoid_binary_cross_entropy, z, y)
    yield row(
        "optax.safe_softmax_cross_entropy", optax.safe_softmax_cross_entropy, z, jax.nn.softmax(z[::-1])
    )
    yield row(
        "optax.losses.poly_loss_cross_entropy",
        lambda z: optax.losses.poly_loss_cross_entropy(z, jax.nn.one_hot(labels, 4)),
        z,
    )
    yield row("optax.kl_divergence", optax.kl_divergence, jax.nn.log_softmax(z), jax.nn.softmax(z[::-1]))
    yield row("optax.losses.weighted_logsoftmax", optax.losses._classification.weighted_logsoftmax, z, y)
    yield row("optax.sigmoid_focal_loss", lambda z: optax.sigmoid_focal_loss(z, jnp.round(y)), z)
    yield row("optax.smooth_labels", lambda y: optax.smooth_labels(y, 0.1), y)
    sparse = lambda z: optax.losses.sparsemax_loss(z, jax.nn.one_hot(labels, 4)[:, 0])
    yield row("optax.losses.sparsemax_loss", sparse, normal(5))
    fenchel = optax.losses.make_fenchel_young_loss(jax.scipy.special.logsumexp)
    yield row("optax.losses.make_fenchel_young_loss", fenchel, normal(4), jax.nn.softmax(normal(4, seed=3)))
    yield row("optax.losses.ranking_softmax_loss", lambda z: optax.losses.ranking_softmax_loss(z, y), z)
    yield row(
        "optax.losses.triplet_margin_loss",
        lambda a, p, n: optax.losses.triplet_margin_loss(a, p, n),
        *(normal(3, 4, seed=s) for s in (1, 2, 3)),
    )
    ctc = lambda z: optax.ctc_loss(z[None], jnp.zeros((1, 5)), jnp.array([[1, 2, 1]]), jnp.zeros((1, 3)))
    yield row("optax.ctc_loss", ctc, z)
    yield row(
        "optax.perturbations.make_perturbed_fun",
        lambda z: optax.perturbations.make_perturbed_fun(jnp.tanh, 50, 0.5)(jax.random.key(0), z),
        normal(4),
        surrogate=lambda z: optax.perturbations.make_perturbed_fun(jnp.tanh, 50, 0.5)(jax.random.key(0), z),
    )
    for name in ("simplex", "l1_ball", "l2_ball", "l1_sphere", "l2_sphere", "non_negative", "box"):
        f = getattr(optax.projections, f"projection_{name}")
        yield row(
            f"optax.projections.projection_{name}",
            (lambda x: optax.projections.projection_box(x, -0.5, 0.5)) if name == "box" else f,
            normal(6),
        )
    yield row(
        "optax.projections.projection_halfspace",
        lambda x: optax.projections.projection_halfspace(x, normal(6, seed=4), 0.1),
        normal(6),
    )
    yield row(
        "optax.scale_gradient", lambda x: optax.scale_gradient(x, 0.5), normal(4), surrogate=lambda x: 0.5 * x
    )
    yield row("optax.global_norm", lambda a, b: optax.global_norm({"a": a, "b": b}), normal(3), normal(2, 2))
    yield row("optax.safe_norm", lambda x: optax.safe_norm(x, 1e-3), normal(3, 2))
    yield row("optax.safe_root_mean_squares", lambda x: optax.safe_root_mean_squares(x, 1e-3), normal(3, 2))
    yield row(
        "optax.adam step",
        lambda g: optax.adam(0.1).update(g, optax.adam(0.1).init(jnp.zeros(3)))[0],
        positive(3),
    )
