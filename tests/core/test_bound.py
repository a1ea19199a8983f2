"""The error bound against simulated accumulators: none exceeds it, some attain it, and every term is needed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.accumulators import ORDERS, Accumulator, Rounding
from toeplitz_core import ConvGeometry
from toeplitz_core.bound import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, TF32, Arithmetic, Format, error_bound, format_of
from toeplitz_core.testing.oracle.results import expected
from toeplitz_core.testing.subjects.pytorch.arithmetic import BFLOAT16_ROUNDING

# So coarse that terms of second order matter, and so small that all its numbers can be tried.
TOY = Format("toy", 3, -3, 8)
TOY_OUTPUT = Format("toy output", 2, -2, 8)


@dataclass(frozen=True, slots=True)
class Problem:
    """Operands of one sum of products: input, weight and an optional bias."""

    x: tuple[Fraction, ...]
    weight: tuple[Fraction, ...]
    bias: Fraction | None = None

    @property
    def exact(self) -> Fraction:
        return sum((a * b for a, b in zip(self.x, self.weight, strict=True)), self.bias or Fraction(0))

    @property
    def magnitude(self) -> Fraction:
        size = sum((abs(a * b) for a, b in zip(self.x, self.weight, strict=True)), Fraction(0))
        return size + abs(self.bias or 0)

    def grown(self, limit: float) -> Fraction:
        """How much the magnitude grows when every operand below a limit doubles."""

        def size(v: Fraction, factor: int) -> Fraction:
            return abs(v) * (factor if abs(v) < limit else 1)

        def total(factor: int) -> Fraction:
            products = (size(a, factor) * size(b, factor) for a, b in zip(self.x, self.weight, strict=True))
            return sum(products, size(self.bias or Fraction(0), factor))

        return total(2) - total(1)


def upwards(value: Fraction) -> torch.Tensor:
    """A float64 that is at least a positive rational number."""
    nearest = float(value)
    return torch.tensor(nearest if nearest >= value else math.nextafter(nearest, math.inf), dtype=torch.float64)


def bound_of(arithmetic: Arithmetic, problem: Problem, operand: Format, **changes: Any) -> Fraction:
    """The bound for a problem with operands of a format, as a rational number; ``changes`` replace its arguments."""
    count = len(problem.x)
    arguments: dict[str, Any] = {
        "exact": upwards(abs(problem.exact)),
        "magnitude": upwards(problem.magnitude),
        "roundings": torch.tensor(count + (problem.bias is not None)),
        "products": torch.tensor(count),
        "bias": torch.tensor(float(abs(problem.bias or 0)), dtype=torch.float64),
        "subnormal": upwards(problem.grown(operand.smallest_normal)),
    }
    return Fraction(float(error_bound(arithmetic, **arguments | changes)))


@dataclass(frozen=True, slots=True)
class Variant:
    """An arithmetic, the format of its operands, and an accumulator that it describes, without an order or blocks."""

    operand: Format
    arithmetic: Arithmetic
    base: Accumulator

    @classmethod
    def of(cls, operand: Format, arithmetic: Arithmetic, *, nearest_inputs: Format | None = None) -> Variant:
        """The variant of an arithmetic; rounded inputs are truncated to TF32, or rounded to nearest in a format."""
        flushes = arithmetic.flushes
        on_read = Rounding(operand, flushes=True) if flushes else None
        low = arithmetic.partial_format
        rounded = Rounding(TF32, truncates=True, flushes=flushes)
        if nearest_inputs is not None:
            rounded = Rounding(nearest_inputs, flushes=flushes)
        return cls(
            operand,
            arithmetic,
            Accumulator(
                Rounding(arithmetic.accumulator, arithmetic.truncates, flushes),
                Rounding(arithmetic.output, flushes=flushes)
                if arithmetic.output != arithmetic.accumulator
                else Rounding(arithmetic.output, arithmetic.truncates, flushes),
                operand=rounded if arithmetic.input_rounding else on_read,
                bias_operand=rounded if arithmetic.bias_rounding else on_read,
                partial=None if low is None else Rounding(low, flushes=flushes),
                two_step=arithmetic.bias_after_rounding,
            ),
        )


def variants() -> dict[str, Variant]:
    """Every kind of arithmetic that an ``Arithmetic`` describes, in the formats that use it."""
    same = {f.name: Variant.of(f, Arithmetic(f, f)) for f in (FLOAT64, FLOAT32, FLOAT16, BFLOAT16, TOY)}
    half = {f"{f.name} in float32": Variant.of(f, Arithmetic(FLOAT32, f)) for f in (FLOAT16, BFLOAT16)}
    toy = Arithmetic(TOY, TOY)
    wide_toy = Format("wide toy", 5, -8, 16)
    more = {
        "tf32 truncated": Variant.of(FLOAT32, Arithmetic(FLOAT32, FLOAT32, input_rounding=2.0**-10)),
        "tf32 nearest": Variant.of(FLOAT32, Arithmetic(FLOAT32, FLOAT32, input_rounding=2.0**-11), nearest_inputs=TF32),
        "inputs in bfloat16": Variant.of(
            FLOAT32, Arithmetic(FLOAT32, FLOAT32, input_rounding=2.0**-8), nearest_inputs=BFLOAT16
        ),
        "inputs and bias in bfloat16": Variant.of(
            FLOAT32,
            Arithmetic(FLOAT32, BFLOAT16, input_rounding=BFLOAT16_ROUNDING, bias_rounding=BFLOAT16_ROUNDING),
            nearest_inputs=BFLOAT16,
        ),
        "inputs in fewer bits": Variant.of(
            wide_toy,
            Arithmetic(wide_toy, wide_toy, input_rounding=2.0**-3),
            nearest_inputs=replace(wide_toy, precision=3),
        ),
        "float16 partial sums": Variant.of(FLOAT16, Arithmetic(FLOAT32, FLOAT16, partial_format=FLOAT16)),
        "bfloat16 partial sums": Variant.of(BFLOAT16, Arithmetic(FLOAT32, BFLOAT16, partial_format=BFLOAT16)),
        "toy partial sums": Variant.of(TOY, Arithmetic(wide_toy, wide_toy, partial_format=TOY)),
        "float16 then bias": Variant.of(FLOAT16, Arithmetic(FLOAT32, FLOAT16, bias_after_rounding=True)),
        "bfloat16 then bias": Variant.of(BFLOAT16, Arithmetic(FLOAT32, BFLOAT16, bias_after_rounding=True)),
        "toy then bias": Variant.of(TOY_OUTPUT, Arithmetic(TOY, TOY_OUTPUT, bias_after_rounding=True)),
        "toy output": Variant.of(TOY_OUTPUT, Arithmetic(wide_toy, TOY_OUTPUT)),
        "toy in float16": Variant.of(TOY, replace(toy, accumulator=FLOAT16)),
    }
    steady = same | half | more
    truncating = {
        f"{name}, truncating": Variant.of(v.operand, replace(v.arithmetic, truncates=True), nearest_inputs=_inputs(v))
        for name, v in steady.items()
    }
    flushing = {
        f"{name}, flushing": Variant.of(v.operand, v.arithmetic.flushing(), nearest_inputs=_inputs(v))
        for name, v in (steady | {n: v for n, v in truncating.items() if "toy" in n}).items()
    }
    return steady | truncating | flushing


def _inputs(variant: Variant) -> Format | None:
    rounding = variant.base.operand
    return None if rounding is None or rounding.truncates else rounding.format


VARIANTS = variants()


def _numbers(fmt: Format, kind: str, count: int, shuffle: random.Random) -> list[Fraction]:
    """Numbers of a format whose products and sums stay within its range."""
    rounding = Rounding(fmt)
    room = fmt.max_exponent // 2 - 3
    ulp = Fraction(2) ** (1 - fmt.precision)

    def real(exponent: int) -> Fraction:
        return Fraction(shuffle.randrange(-(2**60), 2**60)) / 2**60 * Fraction(2) ** exponent

    if kind == "normal":
        numbers = [real(0) for _ in range(count)]
    elif kind in {"rising", "falling"}:
        numbers = sorted((real(shuffle.randint(-fmt.precision, 0)) for _ in range(count)), key=abs)
        numbers = numbers if kind == "rising" else numbers[::-1]
    elif kind == "constant":
        numbers = [1 + abs(real(0))] * count
    elif kind == "alternating":
        numbers = [(-1) ** i * (1 + real(-3)) for i in range(count)]
    elif kind == "swamped":
        # One, and numbers a little above half its spacing: each of them is rounded up to the full spacing.
        numbers = [Fraction(1)] + [ulp / 2 * (1 + ulp)] * (count - 1)
    elif kind == "subnormal":
        numbers = [real(fmt.min_exponent + shuffle.randint(-fmt.precision, 1)) for _ in range(count)]
    elif kind == "underflowing":
        # Products around the smallest normal number, and below it.
        numbers = [
            real(shuffle.randint(fmt.min_exponent // 2 - fmt.precision, fmt.min_exponent // 2 + 2))
            for _ in range(count)
        ]
    else:
        wide = min(room, 2 * fmt.precision)
        numbers = [real(shuffle.randint(max(fmt.min_exponent, -wide), wide // 2)) for _ in range(count)]
    return [rounding(v) for v in numbers[:count]]


KINDS = ("normal", "rising", "falling", "constant", "alternating", "swamped", "subnormal", "underflowing", "wide")


@st.composite
def problems(draw: st.DrawFn, fmt: Format, *, most: int = 24) -> tuple[Problem, random.Random]:
    """Sums of at most ``most`` products of numbers of a format; input, weight and bias are drawn separately."""
    count = draw(st.integers(0, min(most, 2 ** (fmt.max_exponent // 2))))
    kinds = draw(st.tuples(*[st.sampled_from((*KINDS, "one"))] * 3))
    shuffle = random.Random(draw(st.integers(0, 2**32)))
    x, weight, bias = (
        [Fraction(1)] * n if kind == "one" else _numbers(fmt, kind, n, shuffle)
        for kind, n in zip(kinds, (count, count, 1), strict=True)
    )
    return Problem(tuple(x), tuple(weight), bias[0] if draw(st.booleans()) else None), shuffle


@pytest.mark.parametrize("name", VARIANTS)
@settings(max_examples=25)  # for each of some sixty variants
@given(data=st.data())
def test_no_correct_accumulator_exceeds_the_bound(name: str, data: st.DataObject) -> None:
    """A correctly rounded sum stays within the bound, for any order, blocks, formats and epilogue."""
    variant = VARIANTS[name]
    problem, shuffle = data.draw(problems(variant.operand))
    blocks = data.draw(st.integers(1, 5))
    accumulator = replace(
        variant.base,
        order=data.draw(st.sampled_from(ORDERS)),
        fused=data.draw(st.booleans()),
        blocks=blocks,
        chained=data.draw(st.booleans()),
        bias_first=data.draw(st.booleans()),
    )
    arithmetic = variant.arithmetic
    if arithmetic.partial_format is not None:
        arithmetic = replace(arithmetic, partial_sums=blocks)
    try:
        computed = accumulator(problem.x, problem.weight, problem.bias, shuffle)
    except OverflowError:  # the bound is for finite results
        return
    assert abs(computed - problem.exact) <= bound_of(arithmetic, problem, variant.operand)


@dataclass(frozen=True, slots=True)
class Witness:
    """A correct accumulator that needs one term of the bound.

    Parameters
    ----------
    variant : Variant
    problem : Problem
    attained : float
        The share of the full bound that the error reaches, rounded down.
    without : Arithmetic, optional
        An arithmetic whose bound lacks the term.
    arguments : dict, optional
        Arguments of the bound with which it lacks the term.
    changes : dict, optional
        Changes to the variant's accumulator.
    """

    variant: Variant
    problem: Problem
    attained: float
    without: Arithmetic | None = None
    arguments: dict[str, Any] | None = None
    changes: dict[str, Any] | None = None

    @property
    def error(self) -> Fraction:
        p = self.problem
        computed = replace(self.variant.base, **self.changes or {})(p.x, p.weight, p.bias, random.Random(0))
        return abs(computed - p.exact)


def problem(x: list[float], weight: list[float], bias: float | None = None) -> Problem:
    """The problem with exactly these floating-point numbers."""
    return Problem(tuple(map(Fraction, x)), tuple(map(Fraction, weight)), None if bias is None else Fraction(bias))


def witnesses() -> dict[str, Witness]:
    """One witness for each term of the bound."""
    single, double = Arithmetic(FLOAT32, FLOAT32), Arithmetic(FLOAT64, FLOAT64)
    truncating, tf32 = replace(single, truncates=True), replace(single, input_rounding=2.0**-10)
    half = Arithmetic(FLOAT32, FLOAT16)
    stored = replace(half, partial_format=FLOAT16, partial_sums=2)
    two_step = replace(half, bias_after_rounding=True)
    # 24929 * 673 = 2^24 + 1 is a tie that loses 1; then every 1 added to 2^24 is lost too.
    ties = problem([24929.0, 1, 1, 1, 1], [673.0, 1, 1, 1, 1], 1.0)
    # Each truncation loses nearly a full spacing, which is 2.
    cut = problem([2.0**24] + [2 - 2.0**-22] * 6, [1.0] * 7)
    low = 1 + 2.0**-10 - 2.0**-23
    zero = torch.tensor(0)
    nothing = {"subnormal": zero.double()}
    return {
        "roundings of products and sums": Witness(
            Variant.of(FLOAT32, single), ties, 0.99, arguments={"roundings": torch.tensor(5)}
        ),
        "truncation": Witness(Variant.of(FLOAT32, truncating), cut, 0.85, without=single),
        "input rounding": Witness(Variant.of(FLOAT32, tf32), problem([low], [low]), 0.99, without=single),
        "input rounding of subnormals": Witness(
            Variant.of(FLOAT32, tf32), problem([2.0**-137], [1.0]), 0.99, arguments=nothing
        ),
        # The bias is half way between two numbers of bfloat16.
        "bias rounding": Witness(
            Variant.of(FLOAT32, replace(single, bias_rounding=BFLOAT16_ROUNDING), nearest_inputs=BFLOAT16),
            problem([0.0], [1.0], 1 + 2.0**-8),
            0.99,
            without=single,
        ),
        "bias rounding of subnormals": Witness(
            Variant.of(FLOAT32, replace(single, bias_rounding=BFLOAT16_ROUNDING), nearest_inputs=BFLOAT16),
            problem([0.0], [1.0], 2.0**-134),
            0.49,
            arguments=nothing,
        ),
        "gradual underflow": Witness(
            Variant.of(FLOAT32, single), problem([2.0**-100] * 3, [2.0**-50] * 3), 0.99, arguments={"products": zero}
        ),
        "gradual underflow in float64": Witness(
            Variant.of(FLOAT64, double),
            problem([2.0**-1000] * 3, [2.0**-75] * 3),
            0.49,
            arguments={"products": zero},
        ),
        "gradual underflow, truncated": Witness(
            Variant.of(FLOAT32, truncating), problem([2.0**-100], [2.0**-49 - 2.0**-73]), 0.99, without=single
        ),
        "flush": Witness(
            Variant.of(FLOAT32, single.flushing()),
            problem([1 - 2.0**-23] * 3, [2.0**-126] * 3),
            0.99,
            arguments={"products": torch.tensor(2)},
        ),
        "flushed operands": Witness(
            Variant.of(FLOAT16, single.flushing()), problem([2.0**-15], [2.0**14]), 0.99, arguments=nothing
        ),
        "flushed bias": Witness(
            Variant.of(FLOAT16, single.flushing()), problem([2.0**-14], [1.0], 2.0**-15), 0.99, arguments=nothing
        ),
        "partial sums": Witness(
            Variant.of(FLOAT16, replace(stored, output=FLOAT32)),
            problem([2048.0, 1, 1], [1.0] * 3),
            0.99,
            without=single,
            changes={"blocks": 2, "chained": True},
        ),
        "underflow of partial sums": Witness(
            Variant.of(FLOAT16, replace(stored, output=FLOAT32)),
            problem([2.0**-13, 2.0**-13], [2.0**-12, 2.0**-12]),
            0.99,
            without=replace(half, output=FLOAT32, partial_format=replace(FLOAT16, min_exponent=-126), partial_sums=2),
            changes={"blocks": 2},
        ),
        "flush of partial sums": Witness(
            Variant.of(FLOAT16, replace(stored, output=FLOAT32).flushing()),
            problem([2.0**-7 - 2.0**-17] * 2, [2.0**-7] * 2),
            0.99,
            without=replace(
                half, output=FLOAT32, partial_format=replace(FLOAT16, min_exponent=-126), partial_sums=2
            ).flushing(),
            changes={"blocks": 2},
        ),
        # 2049 loses 1 before the bias is added, and 1 again afterwards.
        "bias after rounding": Witness(
            Variant.of(FLOAT16, two_step), problem([2048.0, 1], [1.0, 1], 1.0), 0.99, without=half
        ),
        "output": Witness(Variant.of(FLOAT16, half), problem([2048.0, 1], [1.0, 1]), 0.99, without=single),
        "underflow of the output": Witness(
            Variant.of(FLOAT16, half),
            problem([2.0**-13], [2.0**-12]),
            0.99,
            without=replace(half, output=replace(FLOAT16, min_exponent=-126)),
        ),
        "flush of the output": Witness(
            Variant.of(FLOAT16, half.flushing()),
            problem([2.0**-7 - 2.0**-17], [2.0**-7]),
            0.99,
            without=replace(half, output=replace(FLOAT16, min_exponent=-126)).flushing(),
        ),
    }


WITNESSES = witnesses()


@pytest.mark.parametrize("name", WITNESSES)
def test_each_term_is_needed(name: str) -> None:
    """Without a term, a correct accumulator exceeds the rest of the bound."""
    w = WITNESSES[name]
    arithmetic = w.variant.arithmetic if w.without is None else w.without
    assert w.error > bound_of(arithmetic, w.problem, w.variant.operand, **w.arguments or {})


@pytest.mark.parametrize("name", WITNESSES)
def test_each_term_is_attained(name: str) -> None:
    """For each term, a correct accumulator reaches 0.99 of the whole bound, with three exceptions.

    Truncation reaches 0.85, because not all of seven sums can lose as much as the last. Underflow of float64 reaches
    0.49: it counts double, because half of the smallest float64 is not a float64. A lost subnormal bias reaches 0.49
    too, because the bound also allows for a lost product.
    """
    w = WITNESSES[name]
    bound = bound_of(w.variant.arithmetic, w.problem, w.variant.operand)
    assert Fraction(w.attained) * bound <= w.error <= bound


def rationals(values: torch.Tensor) -> list[Fraction]:
    """The elements as exact rational numbers."""
    return [Fraction(v) for v in values.flatten().tolist()]


def by_gauss(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, base: Accumulator) -> list[Fraction]:
    """Real and imaginary part of a sum of complex products by three real sums, as torch computes convolutions."""
    rounding, on_read = base.accumulator, base.operand or (lambda v: v)
    shuffle = random.Random(0)

    def parts(values: torch.Tensor) -> list[list[Fraction]]:
        re, im = ([on_read(v) for v in rationals(t)] for t in (values.real, values.imag))
        return [re, im, [rounding(a + b) for a, b in zip(re, im, strict=True)]]

    b = [[None]] * 3 if bias is None else parts(bias)
    both = list(zip(parts(x), parts(weight), (b[0], [None], b[2]), strict=True))
    first, second, third = (base(xs, ws, bs[0], shuffle) for xs, ws, bs in both)
    return [rounding(first - second), rounding(rounding(third - first) - second)]


def exact_complex(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> list[Fraction]:
    """Real and imaginary part of a sum of complex products."""
    xr, xi, wr, wi = (rationals(t) for t in (x.real, x.imag, weight.real, weight.imag))
    br, bi = (Fraction(0), Fraction(0)) if bias is None else (rationals(bias.real)[0], rationals(bias.imag)[0])
    quads = list(zip(xr, xi, wr, wi, strict=True))
    return [sum((a * c - b * d for a, b, c, d in quads), br), sum((a * d + b * c for a, b, c, d in quads), bi)]


def complex_bound(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, arithmetic: Arithmetic
) -> list[Fraction]:
    """The oracle's bounds of the real and the imaginary part of one output."""
    g = ConvGeometry(x.numel(), 1, (1,), (1,))
    reference = expected(g, x.reshape(1, -1, 1), weight.reshape(1, -1, 1), bias)
    return rationals(reference.bound(arithmetic, has_bias=bias is not None))


