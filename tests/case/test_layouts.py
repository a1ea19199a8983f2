"""Layouts: the same values with other strides, and only poison between them."""

from __future__ import annotations

import math

import pytest
import torch

from tests.helpers.operands import DTYPES
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.layouts import LAYOUTS, apply_layout, check_layout

SHAPES = (
    (5,),
    (2, 3),
    (2, 3, 4),
    (2, 3, 4, 5),
    (1, 3, 1, 5),
    (2, 1, 4, 1),
    (2, 2, 3, 2, 3),
    (0, 3, 4, 5),
    (2, 0, 4, 5),
)
LEGAL = [(layout, shape) for layout, (_, _, axes) in LAYOUTS.items() for shape in SHAPES if len(shape) in axes]
POISONED = ("offset", "sliced", "cropped", "channel_slice")

# Strides for the shape (2, 3, 4, 5).
STRIDES = {
    "contiguous": (60, 20, 5, 1),
    "channels_last": (60, 1, 15, 3),
    "transposed": (60, 20, 1, 4),
    "permuted": (1, 2, 6, 24),
    "offset": (60, 20, 5, 1),
    "sliced": (132, 44, 11, 2),
    "cropped": (168, 56, 8, 1),
    "channel_slice": (120, 1, 30, 6),
    "expanded": (0, 20, 5, 1),
    "odd_strides": (60, 20, 5, 1),
}


def numbered(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """1, 2, 3, ...; the imaginary parts are their negatives."""
    values = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64).view(shape)
    return torch.complex(values, -values).to(dtype) if dtype.is_complex else values.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("layout", "shape"), LEGAL)
def test_values_are_the_same(layout: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """A layout changes neither shape, dtype nor values; ``expanded`` repeats the first slice."""
    values = numbered(shape, dtype)
    laid_out = apply_layout(values, layout)
    wanted = values[:1].expand(shape) if layout == "expanded" else values
    assert laid_out.dtype == dtype
    assert laid_out.shape == shape
    assert torch.equal(laid_out, wanted)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_are_those_of_the_layout(layout: str) -> None:
    """Each layout has the strides of its description."""
    assert apply_layout(numbered((2, 3, 4, 5)), layout).stride() == STRIDES[layout]


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_repeat_a_number(shape: tuple[int, ...]) -> None:
    """``repeated`` is one number with stride 0 on all axes larger than 1, and legal only for gradients."""
    laid_out = apply_layout(numbered(shape), "repeated")
    assert torch.equal(laid_out, torch.ones(shape))
    assert all(stride == 0 for stride, size in zip(laid_out.stride(), shape, strict=True) if size > 1) or 0 in shape
    check_layout("grad", "repeated", shape)
    with pytest.raises(ValueError, match=r"layout\.input=repeated must be one of contiguous, .*odd_strides$"):
        check_layout("input", "repeated", shape)


def test_axes_of_size_one_have_odd_strides() -> None:
    """On an axis of size 1, ``odd_strides`` has a stride that does not follow from the shape."""
    assert apply_layout(numbered((1, 3, 1, 5)), "odd_strides").stride() == (7, 5, 7, 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", POISONED)
def test_reading_beside_a_view_gives_poison(layout: str, dtype: torch.dtype) -> None:
    """The buffer is poison outside the view, with some poison before and after it."""
    shape = (2, 3, 4, 5)
    laid_out = apply_layout(numbered(shape, dtype), layout)
    buffer = torch.empty(0, dtype=dtype).set_(laid_out.untyped_storage())
    own = torch.zeros(len(buffer), dtype=torch.bool)
    own.as_strided(shape, laid_out.stride(), laid_out.storage_offset()).fill_(True)  # torch's signature
    poison = buffer[~own]
    assert int(own.sum()) == math.prod(shape)
    assert (poison == torch.iinfo(dtype).max // 3 if dtype == torch.int64 else poison.isnan()).all()
    assert not own[0]
    assert not own[-1]


@pytest.mark.parametrize("axes", range(1, 6))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_illegal_layouts_say_what_they_need(layout: str, axes: int) -> None:
    """A layout that does not exist for a number of axes is refused with the number that it needs."""
    shape, legal = (2,) * axes, LAYOUTS[layout][2]
    if axes in legal:
        check_layout("input", layout, shape)
        assert apply_layout(numbered(shape), layout).shape == shape
        return
    needed = "4" if len(legal) == 1 else f"at least {legal.start}"
    with pytest.raises(ValueError, match=rf"layout.input={layout} needs {needed} axes, but input has {axes}: \(2,"):
        check_layout("input", layout, shape)


def test_unknown_layouts_are_refused_with_the_known_ones() -> None:
    """A misspelt layout is refused with the list of layouts; a case checks the layouts of its operands."""
    with pytest.raises(ValueError, match=r"layout.bias=channel_last must be one of contiguous, channels_last,"):
        check_layout("bias", "channel_last", (3,))
    with pytest.raises(ValueError, match=r"layout.bias=channels_last needs 4 axes, but bias has 1"):
        Case((1, 1, 2, 2), (1, 1, 1, 1), bias=True, layouts=(("bias", "channels_last"),))
