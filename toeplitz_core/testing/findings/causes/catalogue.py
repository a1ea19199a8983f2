"""The catalogue of causes: identifiers that stay the same, each defined in one sentence."""

from __future__ import annotations

from collections.abc import Mapping

UNKNOWN = "unknown"

CAUSES: Mapping[str, str] = {
    "kernel-flipped": "The kernel is reversed along one axis or both, as in a mathematical convolution.",
    "kernel-transposed": "Rows and columns of the kernel are swapped.",
    "stride-swapped": "Rows use the stride of columns, or columns that of rows.",
    "dilation-swapped": "Rows use the dilation of columns, or columns that of rows.",
    "padding-swapped": "Rows use the padding of columns, or columns that of rows.",
    "padding-shifted": "There is too much padding on one side and too little on the other.",
    "padding-short": "Outputs that would read the outermost padding are not computed.",
    "padding-mode": "Outside of the image is something else than zero: a nearby pixel, the next row in memory, NaN.",
    "padding-ignored": "The image has no padding along one axis or both.",
    "stride-ignored": "The stride is taken as 1 along one axis or both, or as no more than the extent of the kernel.",
    "dilation-ignored": "The dilation is taken as 1 along one axis or both.",
    "tap-dropped": "A tap, a row or a column of the kernel is left out.",
    "weight-altered": "The result is that of another weight: some of its numbers are changed or exchanged.",
    "channels-dropped": "Some input channels are left out, or others are read in their place.",
    "outputs-dropped": "Some results are not computed: a row, column or channel at the end, or all beyond a block.",
    "outputs-shifted": "Results stand one place beside their own, or in another order.",
    "outputs-duplicated": "Some places hold the results of other places.",
    "outputs-scaled": "Results, or some of them, are multiplied by a constant.",
    "constant-added": "A constant is added to the results, or to some of them.",
    "groups-permuted": "Output channels read the input channels of another group.",
    "groups-ignored": "All output channels read the same input channels.",
    "depthwise-order": "With several outputs for each channel of a depthwise convolution, their order is another one.",
    "bias-missing": "The bias is not added.",
    "bias-doubled": "The bias is added twice.",
    "bias-permuted": "Output channels get the bias of another channel.",
    "batch-mixed": "Images get the result of other images.",
    "layout-misread": "An operand is read as if its strides were others.",
    "reads-beyond": "Memory in front of or behind an operand is read.",
    "stale-memory": "Results depend on what newly allocated memory held before.",
    "nondeterministic": "The same call returns different results.",
    "inputs-rounded": "Operands are rounded to a narrower format before they are multiplied.",
    "narrow-accumulator": "Sums or results are kept in a format that is too narrow, or are rounded more than once.",
    "subnormals-flushed": "Subnormal numbers are taken for zero.",
    "transformed": "Sums are transformed by Winograd's algorithm or an FFT: errors exceed the bound of direct sums.",
    "overflow-early": "An infinity or NaN stands where the result is a number.",
    "clamped": "Numbers beyond a limit are replaced by the limit.",
    "nan-dropped": "NaN in an operand does not reach the results that depend on it.",
    "infinity-dropped": "An infinity in an operand does not reach the results that depend on it.",
    "nan-spread": "NaN reaches results that do not depend on it.",
    "operand-modified": "A call changes one of its operands, or memory next to it.",
    "state-modified": "A call changes the state of its process: random numbers, threads, defaults, modes.",
    "buffer-reused": "A call returns or uses what another call left: its memory, its result, its operands.",
    "wrong-shape": "The result has another shape.",
    "wrong-dtype": "The result has another dtype.",
    "refused": "A valid call raises an exception.",
    "accepted-invalid": "An invalid call returns a result.",
    "crash": "The process ends by a signal.",
    "exit": "The process is ended by the call.",
    "hang": "The call does not return in time.",
    "breakpoint": "The call stops at a breakpoint.",
    "gradient-missing": "A result or a gradient is detached from an operand that it depends on.",
    UNKNOWN: "Nothing in the catalogue explains the failure.",
}
# What is in the catalogue can also happen to a gradient alone.
GRADIENT = "gradient-"


def definition(cause: str) -> str:
    """The sentence that defines a cause, also of a gradient."""
    if cause in CAUSES:
        return CAUSES[cause]
    return f"In a gradient: {CAUSES[cause.removeprefix(GRADIENT)]}"


def names() -> frozenset[str]:
    """All identifiers."""
    return frozenset(
        (*CAUSES, *(GRADIENT + name for name in CAUSES if name != UNKNOWN and not name.startswith(GRADIENT)))
    )
