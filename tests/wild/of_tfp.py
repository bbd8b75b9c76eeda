"""TensorFlow Probability on JAX: special functions, linear algebra, distributions and bijectors."""

# pyright: reportMissingImports=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportIndexIssue=false

from collections.abc import Iterator

from tests.wild.row import Row, definite, normal, positive, row, unit


def special() -> Iterator[Row]:
    import tensorflow_probability.substrates.jax as tfp
    from tensorflow_probability.substrates.jax.math import hypergeometric
    from tensorflow_probability.substrates.jax.math import special as more

    m = tfp.math
    x, p, q, u = normal(4), positive(4), positive(4, seed=1), unit(4)
    for name in ("dawsn", "erfcx", "log_cosh", "softplus_inverse", "log1psquare", "log1mexp", "sqrt1pm1", "logerfc", "erfcinv", "lambertw", "smootherstep", "log_gamma_correction", "reduce_logmeanexp", "atan_difference", "soft_sorting_matrix"):  # fmt: skip
        if hasattr(m, name):
            args = (
                (x, p)
                if name == "atan_difference"
                else (x, 0.5)
                if name == "soft_sorting_matrix"
                else (
                    p
                    if name in ("softplus_inverse", "log1mexp", "lambertw", "log_gamma_correction")
                    else u
                    if name == "erfcinv"
                    else x,
                )
            )
            yield row(
                f"tfp.math.{name}",
                lambda *a, f=getattr(m, name): f(*a),
                *args,
                wrt=0 if name == "soft_sorting_matrix" else None,
            )
    for name in ("bessel_ive", "bessel_kve", "log_bessel_ive", "log_bessel_kve", "bessel_iv_ratio"):
        yield row(f"tfp.math.{name}", lambda v, z, f=getattr(m, name): f(v, z), p, q + 0.5, wrt=1)
    yield row("tfp.math.lbeta", m.lbeta, p, q)
    yield row("tfp.math.log_gamma_difference", m.log_gamma_difference, p, q + 8)
    yield row("tfp.math.betainc", m.betainc, p, q, u)
    yield row("tfp.math.special.betaincinv", more.betaincinv, p, q, u)
    yield row("tfp.math.igammainv", m.igammainv, p, u)
    yield row("tfp.math.igammacinv", m.igammacinv, p, u)
    yield row("tfp.math.owens_t", m.owens_t, x, p)
    yield row("tfp.math.log_add_exp", m.log_add_exp, x, p)
    yield row("tfp.math.log_sub_exp", m.log_sub_exp, p + 3, p)
    yield row("tfp.math.log_cumsum_exp", m.log_cumsum_exp, x)
    yield row(
        "tfp.math.clip_by_value_preserve_gradient",
        lambda x: m.clip_by_value_preserve_gradient(x, -0.5, 0.5),
        x,
        surrogate=lambda x: x,
    )
    yield row("tfp.math.round_exponential_bump_function", m.round_exponential_bump_function, 0.5 * u)
    yield row(
        "tfp.math.hypergeometric.hyp2f1_small_argument",
        hypergeometric.hyp2f1_small_argument,
        p,
        q,
        p + q,
        0.5 * u,
        wrt=3,
    )
    yield row("tfp.math.scan_associative", lambda x: m.scan_associative(lambda a, b: a * b, x), p)


def algebra() -> Iterator[Row]:
    import jax.numpy as jnp
    import tensorflow_probability.substrates.jax as tfp

    m, s, b = tfp.math, definite(4), normal(4, 2)
    spd = lambda a: a @ a.T + jnp.eye(4)
    for name in ("hpsd_logdet",):
        yield row(f"tfp.math.{name}", lambda a, f=getattr(m, name): f(spd(a)), s)
    for name in ("hpsd_solve", "hpsd_quadratic_form_solve"):
        yield row(f"tfp.math.{name}", lambda a, b, f=getattr(m, name): f(spd(a), b), s, b)
    yield row("tfp.math.hpsd_solvevec", lambda a, b: m.hpsd_solvevec(spd(a), b), s, b[:, 0])
    yield row(
        "tfp.math.hpsd_quadratic_form_solvevec",
        lambda a, b: m.hpsd_quadratic_form_solvevec(spd(a), b),
        s,
        b[:, 0],
    )
    yield row("tfp.math.low_rank_cholesky", lambda a: m.low_rank_cholesky(spd(a), 2)[0], s)
    yield row("tfp.math.pivoted_cholesky", lambda a: m.pivoted_cholesky(spd(a), 3), s)
    yield row("tfp.math.lu_solve", lambda a, b: m.lu_solve(*tfp.tf2jax.linalg.lu(a), b), s, b)
    yield row("tfp.math.fill_triangular", m.fill_triangular, normal(6))
    yield row(
        "tfp.math.cholesky_concat",
        lambda a: m.cholesky_concat(jnp.linalg.cholesky(spd(a)[:3, :3]), spd(a)[3:]),
        s,
    )
    yield row(
        "tfp.math.interp_regular_1d_grid",
        lambda x, y: m.interp_regular_1d_grid(x, 0.0, 1.0, y),
        unit(4),
        normal(6),
    )
    yield row("tfp.math.trapz", m.trapz, normal(6))
    k = tfp.math.psd_kernels
    for name in (
        "ExponentiatedQuadratic",
        "MaternOneHalf",
        "MaternThreeHalves",
        "MaternFiveHalves",
        "RationalQuadratic",
    ):
        yield row(
            f"tfp.math.psd_kernels.{name}",
            lambda a, l, x, f=getattr(k, name): f(a, l).matrix(x, x),
            jnp.float32(1.2),
            jnp.float32(0.7),
            normal(4, 2),
        )
    yield row(
        "tfp.math.psd_kernels.GeneralizedMatern",
        lambda l, x: k.GeneralizedMatern(1.3, 1.2, l).matrix(x, x + 0.3),
        jnp.float32(0.7),
        normal(4, 2),
    )


