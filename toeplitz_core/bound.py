"""How far a correct convolution may be from the exact one: a bound per output element, from its arithmetic alone.

Nothing here is tuned. A computed sum of products is the exact sum of slightly changed products, each changed by a
product of factors ``1 + delta`` with ``|delta| <= u' = u / (1 + u)``, one factor per rounding on its way to the result
(Jeannerod & Rump, "On relative errors of floating-point operations", Math. Comp. 87, 2018; the classic form with
``gamma_K`` is Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002, section 3.1). In a sum of ``n``
products with a bias no term meets more than ``K = n + 1`` roundings, in whatever order, blocks or fused operations it
is summed. So the error is at most ``((1 + u')^K - 1) * S`` with ``S = |T| |x| + |b|``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

# Slack for evaluating the bound itself in float64, which takes a few dozen roundings.
_EVALUATION = 1 + 2.0**-40


@dataclass(frozen=True, slots=True)
class Format:
    """A binary floating-point format: precision in bits (with the hidden one) and the exponents of its normal numbers."""

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

    @property
    def overflow_threshold(self) -> float:
        """Values from here on round to infinity: the largest number and half a step more (for float64: infinity)."""
        if self.max_exponent >= 1023:
            return float("inf")
        return (2 - 2.0**-self.precision) * 2.0**self.max_exponent


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
class Arithmetic:
    """How an implementation computes: all that its error bound needs to know.

    Parameters
    ----------
    accumulator, output : Format
        Of the running sums, and of the result.
    input_rounding : float
        Largest relative change of an operand before it is multiplied (0: none; TF32: 2^-10 if truncated).
    truncates : bool
        The accumulator rounds towards zero instead of to nearest.
    flushes : bool
        Subnormal operands or results may become zero.
    partial_format : Format, optional
        Of partial sums that are stored and read again, ``partial_sums`` times at most.
    partial_sums : int
    bias_after_rounding : bool
        The bias is added to the result after that was rounded to the output format.
    """

    accumulator: Format
    output: Format
    input_rounding: float = 0.0
    truncates: bool = False
    flushes: bool = False
    partial_format: Format | None = None
    partial_sums: int = 0
    bias_after_rounding: bool = False

    @classmethod
    def strictest(cls, dtype: torch.dtype) -> Arithmetic:
        """What to assume of an implementation that declares nothing: half precision accumulates in float32, once rounded."""
        output = format_of(dtype)
        return cls(accumulator=FLOAT32 if output in (FLOAT16, BFLOAT16) else output, output=output)

    def flushing(self) -> Arithmetic:
        """The same, but subnormals may be flushed to zero."""
        return replace(self, flushes=True)


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
        Sum of ``|w x|`` over products with a subnormal operand, for arithmetic that flushes; 0 if not given.

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
    acc, out = arithmetic.accumulator, arithmetic.output
    step = _relative(acc, truncates=arithmetic.truncates)
    growth = _growth(roundings, step)
    if arithmetic.partial_format is not None:
        partial = _growth(torch.tensor(float(arithmetic.partial_sums), dtype=torch.float64), _relative(arithmetic.partial_format))
        growth = growth + partial + growth * partial
    error = growth * magnitude
    inputs = (1 + arithmetic.input_rounding) ** 2 - 1
    error = error + (1 + growth) * inputs * (magnitude - bias)
    if arithmetic.flushes:
        flushed = (products + (roundings - 1).clamp(min=0)) * acc.smallest_normal
        error = error + (1 + growth) * (flushed + (0 if subnormal is None else subnormal))
    else:
        error = error + (1 + growth) * products * (acc.smallest_subnormal / 2)
    if arithmetic.partial_format is not None:
        error = error + arithmetic.partial_sums * arithmetic.partial_format.smallest_subnormal
    if arithmetic.bias_after_rounding:
        error = error + _rounded(out, (exact.abs() + bias) + error, flushes=arithmetic.flushes)
        error = error + _relative(acc) * (exact.abs() + error)
    if out != acc:
        error = error + _rounded(out, exact.abs() + error, flushes=arithmetic.flushes)
    return error * _EVALUATION


def oracle_error(magnitude: torch.Tensor, products: torch.Tensor) -> torch.Tensor:
    """What a sum of exact products in float64 may itself be off: ``(n + 8) * 2^-52 * S``, generous by a factor of two."""
    return (products + 8) * 2.0**-52 * magnitude


def _relative(fmt: Format, *, truncates: bool = False) -> float:
    """``u' = u / (1 + u)``, the largest relative error of one rounding to nearest; twice ``u`` for a truncation."""
    return 2 * fmt.unit_roundoff if truncates else fmt.unit_roundoff / (1 + fmt.unit_roundoff)


def _growth(roundings: torch.Tensor, step: float) -> torch.Tensor:
    """``(1 + step)^roundings - 1`` without cancellation."""
    return torch.expm1(roundings.double() * torch.log1p(torch.tensor(step, dtype=torch.float64)))


def _rounded(fmt: Format, largest: torch.Tensor, *, flushes: bool) -> torch.Tensor:
    """Error of rounding a number of at most this magnitude to a format once."""
    return _relative(fmt) * largest + (fmt.smallest_normal if flushes else fmt.smallest_subnormal / 2)