@pytest.mark.parametrize("flushes", [False, True])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@settings(max_examples=60)
@given(data=st.data())
def test_the_complex_bound_holds_for_three_real_products(
    dtype: torch.dtype, flushes: bool, data: st.DataObject
) -> None:
    """Real and imaginary part by Gauss stay within their bounds, even if one is far smaller than the other."""
    fmt = format_of(dtype)
    arithmetic = replace(Arithmetic.of_dtype(dtype), flushes=flushes)
    (re, shuffle), scale = data.draw(problems(fmt, most=8)), 2.0 ** -data.draw(st.integers(0, 30))
    kind = data.draw(st.sampled_from(KINDS))
    imaginary = [_numbers(fmt, kind, len(v), shuffle) for v in (re.x, re.weight, [0])]
    real = (re.x, re.weight, [re.bias or Fraction(0)])
    x, weight, bias = (
        torch.complex(*(torch.tensor([float(v) for v in part], dtype=torch.float64) for part in (a, b))).to(dtype)
        for a, b in zip(real, imaginary, strict=True)
    )
    x = (x.real + 1j * (x.imag * scale)).to(dtype)
    bias = None if re.bias is None else bias
    base = replace(
        Variant.of(fmt, arithmetic).base,
        order=data.draw(st.sampled_from(ORDERS)),
        fused=data.draw(st.booleans()),
    )
    errors = zip(by_gauss(x, weight, bias, base), exact_complex(x, weight, bias), strict=True)
    for (computed, exact), bound in zip(errors, complex_bound(x, weight, bias, arithmetic), strict=True):
        assert abs(computed - exact) <= bound


