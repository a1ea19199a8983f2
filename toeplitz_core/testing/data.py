"""Data recipes: named ways to fill the operands of a case, bit-identical on every machine.

Random bits come from NumPy's raw PCG64 stream and are turned into numbers by integer and dyadic arithmetic only: no
library's float sampling, and no libm, has a say in what a seed means.

The exact recipes follow the idea of integer fills (the BLAS testers of Dongarra et al., 1990; oneDNN's benchdnn): if no
sum of magnitudes ``S = |T| |x| + |b|`` exceeds what a format holds exactly, then every partial sum in any order is
exact, and a correct result can be compared with ``==``. ``S`` is computed exactly and the *input* is thinned until it
fits, never the weights: a weight that is zero hides a wrong tap for good, an input pixel only in one draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from toeplitz_core.bound import FLOAT16, Arithmetic, format_of
from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.operator import by_image, forward
from toeplitz_core.testing.case import Case

# Integer dtypes wrap around beyond 2^63; staying within float64's integers keeps their sums exact for the oracle too.
_INT64_LIMIT = 2**53 - 1
# Sums that a float64 no longer holds, and that stay whole where twice of them are added.
_INT64_SUMS = 2**62 - 1
# Beyond this many multiplications the sums of magnitudes of one draw are not computed to see whether they fit.
_CHECKED_PRODUCTS = 2**22
# Numbers drawn at a time.
_FILL_BLOCK = 2**18

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Operands:
    """The values of a case's tensors, contiguous on the CPU, in the case's dtype.

    ``miss_probability`` is, for a *linear* wrong implementation, the chance that one wrong output row goes unnoticed in
    this draw: at most the largest probability with which an input element takes any one value (Freivalds, 1977). That
    is of exact results: where sums are rounded to a narrower output, what is below its spacing goes unnoticed besides.
    There ``integers``, which no output rounds, is the recipe that looks for wrong taps; the others look at the
    accumulator.

    ``more`` has what laws about gradients need besides: ``grad``, of the result's shape, by which it is multiplied, and
    directions such as ``input direction``.
    """

    input: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    miss_probability: float
    more: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named recipe. Its ``kind`` says how results are judged: exactly, by the bound (``real``), or by class.

    The classes of ``special`` results are NaN, the infinities, and finite numbers, which are exact.
    """

    name: str
    kind: Literal["storage", "accumulator", "real", "special"]
    statement: str
    draw: Callable[[Case], Operands]


