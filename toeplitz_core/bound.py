"""How far a correct convolution may be from the exact one: a bound per output element, from its arithmetic alone.

Nothing here is tuned. A computed sum of products is the exact sum of slightly changed products, each changed by a
product of factors ``1 + delta`` with ``|delta| <= u' = u / (1 + u)``, one factor per rounding on its way to the result
(Jeannerod & Rump, "On relative errors of floating-point operations", Math. Comp. 87, 2018; the classic form with
``gamma_K`` is Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002, section 3.1). In a sum of ``n``
products with a bias no term meets more than ``K = n + 1`` roundings, in whatever order, blocks or fused operations it
is summed. So the error is at most ``((1 + u')^K - 1) * S`` with ``S = |T| |x| + |b|``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from toeplitz_core.geometry import ConvGeometry

# Slack for evaluating the bound itself in float64, which takes a few dozen roundings.
_EVALUATION = 1 + 2.0**-40


@dataclass(frozen=True, slots=True)
class Format:
    """A binary floating-point format: precision in bits (the hidden one counts) and exponents of its normal numbers."""

    name: str
    precision: int
    min_exponent: int
    max_exponent: int

    @property
    def unit_roundoff(self) -> float:
        """``u = 2^-precision``: half the distance from 1 to the next number."""
        return 2.0**-self.precision

    @property
    def smallest_normal(self) -> float:
        return 2.0**self.min_exponent

    @property
    def smallest_subnormal(self) -> float:
        return 2.0 ** (self.min_exponent - self.precision + 1)

    def holds(self, other: Format) -> bool:
        """Whether every number of another format is one of this, but for the subnormal ones."""
        exponents = self.min_exponent <= other.min_exponent and self.max_exponent >= other.max_exponent
        return exponents and self.precision >= other.precision

    @property
    def underflow(self) -> float:
        """Largest absolute error of rounding to nearest below the normal numbers: half the smallest subnormal.

        For float64 that is no float64 itself, so there it is all of the smallest subnormal.
        """
        return max(self.smallest_subnormal / 2, FLOAT64.smallest_subnormal)

    @property
    def overflow_threshold(self) -> float:
        """Values from here on round to infinity: the largest number and half a step more (for float64: infinity)."""
        return self.overflow_threshold_in(0)

    def overflow_threshold_in(self, exponent: int) -> float:
        """The same in units of ``2^exponent``: of 2 or more, float64's is a number too (rounded up)."""
        if self.max_exponent - exponent >= FLOAT64.max_exponent:
            return math.inf
        return math.ldexp(2 - 2.0**-self.precision, self.max_exponent - exponent)


FLOAT64 = Format("float64", 53, -1022, 1023)
FLOAT32 = Format("float32", 24, -126, 127)
TF32 = Format("tf32", 11, -126, 127)
FLOAT16 = Format("float16", 11, -14, 15)
BFLOAT16 = Format("bfloat16", 8, -126, 127)

_FORMATS = {
    torch.float64: FLOAT64,
    torch.float32: FLOAT32,
    torch.float16: FLOAT16,
    torch.bfloat16: BFLOAT16,
    torch.complex128: FLOAT64,
    torch.complex64: FLOAT32,
}


def format_of(dtype: torch.dtype) -> Format:
    """The format of a dtype, for complex ones that of their parts."""
    if dtype not in _FORMATS:
        raise ValueError(f"dtype={dtype} must be one of {', '.join(map(str, _FORMATS))}")
    return _FORMATS[dtype]


@dataclass(frozen=True, slots=True)
class Sums:
    """What an algorithm rounds: all that its bound needs beside the formats.

    Parameters
    ----------
    magnitude : float64 tensor of shape (batch, out_channels, positions), or None
        The sum of magnitudes that its relative errors are relative to, without the bias. None: ``|T| |x|``.
    roundings : float64 tensor
        The most roundings to nearest that a term meets, but for a bias.
    underflows : float64 tensor
        Roundings below the normal numbers, each counted as often as its error enters the result.
    gain : float
        No intermediate number is larger than this times ``magnitude`` and bias,
    peak : float
        or than this.
    """

    magnitude: torch.Tensor | None
    roundings: torch.Tensor
    underflows: torch.Tensor
    gain: float = 1.0
    peak: float = 0.0


