"""The exact result of a convolution, and the error that a computed result may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from toeplitz_core.bound import FLOAT64, Arithmetic, Format, Sums, error_bound, oracle_error, overflow_reach
from toeplitz_core.testing.data.kept import bytes_of


@dataclass(frozen=True, slots=True)
class Expected:
    """The exact result of a convolution, for all outputs or only for some.

    All tensors broadcast to the shape of the result. A complex result has its real and imaginary part on a last axis.
    All numbers are in units of ``2^exponent``; this unit is 1 except for large float64.

    Parameters
    ----------
    value, residual : float64 tensor (``value`` int64 for integers), float64 tensor or None
        ``value + residual`` is the exact result; ``residual`` is the part that does not fit into a float64.
    magnitude : float64 tensor
        ``S = |T| |x| + |b|``.
    products : tensor
        ``n``: the number of taps that do not read padding.
    bias : tensor
        The part of ``S`` that comes from the bias: ``|b|``, and more for complex results.
    offset : tensor
        ``b``.
    subnormal : float64 tensor, optional
        How much ``S`` grows when every subnormal operand doubles; None if no operand is subnormal.
    is_complex : bool
        Whether the result is complex, so that the tensors have a last axis for its two parts.
    exponent : int
        The unit of all numbers is 2 to this power.
    alternatives : tuple of Sums
        The sums of the algorithms that apply, in the shape of ``value``.
    parts : float
        The largest sum of the real and the imaginary part of an operand, as in Gauss's products.
    operands : Format, optional
        The format of the operands; None for integers.
    topmost : bool tensor, optional
        Which results depend on an operand with the format's largest exponent; None if no operand has it.
    """

    value: torch.Tensor
    residual: torch.Tensor | None
    magnitude: torch.Tensor
    products: torch.Tensor
    bias: torch.Tensor
    offset: torch.Tensor
    subnormal: torch.Tensor | None
    is_complex: bool
    exponent: int = 0
    alternatives: tuple[Sums, ...] = ()
    parts: float = 0.0
    operands: Format | None = None
    topmost: torch.Tensor | None = None

    @property
    def nbytes(self) -> int:
        """The bytes of all its tensors."""
        own = (self.value, self.residual, self.magnitude, self.products, self.bias, self.offset, self.subnormal)
        of_algorithms = (t for sums in self.alternatives for t in (sums.magnitude, sums.roundings, sums.underflows))
        return bytes_of(*own, self.topmost, *of_algorithms)

    def in_units(self, values: torch.Tensor) -> torch.Tensor:
        """Numbers as float64 in units of ``2^exponent``."""
        return scaled(values.double(), -self.exponent)

    def bound(self, arithmetic: Arithmetic, *, has_bias: bool) -> torch.Tensor:
        """The largest error that the arithmetic allows, for any of its algorithms; the oracle's own error is included.

        For direct sums the bound is 0 in windows that lie wholly in padding, where the result is the bias. Three cases
        are excepted: the bias may be flushed; the bias or the result is rounded to a narrower format; Gauss's
        differences round it (the imaginary part). For other algorithms the bound is not 0 there, because a tile reaches
        beyond the window.
        """
        error = self._direct_bound(arithmetic, has_bias=has_bias)
        for sums in self.alternatives:
            error = error.maximum(self._bound_of(arithmetic, sums, has_bias=has_bias))
        return error

    def overflow(self, arithmetic: Arithmetic, bound: torch.Tensor, *, has_bias: bool) -> Overflow:
        """Where a result need not be a finite number within the bound.

        The rounding to the output format may overflow to an infinity of the right sign.

        The accumulator may overflow too. A direct sum may become plus infinity if its positive terms overflow, and
        minus infinity if its negative terms do. Either may become NaN where a sum is corrected by the difference of two
        infinities, as in compensated sums. For other algorithms the differences are not tracked: after an overflow, any
        result is allowed.

        Any result is also allowed if an operand may be rounded to infinity. In a format with the same exponents and
        the largest exponent ``e``, the rounded number is then ``2^(e+1)`` or more. It is at most twice the operand,
        since no rounding changes a number by more than its own magnitude. So the operand is ``2^e`` or more.
        """
        formats = [arithmetic.accumulator, *([arithmetic.partial_format] if arithmetic.partial_format else [])]
        limit = min(fmt.overflow_threshold_in(self.exponent) for fmt in formats)
        # Operands and their transforms are not in units of 2^exponent.
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
            # The error before the rounding to the output format.
            step = arithmetic.output.unit_roundoff / (1 + arithmetic.output.unit_roundoff)
            before = ((bound - step * self.value.abs()) / (1 + step)).clamp(min=0)
        threshold = arithmetic.output.overflow_threshold_in(self.exponent)
        infinite = self.value.abs() + before >= threshold
        if arithmetic.bias_after_rounding and has_bias:
            # The result without the bias is rounded to the output format too, and the bias may have the opposite sign.
            infinite = infinite | ((self.value - self.offset).abs() + bound >= threshold)
            up, down = up | infinite, down | infinite
        else:
            up, down = up | (infinite & (self.value > 0)), down | (infinite & (self.value < 0))
        if self.is_complex:
            # The parts are combined as re + i im; if one part is infinite, the product with i makes the other NaN. A
            # complex number with an infinite part is infinite even if the other part is NaN (C99, annex G.3).
            nan = nan | (infinite | anything).any(dim=-1, keepdim=True)
        return Overflow(up | anything, down | anything, nan, anything)

    def _bound_of(self, arithmetic: Arithmetic, sums: Sums, *, has_bias: bool) -> torch.Tensor:
        magnitude = self.magnitude if sums.magnitude is None else sums.magnitude + self.bias
        # As in _direct_bound: complex results are differences.
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
            # Gauss's products are a = xr*wr + br, b = xi*wi and c = (xr+xi)*(wr+wi) + (br+bi). The real part is a - b,
            # the imaginary part c - a - b. A term of c is rounded twice before its product, and twice after the sum.
            # Two more sums, of biases, may be flushed.
            products = n * torch.tensor([2, 3]) + arithmetic.flushes * torch.tensor([0, 2])
            roundings = n + torch.tensor([2, 5])
        if arithmetic.compensates:
            # A term of a compensated sum may be off by two roundings, for any number of terms (Kahan, 1965): the lost
            # part is added and rounded again, even when only a zero of the padding is added.
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
            # Below the normal numbers of float64, each of Dekker's five products is off by half the smallest subnormal.
            error = error + 4 * products * FLOAT64.smallest_subnormal
        if arithmetic.bias_rounding or (self.operands is not None and not arithmetic.output.holds(self.operands)):
            return error
        lost = self.subnormal if arithmetic.flushes and self.subnormal is not None else torch.zeros_like(error)
        if self.is_complex:
            lost = torch.stack((lost[..., 0], error[..., 1]), dim=-1)
        return torch.where(n > 0, error, lost)


class Overflow(NamedTuple):
    """Where a result that is not finite is legitimate.

    Parameters
    ----------
    positive, negative, nan : bool tensor
        Where plus infinity, minus infinity and NaN are legitimate results.
    anything : bool tensor
        Where every result is legitimate.
    """

    positive: torch.Tensor
    negative: torch.Tensor
    nan: torch.Tensor
    anything: torch.Tensor

    def excuses(self, values: torch.Tensor) -> torch.Tensor:
        """Which values are not finite but legitimate."""
        infinite = values.isinf()
        return (
            (infinite & (values > 0) & self.positive)
            | (infinite & (values < 0) & self.negative)
            | (values.isnan() & self.nan)
        )


def scaled(values: torch.Tensor, exponent: int) -> torch.Tensor:
    """``values * 2^exponent``, in steps whose factors are float64 numbers."""
    while exponent:
        step = max(-1000, min(1000, exponent))
        values, exponent = values * 2.0**step, exponent - step
    return values
