"""The sums of products of the oracle, for all outputs or for chosen ones, and double-double arithmetic."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.products import factors, forward, joined, product, receptive_field

# Number of products per block of the compensated sum: about ten float64 tensors of this size fit in a processor's
# cache.
_BLOCK = 2**16
# The integers that have the bits of each dtype, signed and unsigned, and the bits of its fraction.
_BITS = {
    torch.float64: (torch.int64, np.uint64, 52),
    torch.float32: (torch.int32, np.uint32, 23),
    torch.float16: (torch.int16, np.uint16, 10),
    torch.bfloat16: (torch.int16, np.uint16, 7),
}


def apply(
    geometry: ConvGeometry,
    x: torch.Tensor,
    weight: torch.Tensor,
    outputs: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """``T x`` in a dtype, (batch, out_channels, positions), or (m,) for chosen outputs."""
    if outputs is None:
        return forward(geometry, weight.to(dtype), x.to(dtype))
    # Only the numbers that the chosen outputs read are widened: a wide copy of a large layer would take much memory.
    pixels, taps = rows(geometry, x, weight, outputs)
    return (pixels.to(dtype) * taps.to(dtype)).sum(-1)


def with_magnitude(
    geometry: ConvGeometry, x: torch.Tensor, weight: torch.Tensor, outputs: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """``T x`` (in int64 for integers, else in float64) and ``|T| |x|`` in float64, as :func:`apply` returns them."""
    dtype = torch.float64 if x.is_floating_point() else torch.int64
    if outputs is not None:
        pixels, taps = (t.to(dtype) for t in rows(geometry, x, weight, outputs))
        return (pixels * taps).sum(-1), (pixels.abs().double() * taps.abs().double()).sum(-1)
    values, sizes = [], []
    for w, pixels in factors(geometry, weight.to(dtype), x.to(dtype)):
        values.append(product(w, pixels))
        sizes.append(product(w.abs().double(), pixels.abs().double()))
    return joined(values), joined(sizes)


def growth(
    geometry: ConvGeometry,
    x: tuple[torch.Tensor, torch.Tensor],
    weight: tuple[torch.Tensor, torch.Tensor],
    outputs: torch.Tensor | None,
) -> torch.Tensor:
    """``(|T| + dT) (|x| + dx) - |T| |x|`` for pairs ``(|x|, dx)`` and ``(|w|, dw)``, without cancellation."""
    (x_size, dx), (w_size, dw) = x, weight
    grown = apply(geometry, dx, w_size + dw, outputs, torch.float64)
    return grown + apply(geometry, x_size, dw, outputs, torch.float64)


def rows(
    geometry: ConvGeometry, x: torch.Tensor, weight: torch.Tensor, outputs: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The pixels that chosen outputs read and the weights that multiply them, each (m, taps of all channels)."""
    position = outputs % geometry.positions
    channel = outputs // geometry.positions % geometry.out_channels
    image = outputs // (geometry.positions * geometry.out_channels)
    index, live = receptive_field(geometry, position)
    first = channel // (geometry.out_channels // geometry.groups) * geometry.group_channels
    channels = first[:, None] + torch.arange(geometry.group_channels)
    if geometry.pixels == 0:
        return x.new_zeros(len(outputs), 0), weight.new_zeros(len(outputs), 0)
    pixels = x[image[:, None, None], channels[:, :, None], index[:, None, :]]
    pixels = torch.where(live[:, None, :], pixels, 0).flatten(1)
    return pixels, weight.flatten(1)[channel]


def products_per_output(geometry: ConvGeometry, outputs: torch.Tensor | None) -> torch.Tensor:
    """``n`` per output: the product of the live taps per axis. Shape (positions,), or (m,) for chosen outputs."""
    if outputs is None:
        return torch.from_numpy(_products_per_position(geometry))
    position = outputs % geometry.positions
    products = torch.full_like(position, geometry.group_channels)
    for axis in reversed(range(geometry.rank)):
        size = geometry.output_size[axis]
        products = products * geometry.live_taps(axis, position % size)[1]
        position = position // size
    return products


