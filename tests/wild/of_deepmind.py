"""RLax, KFAC-JAX, Chex and PIX."""

# pyright: reportMissingImports=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportIndexIssue=false

from collections.abc import Iterator

from tests.wild.row import Row, integers, normal, positive, row, unit


def rlax() -> Iterator[Row]:
    import jax
    import jax.numpy as jnp
    import rlax

    x, r, g, a = normal(5), normal(4), unit(4), integers(3, 4)
    yield row(
        "rlax.clip_gradient",
        lambda x: rlax.clip_gradient(x, -0.1, 0.1),
        x,
        surrogate=lambda x: rlax.clip_gradient(x, -0.1, 0.1),
    )
    yield row("rlax.huber_loss", lambda x: rlax.huber_loss(x, 1.0), x)
    yield row("rlax.l2_loss", lambda x: rlax.l2_loss(x), x)
    yield row("rlax.log_loss", rlax.log_loss, unit(4), jnp.array([0.0, 1.0, 1.0, 0.0]), wrt=0)
    yield row("rlax.signed_hyperbolic", rlax.signed_hyperbolic, x)
    yield row("rlax.signed_parabolic", rlax.signed_parabolic, x)
    yield row("rlax.sigmoid", rlax.sigmoid, x)
    yield row("rlax.logit", rlax.logit, unit(5))
    yield row("rlax.lambda_returns", rlax.lambda_returns, r, g, normal(4, seed=1), jnp.float32(0.9))
    yield row(
        "rlax.policy_gradient_loss", lambda z: rlax.policy_gradient_loss(z, a, r, jnp.ones(4)), normal(4, 3)
    )
    yield row("rlax.entropy_loss", lambda z: rlax.entropy_loss(z, jnp.ones(4)), normal(4, 3))
    yield row(
        "rlax.clipped_surrogate_pg_loss", lambda p: rlax.clipped_surrogate_pg_loss(p, r, 0.2), positive(4)
    )
    yield row(
        "rlax.quantile_regression_loss",
        lambda q: rlax.quantile_regression_loss(q, unit(3), normal(4), 1.0),
        normal(3),
    )
    yield row(
        "rlax.categorical_l2_project",
        lambda p: rlax.categorical_l2_project(jnp.linspace(-1.1, 0.9, 4), p, jnp.linspace(-1.0, 1.0, 5)),
        jax.nn.softmax(normal(4)),
    )
    yield row("rlax.td_learning", lambda v: rlax.td_learning(v, 0.3, 0.9, 0.5), jnp.float32(0.2))
    yield row(
        "rlax.straight_through",
        lambda z: rlax.add_dirichlet_noise(jax.random.key(0), z, 0.3, 0.5),
        jax.nn.softmax(normal(2, 4)),
    )
    kl = (0.3 * g, rlax.LagrangePenalty(jnp.float32(0.5), 0.1))
    yield row(
        "rlax.vmpo_loss",
        lambda z, t: rlax.vmpo_loss(z, r, rlax.LagrangePenalty(t, 0.1), [kl])[0],
        -positive(4),
        jnp.float32(0.7),
    )


def kfac() -> Iterator[Row]:
    import jax
    import jax.numpy as jnp
    import kfac_jax

    x, t = normal(4, 3), normal(4, 3, seed=1)

    def loss(p, x, t):
        y = jnp.tanh(x @ p["w"] + p["b"])
        kfac_jax.register_squared_error_loss(y, t)
        return jnp.sum((y - t) ** 2)

    yield row("kfac_jax.register_squared_error_loss", loss, {"w": normal(3, 3), "b": normal(3)}, x, t, wrt=0)
    yield row("kfac_jax.utils.psd_inv", lambda a: kfac_jax.utils.psd_inv(a @ a.T + jnp.eye(3)), normal(3, 3))
    yield row("kfac_jax.utils.inner_product", lambda a, b: kfac_jax.utils.inner_product([a], [b]), x, t)
    import chex
    import dm_pix as pix

    yield row(
        "chex.dataclass",
        lambda a: chex.dataclass(type("D", (), {"__annotations__": {"a": jax.Array}}))(a=jnp.sin(a)).a,
        x,
    )
    image, other = unit(8, 8, 3), unit(8, 8, 3, seed=1)
    for name in ("psnr", "mse", "mae", "rmse", "simse"):
        yield row(f"dm_pix.{name}", getattr(pix, name), image, other)
    yield row("dm_pix.ssim", lambda a, b: pix.ssim(a, b, filter_size=5), image, other)
    yield row("dm_pix.gaussian_blur", lambda a: pix.gaussian_blur(a, 1.0, 3), image)
    yield row("dm_pix.adjust_gamma", lambda a: pix.adjust_gamma(a, 1.4), image)
    yield row("dm_pix.rgb_to_hsv", lambda a: jnp.stack(pix.rgb_to_hsv(a)), image)
    yield row("dm_pix.adjust_contrast", lambda a: pix.adjust_contrast(a, 1.3), image)
    yield row("dm_pix.rotate", lambda a: pix.rotate(a, 0.3), image)
    yield row(
        "dm_pix.elastic_deformation",
        lambda a: pix.flat_nd_linear_interpolate(a, normal(3, 5, scale=0.2, at=2.4)),
        unit(6, 6, 6),
    )


FAMILIES = (rlax, kfac)
