"""Gradients of float64 data, summed in twice its precision: each sum is a value and a residual.

The factors of a gradient are gathered row by row, as the oracle does for chosen results, because a compensated sum
needs all its products at once. A row of the gradient in the input has the results that read a pixel: at most one per
tap, fewer with a stride. A row of the gradient in the weight has all positions of all images.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.matrix import unravel
from toeplitz_core.products import receptive_field
from toeplitz_core.testing.oracle.sums import tree_sum, two_product

# Number of products per block: each needs about ten more numbers, and all of them fit in a processor's cache.
_BLOCK = 2**16

Pair = tuple[torch.Tensor, torch.Tensor]
Rows = Callable[[torch.Tensor], Pair]


def input_gradient(geometry: ConvGeometry, weight: torch.Tensor, y: torch.Tensor) -> Pair:
    """``T.mT @ y`` as value and residual, each (batch, in_channels, pixels), with complex parts on a last axis.

    Parameters
    ----------
    weight : float64 or complex128 tensor of shape (out_channels, in_channels / groups, *kernel_size)
        Of ordinary size, like ``y``: their products are 0 or between 2^-900 and 2^900.
    y : tensor of shape (batch, out_channels, positions)
    """
    terms, rows = input_rows(geometry, weight, y)
    return _by_rows((len(y), geometry.in_channels, geometry.pixels), terms, rows, like=y)


def input_rows(geometry: ConvGeometry, weight: torch.Tensor, y: torch.Tensor) -> tuple[int, Rows]:
    """The number of factors of each element of the gradient in the input, and a function that gathers them.

    The function takes flat indices of elements, of shape (m,), and returns the weights and the results' gradients that
    are multiplied, each (m, factors). Where there is nothing to multiply, the weight is 0.
    """
    outputs = geometry.out_channels // geometry.groups
    tables = [_readers(geometry, axis) for axis in range(geometry.rank)]
    readers = math.prod(position.shape[1] for position, _, _ in tables)
    flat = weight.flatten(2)

    def rows(elements: torch.Tensor) -> Pair:
        image, channel, pixel = unravel(elements, (len(y), geometry.in_channels, geometry.pixels))
        position, tap = (torch.zeros(len(elements), 1, dtype=torch.int64) for _ in range(2))
        live = torch.ones(len(elements), 1, dtype=torch.bool)
        for axis, at in enumerate(unravel(pixel, geometry.input_size)):
            positions, taps, reads = (table[at][:, None, :] for table in tables[axis])
            position = (position[:, :, None] * geometry.output_size[axis] + positions).flatten(1)
            tap = (tap[:, :, None] * geometry.kernel_size[axis] + taps).flatten(1)
            live = (live[:, :, None] & reads).flatten(1)
        of_group = channel // geometry.group_channels * outputs
        above = (of_group[:, None] + torch.arange(outputs))[:, :, None]
        factors = flat[above, (channel % geometry.group_channels)[:, None, None], tap[:, None, :]]
        read = y[image[:, None, None], above, position[:, None, :]]
        return torch.where(live[:, None, :], factors, 0).flatten(1), read.flatten(1)

    return outputs * readers, rows


def weight_gradient(geometry: ConvGeometry, x: torch.Tensor, y: torch.Tensor) -> Pair:
    """The gradient of ``y . (T @ x)`` in the weight, as value and residual in the weight's shape.

    Parameters
    ----------
    x : float64 or complex128 tensor of shape (batch, in_channels, pixels)
    y : tensor of shape (batch, out_channels, positions)
    """
    terms, rows = weight_rows(geometry, x, y)
    shape = (geometry.out_channels, geometry.group_channels, math.prod(geometry.kernel_size))
    value, residual = (t.unflatten(2, geometry.kernel_size) for t in _by_rows(shape, terms, rows, like=y))
    return value, residual


def weight_rows(geometry: ConvGeometry, x: torch.Tensor, y: torch.Tensor) -> tuple[int, Rows]:
    """The number of factors of each element of the gradient in the weight, and a function that gathers them.

    The function is as in :func:`input_rows`, with pixels in place of weights.
    """
    shape = (geometry.out_channels, geometry.group_channels, math.prod(geometry.kernel_size))
    index, live = receptive_field(geometry, torch.arange(geometry.positions))

    def rows(elements: torch.Tensor) -> Pair:
        output, channel, tap = unravel(elements, shape)
        channel = output // (geometry.out_channels // geometry.groups) * geometry.group_channels + channel
        pixels = x[:, channel[:, None], index.mT[tap]]
        pixels = torch.where(live.mT[tap], pixels, 0)
        return pixels.transpose(0, 1).flatten(1), y[:, output].transpose(0, 1).flatten(1)

    return len(x) * geometry.positions, rows


def bias_rows(y: torch.Tensor) -> tuple[int, Rows]:
    """The number of terms of each element of the gradient in the bias, and a function that gathers them and ones."""

    def rows(elements: torch.Tensor) -> Pair:
        terms = y[:, elements].transpose(0, 1).flatten(1)
        return torch.ones_like(terms), terms

    return len(y) * math.prod(y.shape[2:]), rows


def bias_gradient(y: torch.Tensor) -> Pair:
    """The sum of ``y``, (batch, out_channels, positions), over images and positions, as value and residual."""
    terms = y.transpose(0, 1).flatten(1)
    parts = torch.view_as_real(terms).transpose(1, 2) if terms.is_complex() else terms
    return tree_sum(parts, torch.zeros_like(parts))


def _readers(geometry: ConvGeometry, axis: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The outputs along an axis that read each pixel, and the tap of each output.

    Pixel ``i`` is read through tap ``k`` by output ``o`` with ``o * stride = i + before - k * dilation``.

    Returns
    -------
    outputs, taps, live : tensors of shape (pixels, largest number of readers)
        ``live`` is False where a pixel has fewer readers.
    """
    taps = torch.arange(geometry.kernel_size[axis])
    pixels = torch.arange(geometry.input_size[axis])[:, None]
    start = pixels + geometry.pads[axis][0] - taps * geometry.dilation[axis]
    output = start.div(geometry.stride[axis], rounding_mode="floor")
    reads = (start % geometry.stride[axis] == 0) & (output >= 0) & (output < geometry.output_size[axis])
    most = int(reads.sum(1).max()) if reads.numel() else 0
    chosen = (~reads).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    live = reads.gather(1, chosen)
    return torch.where(live, output.gather(1, chosen), 0), chosen, live


