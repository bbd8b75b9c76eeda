"""The proofs that depend on a rule, the quickest first: tests of ours, called by hand."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp

import fnn
from tests import test_proof
from tests.activations import (
    test_activation,
    test_activation_accuracy,
    test_activation_float64,
)
from tests.cases import CASES, example
from tests.compose import test_remat
from tests.losses import (
    test_loss_targets,
    test_losses,
)
from tests.proof import assert_equal, count_products, explicit, reference
from tests.train import test_update

Proof = Callable[[], Any]
ROWS = {case.name: case for case in CASES}


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


def eagerly(proof: Callable[..., Any], *args: Any) -> None:
    """Run a proof operation by operation, its loops in Python: nothing is compiled for a mutant alone."""
    with jax.disable_jit():
        proof(*args)


SIDES = test_remat.test_a_layer_gets_the_sides_that_it_names_and_none_beside
AGAIN = test_remat.test_what_is_made_again_waits_for_the_cotangent_and_is_cheap_unless_asked_for


def composed(*names: str) -> tuple[Proof, ...]:
    """Give the proofs of a composition: gradients, what layers get, and what is made again and when."""
    return (
        *(partial(eagerly, gradients, name) for name in names),
        SIDES,
        *(partial(AGAIN, name) for name in test_remat.MADE_AGAIN),
    )


@cache
def _stepped(name: str) -> Any:
    """Give a case with data, and the params after ordinary steps."""
    case = ROWS.get(name, test_update.SMALL)
    params, data = test_update.batches(case)
    return case, params, data, test_update.ordinary(case, test_update.MOMENTUM, params, data)


def updates(name: str) -> None:
    """Assert that updates in the backward are the ordinary ones."""
    case, params, data, wanted = _stepped(name)
    assert_equal(test_update.in_backward(case, test_update.MOMENTUM, params, data), wanted)


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
    layer, kinks = (
        getattr(fnn.activations, name),
        [k for k in test_activation.KINKS if k[0] is getattr(fnn.activations, name)],
    )
    options = [other for other in test_activation.LAYERS if repr(other).startswith(f"{name}(")]
    at_kinks = test_activation.test_derivatives_at_kinks_and_at_zero_by_hand_and_by_autodiff
    autodiff = test_activation.test_backward_is_autodiff_of_the_value_and_forward_mode_goes_through_it
    smooth_at_zero = test_activation.test_the_second_derivative_goes_on_at_zero
    limits = test_activation.test_infinities_give_the_limits_and_nan_stays
    finite = test_activation_accuracy
    exact = test_activation_float64
    return (
        *rows(f"alone-{name}"),
        *(partial(autodiff, one) for one in (layer, *options)),
        *(partial(at_kinks, *kink) for kink in kinks),
        *((partial(smooth_at_zero, name),) if name in test_activation.SMOOTH else ()),
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


SPECIAL = (
    "test_target_and_weights_are_differentiated_too",
    "test_a_weight_of_zero_counts_a_row_out_even_a_row_of_nan",
    "test_fused_forms_are_exact_where_the_naive_chain_gives_nan",
    "test_a_sure_row_keeps_its_digits",
    "test_cosine_of_zeros_is_zero",
    "test_largest_logits_that_are_equal_count_each",
    "test_one_row_needs_no_batch_axis_and_weights_may_be_of_another_dtype",
    "test_a_row_is_counted_out_by_its_weight_alone_and_if_only_its_gradient_is_infinite",
)


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
        partial(test_loss_targets.test_a_target_of_zero_adds_nothing_to_a_divergence, -jnp.inf),
        test_loss_targets.test_a_weight_of_zero_counts_a_row_out_whose_value_alone_overflows,
        *(partial(test_losses.test_forward_mode_through_the_rule_gives_the_hessian, name) for name in names),
    )
