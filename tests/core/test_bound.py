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

from tests.helpers.accumulators import ORDERS
from tests.helpers.sums import Problem, Variant, bound_of, problems
from toeplitz_core.bound import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, TF32, Arithmetic, Format, format_of
from toeplitz_core.testing.oracle.arithmetics import BFLOAT16_ROUNDING

# So coarse that terms of second order matter, and so small that all its numbers can be tried.
TOY = Format("toy", 3, -3, 8)
TOY_OUTPUT = Format("toy output", 2, -2, 8)


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
