"""Decompositions, solves, control flow and transforms of JAX."""

# pyright: reportMissingImports=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportIndexIssue=false

from collections.abc import Iterator

from tests.wild.row import Row, definite, integers, normal, positive, row


def rows() -> Iterator[Row]:
    import jax
    import jax.numpy as jnp
    import jax.scipy.linalg as sl
    from jax import lax
    from jax.experimental import sparse
    from jax.experimental.ode import odeint
    from jax.scipy.sparse.linalg import bicgstab, cg, gmres

    a, b, s = normal(4, 4, at=0.0) + 3 * jnp.eye(4), normal(4, 2), definite(4)
    small, tall = normal(2, 2) + 2 * jnp.eye(2), normal(5, 3)
    for name, x in (
        ("det", a),
        ("det", small),
        ("slogdet", a),
        ("slogdet", small),
        ("inv", a),
        ("pinv", tall),
    ):
        f = getattr(jnp.linalg, name)
        label = f"jax.numpy.linalg.{name}" + ("(2x2)" if x is small else "")
        yield row(label, (lambda x, f=f: f(x)[1]) if name == "slogdet" else f, x)
    yield row("jax.numpy.linalg.slogdet(qr)", lambda x: jnp.linalg.slogdet(x, method="qr")[1], a)
    yield row("jax.numpy.linalg.solve", jnp.linalg.solve, a, b)
    yield row("jax.numpy.linalg.cholesky", jnp.linalg.cholesky, s)
    yield row("jax.numpy.linalg.qr", jnp.linalg.qr, tall)
    yield row("jax.numpy.linalg.svd", lambda x: jnp.linalg.svd(x, full_matrices=False)[1], tall)
    yield row("jax.numpy.linalg.eigh", lambda x: jnp.linalg.eigh(x)[0], s)
    yield row("jax.numpy.linalg.lstsq", lambda a, b: jnp.linalg.lstsq(a, b)[0], tall, normal(5, 2))
    yield row("jax.numpy.linalg.matrix_power", lambda x: jnp.linalg.matrix_power(x, 3), a)
    yield row("jax.numpy.linalg.cond", jnp.linalg.cond, a)
    yield row("jax.scipy.linalg.expm", sl.expm, 0.3 * a)
    yield row(
        "jax.scipy.linalg.cho_solve", lambda c, b: sl.cho_solve((c, True), b), jnp.linalg.cholesky(s), b
    )
    yield row("jax.scipy.linalg.solve_triangular", lambda a, b: sl.solve_triangular(a, b, lower=True), a, b)
    yield row("jax.scipy.linalg.lu", lambda x: sl.lu(x)[1:], a)
    yield row("jax.scipy.linalg.solve", lambda a, b: sl.solve(a @ a.T, b), a, b)
    yield row("jax.scipy.sparse.linalg.cg", lambda a, b: cg(a @ a.T, b, tol=1e-7)[0], a, b)
    yield row(
        "jax.scipy.sparse.linalg.bicgstab", lambda a, b: bicgstab(lambda x: a @ x, b, tol=1e-7)[0], a, b[:, 0]
    )
    yield row(
        "jax.scipy.sparse.linalg.gmres", lambda a, b: gmres(lambda x: a @ x, b, tol=1e-7)[0], a, b[:, 0]
    )
    root = lambda x: lax.custom_root(
        lambda y: y**3 + y - x,
        jnp.zeros_like(x),
        lambda f, y: lax.fori_loop(0, 60, lambda _, y: y - f(y) / (3 * y**2 + 1), y),
        lambda g, y: y / g(jnp.ones_like(y)),
    )
    yield row("jax.lax.custom_root", root, normal(3))
    linear = lambda a, b: lax.custom_linear_solve(
        lambda x: a @ x, b, lambda _, b: jnp.linalg.solve(a, b), None, True
    )
    yield row("jax.lax.custom_linear_solve", lambda s, b: linear(s @ s.T + jnp.eye(4), b), s, b[:, 0])
    decay = lambda y, k: odeint(lambda y, t, k: -k * y + jnp.sin(t), y, jnp.linspace(0.0, 1.0, 4), k)
    yield row("jax.experimental.ode.odeint", decay, normal(3), positive(3), wrt=(0, 1))
    dense = sparse.BCOO.fromdense(jnp.where(a > 0.2, a, 0))
    spm = lambda data, b: sparse.BCOO((data, dense.indices), shape=(4, 4)) @ b
    yield row("jax.experimental.sparse.BCOO", spm, dense.data, b)
    yield row("jax.lax.associative_scan", lambda x: lax.associative_scan(jnp.multiply, x), positive(5, 2))
    yield row("jax.lax.cumlogsumexp", lax.cumlogsumexp, normal(5, 2))
    yield row("jax.lax.cummax", lax.cummax, normal(5, 2))
    yield row(
        "jax.lax.reduce_window",
        lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 2), (1, 1), "VALID"),
        tall,
    )
    yield row(
        "jax.lax.conv", lambda x, k: lax.conv(x, k, (2, 1), "SAME"), normal(2, 3, 6, 5), normal(4, 3, 3, 2)
    )
    yield row(
        "jax.lax.linalg.tridiagonal_solve",
        lax.linalg.tridiagonal_solve,
        *(normal(4, seed=i, at=5.0 * (i == 1)) for i in range(3)),
        b,
    )
    yield row("jax.lax.top_k", lambda x: lax.top_k(x, 2)[0], normal(3, 6))
    yield row("jax.lax.sort", lambda x: lax.sort(x), normal(3, 6))
    yield row("jax.lax.erf_inv", lax.erf_inv, 0.8 * jnp.tanh(normal(4)))
    yield row("jax.lax.igamma_grad_a", lax.igamma, positive(4), positive(4, seed=2))
    yield row("jax.numpy.fft.rfft", lambda x: jnp.abs(jnp.fft.rfft(x)) ** 2, normal(3, 6))
    yield row("jax.numpy.fft.irfft", lambda x: jnp.fft.irfft(x * (1 + 1j)), normal(3, 5))
    yield row("jax.numpy.fft.fft2", lambda x: jnp.fft.fft2(x).imag, normal(3, 4))
    yield row("jax.image.resize", lambda x: jax.image.resize(x, (7, 5), "bilinear"), normal(4, 3))
    yield row(
        "jax.scipy.signal.convolve",
        lambda x, k: jax.scipy.signal.convolve(x, k, mode="same"),
        normal(7),
        normal(3),
    )
    yield row(
        "jax.scipy.signal.stft", lambda x: jnp.abs(jax.scipy.signal.stft(x, nperseg=8)[2]) ** 2, normal(24)
    )
    yield row(
        "jax.scipy.ndimage.map_coordinates",
        lambda x, c: jax.scipy.ndimage.map_coordinates(x, [c, c], 1),
        normal(5, 5),
        positive(4, high=3.4),
    )
    yield row("jax.ops.segment_sum", lambda x, i: jax.ops.segment_sum(x, i, 4), normal(6, 2), integers(4, 6))
    yield row("jax.ops.segment_max", lambda x, i: jax.ops.segment_max(x, i, 4), normal(6, 2), integers(4, 6))