def test_a_direct_bound_is_too_small_for_gauss() -> None:
    """For tiny imaginary parts, Gauss's error is over a thousand times the bound of direct products."""
    shuffle = random.Random(1)
    x, weight = (
        torch.tensor([complex(shuffle.uniform(1, 2), shuffle.uniform(1, 2) * 2**-20) for _ in range(8)]).to(
            torch.complex64
        )
        for _ in range(2)
    )
    arithmetic = Arithmetic.of_dtype(torch.complex64)
    computed, exact = by_gauss(x, weight, None, Variant.of(FLOAT32, arithmetic).base), exact_complex(x, weight, None)
    error = abs(computed[1] - exact[1])
    parts = [*rationals(x.real), *rationals(x.imag)], [*rationals(weight.imag), *rationals(weight.real)]
    direct = bound_of(arithmetic, Problem(tuple(parts[0]), tuple(parts[1])), FLOAT32)
    assert error > 1000 * direct
    assert error <= complex_bound(x, weight, None, arithmetic)[1]


# Input, weight, the part (1: imaginary), and the share of the bound that the error must at least reach.
GAUSS = {
    "roundings before the products and after": (
        complex(float.fromhex("0x1.00675p+0"), float.fromhex("0x1.002a02p+0")),
        complex(float.fromhex("0x1.00a14cp+0"), float.fromhex("0x1.00e22ep+0")),
        1,
        0.49,
    ),
    "underflow of two products": (2.0**-100 * (1 + 1j), 2.0**-50 * (1 - 1j), 0, 0.99),
    "underflow of three products": (2.0**-100 * (1 + 2j), 2.0**-50 * (1 + 0.5j), 1, 0.33),
    "flushed sum of parts": (2.0**-126 * (1.5 - 1j), 2.0**10 + 0j, 1, 0.16),
}


