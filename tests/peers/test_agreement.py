"""Agreement with Opacus, BackPACK and curvlinops on the same weights and data, in float64.

They are not among fnn's test packages: `make peers` runs these in an environment of their own.
"""

# pyright: reportMissingImports=false, reportMissingModuleSource=false

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn

torch = pytest.importorskip("torch")
opacus = pytest.importorskip("opacus")
backpack = pytest.importorskip("backpack")
curvlinops = pytest.importorskip("curvlinops")

SIZES, N, NORM = (12, 9, 7, 4), 8, 0.5
LOSS = fnn.softmax_cross_entropy()
NET = fnn.Serial(fnn.Dense(SIZES[1]), fnn.tanh, fnn.Dense(SIZES[2]), fnn.tanh, fnn.Dense(SIZES[3]))
RANDOM = np.random.default_rng(0)
X, LABEL = RANDOM.standard_normal((N, SIZES[0])), RANDOM.integers(0, SIZES[-1], N)
PARAMS = jax.tree.map(
    lambda p: jnp.asarray(RANDOM.standard_normal(p.shape) / 3),
    jax.eval_shape(lambda: fnn.init(NET, jax.random.key(0), jnp.asarray(X))),
)
DATA = PARAMS, jnp.asarray(X), jnp.asarray(LABEL)
WHERE = (-1, -2)


def theirs() -> list:
    """Give the network's layers in PyTorch, with the same weights."""
    layers = []
    for own in PARAMS:
        if own:
            k, j = own["kernel"].shape
            layer = torch.nn.Linear(k, j, dtype=torch.float64)
            layer.weight.data = torch.tensor(np.asarray(own["kernel"]).T.copy())
            layer.bias.data = torch.tensor(np.asarray(own["bias"]))
            layers += [layer, torch.nn.Tanh()]
    return layers[:-1]


def model():
    return torch.nn.Sequential(*theirs())


def in_their_order(tree) -> list:
    """Give each layer's weight, turned, and bias: (..., j, k) and (..., j)."""
    of_layers = [own for own in tree if own]
    return [leaf for own in of_layers for leaf in (np.swapaxes(own["kernel"], *WHERE), own["bias"])]


def assert_agrees(ours, others, relative=1e-10):
    ours, others = list(ours), list(others)
    assert len(ours) == len(others) > 0
    for a, b in zip(ours, others, strict=True):
        a, b = np.asarray(a), np.asarray(b.detach() if hasattr(b, "detach") else b)
        assert a.shape == b.shape
        assert np.max(np.abs(a - b)) <= relative * max(np.max(np.abs(b)), 1e-3)


def readings(read):
    return fnn.readers.losses_and_readings(NET, LOSS, read)(*DATA)[1]


INPUTS, LABELS = torch.tensor(X), torch.tensor(LABEL)


def test_opacus_gradients_of_examples():
    module = opacus.GradSampleModule(model(), loss_reduction="sum")
    torch.nn.functional.cross_entropy(module(INPUTS), LABELS, reduction="sum").backward()
    each = [p.grad_sample for p in module.parameters()]
    assert_agrees(in_their_order(readings(fnn.readers.example_gradient)), each)


def test_opacus_ghost_norms_and_clipped_sum():
    from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import (
        GradSampleModuleFastGradientClipping as Ghost,
    )

    module = Ghost(model(), max_grad_norm=NORM, use_ghost_clipping=True, loss_reduction="sum")
    losses = torch.nn.functional.cross_entropy(module(INPUTS), LABELS, reduction="none")
    losses.sum().backward(retain_graph=True)
    clipped = fnn.privacy.clipped_gradient(NET, LOSS, NORM)(*DATA)
    assert_agrees([clipped.norms], [module.get_norm_sample()])
    coefficients = module.get_clipping_coef()
    module.disable_hooks()
    for p in module.parameters():
        p.grad = None
    (coefficients * losses).sum().backward()
    # Opacus divides by norm + 1e-6.
    assert_agrees(in_their_order(clipped.gradient), [p.grad for p in module.parameters()], 4e-6 / NORM)


def test_opacus_ghost_norms_of_tokens():
    """Layers that see (n, t, k): Opacus takes the Gram form, we the cheaper one."""
    from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import (
        GradSampleModuleFastGradientClipping as Ghost,
    )

    x, label = RANDOM.standard_normal((N, 3, SIZES[0])), RANDOM.integers(0, SIZES[-1], (N, 3))
    module = Ghost(model(), max_grad_norm=NORM, use_ghost_clipping=True, loss_reduction="sum")
    rows = module(torch.tensor(x)).flatten(0, 1)
    torch.nn.functional.cross_entropy(rows, torch.tensor(label).flatten(), reduction="sum").backward()
    clipped = fnn.privacy.clipped_gradient(NET, LOSS, NORM)(PARAMS, jnp.asarray(x), jnp.asarray(label))
    assert_agrees([clipped.norms], [module.get_norm_sample()])


