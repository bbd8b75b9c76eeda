"""e3nn, s2fft, jaxlie, Interpax, Orthax, Quadax, Signax, JAX MD and Dynamiqs."""

# pyright: reportMissingImports=false, reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportCallIssue=false, reportIndexIssue=false

from collections.abc import Iterator

from tests.wild.row import Row, normal, positive, row, unit


def groups() -> Iterator[Row]:
    import jax.numpy as jnp
    import jaxlie

    for name, n in (("SO2", 1), ("SO3", 3), ("SE2", 3), ("SE3", 6)):
        group = getattr(jaxlie, name)
        yield row(f"jaxlie.{name}.exp", lambda v, g=group: g.exp(v).as_matrix(), 0.7 * normal(n))
        yield row(
            f"jaxlie.{name}.log", lambda v, g=group: (g.exp(v) @ g.exp(0.3 * v[::-1])).log(), 0.4 * normal(n)
        )
    yield row("jaxlie.SO3.exp at 0", lambda v: jaxlie.SO3.exp(v).as_matrix(), jnp.zeros(3))
    yield row("jaxlie.SO3.jlog", lambda v: jaxlie.SO3.exp(v).jlog(), 0.7 * normal(3))
    yield row("jaxlie.SE3.apply", lambda v, x: jaxlie.SE3.exp(v).apply(x), 0.7 * normal(6), normal(3))


def e3nn() -> Iterator[Row]:
    import e3nn_jax as e3nn
    import jax.numpy as jnp

    x = normal(5, 3)
    for normalize in (True, False):
        f = lambda x, n=normalize: (
            e3nn.spherical_harmonics("0e + 1o + 2e + 3o", e3nn.IrrepsArray("1o", x), n).array
        )
        yield row(f"e3nn_jax.spherical_harmonics({'' if normalize else 'not '}normalised)", f, x)
    yield row(
        "e3nn_jax.tensor_product",
        lambda x, y: e3nn.tensor_product(e3nn.IrrepsArray("1o", x), e3nn.IrrepsArray("1o", y)).array,
        x,
        normal(5, 3, seed=1),
    )
    yield row("e3nn_jax.norm", lambda x: e3nn.norm(e3nn.IrrepsArray("1o", x)).array, x)
    yield row("e3nn_jax.norm at 0", lambda x: e3nn.norm(e3nn.IrrepsArray("1o", x)).array, 0 * x)
    yield row(
        "e3nn_jax.gate", lambda x: e3nn.gate(e3nn.IrrepsArray("1x0e + 1x0e + 1x1o", x)).array, normal(4, 5)
    )
    yield row(
        "e3nn_jax.soft_one_hot_linspace",
        lambda x: e3nn.soft_one_hot_linspace(
            x, start=0.0, end=2.0, number=4, basis="smooth_finite", cutoff=True
        ),
        positive(5),
    )
    yield row("e3nn_jax.bessel", lambda x: e3nn.bessel(x, 4), positive(5))
    yield row("e3nn_jax.poly_envelope", lambda x: e3nn.poly_envelope(3, 2)(x), unit(5))
    yield row("e3nn_jax.soft_envelope", lambda x: e3nn.soft_envelope(x, 2.0), positive(5))
    yield row("e3nn_jax.sus", lambda x: e3nn.sus(x), normal(5))
    yield row(
        "e3nn_jax.angles_to_matrix",
        lambda a, b: e3nn.angles_to_matrix(a, b, a),
        *(jnp.float32(v) for v in (0.3, 1.1)),
    )
    yield row(
        "e3nn_jax.einsum",
        lambda a, b: (
            e3nn.utils.einsum("ij,jk->ik", a, b)
            if hasattr(e3nn.utils, "einsum")
            else jnp.einsum("ij,jk->ik", a, b)
        ),
        x,
        normal(3, 2),
    )