@pytest.mark.parametrize("name", GAUSS)
def test_the_complex_bound_is_within_a_factor_of_what_gauss_attains(name: str) -> None:
    """Gauss attains between a third and all of the complex bound, and a sixth if sums of parts may be flushed."""
    x, w, part, attained = GAUSS[name]
    arithmetic = replace(Arithmetic.of_dtype(torch.complex64), flushes="flushed" in name)
    inputs, weight = (torch.tensor([v], dtype=torch.complex128).to(torch.complex64) for v in (x, w))
    base = Variant.of(FLOAT32, arithmetic).base
    error = abs(by_gauss(inputs, weight, None, base)[part] - exact_complex(inputs, weight, None)[part])
    bound = complex_bound(inputs, weight, None, arithmetic)[part]
    assert Fraction(attained) * bound <= error <= bound


FLOATS = {FLOAT64: torch.float64, FLOAT32: torch.float32, FLOAT16: torch.float16, BFLOAT16: torch.bfloat16}


@pytest.mark.parametrize("fmt", FLOATS, ids=lambda fmt: fmt.name)
def test_formats_are_those_of_torch(fmt: Format) -> None:
    """Unit roundoff, smallest normal and smallest subnormal number are those of torch's dtypes."""
    info = torch.finfo(FLOATS[fmt])
    assert format_of(FLOATS[fmt]) is fmt
    assert fmt.unit_roundoff == info.eps / 2
    assert fmt.smallest_normal == info.smallest_normal
    assert fmt.smallest_subnormal == torch.zeros((), dtype=FLOATS[fmt]).nextafter(torch.ones((), dtype=FLOATS[fmt]))


