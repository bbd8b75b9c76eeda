"""What is mutated, and which of our tests look at it: each target with its proofs, the quickest first.

A proof is a test of ours, called by hand; a mutant is caught when one of them raises.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax

import fnn
from fnn import factors, losses
from fnn.compose import branches
from fnn.layers import activation, affine, dense, dropout, embedding, gated, norm, normal, piecewise, smooth
from tests import test_factors, test_loss_targets, test_losses, test_precision, test_proof
from tests.cases import CASES, example
from tests.layers import test_activation, test_activation_accuracy, test_activation_float64
from tests.mutation.mutate import Mutant, mutants
from tests.proof import assert_equal, count_products, explicit, reference

Proof = Callable[[], Any]
ROWS = {case.name: case for case in CASES}


@dataclass(frozen=True)
class Target:
    """A function that gives gradients, and the proofs that depend on it."""

    function: Any
    proofs: tuple[Proof, ...]

    def __repr__(self) -> str:
        return self.function.__qualname__

    def mutants(self) -> tuple[Mutant, ...]:
        """Give every mutant of the function."""
        return mutants(self.function)

    def survivors(self, chosen: Sequence[Mutant]) -> list[str]:
        """Give those of the mutants that no proof catches; what is right is proven, and remembered, first."""
        for proof in self.proofs:
            proof()
        return [repr(m) for m in chosen if not self.catch(m)]

    def catch(self, mutant: Mutant) -> str:
        """Give the complaint of the first proof that catches the mutant, or an empty string."""
        with mutant.in_force():
            for proof in self.proofs:
                try:
                    proof()
                except Exception as error:
                    return f"{type(error).__name__}: {error}".splitlines()[0]
        return ""


@cache
def _right(name: str) -> Any:
    """Give a case with data, and autodiff's gradients: computed before any mutant is in force."""
    drawn = example(ROWS[name])
    return drawn, jax.jit(reference)(drawn)


def gradients(name: str) -> None:
    """Assert that a row of the table has autodiff's gradients, eagerly."""
    drawn, right = _right(name)
    assert_equal(explicit(drawn), right)


def products(name: str) -> None:
    """Assert that a row takes no matrix product more than autodiff."""
    drawn, _ = _right(name)
    assert count_products(lambda drawn: explicit(drawn), drawn) <= count_products(reference, drawn)


def rows(*names: str) -> tuple[Proof, ...]:
    """Give the proofs of rows of the table: gradients and, in low precision, their dtypes."""
    dtypes = test_proof.test_cotangents_are_like_their_primals_in_low_precision_too
    return (
        *(partial(gradients, name) for name in names),
        *(partial(dtypes, ROWS[name]) for name in names),
        *(partial(products, name) for name in names if "concatenate" in name or name == names[0]),
    )


def slope(name: str, *more: Proof) -> tuple[Proof, ...]:
    """Give the proofs of an activation's derivative: the row, its kinks and limits, and its last digits."""
    layer, kinks = getattr(fnn, name), [k for k in test_activation.KINKS if k[0] is getattr(fnn, name)]
    at_kinks = test_activation.test_derivatives_at_kinks_and_at_zero_by_hand_and_by_autodiff
    autodiff = test_activation.test_backward_is_autodiff_of_the_value_and_forward_mode_goes_through_it
    limits = test_activation.test_infinities_give_the_limits_and_nan_stays
    finite = test_activation_accuracy
    exact = test_activation_float64
    return (
        *rows(f"alone-{name}"),
        partial(autodiff, layer),
        *(partial(at_kinks, *kink) for kink in kinks),
        partial(limits, name),
        *((partial(exact.test_float64_is_accurate_to_1e_15, name),) if name in exact.VALUES else ()),
        *(partial(_digits, name, dtype) for dtype in ("float32", "bfloat16")),
        partial(finite.test_autodiff_of_value_and_derivative_is_finite_for_every_finite_number, name),
        *more,
    )


def _digits(name: str, dtype: str) -> None:
    """Run the test of the last digits; what it remembers of the mutant is forgotten."""
    test_activation_accuracy.worst.cache_clear()
    try:
        test_activation_accuracy.test_values_and_derivatives_are_right_to_a_few_ulp(name, dtype)
    finally:
        test_activation_accuracy.worst.cache_clear()


def loss(*names: str) -> tuple[Proof, ...]:
    """Give the proofs of a loss: against its plain formula, weighted or not, and all its special tests."""
    table = test_losses.test_value_and_gradient
    ways = (("mean", None), ("sum", test_losses.WEIGHTS), ("none", test_losses.WEIGHTS))
    return (
        *(partial(table, name, reduction, weights) for name in names for reduction, weights in ways),
        *(partial(test_losses.test_tokens_dtypes_and_vmap, name) for name in names),
        *(getattr(test_losses, name) for name in SPECIAL),
        test_loss_targets.test_smoothing_keeps_the_sum_of_an_unnormalised_target,
        test_loss_targets.test_a_divergence_from_an_unnormalised_target,
        test_loss_targets.test_a_weight_of_zero_counts_a_row_out_whose_value_alone_overflows,
    )


