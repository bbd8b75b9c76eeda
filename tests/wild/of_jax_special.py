"""Special functions of `jax.scipy`."""

# pyright: reportMissingImports=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportIndexIssue=false

from collections.abc import Iterator

from tests.wild.row import Row, normal, positive, row, unit


def rows() -> Iterator[Row]:
    import jax.scipy.special as s
    import jax.scipy.stats as stats

    x, p, u, q = normal(4, 3), positive(4, 3), unit(4, 3), positive(4, 3, seed=1)
    for name in (
        "erf",
        "erfc",
        "erfcx",
        "dawsn",
        "ndtr",
        "log_ndtr",
        "i0",
        "i0e",
        "i1",
        "i1e",
        "sinc",
        "wofz",
    ):
        if hasattr(s, name):
            f = getattr(s, name)
            yield row(f"jax.scipy.special.{name}", lambda x, f=f: f(x).real, x)
    for name in (
        "gammaln",
        "digamma",
        "gamma",
        "loggamma",
        "expi",
        "exp1",
        "entr",
        "spence",
        "log_softmax",
        "sici",
    ):
        if hasattr(s, name):
            yield row(f"jax.scipy.special.{name}", getattr(s, name), p)
    for name in ("erfinv", "ndtri", "logit"):
        yield row(f"jax.scipy.special.{name}", getattr(s, name), u)
    yield row("jax.scipy.special.expit", s.expit, x)
    yield row("jax.scipy.special.xlogy", s.xlogy, x, p)
    yield row("jax.scipy.special.xlogy at 0", s.xlogy, 0 * x, p)
    yield row("jax.scipy.special.xlog1py", s.xlog1py, x, p)
    yield row("jax.scipy.special.kl_div", s.kl_div, p, q)
    yield row("jax.scipy.special.rel_entr", s.rel_entr, p, q)
    yield row("jax.scipy.special.zeta", s.zeta, p + 2, q, wrt=1)
    yield row("jax.scipy.special.polygamma", lambda x: s.polygamma(2, x), p)
    yield row("jax.scipy.special.poch", s.poch, p, q, wrt=0)
    yield row("jax.scipy.special.expn", lambda x: s.expn(2, x), p)
    yield row("jax.scipy.special.hyp1f1", s.hyp1f1, p, q, normal(4, 3), wrt=2)
    yield row("jax.scipy.special.hyp2f1", s.hyp2f1, p, q, p + q, 0.5 * u, wrt=3)
    yield row("jax.scipy.special.betaln", s.betaln, p, q)
    yield row("jax.scipy.special.beta", s.beta, p, q)
    yield row("jax.scipy.special.betainc", lambda u: s.betainc(p, q, u), u)
    yield row("jax.scipy.special.gammainc", s.gammainc, p, q)
    yield row("jax.scipy.special.gammaincc", s.gammaincc, p, q)
    yield row("jax.scipy.special.multigammaln", lambda a: s.multigammaln(a, 2), p + 2)
    if hasattr(s, "owens_t"):
        yield row("jax.scipy.special.owens_t", s.owens_t, x, p)
    yield row("jax.scipy.stats.norm.logcdf", stats.norm.logcdf, x)
    yield row("jax.scipy.stats.gamma.logpdf", stats.gamma.logpdf, p, q)
    yield row("jax.scipy.stats.beta.logpdf", stats.beta.logpdf, u, p, q)
    yield row("jax.scipy.stats.t.logpdf", stats.t.logpdf, x, p)
    yield row("jax.scipy.stats.vonmises.logpdf", stats.vonmises.logpdf, x, p)
    yield row("jax.scipy.stats.truncnorm.logpdf", lambda x: stats.truncnorm.logpdf(x, -1.0, 1.0), 0.8 * u)
