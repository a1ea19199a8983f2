"""Sums of products in rational numbers, their bounds, and the accumulators that an arithmetic describes."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from hypothesis import strategies as st

from tests.helpers.accumulators import Accumulator, Rounding
from toeplitz_core.bound import TF32, Arithmetic, Format, error_bound


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


def numbers_of(fmt: Format, kind: str, count: int, shuffle: random.Random) -> list[Fraction]:
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
        [Fraction(1)] * n if kind == "one" else numbers_of(fmt, kind, n, shuffle)
        for kind, n in zip(kinds, (count, count, 1), strict=True)
    )
    return Problem(tuple(x), tuple(weight), bias[0] if draw(st.booleans()) else None), shuffle