class Algorithm(Protocol):
    """A way to compute other than product after product: see ``toeplitz_core.testing.oracle.algorithms``."""

    def sums(self, geometry: ConvGeometry, x: torch.Tensor, weight: torch.Tensor) -> Sums | None:
        """What it rounds, or None where it does not apply.

        Parameters
        ----------
        x : float64 tensor of shape (batch, in_channels, pixels)
            The magnitudes of the input.
        weight : float64 tensor of shape (out_channels, in_channels / groups, *kernel_size)
            The magnitudes of the weight.
        """
        ...


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How an implementation computes: all that its error bound needs to know.

    Parameters
    ----------
    accumulator, output : Format
        Of the running sums, and of the result.
    input_rounding : float
        Largest relative change of a normal operand before it is multiplied (0: none; TF32: 2^-10 if truncated). A
        subnormal one may change by up to all of it.
    bias_rounding : float
        The same of the bias, before it is added.
    truncates : bool
        The accumulator rounds towards zero instead of to nearest.
    flushes : bool
        Subnormal operands or results may become zero.
    partial_format : Format, optional
        Of partial sums that are stored, rounded to nearest, and read again.
    partial_sums : int
        How many of them a result is made of at most.
    bias_after_rounding : bool
        The bias is added, in the accumulator, to the result after that was rounded to the output format.
    compensates : bool
        Sums are corrected by what was lost in them (Kahan, 1965), a difference that an infinity makes NaN.
    algorithms : tuple of Algorithm
        Beside direct summation, those that the implementation may choose: the largest bound holds.
    """

    accumulator: Format
    output: Format
    input_rounding: float = 0.0
    bias_rounding: float = 0.0
    truncates: bool = False
    flushes: bool = False
    partial_format: Format | None = None
    partial_sums: int = 0
    bias_after_rounding: bool = False
    compensates: bool = False
    algorithms: tuple[Algorithm, ...] = ()

    @classmethod
    def strictest(cls, dtype: torch.dtype) -> Arithmetic:
        """What to assume where nothing is declared: half precision accumulates in float32, and is rounded once."""
        output = format_of(dtype)
        return cls(accumulator=FLOAT32 if output in (FLOAT16, BFLOAT16) else output, output=output)

    @property
    def rounds_operands(self) -> bool:
        """Whether a sum is of other numbers than those that were given."""
        return self.input_rounding > 0 or self.bias_rounding > 0

    def flushing(self) -> Arithmetic:
        """The same, but subnormals may be flushed to zero."""
        return replace(self, flushes=True)

    def __str__(self) -> str:
        """In words, for reports.

        Examples
        --------
        >>> print(Arithmetic.strictest(torch.float16).flushing())
        sums in float32, rounded to float16; subnormals may be flushed
        """
        kind = "compensated sums" if self.compensates else "sums"
        words = [f"{kind} in {self.accumulator.name}{' that truncate' * self.truncates}"]
        if self.algorithms:
            words[0] += f" or {', '.join(str(algorithm) for algorithm in self.algorithms)}"
        if self.output != self.accumulator:
            words[0] += f", rounded to {self.output.name}{' before the bias is added' * self.bias_after_rounding}"
        if self.input_rounding:
            which = "operands and bias" if self.bias_rounding else "operands"
            words.append(f"{which} rounded by up to {max(self.input_rounding, self.bias_rounding):.2g}")
        if self.partial_format is not None and self.partial_sums:
            words.append(f"partial sums in {self.partial_format.name}")
        if self.flushes:
            words.append("subnormals may be flushed")
        return "; ".join(words)


def error_bound(
    arithmetic: Arithmetic,
    *,
    exact: torch.Tensor,
    magnitude: torch.Tensor,
    roundings: torch.Tensor,
    products: torch.Tensor,
    bias: torch.Tensor,
    subnormal: torch.Tensor | None = None,
) -> torch.Tensor:
    """Largest ``|computed - exact|`` that the arithmetic allows, per output element. Finite data without overflow.

    Underflow adds an absolute error to the relative one. Rounded gradually, a sum of numbers of one format has none
    (Hauser, "Handling floating-point exceptions in numeric programs", ACM TOPLAS 18, 1996), so it is one per product,
    and one per rounding to a narrower format. Flushed to zero, any product or sum below the smallest normal number may
    be lost; but adding the zero that it has become is exact, so no more than ``n`` are, in whatever tree of additions.
    (By induction: a tree of ``m`` products loses at most ``m`` numbers, and ``m - 1`` if its result is not zero, or
    ``m`` if the bias is one of its terms. If its root is flushed neither of its branches is zero.) A later rounding
    enlarges all of these errors like the terms themselves.

    Parameters
    ----------
    exact : float64 tensor
        The exact results ``y``. The other tensors broadcast to its shape.
    magnitude : float64 tensor
        ``S = |T| |x| + |b|``.
    roundings : tensor
        ``K``: the most roundings that a term meets in the accumulator: live taps, and 1 for a bias.
    products : tensor
        ``n``: products summed, which are the taps that do not read padding.
    bias : float64 tensor
        ``|b|``, 0 without a bias.
    subnormal : float64 tensor, optional
        How much ``S`` grows when every subnormal operand doubles, for arithmetic that flushes or rounds its operands:
        each may change by up to all of it. 0 if not given.

    Returns
    -------
    float64 tensor

    Examples
    --------
    >>> one = torch.ones((), dtype=torch.float64)
    >>> float(error_bound(Arithmetic.strictest(torch.float32), exact=one, magnitude=one, roundings=one, products=one,
    ...                   bias=0 * one)) / 2**-24
    0.99999994...
    """
    acc, out, low = arithmetic.accumulator, arithmetic.output, arithmetic.partial_format
    flushes, truncates = arithmetic.flushes, arithmetic.truncates
    # Counts times tiny numbers: integer tensors would make float32 of them, and nothing of the tiny numbers.
    roundings, products = roundings.double(), products.double()
    growth = _growth(roundings, _relative(acc, truncates=truncates))
    if low is not None:
        stored = _growth(torch.tensor(arithmetic.partial_sums, dtype=torch.float64), _relative(low))
        growth = growth + stored + growth * stored
    inputs = (1 + arithmetic.input_rounding) ** 2 - 1
    changed = inputs * (magnitude - bias) + arithmetic.bias_rounding * bias
    if subnormal is not None and (flushes or arithmetic.rounds_operands):
        changed = changed + subnormal
    lost = products * _underflow(acc, flushes=flushes, truncates=truncates)
    if low is not None:
        lost = lost + arithmetic.partial_sums * _underflow(low, flushes=flushes)
    error = growth * magnitude + (1 + growth) * (changed + lost)
    if arithmetic.bias_after_rounding:
        error = error + _rounded(out, (exact.abs() + bias) + error, flushes=flushes)
        error = error + _relative(acc, truncates=truncates) * (exact.abs() + error)
    if out != acc:
        error = error + _rounded(out, exact.abs() + error, flushes=flushes)
    return error * _EVALUATION


def overflow_reach(arithmetic: Arithmetic, *, magnitude: torch.Tensor, roundings: torch.Tensor) -> torch.Tensor:
    """Largest number that can occur in the accumulator: ``(1 + f) S``, where an operand may be rounded up before."""
    grown = 1 + _growth(roundings.double(), _relative(arithmetic.accumulator, truncates=arithmetic.truncates))
    rounding = max(arithmetic.input_rounding, arithmetic.bias_rounding)
    return magnitude * grown * (1 + rounding) ** 2 * _EVALUATION


def oracle_error(magnitude: torch.Tensor, products: torch.Tensor) -> torch.Tensor:
    """What a sum of exact products in float64 may itself be off: ``(n + 8) * 2^-52 * S``, about twice its bound."""
    return (products.double() + 8) * 2.0**-52 * magnitude


def _relative(fmt: Format, *, truncates: bool = False) -> float:
    """``u' = u / (1 + u)``, the largest relative error of one rounding to nearest; twice ``u`` for a truncation."""
    return 2 * fmt.unit_roundoff if truncates else fmt.unit_roundoff / (1 + fmt.unit_roundoff)


def _growth(roundings: torch.Tensor, step: float) -> torch.Tensor:
    """``(1 + step)^roundings - 1`` without cancellation."""
    return torch.expm1(roundings * torch.log1p(torch.tensor(step, dtype=torch.float64)))


def _underflow(fmt: Format, *, flushes: bool, truncates: bool = False) -> float:
    """Absolute error of one rounding below the normal numbers."""
    if flushes:
        return fmt.smallest_normal
    return fmt.smallest_subnormal if truncates else fmt.underflow


def _rounded(fmt: Format, largest: torch.Tensor, *, flushes: bool) -> torch.Tensor:
    """Error of rounding a number of at most this magnitude to a format once, to nearest."""
    return _relative(fmt) * largest + _underflow(fmt, flushes=flushes)