def distributions() -> Iterator[Row]:
    import jax
    import tensorflow_probability.substrates.jax as tfp

    d, key = tfp.distributions, jax.random.key(0)
    x, p, q, u = normal(4), positive(4), positive(4, seed=1), unit(4)
    yield row("tfp.distributions.VonMises.cdf", lambda k, x: d.VonMises(0.2, k).cdf(x), p, x)
    yield row("tfp.distributions.StudentT.cdf", lambda f, x: d.StudentT(f + 1, 0.0, 1.0).cdf(x), p, x)
    yield row(
        "tfp.distributions.StudentT.quantile", lambda f, u: d.StudentT(f + 1, 0.0, 1.0).quantile(u), p, u
    )
    yield row("tfp.distributions.NoncentralChi2.cdf", lambda n, x: d.NoncentralChi2(p + 1, n).cdf(x), q, p)
    yield row("tfp.distributions.SkellamBessel.log_prob", lambda a, b: d.Skellam(a, b).log_prob(2.0), p, q)
    yield row("tfp.distributions.Gamma.sample", lambda a, b: d.Gamma(a, b).sample(seed=key), p, q)
    yield row("tfp.distributions.Beta.quantile", lambda a, b: d.Beta(a, b).quantile(u), p, q)
    yield row(
        "tfp.distributions.GeneralizedPareto.log_prob",
        lambda a, b: d.GeneralizedPareto(0.0, a, b).log_prob(u),
        p,
        q,
    )
    yield row(
        "tfp.distributions.TruncatedNormal.log_prob",
        lambda m, s: d.TruncatedNormal(m, s, -1.0, 2.0).log_prob(u),
        x,
        p,
    )
    yield row(
        "tfp.distributions.NormalInverseGaussian.log_prob",
        lambda a, b: d.NormalInverseGaussian(0.0, 1.0, a + 1, 0.3).log_prob(b),
        p,
        q,
    )
    yield row(
        "tfp.distributions.MixtureSameFamily.log_prob",
        lambda z, m: d.MixtureSameFamily(d.Categorical(logits=z), d.Normal(m, 1.0)).log_prob(0.3),
        x,
        p,
    )
    yield row(
        "tfp.distributions.RelaxedBernoulli.sample",
        lambda z: d.RelaxedBernoulli(0.7, logits=z).sample(seed=key),
        x,
    )


def bijectors() -> Iterator[Row]:
    import tensorflow_probability.substrates.jax as tfp

    b, x = tfp.bijectors, normal(4)
    for name, f in {
        "Sigmoid": b.Sigmoid(), "SoftClip": b.SoftClip(-1.0, 2.0), "Softplus": b.Softplus(), "Softfloor": b.Softfloor(0.7),
        "Tanh": b.Tanh(), "Softsign": b.Softsign(), "SoftmaxCentered": b.SoftmaxCentered(), "Ascending": b.Ascending(),
        "SinhArcsinh": b.SinhArcsinh(0.3, 1.2), "GumbelCDF": b.GumbelCDF(), "NormalCDF": b.NormalCDF(), "Split": b.IteratedSigmoidCentered(),
        "FillScaleTriL": b.CorrelationCholesky(), "LambertWTail": b.LambertWTail(0.1, 1.0, 0.2), "GompertzCDF": b.GompertzCDF(1.0, 0.5),
    }.items():  # fmt: skip
        yield row(f"tfp.bijectors.{type(f).__name__}", f.forward, normal(3) if name == "FillScaleTriL" else x)
    sigmoid = b.Sigmoid(-1.0, 2.0)
    yield row("tfp.bijectors.Sigmoid(low, high)", sigmoid.inverse, unit(4))
    yield row("tfp.bijectors.Softplus(low).inverse", b.Softplus(low=0.1).inverse, positive(4))


FAMILIES = (special, algebra, distributions, bijectors)
