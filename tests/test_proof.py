"""Every case of the table, every transformation: our backward against autodiff, in float64."""

import jax
import jax.numpy as jnp
import numpy as np

import fnn
from fnn.factors import is_factor
from tests.cases import Case, example
from tests.every import every_case, every_case_that_runs_once, every_case_though_chains_are_slow
from tests.proof import (
    assert_central_differences,
    assert_equal,
    count_products,
    explicit,
    reference,
    replace,
    through_apply,
)


@every_case
def test_eager_gradients_equal_autodiff_and_differences(case):
    drawn = example(case)
    grads, dx = explicit(drawn)
    assert_equal((grads, dx), jax.jit(reference)(drawn))
    assert_central_differences(drawn, grads, dx)


@every_case_though_chains_are_slow
def test_every_transformation_gives_the_same_gradients(case):
    """One program, so that a hundred cases compile in minutes: jit, apply, checkpoint, vmap and scan."""
    drawn, other = example(case), example(case, seed=1)
    pair = jax.tree.map(lambda a, b: jnp.stack([a, b]), drawn.data(), other.data())

    def one(data):
        return explicit(replace(drawn, *data))

    @jax.jit
    def run():
        return {
            "reference": reference(drawn),
            "explicit": explicit(drawn),
            "apply": through_apply(drawn),
            "checkpoint": through_apply(drawn, jax.checkpoint),
            "other": reference(replace(drawn, *other.data())),
            "vmap": jax.vmap(one)(pair),
            "scan": jax.lax.scan(lambda _, data: (0, one(data)), 0, pair)[1],
        }

    got = run()
    for way in ("explicit", "apply", "checkpoint"):
        assert_equal(got[way], got["reference"])
    wanted = jax.tree.map(lambda a, b: jnp.stack([a, b]), got["reference"], got["other"])
    for way in ("vmap", "scan"):
        assert_equal(got[way], wanted)


@every_case_though_chains_are_slow
def test_forward_mode_through_the_backward_gives_the_hessian_vector_product(case):
    drawn = example(case)
    tangent = jax.tree.map(
        lambda p: jnp.cos(jnp.arange(p.size, dtype=p.dtype)).reshape(p.shape), drawn.params
    )

    def product(gradient):
        def of_params(params):
            return gradient(replace(drawn, params=params))[0]

        return jax.jvp(of_params, (drawn.params,), (tangent,))[1]

    ours, theirs = jax.jit(lambda: (product(explicit), product(reference)))()
    assert_equal(ours, theirs, 1e-11)


@every_case
def test_cotangents_are_like_their_primals_in_low_precision_too(case):
    for dtype in (jnp.float32, jnp.bfloat16):
        drawn = example(case, dtype)
        grads, dx = jax.eval_shape(lambda drawn: explicit(drawn, keep_float0=True), drawn)
        assert jax.tree.structure(grads) == jax.tree.structure(drawn.params)
        for got, wanted in zip(jax.tree.leaves(grads), jax.tree.leaves(drawn.params), strict=True):
            assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
        assert jax.tree.structure(dx) == jax.tree.structure(drawn.x)
        for got, x in zip(jax.tree.leaves(dx), jax.tree.leaves(drawn.x), strict=True):
            wanted = jax.dtypes.float0 if jnp.issubdtype(x.dtype, jnp.integer) else x.dtype
            assert (got.shape, got.dtype) == (x.shape, wanted)


@every_case
def test_forward_is_apply_nothing_is_kept_twice_and_the_summary_counts_it(case):
    indices = any(leaf.dtype == jnp.int32 for leaf in jax.tree.leaves(case.input()))
    drawn = example(case, jnp.float32 if indices else jnp.float64)  # an embedding's params are float32
    y, residuals = fnn.forward(drawn.net, drawn.params, drawn.x, drawn.key)
    applied = fnn.apply(drawn.net, drawn.params, drawn.x, drawn.key)
    jax.tree.map(np.testing.assert_array_equal, y, applied)
    leaves = jax.tree.leaves(residuals)
    arrays = [leaf for leaf in leaves if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    for i, a in enumerate(arrays):
        for b in arrays[:i]:
            assert a.shape != b.shape or a.size < 4 or not np.array_equal(a, b)
    summary = fnn.summary(drawn.net, drawn.x, drawn.key)
    assert summary.kept_bytes == sum(leaf.nbytes for leaf in leaves)
    assert summary.params == sum(leaf.size for leaf in jax.tree.leaves(drawn.params))


@every_case_though_chains_are_slow
def test_factors_read_later_give_the_same_gradients(case):
    drawn = example(case)

    @jax.jit
    def run(drawn):
        _, residuals = fnn.forward(drawn.net, drawn.params, drawn.x, drawn.key)
        factors, _ = fnn.backward(drawn.net, drawn.params, residuals, drawn.dy, read=fnn.readers.as_factors)
        assert jax.tree.structure(factors, is_leaf=is_factor) == jax.tree.structure(drawn.params)
        later = jax.tree.map(fnn.readers.gradient, factors, drawn.params, is_leaf=is_factor)
        return later, explicit(drawn)[0]

    assert_equal(*run(drawn))


@every_case_that_runs_once
def test_no_matrix_product_more_than_autodiff(case):
    drawn = example(case)
    assert count_products(explicit, drawn) <= count_products(reference, drawn)


def test_the_whole_runs_under_shard_map():
    """Each device takes half of the rows; the sum over devices is the gradient of the whole."""
    drawn = replace(
        example(Case("sharded", fnn.mlp([5, 7, 7, 7, 7, 7, 3], fnn.gelu, scan=True), (8, 5))), key=None
    )
    mesh = jax.make_mesh((2,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, whole = jax.sharding.PartitionSpec("rows"), jax.sharding.PartitionSpec()

    def local(params, x, dy):
        grads, dx = explicit(replace(drawn, params=params, x=x, dy=dy))
        return jax.lax.psum(grads, "rows"), dx

    specs = {"in_specs": (whole, rows, rows), "out_specs": (whole, rows)}
    sharded = jax.shard_map(local, mesh=mesh, check_vma=False, **specs)
    assert_equal(jax.jit(sharded)(drawn.params, drawn.x, drawn.dy), explicit(drawn))
