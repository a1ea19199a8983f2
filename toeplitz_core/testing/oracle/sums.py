"""The sums of products of the oracle, for all outputs or for chosen ones, and double-double arithmetic."""

from __future__ import annotations

import math

import torch

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.operator import forward, receptive_field

# Number of products per block of the compensated sum: about ten float64 tensors of this size fit in a processor's
# cache.
_BLOCK = 2**16


def apply(
    geometry: ConvGeometry,
    x: torch.Tensor,
    weight: torch.Tensor,
    outputs: torch.Tensor | None,
    dtype: torch.dtype,
    *,
    absolute: bool = False,
) -> torch.Tensor:
    """``T x`` (or ``|T| |x|``) in a dtype, (batch, out_channels, positions), or (m,) for chosen outputs."""

    def cast(values: torch.Tensor) -> torch.Tensor:
        return values.to(dtype).abs() if absolute else values.to(dtype)

    if outputs is None:
        return forward(geometry, cast(weight), cast(x))
    # Only the numbers that the chosen outputs read are widened: a wide copy of a large layer would take much memory.
    pixels, taps = rows(geometry, x, weight, outputs)
    return (cast(pixels) * cast(taps)).sum(-1)


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
        products = torch.tensor([geometry.group_channels])
        for axis, size in enumerate(geometry.output_size):
            products = torch.outer(products, geometry.live_taps(axis, torch.arange(size))[1]).flatten()
        return products
    position = outputs % geometry.positions
    products = torch.full_like(position, geometry.group_channels)
    for axis in reversed(range(geometry.rank)):
        size = geometry.output_size[axis]
        products = products * geometry.live_taps(axis, position % size)[1]
        position = position // size
    return products


def compensated(
    geometry: ConvGeometry, x: torch.Tensor, weight: torch.Tensor, offset: torch.Tensor, outputs: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """``T x + b`` of float64 data, as value and residual."""
    chosen = torch.arange(len(x) * geometry.out_channels * geometry.positions) if outputs is None else outputs
    width = max(1, math.prod(geometry.weight_shape[1:]))
    values, residuals = [x.new_zeros(0)], [x.new_zeros(0)]
    for block in chosen.split(max(1, _BLOCK // width)):
        high, low = two_product(*rows(geometry, x, weight, block))
        value, residual = tree_sum(high, low)
        values.append(value)
        residuals.append(residual)
    value, residual = torch.cat(values), torch.cat(residuals)
    if outputs is None:
        shape = (len(x), geometry.out_channels, geometry.positions)
        value, residual = value.view(shape), residual.view(shape)
    value, error = two_sum(value, offset.expand(value.shape))
    return value, residual + error


def has_subnormals(values: torch.Tensor) -> bool:
    """Whether any number is subnormal in its dtype; checked in blocks, because a weight may be large."""
    limit = torch.finfo(values.dtype).smallest_normal
    return any(bool(((block != 0) & (block.abs() < limit)).any()) for block in values.flatten().split(_BLOCK))


def subnormal_sizes(values: torch.Tensor) -> torch.Tensor:
    """``|values|`` where they are subnormal in their dtype, else 0."""
    size = values.double().abs()
    return size.where(size < torch.finfo(values.dtype).smallest_normal, 0)


def tree_sum(high: torch.Tensor, low: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of pairs over the last axis, which is halved repeatedly."""
    if high.shape[-1] == 0:
        return high.sum(-1), low.sum(-1)
    while high.shape[-1] > 1:
        half = high.shape[-1] // 2
        total, error = two_sum(high[..., :half], high[..., half : 2 * half])
        rest = low[..., :half] + low[..., half : 2 * half] + error
        high = torch.cat((total, high[..., 2 * half :]), dim=-1)
        low = torch.cat((rest, low[..., 2 * half :]), dim=-1)
    return high[..., 0], low[..., 0]


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
