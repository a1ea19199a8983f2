"""The exact result ``T x + b`` of a convolution, and the magnitudes that bound the error of a computed one.

Products of float32 or narrower numbers are exact in float64. A float64 sum of them is off by at most
``(n + 8) 2^-52 S``; the judge adds this to the bound. float64 data is summed in pairs of float64 instead (the
compensated dot product of Ogita, Rump & Oishi, "Accurate sum and dot product", SIAM J. Sci. Comput. 26, 2005, here
summed as a tree). The error of such a sum is of the order of ``n^2 2^-106 S``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch

from toeplitz_core.bound import Algorithm, Sums, format_of
from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.products import by_image
from toeplitz_core.testing.data.kept import KEPT_BYTES, Kept, bytes_of
from toeplitz_core.testing.data.operands import largest_part
from toeplitz_core.testing.oracle.expected import Expected, scaled
from toeplitz_core.testing.oracle.sums import (
    apply,
    compensated,
    growth,
    has_subnormals,
    products_per_output,
    subnormal_sizes,
    with_magnitude,
)

# float64 operands are scaled below this power of two, so that products, their splits and sums stay far from overflow.
_LARGEST_EXPONENT = 400


def expected(
    geometry: ConvGeometry,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    outputs: torch.Tensor | None = None,
    algorithms: tuple[Algorithm, ...] = (),
) -> Expected:
    """The exact result for finite operands of one dtype; float64 must be within 600 powers of two of the largest.

    Parameters
    ----------
    x : tensor of shape ([batch,] in_channels, *input_size)
    weight : tensor of shape (out_channels, in_channels / groups, *kernel_size)
    bias : tensor of shape (out_channels,), optional
    outputs : int64 tensor of shape (m,), optional
        Only these outputs, as flat indices into ``(batch, out_channels, *output_size)``.
    algorithms : tuple of Algorithm
        Algorithms whose bound is needed too.

    Returns
    -------
    Expected
        Its shape is ``([batch,] out_channels, *output_size)``, or (m,) for chosen outputs. It is kept for the next call
        with the same tensors.
    """
    if outputs is not None:
        return _expected(geometry, x, weight, bias, outputs, algorithms)
    operands = x, weight, bias
    key = (geometry, *map(id, operands), algorithms)
    return _KEPT.get(key, lambda: _Entry(operands, _expected(geometry, *operands, None, algorithms))).expected


class _Entry(NamedTuple):
    """An expected result with the operands, whose identity is the key."""

    operands: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
    expected: Expected


_KEPT: Kept[_Entry] = Kept(KEPT_BYTES, lambda entry: entry.expected.nbytes + bytes_of(*entry.operands))


def _expected(
    geometry: ConvGeometry,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    outputs: torch.Tensor | None,
    algorithms: tuple[Algorithm, ...],
) -> Expected:
    batch = by_image(geometry, x)
    fmt = format_of(x.dtype) if x.is_floating_point() or x.is_complex() else None
    topmost = None if fmt is None else _topmost(geometry, batch, weight, bias, outputs, 2.0**fmt.max_exponent)
    gauss = max((_largest_sum(t) for t in (x, weight, bias) if t is not None), default=0.0) if x.is_complex() else 0.0
    exponent = 0
    if x.dtype in (torch.float64, torch.complex128):
        down = [max(0, _exponent(t) - _LARGEST_EXPONENT) for t in (x, weight)]
        down[0] += 0 if bias is None else max(0, _exponent(bias) - sum(down) - 2 * _LARGEST_EXPONENT)
        batch, weight = scaled(batch, -down[0]), scaled(weight, -down[1])
        exponent = sum(down)
        bias = None if bias is None else scaled(bias, -exponent)
    front = x.shape[: -geometry.rank - 1]
    shape = (*front, geometry.out_channels, *geometry.output_size) if outputs is None else (len(outputs),)
    if x.is_complex():
        found = _expected_complex(geometry, batch, weight, bias, front, outputs)
    else:
        found = _Real(geometry, batch, weight, bias, outputs).shaped(shape)
    alternatives = _alternatives(geometry, batch, weight, outputs, shape, algorithms) if algorithms else ()
    if topmost is not None:
        topmost = topmost.reshape(*shape, 1) if found.is_complex else topmost.reshape(shape)
    return replace(found, exponent=exponent, parts=gauss, alternatives=alternatives, operands=fmt, topmost=topmost)


def _alternatives(
    geometry: ConvGeometry,
    x: torch.Tensor,
    weight: torch.Tensor,
    outputs: torch.Tensor | None,
    shape: tuple[int, ...],
    algorithms: tuple[Algorithm, ...],
) -> tuple[Sums, ...]:
    """What the algorithms round, in the shape of the results; complex results have the sums of Gauss's products."""

    def pairs() -> list[tuple[torch.Tensor, torch.Tensor]]:
        if not x.is_complex():
            return [(x.double().abs(), weight.double().abs())]
        parts = [(t.real.double().abs(), t.imag.double().abs()) for t in (x, weight)]
        (xr, xi), (wr, wi) = parts
        return [(xr, wr), (xi, wi), (xr + xi, wr + wi)]

    def shaped(values: list[torch.Tensor]) -> torch.Tensor:
        full = [v.expand(len(x), geometry.out_channels, geometry.positions).reshape(-1) for v in values]
        full = [(v if outputs is None else v[outputs]).reshape(shape) for v in full]
        return torch.stack((full[0] + full[1], sum(full, start=torch.zeros(()))), dim=-1) if x.is_complex() else full[0]

    found = []
    for algorithm in algorithms:
        sums = [s for a, b in pairs() if (s := algorithm.sums(geometry, a, b)) is not None]
        if not sums:
            continue
        magnitude = (
            None
            if any(s.magnitude is None for s in sums)
            else shaped([s.magnitude for s in sums if s.magnitude is not None])
        )
        found.append(
            Sums(
                magnitude,
                sums[0].roundings,
                shaped([s.underflows for s in sums]),
                gain=max(s.gain for s in sums),
                peak=max(s.peak for s in sums),
            )
        )
    return tuple(found)


