"""The products of a convolution without its matrix: ``T @ x``, ``T.mT @ y``, and the gradient in the weight.

Nothing is checked here. The pixels that a block of outputs reads are gathered by index, and multiplied by the weight.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.matrix import unravel

# Receptive fields are gathered in blocks of about this size, which a processor's cache holds; a GPU takes larger ones.
# Each is freed after its block, unless autograd keeps it.
_BLOCK_BYTES, _BLOCK_BYTES_OF_GPU = 2**21, 2**25
# Receptive fields of up to this many taps of all positions are kept for the next call with the same geometry, because
# small convolutions take longer to index than to multiply; and of this many geometries.
_KEPT_TAPS, _KEPT_GEOMETRIES = 2**15, 16


def by_image(geometry: ConvGeometry, x: torch.Tensor) -> torch.Tensor:
    """An input as (batch, in_channels, pixels); it may be unbatched or empty."""
    return (x if x.ndim == geometry.rank + 2 else x[None]).flatten(2)


def forward(geometry: ConvGeometry, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """``T @ x`` in the accumulator's dtype: (batch, in_channels, pixels) to (batch, out_channels, positions)."""
    return joined([product(w, pixels) for w, pixels in factors(geometry, weight, x)])


def factors(
    geometry: ConvGeometry, weight: torch.Tensor, x: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The weights and the pixels whose products ``T @ x`` sums, in blocks of output positions.

    Each block is (groups, out_channels / groups, in_channels / groups, taps) and (batch, groups, in_channels / groups,
    taps, positions), in the accumulator's dtype. A tap in the padding reads a zero.
    """
    w = _by_group(geometry, weight)
    x = _with_zero(geometry, _accumulable(x).unflatten(1, (geometry.groups, geometry.group_channels)))
    for index in _receptive_fields(geometry, x):
        yield w, _gathered(x, index)


def joined(blocks: Sequence[torch.Tensor]) -> torch.Tensor:
    """Blocks (batch, groups, out_channels / groups, positions) as (batch, out_channels, all positions)."""
    result: torch.Tensor = blocks[0].contiguous() if len(blocks) == 1 else torch.cat(list(blocks), dim=-1)
    return result.flatten(1, 2)


def adjoint(geometry: ConvGeometry, weight: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``T.mT @ y`` in the accumulator's dtype: (batch, out_channels, positions) to (batch, in_channels, pixels)."""
    w = _by_group(geometry, weight)
    y = _accumulable(y).unflatten(1, (geometry.groups, geometry.out_channels // geometry.groups))
    x = y.new_zeros(len(y), geometry.groups, geometry.group_channels, geometry.pixels + _is_padded(geometry))
    begin = 0
    for index in _receptive_fields(geometry, x):
        block = y[..., begin : begin + index.shape[1]]
        begin += index.shape[1]
        x = x.index_add(-1, index.flatten(), contract("gock,ngop->ngckp", w, block).flatten(-2))
    return x[..., : geometry.pixels].flatten(1, 2)


def weight_adjoint(geometry: ConvGeometry, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The gradient of ``y . (T @ x)`` in the weight, in the accumulator's dtype.

    Parameters
    ----------
    x : tensor of shape (batch, in_channels, pixels)
    y : tensor of shape (batch, out_channels, positions)

    Returns
    -------
    tensor of shape (out_channels, in_channels / groups, *kernel_size)
    """
    x = _with_zero(geometry, _accumulable(x).unflatten(1, (geometry.groups, geometry.group_channels)))
    outputs = geometry.out_channels // geometry.groups
    y = _accumulable(y).unflatten(1, (geometry.groups, outputs))
    taps = math.prod(geometry.kernel_size)
    weight = x.new_zeros(geometry.groups, outputs, geometry.group_channels, taps)
    begin = 0
    for index in _receptive_fields(geometry, x):
        block = y[..., begin : begin + index.shape[1]]
        begin += index.shape[1]
        if len(index):  # without pixels, no tap reads anything
            weight = weight + contract("ngop,ngckp->gock", block, _gathered(x, index))
    return weight.view(geometry.weight_shape)


def _is_padded(geometry: ConvGeometry) -> bool:
    """Whether there is padding that a tap may read."""
    return geometry.pixels > 0 and any(before or after for before, after in geometry.pads)


def _with_zero(geometry: ConvGeometry, x: torch.Tensor) -> torch.Tensor:
    """Add a zero after the pixels, where there is padding: every tap in the padding reads this zero."""
    return torch.cat((x, x.new_zeros(*x.shape[:-1], 1)), dim=-1) if _is_padded(geometry) else x


def _gathered(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The pixels that taps read: (batch, groups, channels, pixels) to (batch, groups, channels, taps, positions)."""
    # Several times as fast on the last axis as index_select.
    pixels: torch.Tensor = torch.gather(x, -1, index.flatten().expand(*x.shape[:-1], -1)).unflatten(-1, index.shape)
    return pixels


def product(w: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """The sums of products of a block of ``factors``: (batch, groups, out_channels / groups, positions)."""
    if pixels.device.type == "cpu" and (len(pixels) == 1 or w.shape[1] <= pixels.shape[-1]):
        # A matrix product repeats the weight for each image, where einsum would copy the pixels.
        return w.flatten(2) @ pixels.flatten(2, 3)
    return contract("gock,ngckp->ngop", w, pixels)


def receptive_field(geometry: ConvGeometry, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The pixel that each tap reads at these output positions, and whether it is a pixel rather than padding.

    Parameters
    ----------
    positions : int64 tensor of shape (p,)
        Row-major indices into ``output_size``.

    Returns
    -------
    index : int64 tensor of shape (p, taps per channel)
        Row-major indices into ``input_size``; 0 where the tap reads padding.
    live : bool tensor of the same shape
        False where the tap reads padding.
    """
    index = torch.zeros(len(positions), 1, dtype=torch.int64, device=positions.device)
    live = torch.ones_like(index, dtype=torch.bool)
    for axis, output in enumerate(unravel(positions, geometry.output_size)):
        size = geometry.input_size[axis]
        start = output * geometry.stride[axis] - geometry.pads[axis][0]
        taps = torch.arange(geometry.kernel_size[axis], device=positions.device) * geometry.dilation[axis]
        pixel = start[:, None] + taps
        index = (index[:, :, None] * size + pixel[:, None, :]).flatten(1)
        live = (live[:, :, None] & ((pixel >= 0) & (pixel < size))[:, None, :]).flatten(1)
    return torch.where(live, index, 0), live


def _receptive_fields(geometry: ConvGeometry, x: torch.Tensor) -> Iterator[torch.Tensor]:
    """The pixel that each tap reads at all positions, in blocks of positions: int64 of shape (taps, positions).

    It is ``geometry.pixels``, the place of a zero, where the tap reads padding. There are no taps if there are no
    pixels. The pixels gathered from ``x`` take at most as many bytes as a block.
    """
    taps = math.prod(geometry.kernel_size)
    per_position = math.prod(x.shape[:-1]) * x.dtype.itemsize + torch.int64.itemsize
    size = _BLOCK_BYTES if x.device.type == "cpu" else _BLOCK_BYTES_OF_GPU
    block = max(1, size // (per_position * taps))
    read = slice(None if geometry.pixels else 0)  # nothing to gather from: every tap is padding
    is_small = geometry.positions * taps <= _KEPT_TAPS
    if is_small and x.device.type == "cpu" and not torch.compiler.is_compiling():  # torch.compile warns of caches
        fields = torch.from_numpy(_kept_receptive_fields(geometry))[read]
        yield from (fields,) if block >= geometry.positions else fields.split(block, dim=1)
        return
    for positions in torch.arange(geometry.positions, device=x.device).split(block):
        index, live = receptive_field(geometry, positions)
        yield torch.where(live, index, geometry.pixels).mT[read]


@functools.lru_cache(_KEPT_GEOMETRIES)
def _kept_receptive_fields(geometry: ConvGeometry) -> np.ndarray[Any, np.dtype[np.int64]]:
    """``_receptive_fields`` as one array, because a tensor keeps the mode that it was made in."""
    index, live = np.zeros((1, 1), dtype=np.int64), np.ones((1, 1), dtype=np.bool_)
    for axis, size in enumerate(geometry.input_size):
        start = np.arange(geometry.output_size[axis]) * geometry.stride[axis] - geometry.pads[axis][0]
        pixel = np.arange(geometry.kernel_size[axis])[:, None] * geometry.dilation[axis] + start
        shape = (len(index) * len(pixel), index.shape[1] * pixel.shape[1])
        index = (index[:, None, :, None] * size + pixel[None, :, None, :]).reshape(shape)
        live = (live[:, None, :, None] & ((pixel >= 0) & (pixel < size))[None, :, None, :]).reshape(shape)
    return np.where(live, index, geometry.pixels)


def _by_group(geometry: ConvGeometry, weight: torch.Tensor) -> torch.Tensor:
    """The weight as (groups, out_channels / groups, in_channels / groups, taps), accumulable; no taps if no pixels."""
    taps = math.prod(geometry.kernel_size) if geometry.pixels else 0
    outputs = geometry.out_channels // geometry.groups
    w = _accumulable(weight).flatten(2)[..., :taps]
    return w.reshape(geometry.groups, outputs, geometry.group_channels, taps)


def _accumulable(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def contract(equation: str, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``einsum`` of two tensors. CUDA has no matrix product for integers, so there products are summed explicitly."""
    if a.is_floating_point() or a.is_complex() or a.device.type == "cpu":
        return torch.einsum(equation, a, b)
    return einsum_by_products(equation, a, b)


def einsum_by_products(equation: str, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``einsum`` as a broadcast product and a sum: slower and larger, but it supports every dtype and device."""
    inputs, kept = equation.split("->")
    names = inputs.split(",")
    axes = kept + "".join(sorted(set("".join(names)) - set(kept)))
    aligned = [
        tensor.permute([own.index(axis) for axis in axes if axis in own])[
            tuple(slice(None) if axis in own else None for axis in axes)
        ]
        for own, tensor in zip(names, (a, b), strict=True)
    ]
    # The extra axis of size 1 ensures that there is an axis to sum over: given none, torch sums over all.
    return (aligned[0] * aligned[1])[..., None].flatten(len(kept)).sum(-1).to(a.dtype)
