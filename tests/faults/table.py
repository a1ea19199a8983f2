"""The table of planted faults, with the law that must find each."""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults import correct


@dataclass(frozen=True, slots=True)
class Fault:
    """A convolution that is wrong in one way.

    Parameters
    ----------
    path : str
        ``package.module:callable``, with ``F.conv2d``'s signature.
    breaks : str
        What it does wrong, in one sentence.
    killed_by : str, optional
        The law that must find it; None for a fault that no law finds yet. Then ``reason`` says why.
    dtype : str
        The dtype in which to search for it.
    dtypes : tuple of str
        More dtypes to search in turn until it is found, as a run of ``check`` does. This is for faults that need
        several conditions at once, which the examples of one dtype may not meet.
    isolated : bool
        Whether it ends or blocks its process, so that it must run in a separate one.
    reason : str
        Why no law finds it yet; empty if one does.
    """

    path: str
    breaks: str
    killed_by: str | None = "forward-exact"
    dtype: str = "float32"
    dtypes: tuple[str, ...] = ()
    isolated: bool = False
    reason: str = ""

    @property
    def name(self) -> str:
        """The callable's name."""
        return self.path.partition(":")[2]


_OTHERS = ("float64", "float16", "bfloat16", "complex64", "int64")


def _faults(module: str, *rows: tuple[str, str] | tuple[str, str, dict[str, object]]) -> tuple[Fault, ...]:
    return tuple(Fault(f"tests.faults.{module}:{name}", breaks, **dict(*rest)) for name, breaks, *rest in rows)


FAULTS = (
    *_faults(
        "indexing",
        ("flips_kernel", "The kernel is rotated by 180 degrees."),
        ("swaps_strides", "The strides of the axes are swapped."),
        ("ignores_stride_of_pointwise", "1x1 kernels ignore the stride."),
        ("shortens_long_strides", "A stride larger than the kernel extent is reduced to it."),
        ("ignores_dilation", "A dilated kernel reads neighbouring pixels."),
        ("shifts_padding", "A row has one zero too many before it, and one too few after it."),
        ("odd_zero_in_front", "'same' puts its odd zero before the input for even kernels."),
        ("puts_all_zeros_in_front", "All zeros of an axis with an even kernel lie before the input."),
        ("wraps_into_next_row", "The padding after a row holds the next row's pixels."),
        ("swaps_last_taps", "The last two taps of a row are swapped in the last input channel."),
        ("repeats_first_tap", "With a dilation of 3, the last tap of a row has the weight of the first."),
        ("drops_tail_channels", "Input channels after the last full vector of eight are dropped."),
        ("interleaves_groups", "Output channel o reads group o % groups."),
        ("misses_last_column", "The last column is zero if the last vector of eight outputs is not full."),
        ("repeats_images_beyond_15", "Images from the sixteenth on get the result of the first."),
        ("transposes_square_kernels", "Square kernels are transposed."),
        (
            "drops_a_tap_under_four_conditions",
            "With groups, dilation, stride and bias together, a tap is dropped.",
            {"dtypes": _OTHERS},  # about 15 of 1000 cases meet the conditions
        ),
        (
            "repeats_a_channel_of_small_groups",
            "1x1 kernels from 2-15 to 16n channels read the first channel twice.",
            {"dtypes": _OTHERS},
        ),
    ),
    *_faults(
        "arithmetic",
        ("rounds_to_tf32", "float32 operands are rounded to TF32."),
        ("rounds_weight_to_bfloat16", "A float32 weight is rounded to bfloat16."),
        ("sums_bfloat16_narrowly", "bfloat16 is accumulated in bfloat16.", {"dtype": "bfloat16"}),
        ("sums_float16_narrowly", "float16 is accumulated in float16.", {"dtype": "float16"}),
        ("sums_float64_in_float32", "float64 is accumulated in float32.", {"dtype": "float64"}),
        ("sums_int64_in_int32", "int64 sums keep only 32 bits.", {"dtype": "int64"}),
        ("conjugates_weight", "A complex weight is conjugated.", {"dtype": "complex64"}),
        ("changes_one_weight", "The last element of the weight is larger by 1e-4 of itself."),
        ("adds_bias_twice", "The bias is added twice."),
        ("adds_bias_after_rounding", "The bias is added after the result was rounded.", {"dtype": "float16"}),
        ("truncates_bfloat16", "Results are truncated to bfloat16.", {"dtype": "bfloat16"}),
        ("drops_bias_of_groups", "The bias is left out if there are groups."),
        ("starts_bias_again_after_eight", "Each further eight output channels get the bias of the first eight."),
        (
            "sums_int64_in_float64",
            "int64 is accumulated in float64.",
            {"dtype": "int64"},
        ),
        (
            "flushes_subnormals",
            "float32 subnormals are replaced by zero.",
            {"killed_by": "forward-bound"},
        ),
        (
            "saturates_float16",
            "float16 results saturate instead of overflowing.",
            {"dtype": "float16", "killed_by": "forward-bound"},
        ),
        (
            "takes_nan_for_zero",
            "NaN in the input is replaced by zero.",
            {"killed_by": "special-values"},
        ),
        (
            "skips_zero_weights",
            "Products with a zero weight are skipped, even those with NaN or an infinity.",
            {"killed_by": "special-values"},
        ),
    ),
    *_faults(
        "memory",
        ("pads_with_nan_below", "The padding below the image is not initialised."),
        ("ignores_strides_of_weight", "The weight is read as if it were contiguous."),
        ("ignores_strides_of_bias", "The bias is read as if it were contiguous."),
        ("leaves_windows_in_padding_unwritten", "Outputs whose window lies in padding are not written."),
        (
            "returns_result_of_same_shapes",
            "The result of an earlier call with the same shapes is returned again.",
            # Isolated: a fresh process has nothing to return yet.
            {"isolated": True, "killed_by": "additive-in-weight"},
        ),
        (
            "writes_its_input",
            "The input is overwritten after use.",
            {"killed_by": "contract"},
        ),
    ),
    *_faults(
        "process",
        ("segfault", "Address 0 is read if the first window lies wholly in padding.", {"isolated": True}),
        ("abort", "The process aborts on an empty batch.", {"isolated": True}),
        ("hang", "A grouped and dilated convolution does not return.", {"isolated": True}),
    ),
)

CORRECT = tuple(f"tests.faults.correct:{name}" for name in correct.CORRECT)
