"""Data recipes: named ways to fill the operands of a case, bit-identical on every machine.

Random bits come from NumPy's raw PCG64 stream and are turned into numbers by integer and dyadic arithmetic only, so that
no library's float sampling, and no libm, has a say in what a seed means.

The exact recipes follow the idea of integer fills (the BLAS testers of Dongarra et al., 1990; oneDNN's benchdnn): if no
sum of magnitudes ``S = |T| |x| + |b|`` exceeds what a format holds exactly, then every partial sum in any order is
exact, and a correct result can be compared with ``==``. ``S`` is computed exactly and the *input* is thinned until it
fits, never the weights: a weight that is zero hides a wrong tap for good, an input pixel only in one draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from toeplitz_core.bound import FLOAT16, Arithmetic, Format, format_of
from toeplitz_core.operator import forward
from toeplitz_core.testing.case import Case

# Integer dtypes wrap around beyond 2^63; staying within float64's integers keeps their sums exact for the oracle too.
_INT64_LIMIT = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Operands:
    """The values of a case's tensors, contiguous on the CPU, in the case's dtype.

    ``miss_probability`` is, for a *linear* wrong implementation, the chance that one wrong output row goes unnoticed in
    this draw: at most the largest probability with which an input element takes any one value (Freivalds, 1977).
    """

    input: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    miss_probability: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named recipe. ``kind`` says how results are judged: ``storage`` and ``accumulator`` exactly, ``real`` by the bound."""

    name: str
    kind: Literal["storage", "accumulator", "real"]
    statement: str
    draw: Callable[[Case], Operands]