SPECIAL = (
    "test_target_and_weights_are_differentiated_too",
    "test_a_weight_of_zero_counts_a_row_out_even_a_row_of_nan",
    "test_fused_forms_are_exact_where_the_naive_chain_gives_nan",
    "test_a_sure_row_keeps_its_digits",
    "test_cosine_of_zeros_is_zero",
)
PRECISION = (
    test_factors.test_products_have_operands_of_the_compute_dtype_and_results_of_float32,
    test_precision.test_the_rounding_of_the_weight_gradient_itself_is_gone,
    test_precision.test_params_and_gradients_keep_their_dtype_under_a_compute_dtype,
    test_precision.test_our_weight_gradient_is_nearer_to_float64_than_autodiffs,
)
SUMS = (
    *(
        partial(test_factors.test_a_gradient_of_bfloat16_factors_has_float32s_accuracy, n)
        for n in test_factors.FACTORS
    ),
    test_factors.test_a_row_that_no_index_of_the_table_names_is_dropped,
    partial(test_proof.test_factors_read_later_give_the_same_gradients, ROWS["repeat-feed-forward"]),
)
TOKENS = {n: partial(test_factors.test_tokens_are_cut_along_their_last_axis, n) for n in test_factors.TOKENS}
DENSE = ("dense-tokens", "dense-without-bias", "dense-square", "dense-no-batch")
NESTED = ("parallel-sum", "parallel-concatenate", "parallel-embeddings", "mlp-scanned-dropout")


@cache
def targets() -> tuple[Target, ...]:
    """Give every function of ours that makes a gradient."""
    return (
        Target(dense.Dense.backward, (*rows(*DENSE), *PRECISION)),
        Target(dense.product, (*rows(*DENSE), *PRECISION)),
        Target(affine.Scale.backward, rows("scale")),
        Target(affine.Bias.backward, rows("bias")),
        Target(norm.LayerNorm.backward, rows("layer-norm", "layer-norm-plain", "embedding-chain")),
        Target(norm.RMSNorm.backward, rows("rms-norm", "rms-norm-tokens")),
        Target(dropout.Dropout.backward, rows("dropout")),
        Target(embedding.Embedding.backward, rows("embedding", "embedding-tokens")),
        Target(gated.Gate.backward, (*rows("gate-gelu", "gate-relu"), TOKENS["gate"])),
        Target(
            activation.Activation.backward,
            rows("alone-relu", "alone-gelu", "alone-identity", "mlp-own-activations"),
        ),
        Target(activation.Softmax.backward, (*rows("alone-softmax"), TOKENS["softmax"])),
        Target(branches.Skip.backward, rows("skip-relu", "skip-feed-forward")),
        Target(branches.Parallel.backward, (*rows(*NESTED), TOKENS["concatenated"])),
        Target(
            factors.gradient,
            (*rows("dense-deep-batch", "embedding-tokens", "scale", "repeat-feed-forward"), *SUMS),
        ),
        Target(factors.join, rows("shared", "shared-no-batch", "shared-of-repeat", "shared-feed-forward")),
        *(Target(_derivative(name), slope(name)) for name in SLOPES),
        *(Target(getattr(losses, f"_{name}"), loss(*tests)) for name, tests in LOSSES.items()),
        Target(losses.Loss.__call__, loss("squared_error", "softmax")),
        Target(losses.Loss.value_and_grad, loss("squared_error", "softmax")),
        Target(losses.Loss.row_weights, loss("squared_error")),
        Target(losses._log_softmax, loss("softmax", "softmax-soft")),
        Target(losses._unit, loss("cosine")),
    )


def _derivative(name: str) -> Any:
    """Give the function that computes an activation's derivative."""
    found = [getattr(m, f"d_{name}") for m in (piecewise, smooth, normal) if hasattr(m, f"d_{name}")]
    return found[0]


SLOPES = tuple(name for name in test_activation.ROWS if name != "identity")
LOSSES = {
    "squared_error": ("squared_error",),
    "half_squared_error": ("half_squared_error",),
    "absolute_error": ("absolute_error",),
    "huber": ("huber",),
    "binary_cross_entropy": ("binary", "binary-soft"),
    "softmax_cross_entropy": ("softmax", "softmax-soft", "softmax-smooth", "softmax-unnormalised"),
    "kl_divergence": ("kl",),
    "hinge": ("hinge",),
    "cosine": ("cosine",),
    "poisson": ("poisson",),
}