def _topmost(
    geometry: ConvGeometry,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    outputs: torch.Tensor | None,
    limit: float,
) -> torch.Tensor | None:
    """Which results depend on an operand of at least the limit, or on such a weight over padding; None if none do."""

    def reaches(values: torch.Tensor) -> torch.Tensor:
        parts = torch.view_as_real(values) if values.is_complex() else values[..., None]
        return (parts.abs() >= limit).any(-1)

    if not any(t is not None and largest_part(t) >= limit for t in (x, weight, bias)):
        return None
    read = apply(geometry, reaches(x), torch.ones(weight.shape), outputs, torch.float64) > 0
    channels = reaches(weight).flatten(1).any(1)
    channels = channels if bias is None else channels | reaches(bias)
    if outputs is not None:
        return read | channels[outputs // geometry.positions % geometry.out_channels]
    return read | channels[:, None]


def _largest_sum(values: torch.Tensor) -> float:
    """The largest ``|re| + |im|``; the parts are halved before the sum so that it does not overflow."""
    sizes = values.real.double().abs() / 2 + values.imag.double().abs() / 2
    return 2 * float(sizes.max()) if values.numel() else 0.0


def _exponent(values: torch.Tensor) -> int:
    """The least integer ``e`` with all parts below ``2^e``."""
    parts = torch.view_as_real(values) if values.is_complex() else values
    largest = float(parts.abs().max()) if parts.numel() else 0.0
    return math.frexp(largest)[1]


class _Real:
    """Exact value, magnitude and number of products of a real convolution, as (batch, out_channels, positions)."""

    def __init__(
        self,
        geometry: ConvGeometry,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        outputs: torch.Tensor | None,
    ) -> None:
        self.residual: torch.Tensor | None = None
        integers = not x.is_floating_point()
        wide = x.dtype == torch.float64
        offset = torch.zeros(geometry.out_channels, dtype=x.dtype) if bias is None else bias
        channel = None if outputs is None else outputs // geometry.positions % geometry.out_channels
        offset = offset[:, None] if channel is None else offset[channel]
        offset = offset if integers else offset.double()
        self.offset = offset
        self.bias = offset.abs().double()
        value, size = with_magnitude(geometry, x, weight, outputs)
        self.magnitude = size + self.bias
        if wide and not _sums_are_exact(self.magnitude, x, weight, offset):
            self.value, self.residual = compensated(geometry, x, weight, offset, outputs)
        else:
            self.value = value + offset
            self.residual = torch.zeros_like(self.value) if wide else None
        self.products = products_per_output(geometry, outputs)
        self.subnormal = None
        operands = (x, weight, offset.to(x.dtype))
        if not integers and any(map(has_subnormals, operands)):
            x_small, w_small, b_small = map(subnormal_sizes, operands)
            grown = growth(geometry, (x.double().abs(), x_small), (weight.double().abs(), w_small), outputs)
            self.subnormal = grown + b_small

    def shaped(self, shape: tuple[int, ...]) -> Expected:
        def full(t: torch.Tensor) -> torch.Tensor:
            return t.expand(self.value.shape).reshape(shape)

        residual = None if self.residual is None else self.residual.reshape(shape)
        return Expected(
            full(self.value),
            residual,
            full(self.magnitude),
            full(self.products),
            full(self.bias),
            full(self.offset),
            None if self.subnormal is None else full(self.subnormal),
            is_complex=False,
        )


def _sums_are_exact(magnitude: torch.Tensor, *operands: torch.Tensor) -> bool:
    """Whether float64 sums are exact in any order: whole numbers whose magnitudes add up to less than 2^53."""
    small = not magnitude.numel() or float(magnitude.max()) < 2.0**53  # a larger magnitude may itself be rounded
    return small and all(bool((t == t.trunc()).all()) for t in operands)


def _expected_complex(
    geometry: ConvGeometry,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    front: tuple[int, ...],
    outputs: torch.Tensor | None,
) -> Expected:
    """The exact complex result; each part is one real convolution with twice the channels.

    The real part is ``xr*wr - xi*wi``, the imaginary part ``xr*wi + xi*wr`` (``*`` is the convolution). The magnitude
    of the imaginary part is that of Gauss's three products, which torch uses:
    ``(|xr|+|xi|) * (|wr|+|wi|) + |xr| * |wr| + |xi| * |wi| + 2|br| + |bi|``.
    """
    doubled = ConvGeometry(
        2 * geometry.in_channels,
        geometry.out_channels,
        geometry.input_size,
        geometry.kernel_size,
        geometry.stride,
        geometry.padding,
        geometry.dilation,
        geometry.groups,
    )

    def by_group(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        halves = [t.unflatten(1, (geometry.groups, geometry.group_channels)) for t in (a, b)]
        return torch.cat(halves, dim=2).flatten(1, 2)

    def convolve(wr: torch.Tensor, wi: torch.Tensor, b: torch.Tensor | None) -> _Real:
        return _Real(doubled, by_group(x.real, x.imag), torch.cat((wr, wi), dim=1), b, outputs)

    re = convolve(weight.real, -weight.imag, None if bias is None else bias.real)
    im = convolve(weight.imag, weight.real, None if bias is None else bias.imag)
    # The magnitude of the imaginary part by Gauss: c = (xr+xi)*(wr+wi) + (br+bi), and the real part's two products.
    (x_size, x_small), (w_size, w_small) = _sum_of_parts(x), _sum_of_parts(weight)
    im.bias = 2 * re.bias + im.bias
    im.magnitude = apply(geometry, x_size, w_size, outputs, torch.float64) + (re.magnitude - re.bias) + im.bias
    if re.subnormal is not None or im.subnormal is not None or x_small.any() or w_small.any():
        zero = torch.zeros_like(re.magnitude)
        small = re.bias.where(re.bias < torch.finfo(x.dtype).smallest_normal, 0)
        re.subnormal = zero if re.subnormal is None else re.subnormal
        im.subnormal = zero if im.subnormal is None else im.subnormal
        grown = growth(geometry, (x_size, x_small), (w_size, w_small), outputs)
        im.subnormal = im.subnormal + re.subnormal + small + grown
    shape = (*front, geometry.out_channels, *geometry.output_size) if outputs is None else (len(outputs),)
    parts = [part.shaped(shape) for part in (re, im)]

    def both(name: str) -> torch.Tensor:
        return torch.stack([getattr(part, name) for part in parts], dim=-1)

    residual = None if parts[0].residual is None else both("residual")
    products = both("products") / 2
    subnormal = None if parts[0].subnormal is None else both("subnormal")
    return Expected(
        both("value"), residual, both("magnitude"), products, both("bias"), both("offset"), subnormal, is_complex=True
    )


def _sum_of_parts(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``|re| + |im|``, and how much of ``re + im`` is lost if subnormal parts, or a subnormal sum, are flushed."""
    parts = (values.real, values.imag)
    lost = sum((subnormal_sizes(t) for t in (*parts, parts[0] + parts[1])), start=torch.zeros(()))
    return parts[0].double().abs() + parts[1].double().abs(), lost
