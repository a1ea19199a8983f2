"""The exact result of a convolution as a value, and how far a computed one may be off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from toeplitz_core.bound import FLOAT64, Arithmetic, Format, Sums, error_bound, oracle_error, overflow_reach


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
        return scaled(values.double(), -self.exponent)

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
        if arithmetic.compensates:
            # A term of a compensated sum may be off by two roundings however few terms there are (Kahan, 1965): what
            # was lost is added, and rounded again, with a zero of the padding too.
            roundings = roundings + 2
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


def scaled(values: torch.Tensor, exponent: int) -> torch.Tensor:
    """``values * 2^exponent``, in steps that are numbers themselves."""
    while exponent:
        step = max(-1000, min(1000, exponent))
        values, exponent = values * 2.0**step, exponent - step
    return values
