"""NumPyro, Distrax, BlackJAX, FlowJAX, tinygp and GPJax."""

# pyright: reportMissingImports=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportIndexIssue=false

from collections.abc import Iterator

from tests.wild.row import Row, definite, normal, positive, row, unit


def numpyro() -> Iterator[Row]:
    import jax
    import jax.numpy as jnp
    import numpyro.distributions as d
    from numpyro.distributions import transforms as t
    from numpyro.distributions import util

    x, p, q, u = normal(4), positive(4), positive(4, seed=1), unit(4)
    yield row("numpyro.distributions.util.log1mexp", util.log1mexp, -p)
    if hasattr(util, "logdiffexp"):
        yield row("numpyro.distributions.util.logdiffexp", util.logdiffexp, p + 3, p)
    yield row(
        "numpyro.distributions.util.cholesky_update",
        lambda l, v: util.cholesky_update(l, v),
        jnp.linalg.cholesky(definite(4)),
        x,
    )
    yield row(
        "numpyro.distributions.util.vec_to_tril_matrix", lambda v: util.vec_to_tril_matrix(v), normal(6)
    )
    yield row(
        "numpyro.distributions.util.signed_stick_breaking_tril",
        util.signed_stick_breaking_tril,
        0.5 * jnp.tanh(normal(6)),
    )
    yield row(
        "numpyro.distributions.util.von_mises_centered log", lambda k, x: d.VonMises(0.3, k).log_prob(x), p, x
    )
    for name, make in {
        "Gamma": lambda a, b: d.Gamma(a, b).log_prob(q), "Beta": lambda a, b: d.Beta(a, b).log_prob(u),
        "StudentT": lambda a, b: d.StudentT(a + 2, 0.0, b).log_prob(x), "Weibull": lambda a, b: d.Weibull(a, b).log_prob(q),
        "LogNormal": lambda a, b: d.LogNormal(a, b).log_prob(q), "SoftLaplace": lambda a, b: d.SoftLaplace(a, b).log_prob(x),
        "AsymmetricLaplace": lambda a, b: d.AsymmetricLaplace(0.1, a, b).log_prob(x), "Kumaraswamy": lambda a, b: d.Kumaraswamy(a, b).log_prob(u),
        "BetaProportion": lambda a, b: d.BetaProportion(u, b).log_prob(u[::-1]), "Levy": lambda a, b: d.Levy(-a, b).log_prob(q),
        "InverseGamma": lambda a, b: d.InverseGamma(a, b).log_prob(q), "NegativeBinomial2": lambda a, b: d.NegativeBinomial2(a, b).log_prob(jnp.array([0, 1, 2, 3])),
        "ZeroInflatedPoisson": lambda a, b: d.ZeroInflatedPoisson(u, b).log_prob(jnp.array([0, 1, 2, 0])),
        "GaussianCopulaBeta": lambda a, b: d.TruncatedNormal(a, b, low=-1.0, high=2.0).log_prob(0.5 * x), "SkewNormal": lambda a, b: d.TruncatedCauchy(a, b, low=-1.0).log_prob(u),
    }.items():  # fmt: skip
        yield row(
            f"numpyro.distributions.{ {'GaussianCopulaBeta': 'TruncatedNormal', 'SkewNormal': 'TruncatedCauchy'}.get(name, name) }.log_prob",
            make,
            p,
            q,
        )
    wide = lambda a: d.DoublyTruncatedPowerLaw(a, 0.2, 3.0).log_prob(p)
    yield row(
        "numpyro.distributions.DoublyTruncatedPowerLaw.log_prob", wide, jnp.array([-2.3, -1.0, 0.4, 1.7])
    )
    yield row(
        "numpyro.distributions.DoublyTruncatedPowerLaw.cdf",
        lambda a: d.DoublyTruncatedPowerLaw(a, 0.2, 3.0).cdf(p),
        jnp.array([-2.3, -1.5, 0.4, 1.7]),
    )
    yield row(
        "numpyro.distributions.DoublyTruncatedPowerLaw.icdf",
        lambda a: d.DoublyTruncatedPowerLaw(a, 0.2, 3.0).icdf(u),
        jnp.array([-2.3, -1.5, 0.4, 1.7]),
    )
    yield row(
        "numpyro.distributions.LowerTruncatedPowerLaw.log_prob",
        lambda a: d.LowerTruncatedPowerLaw(a, 0.2).log_prob(p),
        jnp.array([-2.3, -1.5, -3.4, -1.7]),
    )
    yield row(
        "numpyro.distributions.MultivariateNormal.log_prob",
        lambda m, s: d.MultivariateNormal(m, s @ s.T + jnp.eye(4)).log_prob(x),
        normal(4, seed=1),
        definite(4),
    )
    yield row(
        "numpyro.distributions.LKJCholesky.log_prob",
        lambda c: d.LKJCholesky(3, c).log_prob(jnp.linalg.cholesky(0.5 * jnp.eye(3) + 0.5)),
        jnp.float32(1.5),
    )
    for name, f in {"StickBreaking": t.StickBreakingTransform(), "CorrCholesky": t.CorrCholeskyTransform(), "Ordered": t.OrderedTransform(), "SoftplusLowerCholesky": t.SoftplusLowerCholeskyTransform(), "RecursiveLinear": t.SimplexToOrderedTransform()}.items():  # fmt: skip
        given = unit(3) / 3 if name == "RecursiveLinear" else normal(3)
        yield row(
            f"numpyro.distributions.transforms.{f.__class__.__name__}",
            f,
            given / given.sum() if name == "RecursiveLinear" else given,
        )
    sample = jax.random.key(0)
    yield row("numpyro.distributions.Dirichlet.sample", lambda a: d.Dirichlet(a).sample(sample), p)