@functools.lru_cache(64)
def _products_per_position(geometry: ConvGeometry) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The array of ``products_per_output``; a tensor would keep the mode that it was made in."""
    products = np.array([geometry.group_channels])
    for axis, size in enumerate(geometry.output_size):
        products = np.outer(products, geometry.live_taps(axis, np.arange(size))[1]).ravel()
    return products


def compensated(
    geometry: ConvGeometry, x: torch.Tensor, weight: torch.Tensor, offset: torch.Tensor, outputs: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """``T x + b`` of float64 data, as value and residual."""
    if outputs is None:
        value, residual = _compensated(geometry, x, weight)
    else:
        width = max(1, geometry.group_channels * int(np.prod(geometry.kernel_size)))
        blocks = outputs.split(max(1, _BLOCK // width))
        sums = [tree_sum(*two_product(*rows(geometry, x, weight, block))) for block in blocks]
        value, residual = (torch.cat(parts) for parts in zip(*sums, strict=True))
    value, error = two_sum(value, offset.expand(value.shape))
    return value, residual + error


def _compensated(geometry: ConvGeometry, x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``T x`` as value and residual, (batch, out_channels, positions), from blocks of about ``_BLOCK`` products."""
    values, residuals = [], []
    for w, pixels in factors(geometry, weight, x):
        taps, read = w.flatten(2)[..., None], pixels.flatten(2, 3)[:, :, None]
        width = max(1, len(read) * w.shape[0] * taps.shape[2])  # products per output channel and position
        channels = max(1, _BLOCK // width)
        positions = max(1, _BLOCK // (width * min(channels, w.shape[1])))
        for columns in read.split(positions, dim=-1):
            sums = [tree_sum(*two_product(some, columns), dim=-2) for some in taps.split(channels, dim=1)]
            value, residual = (torch.cat(parts, dim=2) for parts in zip(*sums, strict=True))
            values.append(value)
            residuals.append(residual)
    return joined(values), joined(residuals)


def has_subnormals(values: torch.Tensor) -> bool:
    """Whether any number is subnormal in its dtype; checked in blocks, because a weight may be large."""
    integer, unsigned, fraction = _BITS[values.dtype]
    # Without the sign, which is shifted out, the bits of subnormal numbers are 1 to 2^fraction - 1.
    largest = unsigned((1 << fraction + 1) - 4)
    flat = values.resolve_neg().reshape(-1).view(integer)
    for block in flat.split(_BLOCK) if len(flat) > _BLOCK else (flat,):
        bits = block.numpy().view(unsigned) << unsigned(1)
        bits -= unsigned(2)  # 0 wraps around to the largest numbers
        if (bits <= largest).any():
            return True
    return False


def subnormal_sizes(values: torch.Tensor) -> torch.Tensor:
    """``|values|`` where they are subnormal in their dtype, else 0."""
    size = values.double().abs()
    return size.where(size < torch.finfo(values.dtype).smallest_normal, 0)


def tree_sum(high: torch.Tensor, low: torch.Tensor, dim: int = -1) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of pairs over an axis, which is halved repeatedly."""
    if high.shape[dim] == 0:
        return high.sum(dim), low.sum(dim)
    while (size := high.shape[dim]) > 1:
        half = size // 2
        total, error = two_sum(high.narrow(dim, 0, half), high.narrow(dim, half, half))
        rest = low.narrow(dim, 0, half) + low.narrow(dim, half, half) + error
        if size % 2:
            total = torch.cat((total, high.narrow(dim, size - 1, 1)), dim=dim)
            rest = torch.cat((rest, low.narrow(dim, size - 1, 1)), dim=dim)
        high, low = total, rest
    return high.select(dim, 0), low.select(dim, 0)


def two_sum(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``a + b`` rounded, and its rounding error (Knuth, TAOCP vol. 2, 4.2.2)."""
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


def two_product(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``a * b`` rounded, and its rounding error, without FMA (Dekker, Numer. Math. 18, 1971, with Veltkamp's split)."""
    product = a * b
    (a1, a2), (b1, b2) = _split(a), _split(b)
    return product, a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)


def _split(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    c = a * (2.0**27 + 1)
    high = c - (c - a)
    return high, a - high
