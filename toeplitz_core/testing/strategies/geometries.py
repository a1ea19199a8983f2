"""Strategies for geometries, weighted towards the conditions in which real convolutions had faults.

All geometries are valid by construction (nothing is filtered out). They shrink towards 1x1 kernels, one output, one
channel, stride 1 and no padding. The output size is drawn first, and the input size follows from it. So degenerate
outputs, remainders of the stride and windows that lie wholly in padding are common rather than accidental.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import strategies as st

from toeplitz_core.geometry import ConvGeometry

_T = TypeVar("_T")

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


@functools.cache
def weighted(*groups: tuple[int, tuple[_T, ...]], place: int = 0) -> st.SearchStrategy[_T]:
    """One value from weighted groups of values; it shrinks towards the first value of the first group.

    The strategy is one draw from a table, not a choice of strategies, because an example has dozens of choices and each
    takes time. Hypothesis copies values between draws from equal strategies, which would tie the height to the width in
    most examples. So each ``place`` has a table of another length: the table is repeated.
    """
    size = math.lcm(*(len(values) for _, values in groups))
    copies = [weight * size // len(values) for weight, values in groups]
    unit = math.gcd(*copies)
    table = [v for (_, values), n in zip(groups, copies, strict=True) for v in values for _ in range(n // unit)]
    return st.sampled_from(table * (place + 1))


def kernel_sizes(*, limit: int = 17, place: int = 0) -> st.SearchStrategy[int]:
    """Number of kernel taps along one axis."""
    return _up_to(min(limit, 17), ((4, (1,)), (6, (3,)), (4, (2,)), (4, (4, 5, 6, 7)), (2, (8, 9, 11, 16, 17))), place)


def output_sizes(*, limit: int = BOUNDARIES[-1], place: int = 0) -> st.SearchStrategy[int]:
    """Number of outputs along one axis, often tiny or the neighbour of a tile size."""
    return _up_to(min(limit, BOUNDARIES[-1]), ((2, (1,)), (3, (2, 3)), (2, (4, 5, 6)), (3, BOUNDARIES)), place)


def channels(*, limit: int = 64, place: int = 0) -> st.SearchStrategy[int]:
    """Channels per group: often one or a few, sometimes the neighbour of the width of a vector register."""
    few, beside, many = (2, 3, 4, 5, 6, 7), (9, 15, 16, 17), (31, 32, 33, 64)
    return _up_to(min(limit, many[-1]), ((6, (1,)), (6, few), (2, (8,)), (4, beside), (2, many)), place)


@functools.cache
def _up_to(limit: int, groups: tuple[tuple[int, tuple[int, ...]], ...], place: int) -> st.SearchStrategy[int]:
    """Like ``weighted``, but only with values that are at most ``limit``."""
    within = ((weight, tuple(value for value in values if value <= limit)) for weight, values in groups)
    return weighted(*((weight, values) for weight, values in within if values), place=place)


def _draw_axis(draw: st.DrawFn, place: int, *, kernel: int | None, mode: str, pairs: int) -> _Axis:
    """An axis with at most ``pairs`` pairs of an output and a tap; the kernel is drawn if None is given.

    Every mode makes the same draws, from the same tables, no matter what was drawn before. So a draw keeps its meaning
    while Hypothesis shrinks another one, and no mode counts as simpler because it draws less.
    """
    free = draw(kernel_sizes(limit=pairs, place=place))
    kernel = free if kernel is None else kernel
    dilation = draw(weighted((16, (1,)), (3, (2, 3)), (1, (4, 5, 7)), place=place))
    extent = (kernel - 1) * dilation + 1
    # A negative step -n means a stride of the kernel's extent plus n.
    step = draw(weighted((7, (1,)), (9, (2, 3)), (3, (-1, -2, -3)), place=place))
    stride = 1 if mode == "same" else step if step > 0 else extent - step
    # The stride counts like taps, because a large stride makes the input just as large.
    output = draw(output_sizes(limit=max(1, pairs // max(kernel, stride)), place=place))
    slack = draw(weighted((1, (0,)), (1, (1, 2, 3, 5)), place=place))
    margin = draw(
        weighted((6, ("none",)), (6, ("half",)), (1, ("1", "2")), (3, ("full",)), (4, ("all", "more")), place=place)
    )
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


def _draw_missed_axis(draw: st.DrawFn) -> _Axis:
    """A strided axis with one tap that steps over the image: every output reads only padding.

    ``_draw_axis`` makes such windows too, but seldom an axis with no others.
    """
    size = draw(st.sampled_from((1, 2, 3)))
    stride = size + draw(st.sampled_from((1, 2, 3)))
    before = draw(st.integers(1, stride - size))  # from the last window before the image to its first pixel
    padding = before + stride * draw(st.sampled_from((0, 0, 1)))
    return _Axis(size, 1, stride, padding, draw(st.sampled_from((2, 3, 1))))


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
    pairs = _root(max_products, rank)
    mode = draw(weighted((16, ("numbers",)), (3, ("same",)), (1, ("valid",)))) if strings else "numbers"
    # Kernels may be pointwise, flat (1xk, as in separable networks), square, or free (each axis drawn separately).
    shape = draw(weighted((11, ("free",)), (2, ("pointwise",)), (4, ("square",)), (3, tuple(range(rank)))))
    axes: list[_Axis] = []
    for axis in range(rank):
        flat = shape in ("pointwise", axis)
        kernel = 1 if flat else axes[0].kernel if shape == "square" and axes else None
        axes.append(_draw_axis(draw, axis, kernel=kernel, mode=mode, pairs=pairs))
    missed = draw(weighted((11, (None,)), (1, tuple(range(rank)))))
    if missed is not None and mode == "numbers":
        axes[missed] = _draw_missed_axis(draw)
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
    groups, inputs, multiplier = _draw_channels(draw, room)
    return ConvGeometry(groups * inputs, groups * multiplier, groups=groups, **sizes)


def _draw_channels(draw: st.DrawFn, room: int) -> tuple[int, int, int]:
    """Number of groups, and input and output channels of each; their product is at most ``room``."""
    kind = draw(weighted((12, ("one group",)), (4, ("depthwise",)), (4, ("groups",))))
    if room == 1:
        return 1, 1, 1
    if kind == "depthwise":
        groups = draw(channels(limit=room, place=2))
        return groups, 1, draw(_up_to(room // groups, ((2, (1,)), (1, (2, 3, 4))), 0))
    groups = 1 if kind == "one group" else draw(_up_to(room, ((3, (2, 3, 4)), (1, (5, 7, 8, 16))), 0))
    inputs = draw(channels(limit=room // groups))
    return groups, inputs, draw(channels(limit=room // (groups * inputs), place=1))


def _root(number: int, degree: int) -> int:
    """The largest integer whose ``degree``-th power is at most ``number``."""
    root: int = round(number ** (1 / degree))
    return root if root**degree <= number else root - 1