def distrax() -> Iterator[Row]:
    import distrax
    import jax.numpy as jnp
    from distrax._src.distributions import von_mises
    from distrax._src.utils import math

    x, p, q, u = normal(4), positive(4), positive(4, seed=1), unit(4)
    yield row("distrax.utils.math.multiply_no_nan", math.multiply_no_nan, x, p)
    yield row(
        "distrax.utils.math.multiply_no_nan at 0", math.multiply_no_nan, x, jnp.array([0.0, 1.0, 0.0, 2.0])
    )
    yield row("distrax.utils.math.power_no_nan", math.power_no_nan, p, q)
    yield row(
        "distrax.utils.math.power_no_nan(0, 2)",
        lambda x: math.power_no_nan(x, jnp.float32(2.0)),
        jnp.zeros(3),
    )
    yield row("distrax.utils.math.mul_exp", math.mul_exp, x, p)
    yield row("distrax.utils.math.log_expbig_minus_expsmall", math.log_expbig_minus_expsmall, p + 3, p)
    cdf = lambda x, p: von_mises._von_mises_cdf(x, p, jnp.float32)
    yield row("distrax.von_mises_cdf", cdf, x, p)
    yield row(
        "distrax.VonMises.log_prob",
        lambda m, k, x: distrax.VonMises(m, k).log_prob(x),
        x,
        p,
        normal(4, seed=2),
    )
    yield row("distrax.Gamma.log_prob", lambda a, b: distrax.Gamma(a, b).log_prob(u), p, q)
    yield row("distrax.Beta.log_prob", lambda a, b: distrax.Beta(a, b).log_prob(u), p, q)
    yield row("distrax.Categorical.entropy", lambda z: distrax.Categorical(z).entropy(), normal(3, 4))
    yield row(
        "distrax.Categorical.kl",
        lambda a, b: distrax.Categorical(a).kl_divergence(distrax.Categorical(b)),
        normal(3, 4),
        normal(3, 4, seed=1),
    )
    yield row("distrax.Logistic.log_cdf", lambda m, s: distrax.Logistic(m, s).log_cdf(u), x, p)
    yield row("distrax.Gumbel.log_prob", lambda m, s: distrax.Gumbel(m, s).log_prob(u), x, p)
    spline = lambda w, x: distrax.RationalQuadraticSpline(w, -2.0, 2.0).forward_and_log_det(x)
    yield row("distrax.RationalQuadraticSpline", spline, normal(4, 13), x)
    yield row("distrax.Sigmoid.forward_and_log_det", distrax.Sigmoid().forward_and_log_det, x)
    yield row("distrax.Tanh.forward_and_log_det", distrax.Tanh().forward_and_log_det, x)
    yield row(
        "distrax.TriangularLinear",
        lambda m, x: distrax.TriangularLinear(m).inverse(x),
        definite(4),
        x,
    )
    yield row(
        "distrax.MultivariateNormalTri.log_prob",
        lambda m, s: distrax.MultivariateNormalTri(m, s).log_prob(p),
        x,
        definite(4),
    )
    yield row(
        "distrax.straight_through_wrapper",
        lambda z: distrax.straight_through_wrapper(distrax.OneHotCategorical)(z).sample(seed=0),
        normal(4),
        surrogate=lambda z: distrax.OneHotCategorical(z).probs,
    )


def others() -> Iterator[Row]:
    import jax
    import jax.numpy as jnp
    import tinygp
    from tinygp import kernels

    x, y = jnp.linspace(0.0, 1.0, 6), normal(6)
    for name in ("ExpSquared", "Matern32", "Matern52", "RationalQuadratic"):
        make = (
            (lambda s, n=name: getattr(kernels, n)(s, alpha=1.2))
            if name == "RationalQuadratic"
            else (lambda s, n=name: getattr(kernels, n)(s))
        )
        yield row(
            f"tinygp.kernels.{name}",
            lambda s, y, m=make: tinygp.GaussianProcess(m(s), x, diag=0.1).log_probability(y),
            jnp.float32(0.4),
            y,
        )
    quasi = lambda s, y: tinygp.GaussianProcess(kernels.quasisep.Matern32(s), x, diag=0.1).log_probability(y)
    yield row("tinygp.kernels.quasisep.Matern32", quasi, jnp.float32(0.4), y)
    import flowjax.bijections as b

    yield row(
        "flowjax.bijections.LeakyTanh", lambda x: b.LeakyTanh(1.0, (6,)).transform_and_log_det(x), normal(6)
    )
    yield row(
        "flowjax.bijections.RationalQuadraticSpline",
        lambda x: b.RationalQuadraticSpline(knots=4, interval=2.0).transform_and_log_det(x),
        jnp.float32(0.4),
    )
    yield row(
        "flowjax.bijections.Planar",
        lambda x: b.Planar(jax.random.key(0), dim=6).transform_and_log_det(x),
        normal(6),
    )
    from blackjax.mcmc import metrics

    yield row(
        "blackjax.mcmc.metrics.gaussian_euclidean",
        lambda m: metrics.gaussian_euclidean(jnp.ones(4)).kinetic_energy(m),
        normal(4),
    )


def oryx() -> Iterator[Row]:
    import jax.numpy as jnp
    import oryx

    yield row(
        "oryx.core.inverse", lambda x: oryx.core.inverse(lambda x: jnp.exp(x) + 1.0)(x + 2), positive(4)
    )


FAMILIES = (numpyro, distrax, others, oryx)