def _by_rows(shape: tuple[int, ...], terms: int, rows: Rows, *, like: torch.Tensor) -> Pair:
    """The sums of products of rows of factors, computed in blocks of rows of about ``_BLOCK`` products."""
    is_complex = like.is_complex()
    full = (*shape, 2) if is_complex else shape
    value = torch.zeros(full, dtype=torch.float64)
    residual = torch.zeros_like(value)
    if not terms or not value.numel():
        return value, residual
    flat = [t.view(-1, 2) if is_complex else t.view(-1) for t in (value, residual)]
    for elements in torch.arange(math.prod(shape)).split(max(1, _BLOCK // (terms * (4 if is_complex else 1)))):
        for whole, part in zip(flat, products(*rows(elements)), strict=True):
            whole[elements] = part
    return value, residual


def products(a: torch.Tensor, b: torch.Tensor) -> Pair:
    """The sums of ``a * b`` over the last axis; complex sums have real and imaginary part on a last axis."""
    if not a.is_complex():
        return tree_sum(*two_product(a, b))
    parts = (
        (torch.cat((a.real, -a.imag), dim=-1), torch.cat((b.real, b.imag), dim=-1)),
        (torch.cat((a.real, a.imag), dim=-1), torch.cat((b.imag, b.real), dim=-1)),
    )
    (re, re_low), (im, im_low) = (tree_sum(*two_product(*factors)) for factors in parts)
    return torch.stack((re, im), dim=-1), torch.stack((re_low, im_low), dim=-1)
