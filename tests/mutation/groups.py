"""Groups of proofs by what they look at."""

from functools import partial

import jax.numpy as jnp

from tests import test_factors, test_precision, test_proof
from tests.compose import test_branches, test_in_place, test_remat
from tests.losses import (
    heads,
    test_head,
    test_head_columns,
    test_head_labels,
    test_head_network,
    test_head_program,
    test_losses,
)
from tests.memory import test_storing
from tests.meshes import test_chunks, test_products, test_summed
from tests.mutation.proofs import ROWS, SIDES, eagerly, updates
from tests.train import test_update

DENSE_RELU = ("dense-norm-sine", "mlp")
SMALL = tuple(partial(test_remat.test_a_small_chain_waits_for_nothing, rows) for rows in (10922, 10923))
AFTER = (
    *(partial(test_remat.test_what_waits_for_an_array_is_the_same_after_it, n) for n in (0.0, 1.0)),
    test_remat.test_what_waits_for_many_cotangents_is_one_array_still,
    test_remat.test_a_derivative_goes_through_what_waits,
    *(
        partial(test_remat.test_a_barrier_is_for_a_tpu_alone, *on)
        for on in (("cpu", 0), ("cuda", 0), ("tpu", 1))
    ),
    *(
        partial(test_remat.test_no_compiler_merges_what_is_made_again_with_what_was_made, name)
        for name in test_remat.KEPT
    ),
)
IN_PLACE = (
    test_in_place.test_the_order_of_writing_changes_no_number,
    *(partial(test_in_place.test_a_row_is_written_at_its_place_alone, place) for place in ((4,), (3, 5))),
    test_in_place.test_a_factor_that_is_stacked_itself_is_read_at_each_place,
    *(
        partial(
            test_in_place.test_what_is_taken_is_read_once_by_a_barrier_but_where_the_compiler_drops_it, *on
        )
        for on in (("cpu", 0), ("cuda", 1))
    ),
    *(partial(updates, name) for name in ("small", "repeat-rebuilt", "every-of-every", "shared-of-repeat")),
    partial(
        test_update.test_memory_holds_one_copy_of_params_and_state_and_no_stack_of_gradients, "adabelief"
    ),
)
STORED = (
    *(partial(eagerly, test_storing.test_stored_exactly_it_is_the_same_network, ROWS[n]) for n in DENSE_RELU),
    test_storing.test_derivatives_of_two_values_are_stored_in_one_bit_and_gradients_stay_exact,
    test_storing.test_inside_a_scan,
    test_storing.test_cotangents_have_the_dtype_of_their_primals_in_low_precision_too,
)
_WAYS = (
    ("all", "mean", heads.WEIGHTS),
    ("tied", "none", heads.WEIGHTS),
    ("plain", "sum", None),
    ("no-bias", "none", None),
)
HEADS = (
    *(
        partial(
            test_head_program.test_products_have_operands_of_the_compute_dtype_and_results_of_float32, tied
        )
        for tied in ((), ("embedding",))
    ),
    *(
        partial(eagerly, test_head.test_values_and_gradients_are_those_of_the_plain_way, *way)
        for way in _WAYS
    ),
    *(partial(eagerly, test_head.test_any_batch_shape, shape, 2) for shape in ((), (2, 3, 2))),
    partial(eagerly, test_head.test_a_sure_row_keeps_its_digits),
    partial(eagerly, test_head_labels.test_rows_that_do_not_count_may_hold_anything),
    test_head_program.test_a_value_alone_makes_no_gradient_that_a_compiler_would_have_to_drop,
    partial(eagerly, test_head.test_a_multiple_of_the_value_has_that_multiple_of_the_gradients),
    test_head_labels.test_a_label_out_of_range_raises_or_is_nan,
    test_head_labels.test_a_negative_label_is_out_of_range_too_and_weights_may_be_of_another_dtype,
    partial(test_head.test_any_batch_shape, (0,), 2),
    test_head.test_low_precision_accumulates_in_float32,
    *(partial(eagerly, test_head_network.test_a_network_with_a_head, name) for name in ("rows", "tied")),
    partial(eagerly, test_head_network.test_readers_of_a_head_are_those_of_brute_force, "rows"),
    partial(eagerly, test_head_network.test_factors_are_kept_unmade_and_other_readers_get_them_whole, "rows"),
    partial(eagerly, test_head_network.test_a_reader_of_the_gradient_alone_gets_no_factor, "rows"),
    partial(test_head_network.test_readers_of_a_head_are_those_of_brute_force, "tied"),
    partial(
        test_head_program.test_three_products_for_the_gradient_one_for_the_value_and_no_logits_at_once, ()
    ),
)
COLUMNS = (
    *(
        partial(eagerly, test_head_columns.test_values_and_gradients_are_those_of_the_plain_way, name, size)
        for name, size in (("all", 5), ("tied", 5), ("no-bias", 1))
    ),
    test_head_columns.test_rows_that_do_not_count_may_hold_anything_and_a_label_out_of_range_is_nan,
    partial(eagerly, test_head_columns.test_a_sure_row_keeps_its_digits),
    partial(eagerly, test_head_columns.test_smoothing_far_from_zero_keeps_its_digits),
    test_head_columns.test_four_products_and_neither_all_logits_nor_a_second_gradient_of_the_weight,
    test_head_columns.test_gradients_of_narrow_params_are_rounded_once,
    test_head_columns.test_logits_far_below_zero_keep_their_digits,
    test_head_columns.test_a_bias_in_float32_is_summed_up_in_float32,
    *(
        partial(
            test_head_columns.test_products_have_operands_of_the_compute_dtype_and_results_of_float32, tied
        )
        for tied in ((), ("embedding",))
    ),
    test_head_columns.test_what_is_narrow_is_walked_over_by_columns_unless_that_is_decided_otherwise,
)
CHUNKS = tuple(
    partial(test_head.test_a_chunk_holds_as_many_examples_as_have_its_rows, (6, *shape), chunk, examples)
    for shape, chunk, examples in (
        ((8,), None, 128),
        ((3, 1000), None, 166),
        ((3, 8), 7, 2),
        ((3, 8), 2, 1),
        ((0, 8), 5, 5),
    )
)
SCALES = tuple(partial(test_losses.test_a_cosine_is_the_same_at_every_scale, s) for s in (1e-200, 1e200))
PRECISION = (
    test_factors.test_products_have_operands_of_the_compute_dtype_and_results_of_float32,
    test_precision.test_the_rounding_of_the_weight_gradient_itself_is_gone,
    test_precision.test_params_and_gradients_keep_their_dtype_under_a_compute_dtype,
    test_precision.test_our_weight_gradient_is_nearer_to_float64_than_autodiffs,
)
ROUNDED = (partial(test_precision.test_a_gate_is_rounded_once, jnp.bfloat16),)
SUMS = (
    *(
        partial(test_factors.test_a_gradient_of_bfloat16_factors_has_float32s_accuracy, n)
        for n in test_factors.FACTORS
    ),
    test_factors.test_a_row_that_no_index_of_the_table_names_is_dropped,
    partial(test_proof.test_factors_read_later_give_the_same_gradients, ROWS["repeat-feed-forward"]),
)
ON_DEVICES = (
    *(partial(test_summed.test_devices_add_up_in_the_dtype_that_is_asked_for, n) for n in test_summed.DTYPES),
    test_summed.test_what_the_devices_add_is_rounded_and_their_own_sums_are_not,
)
JOINED = (
    *(partial(test_factors.test_uses_of_a_param_are_joined_behind_its_examples, n) for n in ((), (4, 2))),
    test_factors.test_uses_without_a_batch_are_joined_and_gradients_added_up,
)
TOKENS = {n: partial(test_factors.test_tokens_are_cut_along_their_last_axis, n) for n in test_factors.TOKENS}
BRANCHES = (test_branches.test_a_branch_of_indices_may_be_alone, SIDES, TOKENS["concatenated"])
CUTS = (
    *(
        partial(test_factors.test_chunks_are_equally_large_and_of_no_more_rows_than_asked_for, *way)
        for way in ((1, 1), (3, 3), (4, 3), (9, 5))
    ),
    *(
        partial(test_chunks.test_rows_of_two_shards_are_cut_within_each, *way)
        for way in ((12, 4, 2), (10, 2, 3), (4, 9, 1))
    ),
    *(
        partial(test_chunks.test_devices_add_up_in_the_dtype_that_is_asked_for, reduce, as_a_gradient)
        for reduce in (None, jnp.bfloat16)
        for as_a_gradient in (True, False)
    ),
)
PLACED = tuple(
    partial(test_products.test_a_product_lies_where_its_operands_or_what_it_is_like_do, name)
    for name in test_products.PLACED
)
DENSE = ("dense-tokens", "dense-without-bias", "dense-square", "dense-no-batch")
LOOPS = (
    *("repeat-input-and-output", "repeat-output-alone", "repeat-neither", "shared", "repeat-every-2"),
    "repeat-reversible",
)
SHARED_NORM = test_remat.test_a_norm_that_uses_share_is_run_again_for_what_comes_after_them
REBUILT = ("repeat-rebuilt", "repeat-of-rebuilt")
NESTED = ("parallel-sum", "parallel-concatenate", "parallel-embeddings", "mlp-scanned-dropout")
