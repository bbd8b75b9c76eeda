"""Equinox, Lineax, Optimistix, Diffrax and Quax."""

# pyright: reportMissingImports=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportIndexIssue=false

from collections.abc import Iterator

from tests.wild.row import Row, definite, normal, positive, row


def equinox() -> Iterator[Row]:
    import equinox as eqx
    import equinox.internal as eqxi
    import jax
    import jax.numpy as jnp

    key, x = jax.random.key(0), normal(6)
    for name, layer, given in (
        ("Linear", eqx.nn.Linear(6, 3, key=key), x), ("MLP", eqx.nn.MLP(6, 2, 5, 2, jnp.tanh, key=key), x),
        ("LayerNorm", eqx.nn.LayerNorm(6), x), ("RMSNorm", eqx.nn.RMSNorm(6), x), ("GroupNorm", eqx.nn.GroupNorm(2, 6), x),
        ("Conv1d", eqx.nn.Conv1d(2, 3, 3, key=key), normal(2, 7)), ("MaxPool1d", eqx.nn.MaxPool1d(2, 2), normal(2, 6)),
        ("MultiheadAttention", eqx.nn.MultiheadAttention(2, 6, key=key), normal(4, 6)), ("PReLU", eqx.nn.PReLU(0.2), x),
        ("RotaryPositionalEmbedding", eqx.nn.RotaryPositionalEmbedding(6), normal(4, 6)),
    ):  # fmt: skip
        params, static = eqx.partition(layer, eqx.is_inexact_array)

        def run(p, x, f=static, attention="Attention" in name):
            return eqx.combine(p, f)(*[x] * (3 if attention else 1))

        yield row(f"equinox.nn.{name}", run, params, given)
    cell = eqx.nn.LSTMCell(3, 4, key=key)
    params, static = eqx.partition(cell, eqx.is_inexact_array)
    yield row(
        "equinox.nn.LSTMCell",
        lambda p, x, h, c: eqx.combine(p, static)(x, (h, c)),
        params,
        normal(3),
        normal(4),
        normal(4, seed=1),
    )
    gru, static_gru = eqx.partition(eqx.nn.GRUCell(3, 4, key=key), eqx.is_inexact_array)
    yield row(
        "equinox.nn.GRUCell", lambda p, x, h: eqx.combine(p, static_gru)(x, h), gru, normal(3), normal(4)
    )

    @eqx.filter_custom_vjp
    def squared(x, y):
        return x * x * y

    squared.def_fwd(lambda perturbed, x, y: (x * x * y, None))
    squared.def_bwd(lambda res, dy, perturbed, x, y: 2 * x * y * dy)
    yield row("equinox.filter_custom_vjp", lambda x: squared(x, 3.0), x)
    yield row("equinox.filter_checkpoint", eqx.filter_checkpoint(lambda x: jnp.sin(x) ** 2), x)
    loop = lambda x: eqxi.while_loop(
        lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.sin(c[1])), (0, x), max_steps=8, kind="checkpointed"
    )[1]
    yield row("equinox.internal.while_loop(checkpointed)", loop, x)
    bounded = lambda x: eqxi.while_loop(
        lambda c: c[0] < 3, lambda c: (c[0] + 1, jnp.cos(c[1])), (0, x), max_steps=8, kind="bounded"
    )[1]
    yield row("equinox.internal.while_loop(bounded)", bounded, x)
    yield row(
        "equinox.internal.scan(checkpointed)",
        lambda x: eqxi.scan(lambda c, y: (jnp.sin(c + y), c), x[0], x, kind="checkpointed")[1],
        x,
    )
    yield row("equinox.error_if", lambda x: eqx.error_if(x, jnp.any(jnp.isnan(x)), "no") ** 2, x)
    yield row("equinox.internal.nextafter", lambda x: eqxi.nextafter(x) * x, x)


def lineax() -> Iterator[Row]:
    import jax.numpy as jnp
    import lineax as lx

    s, b, tall = definite(4), normal(4), normal(5, 3)
    solve = lambda a, b, how: lx.linear_solve(lx.MatrixLinearOperator(a), b, how).value
    spd = lambda a, b, how: (
        lx.linear_solve(lx.MatrixLinearOperator(a @ a.T, lx.positive_semidefinite_tag), b, how).value
    )
    yield row("lineax.LU", lambda a, b: solve(a, b, lx.LU()), s, b)
    yield row("lineax.AutoLinearSolver", lambda a, b: solve(a, b, lx.AutoLinearSolver(well_posed=True)), s, b)
    yield row("lineax.QR", lambda a, b: solve(a, b, lx.QR()), tall, normal(5))
    yield row("lineax.SVD", lambda a, b: solve(a, b, lx.SVD()), tall, normal(5))
    yield row("lineax.Cholesky", lambda a, b: spd(a, b, lx.Cholesky()), s, b)
    yield row("lineax.CG", lambda a, b: spd(a, b, lx.CG(rtol=1e-6, atol=1e-6)), s, b)
    yield row("lineax.GMRES", lambda a, b: solve(a, b, lx.GMRES(rtol=1e-6, atol=1e-6)), s, b)
    yield row("lineax.BiCGStab", lambda a, b: solve(a, b, lx.BiCGStab(rtol=1e-6, atol=1e-6)), s, b)
    tri = lambda d, l, u, b: lx.linear_solve(lx.TridiagonalLinearOperator(d, l, u), b).value
    yield row("lineax.Tridiagonal", tri, normal(4, at=5.0), normal(3), normal(3, seed=1), b)
    yield row(
        "lineax.DiagonalLinearOperator",
        lambda d, b: lx.linear_solve(lx.DiagonalLinearOperator(d), b).value,
        positive(4),
        b,
    )
    yield row("lineax.internal.two_norm", _two_norm(), jnp.asarray(b))
    jac = lambda x, b: lx.linear_solve(lx.JacobianLinearOperator(lambda y, _: y**3 + 2 * y, x), b).value
    yield row("lineax.JacobianLinearOperator", jac, b, normal(4, seed=1))
    yield row(
        "lineax.Normal",
        lambda a, b: solve(a, b, lx.Normal(lx.CG(rtol=1e-6, atol=1e-6))),
        tall,
        normal(5) + 0 * jnp.ones(5),
    )


