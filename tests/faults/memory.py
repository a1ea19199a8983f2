"""Faults of memory: uninitialised values, stale values, wrong strides, and writes to operands."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.faults.convolution import Convolution, implementation, padded

# Stands for memory that was never written: recognisable, and valid in every dtype.
_STALE = 77

_results: dict[tuple[object, ...], Tensor] = {}


@implementation
def pads_with_nan_below(c: Convolution) -> Tensor:
    """Leaves NaN in the padding below the image, as uninitialised memory may hold."""
    (top, bottom), (left, right) = c.pads
    if not (c.dtype.is_floating_point and bottom):
        return c.value()
    image = padded(padded(c.input, ((top, 0), (left, right))), ((0, bottom), (0, 0)), float("nan"))
    y = c.replace(input=image, pads=((0, 0), (0, 0))).value()
    # Only windows that reach into it may be NaN; the matrix product makes others NaN too.
    lowest = torch.arange(y.shape[2]) * c.stride[0] + c.extent[0] - 1
    reaches = (lowest >= top + c.input.shape[2])[:, None]
    return torch.where(reaches, y, c.value())


def without_strides(tensor: Tensor, wide: torch.dtype) -> Tensor:
    """The values from the tensor's first element on in memory order, within its storage."""
    storage = int(tensor.untyped_storage().nbytes()) // tensor.element_size() - int(tensor.storage_offset())
    flat = tensor.as_strided((storage,), (1,), tensor.storage_offset())
    index = torch.arange(tensor.numel()).clamp(max=max(storage - 1, 0))
    return flat[index].view(tensor.shape).to(wide)


@implementation
def ignores_strides_of_weight(c: Convolution) -> Tensor:
    """Reads the weight as if it were contiguous."""
    return c.replace(weight=without_strides(c.given[1], c.weight.dtype)).value()


@implementation
def ignores_strides_of_bias(c: Convolution) -> Tensor:
    """Reads the bias as if it were contiguous."""
    bias = c.given[2]
    return c.value() if bias is None else c.replace(bias=without_strides(bias, c.weight.dtype)).value()


@implementation
def leaves_windows_in_padding_unwritten(c: Convolution) -> Tensor:
    """Does not write outputs whose window lies wholly in padding, not even their bias."""
    met = padded(torch.ones(1, 1, *c.input.shape[2:], dtype=torch.float64), c.pads)
    ones = torch.ones(1, 1, *(int(n) for n in c.extent), dtype=torch.float64)
    skipped = (
        c.replace(input=met, weight=ones, bias=None, pads=((0, 0), (0, 0)), dilation=(1, 1), groups=1).value() == 0
    )
    return c.value().masked_fill(skipped, _STALE)


@implementation
def returns_result_of_same_shapes(c: Convolution) -> Tensor:
    """Caches results by the shapes of the operands, and ignores their values."""
    key = (c.dtype, c.given[0].shape, c.geometry, c.bias is None)
    if key not in _results:
        _results[key] = c.value()
    return _results[key]


@implementation
def writes_its_input(c: Convolution) -> Tensor:
    """Uses its input as scratch memory after it has read it."""
    y = c.value()
    x = c.given[0]
    x[:1].zero_()
    return y
