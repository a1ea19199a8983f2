"""The true cause of each planted fault, with a small case that shows it.

``unknown`` is right where nothing in the catalogue is the cause.
"""

from __future__ import annotations

from typing import NamedTuple


class Planted(NamedTuple):
    """A planted fault, a case that fails, and the cause that a diagnosis must name.

    Parameters
    ----------
    name : str
        ``module:callable``, in this package.
    line : str
        The case, with its law, or the call.
    cause : str
        An identifier of the catalogue.
    """

    name: str
    line: str
    cause: str

    @property
    def path(self) -> str:
        """The name as a run takes it."""
        return f"tests.faults.{self.name}"


# ruff: noqa: E501  # the lines of cases are as long as they are
PLANTED = (
    Planted("indexing:flips_kernel", "input=1x1x3x1 weight=1x1x3x1 law=forward-exact", "kernel-flipped"),
    Planted(
        "indexing:swaps_strides",
        "input=1x1x1x1 weight=1x1x1x1 stride=2x1 padding=1x0 law=forward-exact",
        "stride-swapped",
    ),
    Planted(
        "indexing:ignores_stride_of_pointwise",
        "input=1x1x3x1 weight=1x1x1x1 stride=2x1 law=forward-exact",
        "stride-ignored",
    ),
    Planted(
        "indexing:shortens_long_strides",
        "input=1x1x1x3 weight=1x1x1x1 stride=1x2 law=forward-exact",
        "stride-ignored",
    ),
    Planted(
        "indexing:ignores_dilation",
        "input=1x1x1x5 weight=1x1x1x3 dilation=1x2 law=forward-exact",
        "dilation-ignored",
    ),
    Planted(
        "indexing:shifts_padding",
        "input=1x1x1x1 weight=1x1x1x1 padding=0x1 law=forward-exact",
        "padding-shifted",
    ),
    Planted(
        "indexing:odd_zero_in_front",
        "input=1x1x1x1 weight=1x1x2x1 padding=same law=forward-exact",
        "padding-shifted",
    ),
    Planted(
        "indexing:puts_all_zeros_in_front",
        "input=1x1x1x1 weight=1x1x2x1 padding=2x0 law=forward-exact",
        "padding-shifted",
    ),
    Planted(
        "indexing:wraps_into_next_row",
        "input=1x1x3x1 weight=1x1x3x3 padding=0x1 law=forward-exact",
        "padding-mode",
    ),
    Planted(
        "indexing:repeats_first_tap", "input=1x1x1x4 weight=1x1x1x2 dilation=1x3 law=forward-exact", "weight-altered"
    ),
    Planted("indexing:swaps_last_taps", "input=1x1x1x3 weight=1x1x1x3 law=forward-exact", "weight-altered"),
    Planted(
        "indexing:drops_tail_channels",
        "input=1x17x1x1 weight=1x17x1x1 law=forward-exact",
        "channels-dropped",
    ),
    Planted(
        "indexing:interleaves_groups",
        "input=1x2x1x1 weight=4x1x1x1 groups=2 law=forward-exact",
        "groups-permuted",
    ),
    Planted("indexing:misses_last_column", "input=1x1x1x9 weight=1x1x1x1 law=forward-exact", "outputs-dropped"),
    Planted(
        "indexing:repeats_images_beyond_15",
        "input=16x1x1x1 weight=1x1x1x1 law=forward-exact",
        "batch-mixed",
    ),
    Planted(
        "indexing:transposes_square_kernels",
        "input=1x1x3x3 weight=1x1x3x3 law=forward-exact",
        "kernel-transposed",
    ),
    Planted(
        "indexing:drops_a_tap_under_four_conditions",
        "input=1x2x1x1 weight=2x1x1x1 stride=2x1 dilation=1x2 groups=2 bias law=forward-exact",
        "tap-dropped",
    ),
    Planted(
        "indexing:repeats_a_channel_of_small_groups",
        "input=1x2x1x1 weight=32x2x1x1 dtype=int64 law=forward-exact",
        "channels-dropped",
    ),
    Planted("arithmetic:rounds_to_tf32", "input=1x1x1x1 weight=1x1x1x1 law=forward-exact", "inputs-rounded"),
    Planted(
        "arithmetic:rounds_weight_to_bfloat16",
        "input=1x1x1x1 weight=1x1x1x1 law=forward-exact",
        "inputs-rounded",
    ),
    Planted(
        "arithmetic:sums_bfloat16_narrowly",
        "input=1x1x1x1 weight=1x1x1x1 bias dtype=bfloat16 data=accumulator law=forward-exact",
        "narrow-accumulator",
    ),
    Planted(
        "arithmetic:sums_float16_narrowly",
        "input=1x1x3x1 weight=1x1x3x1 dtype=float16 data=accumulator law=forward-exact",
        "narrow-accumulator",
    ),
    Planted(
        "arithmetic:sums_float64_in_float32",
        "input=1x1x1x1 weight=1x1x1x1 dtype=float64 law=forward-exact",
        "narrow-accumulator",
    ),
    Planted(
        "arithmetic:sums_int64_in_int32",
        "input=1x1x1x1 weight=1x1x1x1 dtype=int64 law=forward-exact",
        "narrow-accumulator",
    ),
    Planted(
        "arithmetic:conjugates_weight",
        "input=1x1x1x1 weight=1x1x1x1 dtype=complex64 law=forward-exact",
        "weight-altered",
    ),
    Planted("arithmetic:changes_one_weight", "input=1x1x1x1 weight=1x1x1x1 law=forward-exact", "weight-altered"),
    Planted("arithmetic:adds_bias_twice", "input=1x1x1x1 weight=1x1x1x1 bias law=forward-exact", "bias-doubled"),
    Planted(
        "arithmetic:adds_bias_after_rounding",
        "input=1x1x1x1 weight=3x1x1x1 bias dtype=float16 data=probe law=forward-exact",
        "narrow-accumulator",
    ),
    Planted(
        "arithmetic:truncates_bfloat16",
        "input=1x1x1x1 weight=1x1x1x1 dtype=bfloat16 data=accumulator law=forward-exact",
        "narrow-accumulator",
    ),
    Planted(
        "arithmetic:starts_bias_again_after_eight",
        "input=1x1x1x1 weight=9x1x1x1 bias law=forward-exact",
        "bias-permuted",
    ),
    Planted(
        "arithmetic:drops_bias_of_groups",
        "input=1x2x1x1 weight=2x1x1x1 groups=2 bias law=forward-exact",
        "bias-missing",
    ),
    Planted(
        "arithmetic:sums_int64_in_float64",
        "input=1x1x1x1 weight=1x1x1x1 dtype=int64 data=accumulator law=forward-exact",
        "narrow-accumulator",
    ),
    Planted(
        "arithmetic:flushes_subnormals",
        "input=1x1x1x1 weight=1x1x1x1 data=subnormal law=forward-bound",
        "subnormals-flushed",
    ),
    Planted(
        "arithmetic:saturates_float16",
        "input=1x1x1x1 weight=1x1x1x1 dtype=float16 data=overflow law=forward-bound",
        "clamped",
    ),
    Planted(
        "arithmetic:takes_nan_for_zero",
        "input=1x1x1x1 weight=1x1x1x1 data=nonfinite law=special-values",
        "nan-dropped",
    ),
    Planted(
        "arithmetic:skips_zero_weights",
        "input=1x1x103x3 weight=1x1x3x3 stride=17x1 padding=7x0 dilation=7x1 data=nonfinite law=special-values",
        "nan-dropped",
    ),
    Planted(
        "memory:pads_with_nan_below",
        "input=1x1x1x1 weight=1x1x3x1 padding=1x0 law=forward-exact",
        "padding-mode",
    ),
    Planted(
        "memory:ignores_strides_of_weight",
        "input=1x1x1x1 weight=2x1x1x1 layout.weight=sliced law=forward-exact",
        "layout-misread",
    ),
    Planted(
        "memory:ignores_strides_of_bias",
        "input=1x1x1x1 weight=2x1x1x1 bias layout.bias=sliced law=forward-exact",
        "layout-misread",
    ),
    Planted(
        "memory:leaves_windows_in_padding_unwritten",
        "input=1x1x1x1 weight=1x1x1x1 padding=0x1 law=forward-exact",
        "outputs-dropped",
    ),
    Planted("arithmetic:saturates_its_input", "input=1x1x1x3 weight=1x1x1x3 law=forward-exact", "clamped"),
    Planted("arithmetic:saturates_its_weight", "input=1x1x1x1 weight=1x1x1x1 law=forward-exact", "clamped"),
    Planted(
        "memory:returns_result_of_same_shapes",
        "input=1x1x1x1 weight=1x1x1x1 law=additive-in-weight",
        "buffer-reused",
    ),
    Planted(
        "memory:writes_its_input",
        "input=1x1x1x1 weight=1x1x1x1 data=normal law=contract",
        "operand-modified",
    ),
    Planted("process:segfault", "input=1x1x1x1 weight=1x1x1x1 padding=0x1 law=forward-exact", "crash"),
    Planted("process:abort", "input=0x1x1x1 weight=1x1x1x1 law=forward-exact", "crash"),
    Planted(
        "process:hang",
        "input=1x4x22x1 weight=4x1x1x7 stride=3x2 padding=0x6 dilation=1x2 groups=4 bias layout.input=transposed law=forward-exact",
        "hang",
    ),
    Planted("bounds:reads_behind_its_weight", "input=1x1x1x1 weight=1x1x1x1 law=in-bounds", "reads-beyond"),
    Planted(
        "bounds:reads_before_its_input",
        "input=1x1x1x1 weight=1x1x3x1 padding=1x0 law=in-bounds",
        "reads-beyond",
    ),
    Planted("bounds:reads_a_row_behind_its_input", "input=1x1x1x1 weight=1x1x1x1 law=in-bounds", "reads-beyond"),
    Planted("bounds:writes_behind_its_bias", "input=1x1x1x1 weight=1x1x1x1 bias law=in-bounds", "reads-beyond"),
    Planted(
        "bounds:reads_behind_the_incoming_gradient",
        "input=1x1x1x1 weight=1x1x1x1 law=in-bounds",
        "gradient-reads-beyond",
    ),
    Planted(
        "arguments:crops_by_negative_padding",
        "call input=float32[1x1x3x3] weight=float32[1x1x1x1] padding=-1",
        "accepted-invalid",
    ),
    Planted(
        "arguments:cuts_a_long_bias",
        "call input=float32[1x1x1x1] weight=float32[1x1x1x1] bias=float32[2]",
        "accepted-invalid",
    ),
    Planted(
        "arguments:spreads_a_bias_of_one",
        "call input=float32[1x1x9x1] weight=float32[2x1x9x1] bias=float32[1]",
        "accepted-invalid",
    ),
    Planted(
        "arguments:truncates_a_float_stride",
        "call input=float32[1x1x1x1] weight=float32[1x1x1x1] stride=1.0",
        "accepted-invalid",
    ),
    Planted(
        "arguments:refuses_an_integer_of_numpy",
        "call input=float32[1x1x1x1] weight=float32[1x1x1x1] stride=numpy.int64(1)",
        "refused",
    ),
    Planted(
        "arguments:clears_the_weight_of_what_it_refuses",
        "call input=float32[1x1x1x1x1] weight=float32[1x1x1x3] padding='same'",
        "operand-modified",
    ),
    Planted(
        "arguments:refuses_a_list",
        "call input=float32[1x1x7x5] weight=float32[1x1x3x3] stride=[1,1]",
        "refused",
    ),
    Planted(
        "arguments:exits_for_an_empty_kernel",
        "call input=float32[1x1x1x1] weight=float32[1x1x0x0]",
        "exit",
    ),
    Planted(
        "arguments:aborts_without_dilation",
        "call input=float32[1x2x11x8] weight=float32[2x1x5x2] stride=(6,2) dilation=0 groups=2",
        "crash",
    ),
    Planted(
        "contracts:returns_a_reused_buffer",
        "input=1x1x1x1 weight=1x1x1x1 bias data=normal law=contract",
        "buffer-reused",
    ),
    Planted(
        "contracts:returns_two_buffers_in_turn",
        "input=1x1x1x1 weight=2x1x1x1 layout.weight=expanded data=normal law=contract",
        "buffer-reused",
    ),
    Planted(
        "contracts:returns_eight_buffers_in_turn",
        "input=1x1x1x1 weight=1x1x1x1 bias data=normal law=contract",
        "buffer-reused",
    ),
    Planted(
        "contracts:returns_the_same_result_again",
        "input=1x1x1x1 weight=1x1x1x1 data=normal law=contract",
        "buffer-reused",
    ),
    Planted(
        "contracts:returns_the_head_of_a_workspace",
        "input=1x1x1x1 weight=1x1x1x1 bias data=normal law=contract",
        "buffer-reused",
    ),
    Planted(
        "contracts:keeps_a_packed_weight_on_its_tensor",
        "input=1x1x1x1 weight=1x1x1x1 data=normal law=contract",
        "buffer-reused",
    ),
    Planted(
        "contracts:writes_beside_its_weight",
        "input=1x1x1x1 weight=1x1x1x1 data=normal law=contract",
        "operand-modified",
    ),
    Planted(
        "contracts:returns_its_bias",
        "input=1x1x1x1 weight=1x1x1x1 bias data=normal law=contract",
        "buffer-reused",
    ),
    Planted(
        "contracts:returns_its_image",
        "input=1x1x1x1 weight=1x1x1x1 data=normal law=contract",
        "buffer-reused",
    ),
    Planted(
        "contracts:returns_its_bias_for_no_weight",
        "input=1x1x1x1 weight=1x1x1x1 bias data=normal law=contract",
        "buffer-reused",
    ),
    Planted(
        "contracts:drops_the_bias_without_channels",
        "input=1x0x1x1 weight=1x0x1x1 bias law=no-channels",
        "bias-missing",
    ),
    Planted(
        "contracts:adds_one_when_called_again",
        "input=1x1x1x1 weight=1x1x1x1 data=normal law=contract",
        "buffer-reused",
    ),
    Planted(
        "contracts:claims_to_be_repeatable",
        "input=1x1x1x1 weight=1x1x1x1 data=normal seed=1 law=contract",
        "nondeterministic",
    ),
    Planted(
        "contracts:promises_channels_last",
        "input=1x1x2x1 weight=2x1x1x1 data=normal law=contract",
        "unknown",
    ),
    Planted(
        "contracts:adds_to_what_memory_held",
        "input=1x1x1x1 weight=1x1x1x1 data=normal law=contract",
        "stale-memory",
    ),
    Planted(
        "contracts:takes_large_memory_for_zero",
        "input=1x1x1x1 weight=1x1x1x1 law=stale-memory",
        "stale-memory",
    ),
    Planted(
        "gradients:leaves_out_last_row_of_input_gradient",
        "input=1x1x1x1 weight=1x1x1x1 law=gradients-exact",
        "gradient-outputs-dropped",
    ),
    Planted(
        "gradients:adds_gradients_to_what_memory_held",
        "input=1x1x1x1 weight=1x1x1x1 law=gradients-exact",
        "gradient-stale-memory",
    ),
    Planted(
        "gradients:rounds_gradients_to_fixed_point",
        "input=1x1x1x1 weight=1x1x1x1 data=normal law=gradients-bound",
        "gradient-narrow-accumulator",
    ),
    Planted(
        "gradients:rounds_gradients_to_bfloat16",
        "input=1x1x1x1 weight=1x1x1x1 law=gradients-exact",
        "gradient-inputs-rounded",
    ),
    Planted(
        "gradients:forgets_the_gradient_of_the_bias",
        "input=1x1x1x1 weight=1x1x1x1 bias law=gradients-exact",
        "gradient-missing",
    ),
    Planted(
        "gradients:halves_gradients_of_a_second_pass",
        "input=1x1x1x1 weight=1x1x1x1 law=gradients-exact",
        "gradient-outputs-scaled",
    ),
    Planted(
        "gradients:reads_repeated_gradients_as_rows",
        "input=2x1x2x2 weight=2x1x1x1 layout.grad=repeated law=gradients-exact",
        "gradient-layout-misread",
    ),
    Planted("gradients:attaches_every_result", "input=1x1x1x1 weight=1x1x1x1 law=gradients-exact", "unknown"),
    Planted(
        "gradients:keeps_gradients_in_its_weight",
        "input=1x1x1x1 weight=1x1x1x1 law=gradients-exact",
        "gradient-operand-modified",
    ),
    Planted(
        "gradients:doubles_mapped_weights",
        "input=1x1x1x1 weight=1x1x1x1 law=vmap",
        "gradient-outputs-scaled",
    ),
    Planted(
        "gradients:conjugates_nothing",
        "input=1x1x1x1 weight=1x1x1x1 dtype=complex64 law=double-backward",
        "gradient-weight-altered",
    ),
    Planted(
        "gradients:returns_one_gradient_too_few",
        "input=1x1x1x1 weight=1x1x1x1 law=gradients-exact",
        "gradient-refused",
    ),
    Planted(
        "gradients:has_no_room_for_gradients",
        "input=1x1x1x1 weight=1x1x1x1 law=gradients-exact",
        "gradient-refused",
    ),
    Planted(
        "gradients:doubles_weight_gradient_alone",
        "input=1x1x1x1 weight=1x1x1x1 law=gradients-exact",
        "gradient-outputs-scaled",
    ),
    Planted(
        "gradients:forgets_how_gradients_depend",
        "input=1x1x1x1 weight=1x1x1x1 law=double-backward",
        "gradient-missing",
    ),
    Planted(
        "gradients:carries_input_alone_forward",
        "input=1x1x1x1 weight=1x1x1x1 law=forward-mode",
        "gradient-missing",
    ),
    Planted(
        "gradients:is_constant_in_weight_within_torch_func",
        "input=1x1x1x1 weight=1x1x1x1 law=functional-gradients",
        "gradient-missing",
    ),
    Planted("gradients:doubles_mapped_results", "input=1x1x1x1 weight=1x1x1x1 law=vmap", "outputs-scaled"),
    Planted(
        "gradients:turns_transposed_kernel",
        "input=1x1x3x3 weight=1x1x3x3 law=transposed",
        "gradient-kernel-flipped",
    ),
    Planted(
        "training:adds_one_where_autograd_records",
        "input=1x1x1x1 weight=1x1x1x1 law=gradients-exact",
        "constant-added",
    ),
    Planted(
        "training:doubles_what_it_carries_forward",
        "input=1x1x1x1 weight=1x1x1x1 law=forward-mode",
        "outputs-scaled",
    ),
    Planted(
        "training:doubles_the_direction_of_the_weight_alone",
        "input=1x1x1x1 weight=1x1x1x1 law=forward-mode",
        "gradient-outputs-scaled",
    ),
    Planted(
        "training:doubles_second_derivatives_of_the_weight_alone",
        "input=1x1x1x1 weight=1x1x1x1 law=double-backward",
        "gradient-outputs-scaled",
    ),
    Planted(
        "training:clears_its_bias_in_a_backward_pass",
        "input=1x1x1x1 weight=1x1x1x1 bias law=gradients-exact",
        "gradient-operand-modified",
    ),
    Planted(
        "training:returns_gradients_in_one_buffer",
        "input=1x1x1x1 weight=1x1x1x1 law=gradients-exact",
        "gradient-buffer-reused",
    ),
    Planted(
        "training:detaches_pointwise",
        "input=1x2x1x1 weight=1x2x1x1 law=gradients-exact",
        "gradient-missing",
    ),
    Planted(
        "training:detaches_half_precision",
        "input=1x1x1x1 weight=1x1x1x1 dtype=float16 law=gradients-exact",
        "gradient-missing",
    ),
    Planted(
        "training:fails_backward_with_long_strides",
        "input=1x1x1x1 weight=1x1x1x1 stride=1x3 law=gradients-exact",
        "gradient-refused",
    ),
    Planted(
        "training:leaves_gradients_switched_off",
        "input=1x1x1x1 weight=1x1x1x1 law=gradients-exact",
        "gradient-state-modified",
    ),
    Planted(
        "training:wants_gradients_in_its_weight",
        "input=1x1x1x1 weight=1x1x1x1 data=normal law=contract",
        "operand-modified",
    ),
    Planted(
        "training:adds_one_where_nothing_is_recorded",
        "input=1x1x1x1 weight=1x1x1x1 law=gradients-exact",
        "constant-added",
    ),
    Planted(
        "training:detaches_what_another_layer_gave",
        "input=1x1x1x1 weight=1x1x1x1 law=gradients-exact",
        "gradient-missing",
    ),
    Planted(
        "training:fails_backward_with_a_bias",
        "input=1x1x1x1 weight=1x1x1x1 bias law=gradients-exact",
        "gradient-refused",
    ),
    Planted(
        "training:keeps_its_operands_in_one_buffer",
        "input=1x1x1x1 weight=1x1x1x1 law=gradients-exact",
        "gradient-buffer-reused",
    ),
    Planted(
        "training:keeps_its_operands_as_they_will_be",
        "input=1x1x1x1 weight=1x1x1x1 law=gradients-exact",
        "gradient-buffer-reused",
    ),
    Planted(
        "training:packs_its_weight_once_for_the_backward_pass",
        "input=1x1x1x1 weight=1x1x1x1 law=gradients-exact",
        "gradient-buffer-reused",
    ),
    Planted(
        "training:records_results_in_one_buffer",
        "input=1x1x1x1 weight=1x1x1x1 bias law=gradients-exact",
        "gradient-buffer-reused",
    ),
    Planted("training:maps_the_first_axis", "input=2x1x1x1 weight=1x1x1x1 law=vmap", "wrong-shape"),
    Planted(
        "training:maps_the_first_bias",
        "input=1x1x1x1 weight=1x1x1x1 bias law=vmap",
        "gradient-batch-mixed",
    ),
    Planted(
        "plans:forgets_the_bias_of_sparse_images",
        "input=1x5x3x3 weight=1x5x3x3 bias seed=180 law=additive-in-input",
        "bias-missing",
    ),
    Planted(
        "plans:keeps_results_by_input",
        "input=1x1x1x1 weight=1x1x1x1 law=additive-in-weight",
        "buffer-reused",
    ),
    Planted(
        "plans:keeps_results_without_their_scale",
        "input=1x1x8x1 weight=1x1x8x1 law=homogeneous",
        "buffer-reused",
    ),
    Planted(
        "plans:keeps_the_size_of_the_image",
        "input=1x1x1x1 weight=1x1x1x1 law=shift-equivariant",
        "buffer-reused",
    ),
    Planted(
        "plans:packs_weights_of_the_same_sum_once",
        "input=1x1x3x3 weight=2x1x3x3 law=output-channels",
        "buffer-reused",
    ),
    Planted(
        "plans:packs_filters_of_the_same_sums_once",
        "input=1x2x4x1 weight=1x2x4x1 law=input-channels",
        "buffer-reused",
    ),
    Planted("plans:keeps_the_groups", "input=1x2x1x1 weight=2x1x1x1 groups=2 law=groups", "buffer-reused"),
    Planted("plans:keeps_the_dilation", "input=1x1x1x5 weight=1x1x1x3 dilation=2 law=dilation", "buffer-reused"),
    Planted("plans:keeps_the_stride", "input=1x1x3x1 weight=1x1x1x1 stride=2 law=stride", "buffer-reused"),
    Planted("plans:keeps_the_padding", "input=1x1x1x1 weight=1x1x1x1 padding=1 law=padding", "buffer-reused"),
    Planted("plans:keeps_the_channels", "input=1x2x1x1 weight=1x2x1x1 law=channels-add-up", "buffer-reused"),
    Planted("plans:keeps_the_width_of_pointwise", "input=1x1x8x1 weight=1x1x1x1 law=pointwise", "buffer-reused"),
    Planted(
        "plans:copies_the_wrong_tap_of_a_selecting_kernel",
        "input=1x1x3x2 weight=1x1x3x2 law=delta-kernel",
        "kernel-flipped",
    ),
    Planted(
        "plans:takes_its_last_result_for_a_scratch_pad",
        "input=1x1x8x1 weight=1x1x1x1 law=composition",
        "buffer-reused",
    ),
    Planted("plans:keeps_the_strides_of_the_input", "input=1x1x3x1 weight=1x1x3x1 law=strides", "buffer-reused"),
    Planted(
        "plans:keeps_results_by_weight",
        "input=1x1x7x5 weight=1x1x1x3 stride=3x1 law=matrix",
        "buffer-reused",
    ),
)

# Of these another cause is named, or none. Why:
MISSED = {
    "reads_repeated_gradients_as_rows": "the memory behind one repeated number is read, which nobody can predict",
    "conjugates_nothing": "a second derivative, for which only changes of the numbers as a whole are tried",
    "keeps_its_operands_in_one_buffer": "each gradient is that of the law's other call, whose operands are negated",
    "forgets_the_bias_of_sparse_images": "it needs a law's own numbers, and one draw in many shows it",
}