def _two_norm():
    from lineax.internal import two_norm

    return two_norm


def optimistix() -> Iterator[Row]:
    import jax
    import jax.numpy as jnp
    import optimistix as optx

    x = positive(3)
    root = lambda a, how: optx.root_find(lambda y, a: y**3 + y - a, how, jnp.ones(3), a).value
    yield row("optimistix.root_find(Newton)", lambda a: root(a, optx.Newton(1e-5, 1e-5)), x)
    yield row("optimistix.root_find(Chord)", lambda a: root(a, optx.Chord(1e-6, 1e-6)), x)
    scalar = lambda a: (
        optx.root_find(
            lambda y, a: y**3 + y - a,
            optx.Bisection(1e-6, 1e-6),
            0.5,
            a,
            options={"lower": -2.0, "upper": 9.0},
        ).value
    )
    yield row("optimistix.root_find(Bisection)", scalar, jnp.float32(1.3))
    fixed = lambda a: (
        optx.fixed_point(
            lambda y, a: 0.5 * jnp.tanh(y) + a, optx.FixedPointIteration(1e-7, 1e-7), jnp.ones(3), a
        ).value
    )
    yield row("optimistix.fixed_point", fixed, x)
    ls = lambda a, how: (
        optx.least_squares(lambda y, a: jnp.concatenate([y**3 - a, 0.1 * y]), how, jnp.ones(3), a).value
    )
    yield row("optimistix.least_squares(LM)", lambda a: ls(a, optx.LevenbergMarquardt(1e-7, 1e-7)), x)
    mini = lambda a: (
        optx.minimise(lambda y, a: jnp.sum((y - a) ** 2 + y**4), optx.BFGS(1e-6, 1e-6), jnp.ones(3), a).value
    )
    yield row("optimistix.minimise(BFGS)", mini, x)
    rec = lambda a: (
        optx.root_find(
            lambda y, a: y**3 + y - a,
            optx.Newton(1e-5, 1e-5),
            jnp.ones(3),
            a,
            adjoint=optx.RecursiveCheckpointAdjoint(),
        ).value
    )
    yield row("optimistix.RecursiveCheckpointAdjoint", rec, x)
    yield row("optimistix.max_norm", optx.max_norm, normal(4))
    yield row("optimistix.rms_norm", optx.rms_norm, jax.numpy.asarray(normal(4)))


def diffrax() -> Iterator[Row]:
    import diffrax as dfx
    import jax.numpy as jnp

    def solve(solver, adjoint, steps=None):
        term = dfx.ODETerm(lambda t, y, a: -a * y + jnp.sin(t))
        control = dfx.ConstantStepSize() if steps is None else steps

        def run(y, a):
            return dfx.diffeqsolve(
                term,
                solver,
                0.0,
                1.0,
                0.125,
                y,
                a,
                stepsize_controller=control,
                adjoint=adjoint,
                max_steps=64,
            ).ys

        return run

    y, a = normal(3), positive(3)
    yield row("diffrax.Tsit5", solve(dfx.Tsit5(), dfx.RecursiveCheckpointAdjoint()), y, a)
    yield row("diffrax.Heun(DirectAdjoint)", solve(dfx.Heun(), dfx.DirectAdjoint()), y, a)
    yield row(
        "diffrax.Tsit5(PID)",
        solve(dfx.Tsit5(), dfx.RecursiveCheckpointAdjoint(), dfx.PIDController(1e-4, 1e-4)),
        y,
        a,
    )
    yield row(
        "diffrax.Kvaerno3",
        solve(dfx.Kvaerno3(), dfx.RecursiveCheckpointAdjoint(), dfx.PIDController(1e-4, 1e-4)),
        y,
        a,
    )
    yield row("diffrax.ReversibleHeun", solve(dfx.ReversibleHeun(), dfx.RecursiveCheckpointAdjoint()), y, a)
    yield row(
        "diffrax.linear_interpolation",
        lambda ys: dfx.LinearInterpolation(jnp.linspace(0.0, 1.0, 4), ys).evaluate(0.4),
        normal(4, 2),
    )
    cubic = lambda ys: dfx.CubicInterpolation(
        jnp.linspace(0.0, 1.0, 4), dfx.backward_hermite_coefficients(jnp.linspace(0.0, 1.0, 4), ys)
    ).evaluate(0.4)
    yield row("diffrax.CubicInterpolation", cubic, normal(4, 2))


def quax() -> Iterator[Row]:
    import jax
    import jax.numpy as jnp
    import quax

    f = quax.quaxify(lambda x, y: jnp.tanh(x @ y))
    yield row("quax.quaxify", f, normal(3, 4), normal(4, 2))
    yield row("quax.quaxify(custom_jvp)", quax.quaxify(lambda x: jax.nn.relu(x) * x), normal(3, 4))


FAMILIES = (equinox, lineax, optimistix, diffrax, quax)