class Bits:
    """Random numbers from raw bits, a stream of its own for each operand of a case."""

    def __init__(self, case: Case, operand: str) -> None:
        self._stream = np.random.PCG64([case.seed, *operand.encode()])

    def raw(self, count: int) -> Array:
        """Uniform 32-bit integers, as int64: both halves of each word of the stream."""
        words = np.asarray(self._stream.random_raw((count + 1) // 2), dtype="<u8")
        return words.view("<u4")[:count].astype(np.int64)

    def integers(self, count: int, low: int, high: int) -> Array:
        """Uniform integers in ``[low, high]`` (for ranges below 2^31), as int64."""
        return low + ((self.raw(count) * (high - low + 1)) >> 32)

    def signs(self, count: int) -> Array:
        """1 or -1, as int64."""
        return 1 - 2 * (self.raw(count) & 1)

    def normal(self, count: int) -> Array:
        """Nearly unit normal float64: 7/4 of the sum of four uniform numbers less its mean (Irwin-Hall), exactly."""
        total = self.raw(4 * count).reshape(4, count).sum(axis=0) - 2 * 2**32
        return np.asarray(total * 7, dtype=np.float64) * 2.0**-34


def draw(case: Case) -> Operands:
    """The operands of a case, by its recipe and seed."""
    return RECIPES[case.data].draw(case)


def _exact(case: Case, *, limit: int, wide: Literal["both", "input", "weight"]) -> Operands:
    """Integers whose sums of magnitudes stay within ``limit``.

    ``both``: signed, as wide on either side as there is room. Otherwise the probe: positive odd numbers, as wide as the
    format's precision allows on one side, so that rounding that operand, or accumulating narrowly, loses the low bit.
    """
    parts = 4 if case.torch_dtype.is_complex else 1
    taps = max(1, math.prod(case.weight[1:])) * parts
    # A random sum stays well below the largest possible one. Where checking that is too dear, it must not be needed.
    optimism = 1 if case.geometry.nnz > _CHECKED_PRODUCTS else 2
    room = limit // (taps + 1)
    # Products that no float64 holds either, where sums may be as large.
    widest = 2**30 - 1 if limit == _INT64_SUMS else widest_operand(case)
    if wide == "both":
        fill: Signed | _Odd = Signed()
        w_max = min(widest, max(2, math.isqrt(room)))
        x_max = min(widest, max(1, optimism * room // w_max))
    else:
        fill = _Odd()
        probe = min(widest, _PROBE_BITS.get(case.dtype, widest), max(3, optimism * room))
        other = min(widest, max(1, optimism * room // probe))
        x_max, w_max = (probe, other) if wide == "input" else (other, probe)
    b_max = max(1, min(widest, x_max * w_max, limit // 4))

    def operand(name: str, shape: tuple[int, ...], largest: int) -> torch.Tensor:
        return filled(case, name, shape, lambda bits, count: fill(bits, count, largest, zero=name != "weight"))

    def excess(x: torch.Tensor) -> float:
        """The largest ``S`` in units of the limit; nothing is computed where it cannot exceed it."""
        if taps * x_max * w_max + parts * b_max <= limit:
            return 0.0
        magnitude = magnitude_of(case, x, weight, bias)
        return float(magnitude.max()) / limit if magnitude.numel() else 0.0

    bias = operand("bias", case.weight[:1], b_max) if case.bias else None
    weight = operand("weight", case.weight, w_max)
    x = operand("input", case.input, x_max)
    # The side that is not probed is made narrower first; only what is left of the excess is thinned away.
    while (over := excess(x)) > 1 and (w_max if wide == "input" else x_max) > 3:
        if wide == "input":
            w_max = max(1, min(w_max - 1, int(w_max / over)))
            weight = operand("weight", case.weight, w_max)
        else:
            x_max = max(1, min(x_max - 1, int(x_max / over)))
            x = operand("input", case.input, x_max)
    priority = filled(case, "input.thinning", case.input, Bits.raw, dtype=torch.int64) if over > 1 else None
    kept = 2**32
    thinned = x
    while kept and priority is not None and (over := excess(thinned)) > 1:
        kept = min(kept * 3 // 4, int(kept / over * 1.25))
        thinned = torch.where(priority < kept, x, 0)
    density = kept / 2**32
    miss = max(density / fill.values(x_max), (1 - density) + density * fill.zeros(x_max))
    return Operands(thinned, weight, bias, miss)


class Signed:
    """Integers of either sign; zero only where it is allowed."""

    def __call__(self, bits: Bits, count: int, largest: int, *, zero: bool) -> Array:
        if zero:
            return bits.integers(count, -largest, largest)
        return bits.integers(count, 1, largest) * bits.signs(count)

    def values(self, largest: int) -> int:
        """How many values there are, equally likely (zero included)."""
        return 2 * largest + 1

    def zeros(self, largest: int) -> float:
        """The probability of a zero."""
        return 1 / self.values(largest)


class _Odd:
    """Positive odd integers from the upper half of the range, where they need all their bits."""

    def __call__(self, bits: Bits, count: int, largest: int, *, zero: bool) -> Array:  # noqa: ARG002  # as Signed
        low, high = self._range(largest)
        return 2 * bits.integers(count, low, high) + 1

    def _range(self, largest: int) -> tuple[int, int]:
        high = (largest - 1) // 2
        return (high // 2 if high > 3 else 0), high

    def values(self, largest: int) -> int:
        low, high = self._range(largest)
        return high - low + 1

    def zeros(self, largest: int) -> float:  # noqa: ARG002  # as Signed
        return 0.0


def _real(case: Case) -> Operands:
    """Real numbers, the input scaled down by a power of two where a sum could overflow the output's format."""
    fill = FILLS[case.data](case)
    x, weight = filled(case, "input", case.input, fill), filled(case, "weight", case.weight, fill)
    bias = filled(case, "bias", case.weight[:1], fill) if case.bias else None
    threshold = 2.0 ** (format_of(case.torch_dtype).max_exponent - 1)
    # Complex numbers: four products of parts, twice what their sums are.
    largest = 8 * largest_part(x) * largest_part(weight) * math.prod(case.weight[1:]) + (
        0 if bias is None else 4 * largest_part(bias)
    )
    if largest >= threshold and (magnitude := magnitude_of(case, x, weight, bias)).numel():
        over = float(magnitude.max()) / threshold
        x = x * 2.0 ** -math.ceil(math.log2(over) + 1) if over >= 1 else x
    return Operands(x, weight, bias, miss_probability=0.0)


def _impulse(case: Case) -> Operands:
    """A unit impulse in each channel of each image: every result shows the weights that meet one.

    A window may see an impulse of each channel, so the weights share what the output's format holds.
    """
    limit = storage_limit(case)
    channels = max(1, case.geometry.group_channels)
    parts = 2 if case.torch_dtype.is_complex else 1
    largest = max(1, min(widest_operand(case), limit // (2 * parts * (channels + 1))))

    def whole(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        return filled(case, name, shape, lambda bits, count: Signed()(bits, count, largest, zero=False))

    x = torch.zeros(case.input, dtype=case.torch_dtype)
    rows = x.view(-1, case.geometry.pixels) if x.numel() else x.view(0, 1)
    repeated = case.layout("input") == "expanded"
    drawn = rows[: case.geometry.in_channels if repeated and case.batch is not None else None]
    drawn = rows[:1] if repeated and case.batch is None else drawn
    bits = Bits(case, "input")
    places = bits.integers(len(drawn), 0, case.geometry.pixels - 1)
    # As many channels as there is room for in a sum of weights of 1.
    shown = bits.integers(len(drawn), 0, max(0, channels * 2 * parts * 2 // limit)) == 0
    if len(rows):
        index = torch.from_numpy(np.resize(places, len(rows)))
        rows.scatter_(1, index[:, None], torch.from_numpy(np.resize(shown, len(rows)))[:, None].to(x.dtype))
    weight = whole("weight", case.weight)
    bias = whole("bias", case.weight[:1]) if case.bias else None
    images = 1 if repeated else case.batch or 1
    return Operands(x, weight, bias, _unread(case.geometry) ** images)


def _unread(geometry: ConvGeometry) -> float:
    """The largest share of pixels that a tap, which reads any, does not read."""
    share = 1.0
    for axis in range(geometry.rank):
        first, count = geometry.live_taps(axis, torch.arange(geometry.output_size[axis]))
        taps = torch.arange(geometry.kernel_size[axis])
        reads = ((first[:, None] <= taps) & (taps < (first + count)[:, None])).sum(0)
        share *= float(reads[reads > 0].min()) / geometry.input_size[axis] if reads.any() else 0.0
    return 1 - share


def _overflow(case: Case) -> Operands:
    """Normal numbers, scaled by powers of two until the largest sum of magnitudes is about the largest number."""
    x, weight = filled(case, "input", case.input, Bits.normal), filled(case, "weight", case.weight, Bits.normal)
    bias = filled(case, "bias", case.weight[:1], Bits.normal) if case.bias else None
    limit = format_of(case.torch_dtype).max_exponent
    magnitude = magnitude_of(case, x, weight, None)
    largest = float(magnitude.max()) if magnitude.numel() else 0.0
    bits = Bits(case, "scale")
    # At most 2^limit, up to twice, four or eight times that: without an overflow, with few, or with many.
    room = limit + int(bits.integers(1, 0, 3)[0]) - math.frexp(largest)[1]
    # Both factors large, or only one. Neither may be infinite itself.
    heights = [limit - math.frexp(largest_part(t))[1] for t in (x, weight)]
    up = [room // 2, min(room, heights[0]), room - min(room, heights[1])][int(bits.integers(1, 0, 2)[0])]
    up = min(up, heights[0])
    x, weight = _raised(x, up), _raised(weight, min(room - up, heights[1]))
    return Operands(x, weight, None if bias is None else _raised(bias, limit - 3), miss_probability=0.0)


def _raised(values: torch.Tensor, exponent: int) -> torch.Tensor:
    """``values * 2^exponent``, by factors that are numbers of the narrowest format."""
    while exponent:
        step = max(-14, min(14, exponent))
        values, exponent = values * 2.0**step, exponent - step
    return values


def _subnormal(case: Case) -> Operands:
    """Subnormal inputs, or weights, or products of both; biases around the smallest normal number."""
    fmt = format_of(case.torch_dtype)
    low, half = fmt.min_exponent, fmt.min_exponent // 2
    around = (low - fmt.precision, low + 1)
    products = (half - fmt.precision // 2, half + 1)
    kind = int(Bits(case, "scale").integers(1, 0, 2)[0])
    of_x, of_weight = [(around, (-1, 1)), ((-1, 1), around), (products, products)][kind]

    def operand(name: str, shape: tuple[int, ...], exponents: tuple[int, int]) -> torch.Tensor:
        return filled(
            case, name, shape, lambda bits, count: np.ldexp(bits.normal(count), bits.integers(count, *exponents))
        )

    x, weight = operand("input", case.input, of_x), operand("weight", case.weight, of_weight)
    bias = operand("bias", case.weight[:1], around) if case.bias else None
    return Operands(x, weight, bias, miss_probability=0.0)


def _nonfinite(case: Case) -> Operands:
    """The exact integers, with NaN, infinities and zeros here and there."""
    exact = _exact(case, limit=storage_limit(case), wide="both")
    if case.dtype == "int64":
        return exact
    taps = max(1, math.prod(case.weight[1:]))

    def sprinkled(name: str, values: torch.Tensor, one_in: int) -> torch.Tensor:
        # 0, 1 and 2: NaN and the infinities. An infinity times zero is NaN: some zeros more for that.
        odd = filled(
            case, f"{name}.odd", tuple(values.shape), lambda b, n: b.integers(n, 0, 3 * one_in - 1), torch.int64
        )
        for index, value in enumerate((math.nan, math.inf, -math.inf)):
            values = values.where(odd != index, value)
        return values.where((odd < 3) | (odd % 8 != 3), 0) if name == "input" else values

    x = sprinkled("input", exact.input, 4 * taps)
    # One that is not finite decides all results of its channel: in most cases there is none.
    weight = sprinkled("weight", exact.weight, 4 * taps * case.weight[0])
    bias = None if exact.bias is None else sprinkled("bias", exact.bias, 8)
    return Operands(x, weight, bias, exact.miss_probability)


def _wide(bits: Bits, count: int, *, spread: int) -> Array:
    return np.ldexp(bits.normal(count), bits.integers(count, -spread, spread))


def _constant(bits: Bits, count: int) -> Array:
    # One number a tensor, in [1, 2): constants make rounding errors add up rather than cancel.
    return np.full(count, 1 + float(bits.raw(1)[0]) * 2.0**-32)


def _alternating(bits: Bits, count: int) -> Array:
    # Neighbours nearly cancel, but for noise of 2^-8; both operands alternate where the row length is odd.
    return (1 - 2 * (np.arange(count) % 2)) * (1 + bits.normal(count) * 2.0**-8)


def filled(
    case: Case,
    name: str,
    shape: tuple[int, ...],
    fill: Callable[[Bits, int], Array],
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """A tensor of a case's dtype, filled in blocks so that wide intermediate numbers stay small.

    An expanded operand repeats its first slice.
    """
    layout = case.layout(name.partition(".")[0].partition(" ")[0])
    drawn = (1, *shape[1:]) if layout == "expanded" and shape[0] > 0 else shape
    tensor = torch.empty(drawn, dtype=dtype or case.torch_dtype)
    # Real and imaginary part, or the tensor itself, as flat views: a large operand exists once.
    flats = torch.view_as_real(tensor).view(-1, 2).unbind(1) if tensor.is_complex() else (tensor.view(-1),)
    for stream, flat in zip((name, name + ".imag"), flats, strict=False):
        bits = Bits(case, stream)
        for begin in range(0, len(flat), _FILL_BLOCK):
            block = flat[begin : begin + _FILL_BLOCK]
            block.copy_(torch.from_numpy(fill(bits, len(block))))
    return tensor.expand(shape).contiguous()


def largest_part(values: torch.Tensor) -> float:
    """The largest magnitude of an element, or of its parts."""
    if not values.numel():
        return 0.0
    low, high = torch.aminmax(torch.view_as_real(values) if values.is_complex() else values)
    return max(-float(low), float(high))


def magnitude_of(case: Case, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """``S`` for real data; for complex data a sum that no part of any of its products or Gauss's sums exceeds."""
    g = case.geometry
    s = forward(g, size(weight), by_image(g, size(x)))
    return s if bias is None else s + size(bias)[:, None]


def size(values: torch.Tensor) -> torch.Tensor:
    """Magnitudes, of complex numbers such that no part of a product or of Gauss's sums exceeds the product of two."""
    if values.is_complex():
        return 2 * (values.real.double().abs() + values.imag.double().abs())
    return values.double().abs()


def storage_limit(case: Case) -> int:
    """Integers that the output's format, and with it every wider one, holds exactly."""
    return _INT64_LIMIT if case.dtype == "int64" else _integers(format_of(case.torch_dtype).precision)


def accumulator_limit(case: Case) -> int:
    """Integers that the accumulator holds exactly, and that do not overflow the output."""
    if case.dtype == "int64":
        return _INT64_SUMS
    accumulator = Arithmetic.strictest(case.torch_dtype).accumulator
    return min(_integers(accumulator.precision), int(torch.finfo(case.torch_dtype).max))


def widest_operand(case: Case) -> int:
    """Operands must be exact in the dtype; beyond 2^27 their products leave float64's integers."""
    if case.dtype == "int64":
        return 2**27 - 1
    return _integers(min(format_of(case.torch_dtype).precision, 27))


def _integers(bits: int) -> int:
    """The largest integer of so many bits."""
    return (1 << bits) - 1


def _wide_spread(case: Case) -> int:
    return 4 if format_of(case.torch_dtype) == FLOAT16 else 24


# The widest odd operand whose products still leave room for a sum: two bits more than TF32 keeps, or half of float64.
_PROBE_BITS = {"float32": 2**13 - 1, "complex64": 2**13 - 1, "float64": 2**27 - 1, "complex128": 2**27 - 1}

# How the recipes that only differ in that fill an operand.
FILLS: dict[str, Callable[[Case], Callable[[Bits, int], Array]]] = {
    "normal": lambda case: Bits.normal,  # noqa: ARG005  # as the others
    "wide": lambda case: partial(_wide, spread=_wide_spread(case)),
    "constant": lambda case: _constant,  # noqa: ARG005
    "alternating": lambda case: _alternating,  # noqa: ARG005
}

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "integers",
            "storage",
            "signed integers whose sums are exact in the output's format: any order, blocking and epilogue gives ==",
            lambda case: _exact(case, limit=storage_limit(case), wide="both"),
        ),
        Recipe(
            "accumulator",
            "accumulator",
            "signed integers whose sums are exact in the accumulator: the result is the exact one, rounded once",
            lambda case: _exact(case, limit=accumulator_limit(case), wide="both"),
        ),
        Recipe(
            "probe",
            "accumulator",
            "positive odd inputs too wide for TF32 or bfloat16: rounded, or summed narrowly, they lose the low bit",
            lambda case: _exact(case, limit=accumulator_limit(case), wide="input"),
        ),
        Recipe(
            "probe-weight",
            "accumulator",
            "the probe with the wide numbers in the weight",
            lambda case: _exact(case, limit=accumulator_limit(case), wide="weight"),
        ),
        Recipe("normal", "real", "unit normal numbers", _real),
        Recipe(
            "wide",
            "real",
            "normal numbers over a wide range of exponents",
            _real,
        ),
        Recipe(
            "constant",
            "real",
            "one number a tensor, so that rounding errors add up",
            _real,
        ),
        Recipe("alternating", "real", "alternating signs, so that sums cancel", _real),
        Recipe("impulse", "storage", "a unit impulse in each channel: results are the weights themselves", _impulse),
        Recipe("overflow", "real", "sums of magnitudes around the largest number of the format", _overflow),
        Recipe("subnormal", "real", "operands or products around and below the smallest normal number", _subnormal),
        Recipe("nonfinite", "special", "exact integers with NaN, infinities and zeros sprinkled in", _nonfinite),
    )
}
