"""What a convolution must return, and how far off it may be: ``T x + b`` and the magnitudes that bound its error.

Products of float32 or narrower numbers are exact in float64, so there a float64 sum is off by ``(n + 8) 2^-52 S`` at
most, which the judge adds to the bound. float64 data is summed in pairs of float64 instead (the compensated dot product
of Ogita, Rump & Oishi, "Accurate sum and dot product", SIAM J. Sci. Comput. 26, 2005, here summed as a tree), whose
error is of the order of ``n^2 2^-106 S``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from toeplitz_core.bound import (
    FLOAT64,
    Algorithm,
    Arithmetic,
    Format,
    Sums,
    error_bound,
    format_of,
    oracle_error,
    overflow_reach,
)
from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.operator import by_image, forward, receptive_field
from toeplitz_core.testing.compensated import tree_sum, two_product, two_sum

# Elements of a block of products that the compensated sum holds at a time (it needs about ten times as many bytes x 8).
_BLOCK = 2**20
# float64 operands are scaled below this power of two: products, their splits and sums then stay far from overflow.
_LARGEST_EXPONENT = 400


@dataclass(frozen=True, slots=True)
class Expected:
    """The exact result of a convolution, for all outputs or for chosen ones.

    Complex results are kept as two real ones on a last axis. ``value + residual`` is the exact result, where
    ``residual`` is what did not fit into a float64 (or None). All are in units of ``2^exponent``, which is 1 but for
    large float64.
    """

    value: torch.Tensor  # float64 (int64 for integers)
    residual: torch.Tensor | None
    magnitude: torch.Tensor  # S
    products: torch.Tensor  # n: taps that are not padding
    bias: torch.Tensor  # what of S is due to the bias: |b|, but for complex results
    offset: torch.Tensor  # b
    subnormal: torch.Tensor | None  # how much S grows when every subnormal operand doubles; None where none is
    is_complex: bool
    exponent: int = 0
    alternatives: tuple[Sums, ...] = ()  # of the algorithms that apply, in the shape of the value
    parts: float = 0.0  # the largest number that Gauss adds of the parts of an operand
    operands: Format | None = None  # their format; None for integers
    topmost: torch.Tensor | None = None  # results of an operand of the format's largest exponent; None where none is

    def in_units(self, values: torch.Tensor) -> torch.Tensor:
        """Numbers in float64, in units of ``2^exponent``."""
        return _scaled(values.double(), -self.exponent)

    def bound(self, arithmetic: Arithmetic, *, has_bias: bool) -> torch.Tensor:
        """The largest error that the arithmetic allows, the oracle's own included: of all algorithms that it may use.

        For direct sums it is 0 in windows of padding, whose result is the bias: but if a flush may take that, if it or
        the result is rounded to a narrower format, or where Gauss's differences round it (the imaginary part).
        Elsewhere a tile reaches beyond the window.
        """
        error = self._direct_bound(arithmetic, has_bias=has_bias)
        for sums in self.alternatives:
            error = error.maximum(self._bound_of(arithmetic, sums, has_bias=has_bias))
        return error

    def overflow(self, arithmetic: Arithmetic, bound: torch.Tensor, *, has_bias: bool) -> Overflow:
        """Where a result need not be a finite number within the bound.

        The rounding to the output may overflow, to an infinity of the right sign. The accumulator may too: direct sums
        to plus infinity if their positive terms can, to minus infinity if the negative ones can. Either may become NaN
        where a sum is corrected by the difference of two infinities, as compensated sums are. The differences that
        other algorithms take are not followed: anything may come of an overflow there.

        Of an operand that is rounded to infinity anything may come too. The number that it is rounded to, in a format
        of as many exponents, is ``2^(e+1)`` or more with the largest exponent ``e``, and at most twice the operand,
        since no rounding changes a number by more than itself: so the operand is ``2^e`` or more.
        """
        formats = [arithmetic.accumulator, *([arithmetic.partial_format] if arithmetic.partial_format else [])]
        limit = min(fmt.overflow_threshold_in(self.exponent) for fmt in formats)
        # Operands are not in units of 2^exponent, nor is what they are transformed to.
        largest = min(fmt.overflow_threshold_in(1) for fmt in formats)
        reach = overflow_reach(arithmetic, magnitude=self.magnitude, roundings=self.products + 6)
        # A partial sum is at most the sum of the positive terms, and at least that of the negative ones.
        errors = reach - self.magnitude
        up, down = ((self.magnitude + sign * self.value) / 2 + errors >= limit for sign in (1, -1))
        anything = up & down
        if self.is_complex:
            anything = (reach >= limit) | (self.parts / 2 >= largest)
        for sums in self.alternatives:
            magnitude = self.magnitude if sums.magnitude is None else sums.magnitude + self.bias
            reach = overflow_reach(arithmetic, magnitude=magnitude, roundings=sums.roundings + 6) * sums.gain
            anything = anything | (reach >= limit) | (sums.peak / 2 >= largest)
        if self.topmost is not None and arithmetic.rounds_operands:
            anything = anything | self.topmost
        nan = up | down | anything
        before = bound
        if arithmetic.output != arithmetic.accumulator:
            # The error before the rounding that is asked about.
            step = arithmetic.output.unit_roundoff / (1 + arithmetic.output.unit_roundoff)
            before = ((bound - step * self.value.abs()) / (1 + step)).clamp(min=0)
        threshold = arithmetic.output.overflow_threshold_in(self.exponent)
        infinite = self.value.abs() + before >= threshold
        if arithmetic.bias_after_rounding and has_bias:
            # The result without its bias is an output too; that and the bias may have opposite signs.
            infinite = infinite | ((self.value - self.offset).abs() + bound >= threshold)
            up, down = up | infinite, down | infinite
        else:
            up, down = up | (infinite & (self.value > 0)), down | (infinite & (self.value < 0))
        if self.is_complex:
            # The parts are put together as re + i im, and the product with i makes NaN of one part if the other is
            # infinite. A complex number is then infinite whatever that part is (C99, annex G.3).
            nan = nan | (infinite | anything).any(dim=-1, keepdim=True)
        return Overflow(up | anything, down | anything, nan, anything)

    def _bound_of(self, arithmetic: Arithmetic, sums: Sums, *, has_bias: bool) -> torch.Tensor:
        magnitude = self.magnitude if sums.magnitude is None else sums.magnitude + self.bias
        # As below: complex results are differences.
        extra = torch.tensor([2, 5]) if self.is_complex else torch.tensor(int(has_bias))
        error = error_bound(
            arithmetic,
            exact=self.value,
            magnitude=magnitude,
            roundings=sums.roundings + extra,
            products=sums.underflows,
            bias=self.bias,
            subnormal=self.subnormal,
        )
        error = error * (1 + (self.products.double() + 8) * 2.0**-50) + oracle_error(self.magnitude, self.products)
        return torch.where(self.products > 0, error, error if sums.magnitude is not None else torch.zeros_like(error))

    def _direct_bound(self, arithmetic: Arithmetic, *, has_bias: bool) -> torch.Tensor:
        n = self.products.double()
        products, roundings = n, n + has_bias
        if self.is_complex:
            # Gauss's products: a = xr*wr + br, b = xi*wi and c = (xr+xi)*(wr+wi) + (br+bi), of which a - b is the real
            # part and c - a - b the other. A term of c is rounded twice before its product, and twice after the sum;
            # two sums of biases more may be flushed.
            products = n * torch.tensor([2, 3]) + arithmetic.flushes * torch.tensor([0, 2])
            roundings = n + torch.tensor([2, 5])
        error = error_bound(
            arithmetic,
            exact=self.value,
            magnitude=self.magnitude,
            roundings=roundings,
            products=products,
            bias=self.bias,
            subnormal=self.subnormal,
        )
        # The magnitudes are summed in plain float64, and so is the difference from the result.
        error = error * (1 + (n + 8) * 2.0**-50)
        if self.residual is None:
            error = error + oracle_error(self.magnitude, n)
        else:
            # Below float64's normal numbers each of the five products of Dekker's is off by half the smallest one.
            error = error + 4 * products * FLOAT64.smallest_subnormal
        if arithmetic.bias_rounding or (self.operands is not None and not arithmetic.output.holds(self.operands)):
            return error
        lost = self.subnormal if arithmetic.flushes and self.subnormal is not None else torch.zeros_like(error)
        if self.is_complex:
            lost = torch.stack((lost[..., 0], error[..., 1]), dim=-1)
        return torch.where(n > 0, error, lost)


class Overflow(NamedTuple):
    """Where infinity, minus infinity and NaN are legitimate results, and where whatever may come is."""

    positive: torch.Tensor
    negative: torch.Tensor
    nan: torch.Tensor
    anything: torch.Tensor

    def excuses(self, values: torch.Tensor) -> torch.Tensor:
        """Which values are not finite, and legitimate."""
        infinite = values.isinf()
        return (
            (infinite & (values > 0) & self.positive)
            | (infinite & (values < 0) & self.negative)
            | (values.isnan() & self.nan)
        )


def expected(
    geometry: ConvGeometry,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    outputs: torch.Tensor | None = None,
    algorithms: tuple[Algorithm, ...] = (),
) -> Expected:
    """The exact result for operands of one dtype. They are finite; float64 within 600 powers of two of the largest.

    Parameters
    ----------
    x : tensor of shape ([batch,] in_channels, *input_size)
    weight : tensor of shape (out_channels, in_channels / groups, *kernel_size)
    bias : tensor of shape (out_channels,), optional
    outputs : int64 tensor of shape (m,), optional
        Only these outputs, as flat indices into ``(batch, out_channels, *output_size)``.
    algorithms : tuple of Algorithm
        For which the bound is needed too.

    Returns
    -------
    Expected
        Of shape ``([batch,] out_channels, *output_size)``, or (m,) for chosen outputs.
    """
    batch = by_image(geometry, x)
    fmt = format_of(x.dtype) if x.is_floating_point() or x.is_complex() else None
    topmost = None if fmt is None else _topmost(geometry, batch, weight, bias, outputs, 2.0**fmt.max_exponent)
    gauss = max((_largest_sum(t) for t in (x, weight, bias) if t is not None), default=0.0) if x.is_complex() else 0.0
    exponent = 0
    if x.dtype in (torch.float64, torch.complex128):
        down = [max(0, _exponent(t) - _LARGEST_EXPONENT) for t in (x, weight)]
        down[0] += 0 if bias is None else max(0, _exponent(bias) - sum(down) - 2 * _LARGEST_EXPONENT)
        batch, weight = _scaled(batch, -down[0]), _scaled(weight, -down[1])
        exponent = sum(down)
        bias = None if bias is None else _scaled(bias, -exponent)
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
    """What algorithms round, in the shape of the results; of complex ones the sums of Gauss's products."""

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
    """Which results come of an operand of at least the limit, or of a weight of one over padding; None if none is."""

    def reaches(values: torch.Tensor) -> torch.Tensor:
        parts = torch.view_as_real(values) if values.is_complex() else values[..., None]
        return (parts.abs() >= limit).any(-1)

    def any_reaches(values: torch.Tensor | None) -> bool:
        if values is None or not values.numel():
            return False
        low, high = torch.aminmax(torch.view_as_real(values) if values.is_complex() else values)
        return bool(max(-low, high) >= limit)

    if not any(map(any_reaches, (x, weight, bias))):
        return None
    read = _apply(geometry, reaches(x), torch.ones(weight.shape), outputs, torch.float64) > 0
    channels = reaches(weight).flatten(1).any(1)
    channels = channels if bias is None else channels | reaches(bias)
    if outputs is not None:
        return read | channels[outputs // geometry.positions % geometry.out_channels]
    return read | channels[:, None]


def _largest_sum(values: torch.Tensor) -> float:
    """The largest ``|re| + |im|``, halved lest it overflow, then doubled."""
    sizes = values.real.double().abs() / 2 + values.imag.double().abs() / 2
    return 2 * float(sizes.max()) if values.numel() else 0.0


def _exponent(values: torch.Tensor) -> int:
    """The least integer ``e`` with all parts below ``2^e``."""
    parts = torch.view_as_real(values) if values.is_complex() else values
    largest = float(parts.abs().max()) if parts.numel() else 0.0
    return math.frexp(largest)[1]


def _scaled(values: torch.Tensor, exponent: int) -> torch.Tensor:
    """``values * 2^exponent``, in steps that are numbers themselves."""
    while exponent:
        step = max(-1000, min(1000, exponent))
        values, exponent = values * 2.0**step, exponent - step
    return values


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
        if wide:
            self.value, self.residual = _compensated(geometry, x, weight, offset, outputs)
        else:
            self.value = _apply(geometry, x, weight, outputs, torch.int64 if integers else torch.float64) + offset
        self.offset = offset
        self.bias = offset.abs().double()
        self.magnitude = _apply(geometry, x, weight, outputs, torch.float64, absolute=True) + self.bias
        self.products = _products(geometry, outputs)
        self.subnormal = None
        operands = (x, weight, offset.to(x.dtype))
        if not integers and any(map(_has_subnormals, operands)):
            x_small, w_small, b_small = map(_subnormal, operands)
            grown = _growth(geometry, (x.double().abs(), x_small), (weight.double().abs(), w_small), outputs)
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


def _expected_complex(
    geometry: ConvGeometry,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    front: tuple[int, ...],
    outputs: torch.Tensor | None,
) -> Expected:
    """Real and imaginary part: ``xr*wr - xi*wi`` as one real convolution of twice the channels, likewise the other.

    The imaginary part's magnitude is that of Gauss's three products, which torch uses:
    ``(|xr|+|xi|) * (|wr|+|wi|) + |xr| * |wr| + |xi| * |wi| + 2|br| + |bi|`` (``*`` the convolution).
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
    # The imaginary part by Gauss: of c = (xr+xi)*(wr+wi) + (br+bi), and of the real part's two products.
    (x_size, x_small), (w_size, w_small) = _sum_of_parts(x), _sum_of_parts(weight)
    im.bias = 2 * re.bias + im.bias
    im.magnitude = _apply(geometry, x_size, w_size, outputs, torch.float64) + (re.magnitude - re.bias) + im.bias
    if re.subnormal is not None or im.subnormal is not None or x_small.any() or w_small.any():
        zero = torch.zeros_like(re.magnitude)
        small = re.bias.where(re.bias < torch.finfo(x.dtype).smallest_normal, 0)
        re.subnormal = zero if re.subnormal is None else re.subnormal
        im.subnormal = zero if im.subnormal is None else im.subnormal
        grown = _growth(geometry, (x_size, x_small), (w_size, w_small), outputs)
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
    """``|re| + |im|``, and how much of ``re + im`` is lost where subnormal parts, or a subnormal sum, are."""
    parts = (values.real, values.imag)
    lost = sum((_subnormal(t) for t in (*parts, parts[0] + parts[1])), start=torch.zeros(()))
    return parts[0].double().abs() + parts[1].double().abs(), lost


def _has_subnormals(values: torch.Tensor) -> bool:
    """Whether a number is subnormal in its dtype: looked for in blocks, since a weight may be large."""
    limit = torch.finfo(values.dtype).smallest_normal
    return any(bool(((block != 0) & (block.abs() < limit)).any()) for block in values.flatten().split(_BLOCK))


def _subnormal(values: torch.Tensor) -> torch.Tensor:
    """``|values|`` where they are subnormal in their dtype, else 0."""
    size = values.double().abs()
    return size.where(size < torch.finfo(values.dtype).smallest_normal, 0)


def _growth(
    geometry: ConvGeometry,
    x: tuple[torch.Tensor, torch.Tensor],
    weight: tuple[torch.Tensor, torch.Tensor],
    outputs: torch.Tensor | None,
) -> torch.Tensor:
    """``(|T| + dT) (|x| + dx) - |T| |x|`` for pairs ``(|x|, dx)`` and ``(|w|, dw)``, without cancellation."""
    (x_size, dx), (w_size, dw) = x, weight
    grown = _apply(geometry, dx, w_size + dw, outputs, torch.float64)
    return grown + _apply(geometry, x_size, dw, outputs, torch.float64)


def _apply(
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
    # Only what the chosen outputs read is widened: the operands of a large layer stay as they are.
    pixels, taps = _rows(geometry, x, weight, outputs)
    return (cast(pixels) * cast(taps)).sum(-1)


def _rows(
    geometry: ConvGeometry, x: torch.Tensor, weight: torch.Tensor, outputs: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What chosen outputs read and what they multiply it with, each (m, taps of all channels)."""
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


def _products(geometry: ConvGeometry, outputs: torch.Tensor | None) -> torch.Tensor:
    """``n`` per output: live taps per axis multiply. Shape (positions,), or (m,) for chosen outputs."""
    position = torch.arange(geometry.positions) if outputs is None else outputs % geometry.positions
    products = torch.full_like(position, geometry.group_channels)
    for axis in reversed(range(geometry.rank)):
        size = geometry.output_size[axis]
        products = products * geometry.live_taps(axis, position % size)[1]
        position = position // size
    return products


def _compensated(
    geometry: ConvGeometry, x: torch.Tensor, weight: torch.Tensor, offset: torch.Tensor, outputs: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """``T x + b`` in float64 as a value and what it lacks."""
    chosen = torch.arange(len(x) * geometry.out_channels * geometry.positions) if outputs is None else outputs
    width = max(1, math.prod(geometry.weight_shape[1:]))
    values, residuals = [x.new_zeros(0)], [x.new_zeros(0)]
    for block in chosen.split(max(1, _BLOCK // width)):
        high, low = two_product(*_rows(geometry, x, weight, block))
        value, residual = tree_sum(high, low)
        values.append(value)
        residuals.append(residual)
    value, residual = torch.cat(values), torch.cat(residuals)
    if outputs is None:
        shape = (len(x), geometry.out_channels, geometry.positions)
        value, residual = value.view(shape), residual.view(shape)
    value, error = two_sum(value, offset.expand(value.shape))
    return value, residual + error
