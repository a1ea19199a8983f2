"""Data recipes: named ways to fill the operands of a case."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Operands, filled
from toeplitz_core.testing.data.real_numbers import overflowing_numbers, real_numbers, subnormal_numbers
from toeplitz_core.testing.data.whole_numbers import accumulator_limit, impulses, storage_limit, whole_numbers


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named recipe. Its ``kind`` says how results are judged: exactly, by the bound (``real``), or by class.

    The classes of ``special`` results are NaN, the infinities, and finite numbers, which are exact.
    """

    name: str
    kind: Literal["storage", "accumulator", "real", "special"]
    statement: str
    draw: Callable[[Case], Operands]


def draw(case: Case) -> Operands:
    """The operands of a case, by its recipe and seed."""
    return RECIPES[case.data].draw(case)


def _nonfinite(case: Case) -> Operands:
    """The exact integers, with NaN, infinities and zeros here and there."""
    exact = whole_numbers(case, limit=storage_limit(case), wide="both")
    if case.dtype == "int64":
        return exact
    taps = max(1, math.prod(case.weight[1:]))

    def sprinkled(name: str, values: torch.Tensor, one_in: int) -> torch.Tensor:
        # 0, 1 and 2: NaN and the infinities. Of those times zero is NaN: some zeros more, on both sides, for that.
        odd = filled(
            case, f"{name}.odd", tuple(values.shape), lambda b, n: b.integers(n, 0, 3 * one_in - 1), torch.int64
        )
        for index, value in enumerate((math.nan, math.inf, -math.inf)):
            values = values.where(odd != index, value)
        return values if name == "bias" else values.where((odd < 3) | (odd % 8 != 3), 0)

    x = sprinkled("input", exact.input, 4 * taps)
    # One that is not finite decides all results of its channel: in most cases there is none.
    weight = sprinkled("weight", exact.weight, 4 * taps * case.weight[0])
    bias = None if exact.bias is None else sprinkled("bias", exact.bias, 8)
    return Operands(x, weight, bias, exact.miss_probability)


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "integers",
            "storage",
            "signed integers whose sums are exact in the output's format: any order, blocking and epilogue gives ==",
            lambda case: whole_numbers(case, limit=storage_limit(case), wide="both"),
        ),
        Recipe(
            "accumulator",
            "accumulator",
            "signed integers whose sums are exact in the accumulator: the result is the exact one, rounded once",
            lambda case: whole_numbers(case, limit=accumulator_limit(case), wide="both"),
        ),
        Recipe(
            "probe",
            "accumulator",
            "positive odd inputs too wide for TF32 or bfloat16: rounded, or summed narrowly, they lose the low bit",
            lambda case: whole_numbers(case, limit=accumulator_limit(case), wide="input"),
        ),
        Recipe(
            "probe-weight",
            "accumulator",
            "the probe with the wide numbers in the weight",
            lambda case: whole_numbers(case, limit=accumulator_limit(case), wide="weight"),
        ),
        Recipe("normal", "real", "unit normal numbers", real_numbers),
        Recipe(
            "wide",
            "real",
            "normal numbers over a wide range of exponents",
            real_numbers,
        ),
        Recipe(
            "constant",
            "real",
            "one number a tensor, so that rounding errors add up",
            real_numbers,
        ),
        Recipe("alternating", "real", "alternating signs, so that sums cancel", real_numbers),
        Recipe("impulse", "storage", "a unit impulse in each channel: results are the weights themselves", impulses),
        Recipe("overflow", "real", "sums of magnitudes around the largest number of the format", overflowing_numbers),
        Recipe(
            "subnormal", "real", "operands or products around and below the smallest normal number", subnormal_numbers
        ),
        Recipe("nonfinite", "special", "exact integers with NaN, infinities and zeros sprinkled in", _nonfinite),
    )
}