@pytest.mark.parametrize("fmt", FLOATS, ids=lambda fmt: fmt.name)
def test_overflow_begins_at_the_threshold(fmt: Format) -> None:
    """The threshold rounds to infinity, and the number before it to the largest of the format."""
    # torch rounds float64 to half precision via float32, which is a double rounding.
    wider = torch.float32 if fmt in (FLOAT16, BFLOAT16) else torch.float64
    threshold = torch.tensor(fmt.overflow_threshold, dtype=wider)
    before = threshold.nextafter(torch.zeros_like(threshold))
    assert threshold.to(FLOATS[fmt]).isinf()
    assert before.to(FLOATS[fmt]) == torch.finfo(FLOATS[fmt]).max


def test_the_format_of_an_integer_dtype_is_refused() -> None:
    """Only floating-point dtypes have a format, and the error lists them."""
    with pytest.raises(ValueError, match=r"dtype=torch.int64 must be one of torch.float64, .*torch.complex64"):
        format_of(torch.int64)


@pytest.mark.parametrize("fmt", FLOATS, ids=lambda fmt: fmt.name)
def test_thresholds_scale_by_powers_of_two(fmt: Format) -> None:
    """In units of ``2^exponent`` the threshold is smaller by that factor, and finite for float64 too."""
    assert fmt.overflow_threshold_in(0) == fmt.overflow_threshold
    assert math.isfinite(fmt.overflow_threshold_in(1))
    assert fmt.overflow_threshold_in(10) == fmt.overflow_threshold_in(1) / 2**9
