"""How far a correct convolution may be from the exact one: an error bound per output element.

The bound follows from the arithmetic alone; nothing here is tuned. A computed sum of products equals the exact sum of
slightly changed products. Each rounding on the way to the result multiplies a product by a factor ``1 + delta`` with
``|delta| <= u' = u / (1 + u)`` (Jeannerod & Rump, "On relative errors of floating-point operations", Math. Comp. 87,
2018; the classic form with ``gamma_K`` is Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002,
section 3.1). In a sum of ``n`` products and a bias, each term meets at most ``K = n + 1`` roundings. This is true for
every order of summation, with any blocks or fused operations. So the error is at most ``((1 + u')^K - 1) * S`` with
``S = |T| |x| + |b|``.
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
    """A binary floating-point format.

    Parameters
    ----------
    name : str
        How messages call the format, such as ``float32``.
    precision : int
        Bits of the significand, the hidden bit included.
    min_exponent, max_exponent : int
        Smallest and largest exponent of a normal number.
    """

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
        """Whether this format can represent every normal number of another format."""
        exponents = self.min_exponent <= other.min_exponent and self.max_exponent >= other.max_exponent
        return exponents and self.precision >= other.precision

    @property
    def underflow(self) -> float:
        """Largest absolute error of rounding to nearest below the normal numbers: half the smallest subnormal.

        For float64 that half is not a float64 itself, so the whole smallest subnormal is returned.
        """
        return max(self.smallest_subnormal / 2, FLOAT64.smallest_subnormal)

    @property
    def overflow_threshold(self) -> float:
        """The smallest value that rounds to infinity: the largest number plus half a step (for float64: infinity)."""
        return self.overflow_threshold_in(0)

    def overflow_threshold_in(self, exponent: int) -> float:
        """The overflow threshold in units of ``2^exponent``.

        From ``exponent`` 1 on, the threshold of float64 is a finite number too (rounded up).
        """
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
    """The format of a dtype; a complex dtype has the format of its real and imaginary parts."""
    if dtype not in _FORMATS:
        raise ValueError(f"dtype={dtype} must be one of {', '.join(map(str, _FORMATS))}")
    return _FORMATS[dtype]


@dataclass(frozen=True, slots=True)
class Sums:
    """What an algorithm rounds: together with the formats, all that its error bound needs.

    Parameters
    ----------
    magnitude : float64 tensor of shape (batch, out_channels, positions), or None
        The sum of magnitudes, without the bias, that the relative errors refer to. None stands for ``|T| |x|``.
    roundings : float64 tensor
        The largest number of roundings to nearest that a term meets, the bias not counted.
    underflows : float64 tensor
        The number of roundings below the normal numbers. Each counts as often as its error enters the result.
    gain, peak : float
        Every intermediate number is at most the larger of ``gain * (magnitude + |bias|)`` and ``peak``.
    """

    magnitude: torch.Tensor | None
    roundings: torch.Tensor
    underflows: torch.Tensor
    gain: float = 1.0
    peak: float = 0.0


class Algorithm(Protocol):
    """An algorithm other than direct summation: see ``toeplitz_core.testing.oracle.algorithms``."""

    def sums(self, geometry: ConvGeometry, x: torch.Tensor, weight: torch.Tensor) -> Sums | None:
        """What the algorithm rounds, or None if it does not apply to this geometry.

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
    """How an implementation computes: everything that its error bound depends on.

    Parameters
    ----------
    accumulator, output : Format
        Format of the running sums, and format of the result.
    input_rounding : float
        Largest relative change of a normal operand before it is multiplied (0: none; TF32: 2^-10 if truncated). A
        subnormal operand may change by up to its full magnitude.
    bias_rounding : float
        Largest relative change of the bias before it is added.
    truncates : bool
        The accumulator rounds towards zero instead of to nearest.
    flushes : bool
        Subnormal operands or results may become zero.
    partial_format : Format, optional
        Format of partial sums that are stored, rounded to nearest, and read again.
    partial_sums : int
        Largest number of such partial sums in one result.
    bias_after_rounding : bool
        The result is rounded to the output format first; then the bias is added to it in the accumulator.
    compensates : bool
        Each sum is corrected by its lost low-order part (Kahan, 1965). That part is a difference of two sums, so an
        infinity makes it NaN.
    algorithms : tuple of Algorithm
        Algorithms that the implementation may choose instead of direct summation. The largest bound applies.
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
    def of_dtype(cls, dtype: torch.dtype) -> Arithmetic:
        """The arithmetic to assume without a declaration: half precision sums in float32 and is rounded once."""
        output = format_of(dtype)
        return cls(accumulator=FLOAT32 if output in (FLOAT16, BFLOAT16) else output, output=output)

    @property
    def rounds_operands(self) -> bool:
        """Whether the operands or the bias are rounded before they are used."""
        return self.input_rounding > 0 or self.bias_rounding > 0

    def flushing(self) -> Arithmetic:
        """A copy in which subnormals may be flushed to zero."""
        return replace(self, flushes=True)

    def __str__(self) -> str:
        """The arithmetic in words, for reports.

        Examples
        --------
        >>> print(Arithmetic.of_dtype(torch.float16).flushing())
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
    """Largest ``|computed - exact|`` that the arithmetic allows, per output element.

    The bound is for finite data without overflow. Underflow adds an absolute error to the relative one.

    With gradual underflow, a sum of two numbers of one format has no such error (Hauser, "Handling floating-point
    exceptions in numeric programs", ACM TOPLAS 18, 1996). So there is one error per product, and one per rounding to a
    narrower format.

    With flushing to zero, any product or sum below the smallest normal number may be lost. But adding the resulting
    zero is exact, so at most ``n`` numbers are lost, in any tree of additions. (By induction: a tree of ``m`` products
    loses at most ``m`` numbers, and ``m - 1`` if its result is not zero, or ``m`` if the bias is one of its terms. If
    its root is flushed, neither of its branches is zero.)

    Each later rounding enlarges these errors as it enlarges the terms themselves.

    Parameters
    ----------
    exact : float64 tensor
        The exact results ``y``. The other tensors broadcast to its shape.
    magnitude : float64 tensor
        ``S = |T| |x| + |b|``.
    roundings : tensor
        ``K``: the largest number of roundings that a term meets in the accumulator: live taps, plus 1 for a bias.
    products : tensor
        ``n``: the number of products summed, one per tap that does not read padding.
    bias : float64 tensor
        ``|b|``, 0 without a bias.
    subnormal : float64 tensor, optional
        How much ``S`` grows when every subnormal operand doubles. It counts only for arithmetic that flushes or rounds
        its operands, where each subnormal may change by up to its full magnitude. 0 if not given.

    Returns
    -------
    float64 tensor

    Examples
    --------
    >>> one = torch.ones((), dtype=torch.float64)
    >>> float(error_bound(Arithmetic.of_dtype(torch.float32), exact=one, magnitude=one, roundings=one, products=one,
    ...                   bias=0 * one)) / 2**-24
    0.99999994...
    """
    acc, out, low = arithmetic.accumulator, arithmetic.output, arithmetic.partial_format
    flushes, truncates = arithmetic.flushes, arithmetic.truncates
    # Integer counts times tiny Python floats would be float32, in which the tiny numbers underflow to zero.
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
    """Largest number that can occur in the accumulator: ``(1 + f) S``, operands rounded up included."""
    grown = 1 + _growth(roundings.double(), _relative(arithmetic.accumulator, truncates=arithmetic.truncates))
    rounding = max(arithmetic.input_rounding, arithmetic.bias_rounding)
    return magnitude * grown * (1 + rounding) ** 2 * _EVALUATION


def oracle_error(magnitude: torch.Tensor, products: torch.Tensor) -> torch.Tensor:
    """Error of a float64 sum of exact products: at most ``(n + 8) * 2^-52 * S``, about twice the theoretical bound."""
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
    """Error of one rounding to nearest, for a number whose magnitude is at most ``largest``."""
    return _relative(fmt) * largest + _underflow(fmt, flushes=flushes)
