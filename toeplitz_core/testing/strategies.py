"""Hypothesis strategies for geometries, weighted towards the conditions under which convolutions were found wrong.

All are valid by construction (nothing is filtered out) and shrink towards 1x1 kernels, one output, one channel, stride
1 and no padding. The output size is drawn first and the input follows from it, so that degenerate outputs, remainders
of the stride and windows wholly in padding are common rather than accidents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from hypothesis import strategies as st

from toeplitz_core.geometry import ConvGeometry

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


def weighted(*choices: tuple[int, st.SearchStrategy[T]]) -> st.SearchStrategy[T]:
    """One of several strategies, by weight. Shrinks towards the first."""
    table = [strategy for weight, strategy in choices for _ in range(weight)]
    return st.integers(0, len(table) - 1).flatmap(table.__getitem__)


def kernel_sizes() -> st.SearchStrategy[int]:
    """Taps along one axis."""
    return weighted(
        (5, st.just(1)), (6, st.just(3)), (3, st.just(2)), (4, st.integers(4, 7)), (2, st.sampled_from((8, 9, 11, 16, 17)))
    )


def output_sizes() -> st.SearchStrategy[int]:
    """Outputs along one axis: tiny ones often, and the neighbours of tile sizes."""
    return weighted((9, st.integers(1, 3)), (6, st.integers(4, 6)), (5, st.sampled_from(BOUNDARIES)))


@st.composite
def _axes(draw: st.DrawFn, *, stride: int | None = None, same: bool = False) -> _Axis:
    kernel = draw(kernel_sizes())
    dilation = draw(weighted((14, st.just(1)), (5, st.integers(2, 3)), (1, st.integers(4, 7))))
    extent = (kernel - 1) * dilation + 1
    if stride is None:
        stride = draw(weighted((8, st.just(1)), (9, st.integers(2, 3)), (3, st.integers(extent + 1, extent + 3))))
    output = draw(output_sizes())
    if same:
        return _Axis(output, kernel, stride, 0, dilation)
    padding = draw(
        weighted(
            (8, st.just(0)),
            (5, st.just(extent // 2)),
            (3, st.just(extent - 1)),
            (2, st.integers(extent, extent + 2)),  # windows wholly in padding
            (1, st.integers(1, max(1, extent - 1))),
        )
    )
    # The pixels that the outputs need, and fewer than a stride more that none of them reads.
    size = (output - 1) * stride + extent - 2 * padding + draw(st.integers(0, stride - 1))
    if size < 1:
        # The padding alone has room for these outputs. A tiny input then makes a tap (or an output) that never meets it.
        size = draw(st.integers(1, 3))
        size = max(size, extent - 2 * padding)
    return _Axis(size, kernel, stride, padding, dilation)


def channels(limit: int) -> st.SearchStrategy[int]:
    """Channels per group, up to a limit: one often, then few, then beside the widths of vector registers."""
    few = [c for c in (2, 3, 4, 6, 7, 5) if c <= limit]
    many = [c for c in (8, 9, 15, 16, 17, 24, 31, 32, 33, 48, 64) if c <= limit]
    strategies = [(7, st.just(1))]
    if few:
        strategies.append((7, st.sampled_from(few)))
    if many:
        strategies.append((7, st.sampled_from(many)))
    return weighted(*strategies)


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
    padding_mode = draw(weighted((17, st.none()), (2, st.just("same")), (1, st.just("valid")))) if strings else None
    unit_stride = padding_mode == "same" or draw(weighted((3, st.just(False)), (1, st.just(True))))
    axis = _axes(stride=1 if unit_stride else None, same=padding_mode == "same")
    axes = [draw(axis) for _ in range(rank)]
    if draw(weighted((5, st.just(False)), (1, st.just(True)))):
        # A 1xk (or kx1) kernel, as separable networks have.
        flat = draw(st.integers(0, rank - 1))
        a = axes[flat]
        size = max(1, a.input - (a.kernel - 1) * a.dilation) if padding_mode != "same" else a.input
        axes[flat] = _Axis(size, 1, a.stride, min(a.padding, 2), 1)
    padding: tuple[int, ...] | str = tuple(a.padding for a in axes)
    if padding_mode == "same":
        padding = "same"
    elif padding_mode == "valid":
        padding = "valid"
        axes = [_Axis(a.input + 2 * a.padding, a.kernel, a.stride, 0, a.dilation) for a in axes]
    sizes = {
        "input_size": tuple(a.input for a in axes),
        "kernel_size": tuple(a.kernel for a in axes),
        "stride": tuple(a.stride for a in axes),
        "dilation": tuple(a.dilation for a in axes),
    }
    room = max(1, max_products // max(1, ConvGeometry(1, 1, padding=padding, **sizes).nnz))
    kind = draw(weighted((12, st.just("one")), (4, st.just("depthwise")), (4, st.just("grouped"))))
    if kind == "one":
        inputs = draw(channels(room))
        outputs = draw(channels(max(1, room // inputs)))
        return ConvGeometry(inputs, outputs, padding=padding, groups=1, **sizes)
    if kind == "depthwise":
        groups = draw(channels(room))
        multiplier = draw(weighted((3, st.just(1)), (1, st.integers(1, max(1, min(4, room // groups))))))
        return ConvGeometry(groups, groups * multiplier, padding=padding, groups=groups, **sizes)
    groups = draw(st.integers(1, max(1, min(room, 8))))
    inputs = draw(channels(max(1, room // groups)))
    outputs = draw(channels(max(1, room // (groups * inputs))))
    return ConvGeometry(groups * inputs, groups * outputs, padding=padding, groups=groups, **sizes)
