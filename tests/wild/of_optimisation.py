"""JAXopt, OTT and Matfree: implicit differentiation, projections, transport."""

# pyright: reportMissingImports=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportIndexIssue=false

from collections.abc import Iterator

from tests.wild.row import Row, definite, normal, positive, row


def jaxopt() -> Iterator[Row]:
    import jax
    import jax.numpy as jnp
    import jaxopt
    from jaxopt import loss, projection

    x = normal(6)
    for name in ("simplex", "l1_ball", "l2_ball", "l1_sphere", "l2_sphere", "linf_ball", "non_negative"):
        yield row(
            f"jaxopt.projection.projection_{name}",
            lambda x, f=getattr(projection, f"projection_{name}"): f(x),
            x,
        )
    yield row("jaxopt.projection.projection_box", lambda x: projection.projection_box(x, (-0.5, 0.5)), x)
    yield row(
        "jaxopt.projection.projection_sparse_simplex", lambda x: projection.projection_sparse_simplex(x, 3), x
    )
    yield row(
        "jaxopt.projection.projection_halfspace",
        lambda x, a: projection.projection_halfspace(x, (a, 0.1)),
        x,
        normal(6, seed=1),
    )
    yield row(
        "jaxopt.projection.projection_hyperplane",
        lambda x, a: projection.projection_hyperplane(x, (a, 0.1)),
        x,
        normal(6, seed=1),
    )
    yield row(
        "jaxopt.projection.projection_transport",
        lambda m: projection.projection_transport(m, (jnp.full(3, 1 / 3), jnp.full(4, 1 / 4))),
        normal(3, 4),
    )
    yield row("jaxopt.isotonic_l2_pav", jaxopt.isotonic.isotonic_l2_pav, x)
    for name in ("lasso", "elastic_net", "ridge", "group_lasso"):
        prox = getattr(jaxopt.prox, f"prox_{name}")
        args = (1.0,) if name != "elastic_net" else ((0.3, 0.4),)
        yield row(
            f"jaxopt.prox.prox_{name}",
            lambda x, f=prox, a=args: f(x, *a),
            x,
        )
    yield row(
        "jaxopt.loss.binary_logistic_loss",
        lambda z: loss.binary_logistic_loss(jnp.array([0, 1, 1, 0, 1, 0]), z),
        x,
    )
    yield row("jaxopt.loss.multiclass_logistic_loss", lambda z: loss.multiclass_logistic_loss(1, z), x)
    yield row("jaxopt.loss.multiclass_sparsemax_loss", lambda z: loss.multiclass_sparsemax_loss(1, z), x)
    yield row("jaxopt.loss.huber_loss", lambda t, z: loss.huber_loss(t, z), x, normal(6, seed=1))
    a, y, penalty = normal(8, 3), normal(8), jnp.float32(0.5)
    ridge = lambda w, p, a, y: jnp.mean((a @ w - y) ** 2) + p * jnp.sum(w**2)
    for name, make in {
        "GradientDescent": lambda: jaxopt.GradientDescent(ridge, tol=1e-6, maxiter=300), "LBFGS": lambda: jaxopt.LBFGS(ridge, tol=1e-6, maxiter=100),
        "BFGS": lambda: jaxopt.BFGS(ridge, tol=1e-6, maxiter=100), "NonlinearCG": lambda: jaxopt.NonlinearCG(ridge, tol=1e-6, maxiter=100),
        "FixedPointIteration": lambda: jaxopt.FixedPointIteration(lambda w, p, a, y: w - 0.1 * jax.grad(ridge)(w, p, a, y), maxiter=400, tol=1e-7),
    }.items():  # fmt: skip
        yield row(
            f"jaxopt.{name}", lambda p, a, y, s=make(): s.run(jnp.zeros(3), p, a, y).params, penalty, a, y
        )
    qp = lambda q, c: (
        jaxopt.EqualityConstrainedQP()
        .run(params_obj=(q @ q.T + jnp.eye(4), c), params_eq=(jnp.ones((1, 4)), jnp.ones(1)))
        .params.primal
    )
    yield row("jaxopt.EqualityConstrainedQP", qp, definite(4), normal(4))
    yield row(
        "jaxopt.linear_solve.solve_cg",
        lambda a, b: jaxopt.linear_solve.solve_cg(lambda x: (a + a.T) @ x, b, tol=1e-7),
        definite(4),
        normal(4),
    )
    yield row(
        "jaxopt.implicit_diff.custom_root",
        jaxopt.implicit_diff.custom_root(jax.grad(ridge))(
            lambda w, p, a, y: jnp.linalg.solve(a.T @ a / len(a) + p * jnp.eye(3), a.T @ y / len(a))
        ),
        jnp.zeros(3),
        penalty,
        a,
        y,
        wrt=(1, 2, 3),
    )


def ott() -> Iterator[Row]:
    import jax.numpy as jnp
    from ott.geometry import costs, pointcloud, regularizers
    from ott.math import matrix_square_root, utils
    from ott.solvers import linear
    from ott.tools import soft_sort

    x, y, s = normal(5, 2), normal(6, 2, seed=1), definite(4)
    spd = lambda a: a @ a.T / 4 + jnp.eye(4)
    yield row("ott.math.matrix_square_root.sqrtm", lambda a: matrix_square_root.sqrtm(spd(a))[0], s)
    yield row("ott.math.matrix_square_root.sqrtm_only", lambda a: matrix_square_root.sqrtm_only(spd(a)), s)
    yield row(
        "ott.math.matrix_square_root.inv_sqrtm_only", lambda a: matrix_square_root.inv_sqrtm_only(spd(a)), s
    )
    yield row("ott.math.utils.norm", lambda x: utils.norm(x, axis=-1), x)
    yield row("ott.math.utils.logsumexp", lambda x: utils.logsumexp(x, axis=-1), x)
    yield row("ott.math.utils.logsumexp(b)", lambda x, b: utils.logsumexp(x, axis=-1, b=b), x, positive(5, 2))
    yield row("ott.math.utils.softmin", lambda x: utils.softmin(x, 0.5, -1), x)
    yield row("ott.math.utils.lambertw", utils.lambertw, positive(5))
    for name in ("SqEuclidean", "Euclidean", "Cosine", "PNormP", "Arccos", "RegTICost", "SoftDTW"):
        given = {"PNormP": (1.5,), "Arccos": (1,), "RegTICost": (regularizers.L1(), 0.4), "SoftDTW": (0.5,)}
        cost = getattr(costs, name)(*given.get(name, ()))
        yield row(f"ott.geometry.costs.{name}", lambda x, y, c=cost: c(x, y), normal(4), normal(4, seed=1))
    solve = lambda x, y: linear.solve(pointcloud.PointCloud(x, y, epsilon=0.5), threshold=1e-6).reg_ot_cost
    yield row("ott.solvers.linear.solve", solve, x, y)
    yield row("ott.tools.soft_sort.sort", lambda x: soft_sort.sort(x, epsilon=0.1), normal(5))
    yield row("ott.tools.soft_sort.ranks", lambda x: soft_sort.ranks(x, epsilon=0.1), normal(5))


def matfree() -> Iterator[Row]:
    import jax.numpy as jnp
    from matfree import decomp, funm

    lanczos = funm.funm_lanczos_sym(funm.dense_funm_sym_eigh(jnp.exp), decomp.tridiag_sym(3))
    yield row(
        "matfree.funm.funm_lanczos_sym",
        lambda a, v: lanczos(lambda x: (a + a.T) @ x, v),
        definite(4),
        normal(4),
    )


FAMILIES = (jaxopt, ott, matfree)