def others() -> Iterator[Row]:
    import jax.numpy as jnp
    import s2fft

    flm = normal(4, 7)
    inverse = lambda f: jnp.abs(s2fft.inverse_jax(f + 0j, 4)) ** 2
    yield row("s2fft.inverse_jax", inverse, flm)
    yield row("s2fft.forward_jax", lambda f: jnp.abs(s2fft.forward_jax(f + 0j, 4)) ** 2, normal(4, 7))


def quadrature() -> Iterator[Row]:
    import interpax
    import jax.numpy as jnp
    import orthax
    import quadax

    grid = jnp.linspace(0.0, 1.0, 6)
    for method in ("linear", "cubic", "cubic2", "catmull-rom", "akima", "monotonic"):
        yield row(
            f"interpax.interp1d({method})",
            lambda q, f, m=method: interpax.interp1d(q, grid, f, m),
            unit(4),
            normal(6),
        )
    yield row(
        "interpax.interp2d",
        lambda q, f: interpax.interp2d(q, q[::-1], grid, grid, f, "cubic"),
        unit(4),
        normal(6, 6),
    )
    yield row("interpax.fft_interp1d", lambda f: interpax.fft_interp1d(f, 9), normal(6))
    yield row("orthax.legendre.legval", lambda x, c: orthax.legendre.legval(x, c), unit(4), normal(4))
    yield row("orthax.chebyshev.chebval", lambda x, c: orthax.chebyshev.chebval(x, c), unit(4), normal(4))
    for name in ("quadgk", "quadcc", "quadts", "romberg"):
        f = getattr(quadax, name)
        yield row(
            f"quadax.{name}",
            lambda a, f=f: f(
                lambda t, a: jnp.exp(-a * t) * jnp.sin(t), (0.0, 1.0), args=(a,), epsabs=1e-5, epsrel=1e-5
            )[0],
            jnp.float32(1.3),
        )
    yield row("quadax.simpson", lambda y: quadax.simpson(y, x=grid), normal(6))


def science() -> Iterator[Row]:
    import jax.numpy as jnp
    import signax
    from jax_md import energy, space

    yield row("signax.signature", lambda p: signax.signature(p, 3), normal(5, 2))
    yield row("signax.logsignature", lambda p: signax.logsignature(p, 3), normal(5, 2))
    displacement, _ = space.free()
    for name in ("soft_sphere_pair", "lennard_jones_pair", "morse_pair"):
        yield row(
            f"jax_md.energy.{name}",
            getattr(energy, name)(displacement),
            1.2 * jnp.arange(12.0).reshape(4, 3) % 2.9 + 0.2 * normal(4, 3),
        )
    metric, _ = space.periodic(3.0)
    yield row(
        "jax_md.space.periodic",
        lambda a, b: metric(a, b),
        positive(3, low=0.2, high=1.2),
        positive(3, seed=1, low=0.2, high=1.2),
    )


def cosmology() -> Iterator[Row]:
    import jax.numpy as jnp
    import jax_cosmo as jc

    make = lambda o: jc.Cosmology(
        Omega_c=o, Omega_b=0.05, h=0.7, n_s=0.96, sigma8=0.8, Omega_k=0.0, w0=-1.0, wa=0.0
    )
    yield row(
        "jax_cosmo.background.H", lambda o: jc.background.H(make(o), jnp.array([0.5, 1.0])), jnp.float32(0.25)
    )
    yield row(
        "jax_cosmo.background.radial_comoving_distance",
        lambda o: jc.background.radial_comoving_distance(make(o), jnp.array([0.5, 0.9])),
        jnp.float32(0.25),
    )
    yield row(
        "jax_cosmo.background.growth_factor",
        lambda o: jc.background.growth_factor(make(o), jnp.array([0.5, 0.9])),
        jnp.float32(0.25),
    )
    yield row(
        "jax_cosmo.power.linear_matter_power",
        lambda o: jc.power.linear_matter_power(make(o), jnp.array([0.1, 0.5])),
        jnp.float32(0.25),
    )


FAMILIES = (groups, e3nn, others, quadrature, science, cosmology)
