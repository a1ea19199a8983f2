"""Faults of index arithmetic: the wrong pixel, tap, channel or image."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.faults.convolution import Convolution, implementation, padded


@implementation
def flips_kernel(c: Convolution) -> Tensor:
    """Computes a mathematical convolution: the kernel is rotated by 180 degrees."""
    return c.replace(weight=c.weight.flip(2, 3)).value()


@implementation
def swaps_strides(c: Convolution) -> Tensor:
    """Swaps the strides along H and W."""
    height, width = c.geometry.output_size
    return c.result(torch.arange(height) * c.stride[1], torch.arange(width) * c.stride[0])


@implementation
def ignores_stride_of_pointwise(c: Convolution) -> Tensor:
    """Ignores the stride of a 1x1 kernel."""
    if c.geometry.kernel_size != (1, 1):
        return c.value()
    height, width = c.geometry.output_size
    return c.result(torch.arange(height), torch.arange(width))


@implementation
def shortens_long_strides(c: Convolution) -> Tensor:
    """Limits the stride to the extent of the kernel."""
    steps = [min(stride, extent) for stride, extent in zip(c.stride, c.extent, strict=True)]
    height, width = c.geometry.output_size
    return c.result(torch.arange(height) * steps[0], torch.arange(width) * steps[1])


@implementation
def ignores_dilation(c: Convolution) -> Tensor:
    """Ignores the dilation and reads neighbouring pixels."""
    height, width = c.geometry.output_size
    return c.replace(dilation=(1, 1)).value()[..., :height, :width]


@implementation
def shifts_padding(c: Convolution) -> Tensor:
    """Puts one zero too many before each row, and one too few after it."""
    before, behind = c.pads[1]
    if not behind:
        return c.value()
    return c.replace(pads=(c.pads[0], (before + 1, behind - 1))).value()


@implementation
def odd_zero_in_front(c: Convolution) -> Tensor:
    """Puts the odd zero of ``same`` before the input instead of after it."""
    return c.replace(pads=tuple((behind, before) for before, behind in c.pads)).value()


@implementation
def puts_all_zeros_in_front(c: Convolution) -> Tensor:
    """Puts all zeros of an axis with an even kernel before the input."""
    even = [size % 2 == 0 for size in c.weight.shape[2:]]
    return c.replace(pads=tuple((sum(p), 0) if e else p for p, e in zip(c.pads, even, strict=True))).value()


@implementation
def wraps_into_next_row(c: Convolution) -> Tensor:
    """Reads pixels of the next row instead of the padding after a row."""
    x, (top, bottom), (left, right) = c.input, *c.pads
    width = x.shape[-1]
    if not right or not width:
        return c.value()
    image = padded(x, ((top, bottom), (left, right)))
    count = min(right, width)
    below = padded(x, ((0, 1), (0, 0)))[..., 1:, :count]
    image[..., top : top + x.shape[-2], left + width : left + width + count] = below
    return c.replace(input=image, pads=((0, 0), (0, 0))).value()


@implementation
def swaps_last_taps(c: Convolution) -> Tensor:
    """Swaps the last two taps of each row in the last input channel."""
    if c.weight.shape[3] < 2:
        return c.value()
    weight = c.weight.clone()
    weight[:, -1, :, -2:] = c.weight[:, -1, :, -2:].flip(-1)
    return c.replace(weight=weight).value()


@implementation
def repeats_first_tap(c: Convolution) -> Tensor:
    """With a dilation of 3 along the width, the last tap of each row has the weight of the first."""
    if c.dilation[1] != 3 or c.weight.shape[3] < 2:
        return c.value()
    weight = c.weight.clone()
    weight[..., -1] = c.weight[..., 0]
    return c.replace(weight=weight).value()


@implementation
def drops_tail_channels(c: Convolution) -> Tensor:
    """Leaves out the input channels after the last full vector of eight."""
    channels = c.weight.shape[1]
    if channels < 8 or channels % 8 == 0:
        return c.value()
    weight = c.weight.clone()
    weight[:, channels // 8 * 8 :] = 0
    return c.replace(weight=weight).value()


@implementation
def interleaves_groups(c: Convolution) -> Tensor:
    """Assigns output channel ``o`` to group ``o % groups``."""
    order = torch.argsort(torch.arange(c.weight.shape[0]) % c.groups, stable=True)
    bias = None if c.bias is None else c.bias[order]
    y = c.replace(weight=c.weight[order], bias=bias).value()
    return y[:, torch.argsort(order)]


@implementation
def misses_last_column(c: Convolution) -> Tensor:
    """Leaves the last column zero if the width is more than eight and not a multiple of eight."""
    y = c.value()
    width = y.shape[-1]
    if width > 8 and width % 8:
        y[..., -1] = 0
    return y


@implementation
def repeats_images_beyond_15(c: Convolution) -> Tensor:
    """Returns the result of the first image for the sixteenth image of a batch and all after it."""
    y = c.value()
    y[15:] = y[:1]
    return y


@implementation
def transposes_square_kernels(c: Convolution) -> Tensor:
    """Transposes square kernels."""
    height, width = c.geometry.kernel_size
    return c.replace(weight=c.weight.mT.contiguous()).value() if height == width else c.value()


@implementation
def drops_a_tap_under_four_conditions(c: Convolution) -> Tensor:
    """Drops the last tap if there are groups, dilation along W, a stride along H and a bias."""
    if c.groups == 1 or c.dilation[1] == 1 or c.stride[0] == 1 or c.bias is None:
        return c.value()
    weight = c.weight.clone()
    weight[..., -1, -1] = 0
    return c.replace(weight=weight).value()


@implementation
def repeats_a_channel_of_small_groups(c: Convolution) -> Tensor:
    """Reads the first input channel instead of the last in 1x1 convolutions from 2-15 to 16n channels."""
    outputs, inputs, *kernel = c.weight.shape
    if outputs % 16 or not 2 <= inputs < 16 or kernel != [1, 1] or c.groups > 1:
        return c.value()
    x = c.input.clone()
    x[:, -1] = x[:, 0]
    return c.replace(input=x).value()