def extended(*extensions):
    """Run BackPACK's extensions in one pass over the mean loss; give the params."""
    module, criterion = backpack.extend(model()), backpack.extend(torch.nn.CrossEntropyLoss())
    value = criterion(module(INPUTS), LABELS)
    with backpack.backpack(*extensions):
        value.backward()
    return list(module.parameters())


def test_backpack_gradients_norms_and_moments():
    e = backpack.extensions
    params = extended(e.BatchGrad(), e.BatchL2Grad(), e.SumGradSquared(), e.Variance())
    read = fnn.readers.zip_readers(
        fnn.readers.example_gradient,
        fnn.readers.squared_norm,
        fnn.readers.second_moment,
        fnn.readers.variance,
    )
    gradients, norms, moments, variances = fnn.readers.unzip(PARAMS, readings(read))
    assert_agrees(in_their_order(gradients), [N * p.grad_batch for p in params])
    ours = [own[name] for own in norms if own for name in ("kernel", "bias")]
    assert_agrees(ours, [N**2 * p.batch_l2 for p in params])
    assert_agrees(in_their_order(moments), [N * p.sum_grad_squared for p in params])
    assert_agrees(in_their_order(variances), [N**2 * p.variance for p in params])


def test_backpack_diagonal_and_kronecker_factors():
    e = backpack.extensions
    params = extended(e.DiagGGNExact(), e.BatchDiagGGNExact(), e.KFLR())
    diagonal = fnn.curvature.ggn_diagonal(NET, LOSS)(*DATA)
    assert_agrees(in_their_order(diagonal), [p.diag_ggn_exact for p in params])
    each = fnn.curvature.ggn_diagonal(NET, LOSS, per_example=True)(*DATA)
    assert_agrees(in_their_order(each), [N * p.diag_ggn_exact_batch for p in params])
    factors = fnn.curvature.kronecker_factors(NET, LOSS)(*DATA).factors
    weights = [own["kernel"] for own in factors if own]
    biases = [own["bias"] for own in factors if own]
    assert_agrees([w.outputs for w in weights], [p.kflr[0] for p in params[::2]])
    assert_agrees([w.inputs for w in weights], [p.kflr[1] for p in params[::2]])
    assert_agrees([b.outputs for b in biases], [p.kflr[0] for p in params[1::2]])


PRODUCTS = {
    "GGNLinearOperator": lambda v: fnn.curvature.ggn_product(NET, LOSS)(*DATA, v),
    "HessianLinearOperator": lambda v: fnn.curvature.hessian_product(NET, LOSS)(*DATA, v),
    "EFLinearOperator": lambda v: fnn.curvature.fisher_product(NET, LOSS, "empirical")(*DATA, v),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_curvlinops_products(name):
    assert_same_product(getattr(curvlinops, name), PRODUCTS[name])


@pytest.mark.parametrize("fisher, theirs", [("exact", "type-2"), ("empirical", "empirical")])
@pytest.mark.parametrize("bias", ["separate", "joint"])
@pytest.mark.parametrize("corrected", [False, True], ids=["KFAC", "EKFAC"])
def test_curvlinops_kronecker_factors(fisher, theirs, bias, corrected):
    def product(v):
        blocks = fnn.curvature.eigen(
            fnn.curvature.kronecker_factors(NET, LOSS, fisher, bias=bias)(*DATA).factors
        )
        if corrected:
            blocks = fnn.curvature.ekfac(NET, LOSS, fisher)(*DATA, blocks)
        return fnn.curvature.kronecker_multiply(blocks, v)

    operator = curvlinops.EKFACLinearOperator if corrected else curvlinops.KFACLinearOperator
    assert_same_product(operator, product, fisher_type=theirs, separate_weight_and_bias=bias == "separate")


def assert_same_product(operator, product, **options):
    module, criterion = model(), torch.nn.CrossEntropyLoss()
    direction = jax.tree.map(lambda p: jnp.asarray(RANDOM.standard_normal(p.shape)), PARAMS)
    turned = [torch.tensor(np.ascontiguousarray(leaf)) for leaf in in_their_order(direction)]
    params = list(module.parameters())
    got = operator(module, criterion, params, [(INPUTS, LABELS)], **options) @ torch.cat(
        [leaf.flatten() for leaf in turned]
    )
    ours = in_their_order(product(direction))
    assert_agrees([np.concatenate([leaf.ravel() for leaf in map(np.asarray, ours)])], [got])
