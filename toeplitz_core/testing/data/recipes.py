"""The operands of a case, drawn by its recipe."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.recipe_table import ONE_HOT
from toeplitz_core.testing.data.one_hot import one_hot
from toeplitz_core.testing.data.operands import Operands, filled, kept
from toeplitz_core.testing.data.real_numbers import FILLS, overflowing_numbers, real_numbers, subnormal_numbers
from toeplitz_core.testing.data.whole_numbers import accumulator_limit, impulses, storage_limit, whole_numbers


def draw(case: Case) -> Operands:
    """The operands of a case, drawn by its recipe from its seed. They are kept, so nobody may change them."""
    return kept(_DRAWS[case.data], case)


def _nonfinite(case: Case) -> Operands:
    """Exact integers with some NaN, infinities and zeros."""
    exact = whole_numbers(case, limit=storage_limit(case), wide="both")
    if case.dtype == "int64":
        return exact
    taps = max(1, math.prod(case.weight[1:]))

    def sprinkled(name: str, values: torch.Tensor, one_in: int) -> torch.Tensor:
        # 0, 1 and 2 become NaN and the infinities. Infinity times zero is NaN, so both factors get more zeros too.
        odd = filled(
            case,
            f"{name}.odd",
            tuple(values.shape),
            lambda b, n: b.integers(n, 0, 3 * one_in - 1),
            torch.int64,
            operand=name,
        )
        for index, value in enumerate((math.nan, math.inf, -math.inf)):
            values = values.where(odd != index, value)
        return values if name == "bias" else values.where((odd < 3) | (odd % 8 != 3), 0)

    x = sprinkled("input", exact.input, 4 * taps)
    # A weight that is not finite decides all results of its channel, so most cases have none.
    weight = sprinkled("weight", exact.weight, 4 * taps * case.weight[0])
    bias = None if exact.bias is None else sprinkled("bias", exact.bias, 8)
    return Operands(x, weight, bias, exact.miss_probability)


# By the names of ``case.recipe_table.RECIPES``, which describes each recipe.
_DRAWS: dict[str, Callable[[Case], Operands]] = {
    "integers": lambda case: whole_numbers(case, limit=storage_limit(case), wide="both"),
    "accumulator": lambda case: whole_numbers(case, limit=accumulator_limit(case), wide="both"),
    "probe": lambda case: whole_numbers(case, limit=accumulator_limit(case), wide="input"),
    "probe-weight": lambda case: whole_numbers(case, limit=accumulator_limit(case), wide="weight"),
    **dict.fromkeys(FILLS, real_numbers),
    "impulse": impulses,
    "overflow": overflowing_numbers,
    "subnormal": subnormal_numbers,
    "nonfinite": _nonfinite,
    ONE_HOT: one_hot,
}
