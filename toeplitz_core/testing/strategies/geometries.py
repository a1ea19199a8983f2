"""Strategies for geometries, weighted towards the conditions in which real convolutions had faults.

All geometries are valid by construction (nothing is filtered out). They shrink towards 1x1 kernels, one output, one
channel, stride 1 and no padding. The output size is drawn first, and the input size follows from it. So degenerate
outputs, remainders of the stride and windows that lie wholly in padding are common rather than accidental.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.strategies.choices import Choose, singly, table

# The widths of tiles and vector registers and their neighbours, where other code handles the remainders.
BOUNDARIES = (7, 8, 9, 15, 16, 17, 31, 32, 33)
# Limit on the multiplications of one image: an example then takes about a millisecond.
MAX_PRODUCTS = 2**18


@dataclass(frozen=True, slots=True)
class _Axis:
    """The parameters of one axis."""

    input: int
    kernel: int
    stride: int
    padding: int
    dilation: int


_KERNEL_SIZES = ((4, (1,)), (6, (3,)), (4, (2,)), (4, (4, 5, 6, 7)), (2, (8, 9, 11, 16, 17)))
# Often tiny, or the neighbour of the size of a tile.
_OUTPUT_SIZES = ((2, (1,)), (3, (2, 3)), (2, (4, 5, 6)), (3, BOUNDARIES))
# Per group: often one or a few, sometimes the neighbour of the width of a vector register.
_CHANNELS = ((6, (1,)), (6, (2, 3, 4, 5, 6, 7)), (2, (8,)), (4, (9, 15, 16, 17)), (2, (31, 32, 33, 64)))
_GROUPS = ((3, (2, 3, 4)), (1, (5, 7, 8, 16)))
_MULTIPLIERS = ((2, (1,)), (1, (2, 3, 4)))
_DILATIONS = table((16, (1,)), (3, (2, 3)), (1, (4, 5, 7)))
# A negative step -n means a stride of the kernel's extent plus n.
_STEPS = table((7, (1,)), (9, (2, 3)), (3, (-1, -2, -3)))
_SLACKS = table((1, (0,)), (1, (1, 2, 3, 5)))
_MARGINS = table((6, ("none",)), (6, ("half",)), (1, ("1", "2")), (3, ("full",)), (4, ("all", "more")))
_MODES = table((16, ("numbers",)), (3, ("same",)), (1, ("valid",)))
_KINDS = table((12, ("one group",)), (4, ("depthwise",)), (4, ("groups",)))


@functools.cache
def _up_to(limit: int, groups: tuple[tuple[int, tuple[int, ...]], ...]) -> tuple[int, ...]:
    """The table of the values that are at most ``limit``; each group of them keeps its weight."""
    within = ((weight, tuple(value for value in values if value <= limit)) for weight, values in groups)
    return table(*((weight, values) for weight, values in within if values))


def _axis(choose: Choose, place: int, *, kernel: int | None, mode: str, pairs: int) -> _Axis:
    """An axis with at most ``pairs`` pairs of an output and a tap; the kernel is chosen if None is given.

    Every mode makes the same choices, from the same tables, no matter what was chosen before. So a choice keeps its
    meaning while Hypothesis shrinks another one, and no mode counts as simpler because it has fewer choices.
    """
    free = choose(_up_to(min(pairs, 17), _KERNEL_SIZES), place)
    kernel = free if kernel is None else kernel
    dilation = choose(_DILATIONS, place)
    extent = (kernel - 1) * dilation + 1
    step = choose(_STEPS, place)
    stride = 1 if mode == "same" else step if step > 0 else extent - step
    # The stride counts like taps, because a large stride makes the input just as large.
    limit = max(1, pairs // max(kernel, stride))
    output = choose(_up_to(min(limit, BOUNDARIES[-1]), _OUTPUT_SIZES), place)
    slack = choose(_SLACKS, place)
    margin = choose(_MARGINS, place)
    if mode == "same":
        return _Axis(output, kernel, 1, 0, dilation)
    padding = 0
    if mode == "numbers":
        # "all" and "more": some windows lie wholly in padding.
        margins = {"half": extent // 2, "1": 1, "2": 2, "full": extent - 1, "all": extent, "more": extent + 1}
        padding = margins.get(margin, 0)
    # Slack: pixels after the last window, which no output reads.
    size = (output - 1) * stride + extent - 2 * padding + slack % stride
    if size < 1:
        # The padding alone is large enough for these outputs. With a tiny input, some taps or outputs never meet it.
        size = max(min(1 + slack % 3, pairs // kernel), extent - 2 * padding)
    return _Axis(size, kernel, stride, padding, dilation)


def _missed_axis(choose: Choose) -> _Axis:
    """A strided axis with one tap that steps over the image: every output reads only padding.

    ``_axis`` makes such windows too, but seldom an axis with no others.
    """
    size = choose((1, 2, 3))
    stride = size + choose((1, 2, 3), 1)
    before = choose(range(1, stride - size + 1))  # from the last window before the image to its first pixel
    padding = before + stride * choose((0, 0, 1))
    return _Axis(size, 1, stride, padding, choose((2, 3, 1)))


@st.composite
def geometries(
    draw: st.DrawFn, *, rank: int = 2, max_products: int = MAX_PRODUCTS, strings: bool = True
) -> ConvGeometry:
    """Valid geometries of a convolution.

    Parameters
    ----------
    rank : int
        Number of axes.
    max_products : int
        Limit on the multiplications of one image; products with padding do not count (``nnz``).
    strings : bool
        Whether ``padding`` may be ``"same"`` or ``"valid"``.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(geometries(), lambda g: g.groups > 1 and g.stride != (1, 1)).kernel_size
    (1, 1)
    """
    return chosen_geometry(singly(draw), rank=rank, max_products=max_products, strings=strings)


def chosen_geometry(
    choose: Choose, *, rank: int = 2, max_products: int = MAX_PRODUCTS, strings: bool = True
) -> ConvGeometry:
    """A geometry as :func:`geometries` draws them."""
    pairs = _root(max_products, rank)
    mode = choose(_MODES) if strings else "numbers"
    # Kernels may be pointwise, flat (1xk, as in separable networks), square, or free (each axis chosen separately).
    shape = choose(table((11, ("free",)), (2, ("pointwise",)), (4, ("square",)), (3, tuple(range(rank)))))
    axes: list[_Axis] = []
    for axis in range(rank):
        flat = shape in ("pointwise", axis)
        kernel = 1 if flat else axes[0].kernel if shape == "square" and axes else None
        axes.append(_axis(choose, axis, kernel=kernel, mode=mode, pairs=pairs))
    missed = choose(table((11, (None,)), (1, tuple(range(rank)))))
    if missed is not None and mode == "numbers":
        axes[missed] = _missed_axis(choose)
    sizes: dict[str, Any] = {
        "input_size": tuple(a.input for a in axes),
        "kernel_size": tuple(a.kernel for a in axes),
        "stride": tuple(a.stride for a in axes),
        "padding": tuple(a.padding for a in axes) if mode == "numbers" else mode,
        "dilation": tuple(a.dilation for a in axes),
    }
    single = ConvGeometry(1, 1, **sizes)
    # Pixels count too, because data is also drawn for pixels that no output reads.
    room = max(1, max_products // max(1, single.nnz, single.pixels, single.positions))
    groups, inputs, multiplier = _channels(choose, room)
    return ConvGeometry(groups * inputs, groups * multiplier, groups=groups, **sizes)


def _channels(choose: Choose, room: int) -> tuple[int, int, int]:
    """Number of groups, and input and output channels of each; their product is at most ``room``."""
    kind = choose(_KINDS)
    if room == 1:
        return 1, 1, 1
    if kind == "depthwise":
        groups = choose(_up_to(min(room, 64), _CHANNELS), 2)
        return groups, 1, choose(_up_to(min(room // groups, 64), _MULTIPLIERS))
    groups = 1 if kind == "one group" else choose(_up_to(min(room, 64), _GROUPS))
    inputs = choose(_up_to(min(room // groups, 64), _CHANNELS))
    return groups, inputs, choose(_up_to(min(room // (groups * inputs), 64), _CHANNELS), 1)


def _root(number: int, degree: int) -> int:
    """The largest integer whose ``degree``-th power is at most ``number``."""
    root: int = round(number ** (1 / degree))
    return root if root**degree <= number else root - 1