class Bits:
    """Random numbers of one operand of a case, from raw bits."""

    def __init__(self, case: Case, operand: str) -> None:
        self._stream = np.random.PCG64([case.seed, *operand.encode()])

    def raw(self, shape: tuple[int, ...]) -> np.ndarray:
        """Uniform 32-bit integers, as int64."""
        words = self._stream.random_raw(math.prod(shape))
        return (np.asarray(words, dtype=np.uint64) >> np.uint64(32)).astype(np.int64).reshape(shape)

    def integers(self, shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
        """Uniform integers in ``[low, high]`` (for ranges below 2^31), as int64."""
        return low + ((self.raw(shape) * (high - low + 1)) >> 32)

    def signs(self, shape: tuple[int, ...]) -> np.ndarray:
        return 1 - 2 * (self.raw(shape) & 1)

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Nearly unit normal: the sum of twelve uniform numbers less its mean (Irwin-Hall), multiples of 2^-32."""
        total = self.raw((12, *shape)).sum(axis=0) - 6 * 2**32
        return np.asarray(total, dtype=np.float64) * 2.0**-32


def draw(case: Case) -> Operands:
    """The operands of a case, by its recipe and seed."""
    return RECIPES[case.data].draw(case)


def _exact(case: Case, *, limit: int, wide: Literal["both", "input", "weight"]) -> Operands:
    """Integers whose sums of magnitudes stay within ``limit``.

    ``both``: signed, as wide on either side as there is room. Otherwise the probe: positive odd numbers, as wide as the
    format's precision allows on one side, so that rounding that operand, or accumulating narrowly, loses the low bit.
    """
    taps = max(1, math.prod(case.weight[1:])) * (4 if case.torch_dtype.is_complex else 1)
    room = limit // (taps + 1)
    widest = _widest_operand(case)
    if wide == "both":
        fill = _Signed()
        w_max = min(widest, max(2, math.isqrt(room)))
        x_max = min(widest, max(1, 2 * room // w_max))
    else:
        fill = _Odd()
        probe = min(widest, _PROBE_BITS.get(case.dtype, widest), max(3, 2 * room))
        other = min(widest, max(1, 2 * room // probe))
        x_max, w_max = (probe, other) if wide == "input" else (other, probe)

    def operand(name: str, shape: tuple[int, ...], largest: int) -> torch.Tensor:
        drawn = _drawn_shape(case, name, shape)
        values = fill(Bits(case, name), drawn, largest, zero=name != "weight")
        if case.torch_dtype.is_complex:
            values = values + 1j * fill(Bits(case, name + ".imag"), drawn, largest, zero=name != "weight")
        return _tensor(values, shape)

    bias = operand("bias", case.weight[:1], max(1, min(widest, x_max * w_max, limit // 4))) if case.bias else None
    weight = operand("weight", case.weight, w_max)
    x = operand("input", case.input, x_max)
    # The side that is not probed is made narrower first; only what is left of the excess is thinned away.
    while (excess := _excess(case, x, weight, bias, limit)) > 1 and (w_max if wide == "input" else x_max) > 3:
        if wide == "input":
            w_max = min(w_max - 1, int(w_max / excess))
            weight = operand("weight", case.weight, max(1, w_max))
        else:
            x_max = min(x_max - 1, int(x_max / excess))
            x = operand("input", case.input, max(1, x_max))
    priority = _tensor(Bits(case, "thinning").raw(_drawn_shape(case, "input", case.input)), case.input)
    kept = 2**32
    thinned = x
    while kept and (excess := _excess(case, thinned, weight, bias, limit)) > 1:
        kept = min(kept * 3 // 4, int(kept / excess * 1.25))
        thinned = torch.where(priority < kept, x, 0)
    density = kept / 2**32
    miss = max(density / fill.values(x_max), (1 - density) + density * fill.zeros(x_max))
    return _operands(case, thinned, weight, bias, miss)


class _Signed:
    """Integers of either sign; zero only where it is allowed."""

    def __call__(self, bits: Bits, shape: tuple[int, ...], largest: int, *, zero: bool) -> np.ndarray:
        if zero:
            return bits.integers(shape, -largest, largest)
        return bits.integers(shape, 1, largest) * bits.signs(shape)

    def values(self, largest: int) -> int:
        """How many values there are, equally likely (zero included)."""
        return 2 * largest + 1

    def zeros(self, largest: int) -> float:
        """The probability of a zero."""
        return 1 / self.values(largest)


class _Odd:
    """Positive odd integers from the upper half of the range, where they need all their bits."""

    def __call__(self, bits: Bits, shape: tuple[int, ...], largest: int, *, zero: bool) -> np.ndarray:
        low, high = self._range(largest)
        return 2 * bits.integers(shape, low, high) + 1

    def _range(self, largest: int) -> tuple[int, int]:
        high = (largest - 1) // 2
        return (high // 2 if high > 3 else 0), high

    def values(self, largest: int) -> int:
        low, high = self._range(largest)
        return high - low + 1

    def zeros(self, largest: int) -> float:
        return 0.0


def _real(case: Case, fill: Callable[[Case, str, tuple[int, ...]], np.ndarray]) -> Operands:
    """Real numbers, the input scaled down by a power of two where a sum could overflow the output's format."""

    def parts(operand: str, shape: tuple[int, ...]) -> torch.Tensor:
        drawn = _drawn_shape(case, operand, shape)
        values = fill(case, operand, drawn)
        if case.torch_dtype.is_complex:
            values = values + 1j * fill(case, operand + ".imag", drawn)
        # Rounded to the case's dtype here, so that the scaling below and the oracle see what the subject sees.
        tensor = _tensor(values, shape)
        return tensor.to(case.torch_dtype).to(tensor.dtype)

    x, weight = parts("input", case.input), parts("weight", case.weight)
    bias = parts("bias", case.weight[:1]) if case.bias else None
    threshold = 2.0 ** (format_of(case.torch_dtype).max_exponent - 1)
    magnitude = _magnitude(case, x, weight, bias)
    if magnitude.numel() and float(magnitude.max()) >= threshold:
        x = x * 2.0 ** -math.ceil(math.log2(float(magnitude.max()) / threshold) + 1)
    return _operands(case, x, weight, bias, miss_probability=0.0)


def _normal(case: Case, operand: str, shape: tuple[int, ...]) -> np.ndarray:
    return Bits(case, operand).normal(shape)


def _wide(case: Case, operand: str, shape: tuple[int, ...]) -> np.ndarray:
    spread = 4 if format_of(case.torch_dtype) == FLOAT16 else 24
    bits = Bits(case, operand)
    return np.ldexp(bits.normal(shape), bits.integers(shape, -spread, spread))


def _constant(case: Case, operand: str, shape: tuple[int, ...]) -> np.ndarray:
    # One number a tensor, in [1, 2): constants make rounding errors add up rather than cancel.
    return np.full(shape, 1 + float(Bits(case, operand).raw((1,))[0]) * 2.0**-32)


def _alternating(case: Case, operand: str, shape: tuple[int, ...]) -> np.ndarray:
    sign = 1 - 2 * (np.indices(shape).sum(axis=0) % 2) if operand.startswith("input") else 1
    return _constant(case, operand, shape) * sign + Bits(case, operand).normal(shape) * 2.0**-8


def _drawn_shape(case: Case, operand: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape to draw: an expanded operand repeats its first slice."""
    if case.layout(operand.partition(".")[0]) == "expanded" and shape[0] > 0:
        return (1, *shape[1:])
    return shape


def _tensor(values: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
    dtype = np.complex128 if np.iscomplexobj(values) else np.float64
    return torch.from_numpy(values.astype(dtype)).expand(shape)


def _operands(
    case: Case, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, miss_probability: float
) -> Operands:
    def final(values: torch.Tensor) -> torch.Tensor:
        return values.to(case.torch_dtype).contiguous()

    return Operands(final(x), final(weight), None if bias is None else final(bias), miss_probability)


def _magnitude(case: Case, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """``S`` for real data; for complex data a sum that no part of any of its products or Gauss's sums exceeds."""

    def size(values: torch.Tensor) -> torch.Tensor:
        return values.real.abs() + values.imag.abs() if values.is_complex() else values.abs()

    g = case.geometry
    s = forward(g, size(weight), size(x).reshape(-1, g.in_channels, g.pixels))
    s = s if bias is None else s + size(bias)[:, None]
    return 2 * s if x.is_complex() else s


def _excess(
    case: Case, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, limit: int
) -> float:
    """The largest ``S`` in units of the limit."""
    magnitude = _magnitude(case, x, weight, bias)
    return float(magnitude.max()) / limit if magnitude.numel() else 0.0


def _storage_limit(case: Case) -> int:
    """Integers that the output's format, and with it every wider one, holds exactly."""
    return _INT64_LIMIT if case.dtype == "int64" else 2 ** format_of(case.torch_dtype).precision - 1


def _accumulator_limit(case: Case) -> int:
    """Integers that the accumulator holds exactly, and that do not overflow the output."""
    if case.dtype == "int64":
        return _INT64_LIMIT
    accumulator: Format = Arithmetic.strictest(case.torch_dtype).accumulator
    output = format_of(case.torch_dtype)
    return min(2**accumulator.precision - 1, int((2 - 2.0 ** (1 - output.precision)) * 2.0 ** min(output.max_exponent, 62)))


def _widest_operand(case: Case) -> int:
    """Operands must be exact in the dtype; beyond 2^27 their products leave float64's integers."""
    if case.dtype == "int64":
        return 2**27 - 1
    return 2 ** min(format_of(case.torch_dtype).precision, 27) - 1


# The widest odd operand whose products still leave room for a sum: two bits more than TF32 keeps, or half of float64.
_PROBE_BITS = {"float32": 2**13 - 1, "complex64": 2**13 - 1, "float64": 2**27 - 1, "complex128": 2**27 - 1}

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "integers",
            "storage",
            "signed integers whose sums are exact in the output's format: any order, blocking and epilogue gives ==",
            lambda case: _exact(case, limit=_storage_limit(case), wide="both"),
        ),
        Recipe(
            "accumulator",
            "accumulator",
            "signed integers whose sums are exact in the accumulator: the result is the exact one, rounded once",
            lambda case: _exact(case, limit=_accumulator_limit(case), wide="both"),
        ),
        Recipe(
            "probe",
            "accumulator",
            "positive odd inputs too wide for TF32 or bfloat16: rounding them, or a narrow accumulator, loses the low bit",
            lambda case: _exact(case, limit=_accumulator_limit(case), wide="input"),
        ),
        Recipe(
            "probe-weight",
            "accumulator",
            "the probe with the wide numbers in the weight",
            lambda case: _exact(case, limit=_accumulator_limit(case), wide="weight"),
        ),
        Recipe("normal", "real", "unit normal numbers", lambda case: _real(case, _normal)),
        Recipe("wide", "real", "normal numbers over a wide range of exponents", lambda case: _real(case, _wide)),
        Recipe("constant", "real", "one number a tensor, so that rounding errors add up", lambda case: _real(case, _constant)),
        Recipe("alternating", "real", "alternating signs, so that sums cancel", lambda case: _real(case, _alternating)),
    )
}
