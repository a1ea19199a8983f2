"""Hypothesis strategies for geometries, weighted towards the conditions under which convolutions were found wrong.

All are valid by construction (nothing is filtered out) and shrink towards 1x1 kernels, one output, one channel, stride
1 and no padding. The output size is drawn first and the input follows from it, so that degenerate outputs, remainders
of the stride and windows wholly in padding are common rather than accidents.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from hypothesis import strategies as st

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.case import Case
from toeplitz_core.testing.layouts import LAYOUTS

T = TypeVar("T")

# Sizes beside the widths of tiles and vector registers, where remainders are handled by other code.
BOUNDARIES = (7, 8, 9, 15, 16, 17, 31, 32, 33)
# Multiplications of one convolution without its batch: keeps an example in the range of a millisecond.
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
def weighted(*groups: tuple[int, tuple[T, ...]]) -> st.SearchStrategy[T]:
    """One of the values of several groups, the groups by weight. Shrinks towards the first value of the first group.

    One draw from a table rather than a choice of strategies: an example is dozens of choices, and each costs.
    """
    size = math.lcm(*(len(values) for _, values in groups))
    return st.sampled_from([value for weight, values in groups for value in values for _ in range(weight * size // len(values))])


def kernel_sizes() -> st.SearchStrategy[int]:
    """Taps along one axis."""
    return weighted((5, (1,)), (6, (3,)), (3, (2,)), (4, (4, 5, 6, 7)), (2, (8, 9, 11, 16, 17)))


def output_sizes() -> st.SearchStrategy[int]:
    """Outputs along one axis: tiny ones often, and the neighbours of tile sizes."""
    return weighted((9, (1, 2, 3)), (6, (4, 5, 6)), (5, BOUNDARIES))


def _draw_axis(draw: st.DrawFn, *, unit_stride: bool, padded: bool) -> _Axis:
    kernel = draw(kernel_sizes())
    dilation = draw(weighted((14, (1,)), (5, (2, 3)), (1, (4, 5, 7)))) if kernel > 1 else draw(weighted((9, (1,)), (1, (2, 3))))
    extent = (kernel - 1) * dilation + 1
    beyond = tuple(range(extent + 1, extent + 4))
    stride = 1 if unit_stride else draw(weighted((8, (1,)), (9, (2, 3)), (3, beyond)))
    output = draw(output_sizes())
    if not padded:
        return _Axis((output - 1) * stride + extent + _remainder(draw, stride), kernel, stride, 0, dilation)
    # In the order: none, half, full, more than the kernel spans (windows wholly in padding), anything.
    padding = draw(
        weighted((8, (0,)), (5, (extent // 2,)), (3, (extent - 1,)), (2, (extent, extent + 1)), (1, tuple(range(1, extent + 1))))
    )
    size = (output - 1) * stride + extent - 2 * padding + _remainder(draw, stride)
    if size < 1:
        # The padding alone has room for these outputs. A tiny input then leaves taps, or outputs, that never meet it.
        size = max(draw(weighted((1, (1, 2, 3)))), extent - 2 * padding)
    return _Axis(size, kernel, stride, padding, dilation)


def _remainder(draw: st.DrawFn, stride: int) -> int:
    """Pixels behind the last window, which no output reads."""
    return draw(st.integers(0, stride - 1)) if stride > 1 else 0


def channels(limit: int) -> st.SearchStrategy[int]:
    """Channels per group, up to a limit: one often, then few, then beside the widths of vector registers."""
    few = tuple(c for c in (2, 3, 4, 5, 6, 7) if c <= limit)
    many = tuple(c for c in (8, 9, 15, 16, 17, 24, 31, 32, 33, 48, 64) if c <= limit)
    return weighted((7, (1,)), *((7, group) for group in (few, many) if group))


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
        Limit on the multiplications of one image (not counting padding): channels are drawn within what is left of it.
    strings : bool
        Whether ``padding`` may be ``"same"`` or ``"valid"``.

    Examples
    --------
    >>> from hypothesis import find
    >>> find(geometries(), lambda g: g.groups > 1 and g.stride != (1, 1)).kernel_size
    (1, 1)
    """
    mode = draw(weighted((17, ("numbers",)), (2, ("same",)), (1, ("valid",)))) if strings else "numbers"
    unit_stride = mode == "same" or draw(weighted((3, (False,)), (1, (True,))))
    axes = [_draw_axis(draw, unit_stride=unit_stride, padded=mode == "numbers") for _ in range(rank)]
    if draw(weighted((5, (False,)), (1, (True,)))):
        # A 1xk (or kx1) kernel, as separable networks have.
        flat = draw(st.integers(0, rank - 1))
        axes[flat] = replace(axes[flat], kernel=1, dilation=1, padding=min(axes[flat].padding, 2))
    padding = tuple(axis.padding for axis in axes) if mode == "numbers" else mode
    sizes = {
        "input_size": tuple(a.input for a in axes),
        "kernel_size": tuple(a.kernel for a in axes),
        "stride": tuple(a.stride for a in axes),
        "dilation": tuple(a.dilation for a in axes),
    }
    room = max(1, max_products // max(1, ConvGeometry(1, 1, padding=padding, **sizes).nnz))
    kind = draw(weighted((12, ("one group",)), (4, ("depthwise",)), (4, ("groups",))))
    if kind == "depthwise":
        groups, inputs = draw(channels(room)), 1
        outputs = draw(weighted((3, (1,)), (1, tuple(range(1, max(1, min(4, room // groups)) + 1)))))
    else:
        groups = 1 if kind == "one group" else draw(st.integers(1, max(1, min(room, 8))))
        inputs = draw(channels(max(1, room // groups)))
        outputs = draw(channels(max(1, room // (groups * inputs))))
    return ConvGeometry(groups * inputs, groups * outputs, padding=padding, groups=groups, **sizes)


def layouts(axes: int, *, legal: Collection[str]) -> st.SearchStrategy[str | None]:
    """The layout of an operand with this number of axes; None (the subject's own) more often than not."""
    names = [name for name, (_, _, ranks) in LAYOUTS.items() if axes in ranks and name in legal]
    if not names:
        return st.none()
    return weighted((3, (None,)), (2, tuple(names)))


@st.composite
def cases(
    draw: st.DrawFn,
    *,
    geometry: st.SearchStrategy[ConvGeometry] | None = None,
    dtypes: Sequence[str] = ("float32",),
    recipes: Sequence[str] = ("integers",),
    legal_layouts: Collection[str] = tuple(LAYOUTS),
    device: str = "cpu",
) -> Case:
    """Valid cases.

    Parameters
    ----------
    geometry : strategy of ConvGeometry, optional
        :func:`geometries` if not given.
    dtypes, recipes : sequences of str
        What to choose from, the simplest first.
    legal_layouts : collection of str
        Memory layouts that input, weight and bias may have, each on its own.
    device : str

    Examples
    --------
    >>> from hypothesis import find
    >>> str(find(cases(), lambda case: case.bias))
    'input=1x1x1 weight=1x1x1x1 bias'
    """
    g = draw(geometries() if geometry is None else geometry)
    # Batches around 16 switch algorithms in some libraries; the empty one is forgotten by others.
    batch = draw(weighted((8, (1,)), (5, (2, 3)), (2, (None,)), (1, (0,)), (2, (15, 16, 17, 32))))
    if batch is not None and batch * g.nnz > 2 * MAX_PRODUCTS:
        batch = 1
    has_bias = draw(st.booleans())
    chosen = {
        "input": draw(layouts(g.rank + (1 if batch is None else 2), legal=legal_layouts)),
        "weight": draw(layouts(g.rank + 2, legal=legal_layouts)),
        "bias": draw(layouts(1, legal=legal_layouts)) if has_bias else None,
    }
    return Case.of(
        g,
        batch,
        bias=has_bias,
        dtype=draw(st.sampled_from(dtypes)),
        layouts=tuple((operand, layout) for operand, layout in chosen.items() if layout is not None),
        device=device,
        data=draw(st.sampled_from(recipes)),
        seed=draw(st.integers(0, 2**16 - 1)),
    )
