"""The result of a convolution: equal to ``T x + b`` on exact data, within the error bound on other data."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from toeplitz_core.bound import Arithmetic
from toeplitz_core.testing.case.dtypes import CASE_DTYPES, REAL_DTYPES, ROUNDED_DTYPES
from toeplitz_core.testing.case.recipe_table import RECIPES
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws.judging import (
    alike,
    gravest,
    in_words,
    judge_finite,
    judge_special,
    located,
    shape_or_dtype,
    unanswered,
)
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.suitable_cases import without_channels
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.oracle.expected import Expected
from toeplitz_core.testing.oracle.results import expected
from toeplitz_core.testing.oracle.signed_zeros import negative_zeros
from toeplitz_core.testing.subjects.outcome import OUTPUT, ResultName, Results

if TYPE_CHECKING:
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.subjects.interface import Implementation
    from toeplitz_core.testing.subjects.outcome import Outcome


def forward_verdict(
    subject: Implementation, case: Case, operands: Operands | None = None, outputs: torch.Tensor | None = None
) -> Verdict:
    """Judge the result of a case by its data recipe: all outputs, or the chosen ones (flat indices)."""
    operands = draw(case) if operands is None else operands
    outcome = subject.run(case, operands)
    if outcome.status != "returned":
        return unanswered(case, outcome)
    return judged_results(case, operands, outcome, outcome.results, outputs)


def judged_results(
    case: Case,
    operands: Operands,
    outcome: Outcome,
    results: Results,
    outputs: torch.Tensor | None = None,
) -> Verdict:
    """The gravest verdict on several results of the same convolution, judged by the outcome's arithmetic."""
    if wrong := next((found for y in results.values() if (found := shape_or_dtype(case, y)) is not None), None):
        return wrong.replace(printed=outcome.printed)
    finite = operands if RECIPES[case.data].kind != "special" else finite_part(operands)
    algorithms = outcome.arithmetic.algorithms
    reference = expected(
        case.geometry, finite.input, finite.weight, finite.bias, outputs=outputs, algorithms=algorithms
    )
    distinct: dict[ResultName, torch.Tensor] = {}
    for name, result in results.items():
        actual = result.detach().cpu()
        if not any(alike(actual, other) for other in distinct.values()):
            distinct[name] = actual
    verdicts = []
    for name, y in distinct.items():
        values = y if outputs is None else y.reshape(-1)[outputs]
        verdict = _judged(case, operands, outcome.arithmetic, values, reference, outputs)
        verdict = verdict if outputs is None else located(verdict, case.output_shape, outputs)
        if verdict.status.is_failure and name != OUTPUT:
            verdict = verdict.replace(message=f"{verdict.message}: {name}")
        verdicts.append(verdict)
    found = gravest(verdicts)
    return found.replace(assumed=in_words(case, outcome.arithmetic), kernel=outcome.kernel, printed=outcome.printed)


def _judged(
    case: Case,
    operands: Operands,
    arithmetic: Arithmetic,
    actual: torch.Tensor,
    reference: Expected,
    outputs: torch.Tensor | None,
) -> Verdict:
    if RECIPES[case.data].kind == "special":
        verdict = judge_special(arithmetic, case, operands, actual, reference, outputs)
    else:
        miss = operands.miss_probability
        verdict = judge_finite(arithmetic, case, miss, actual, reference, has_bias=case.bias)
    zeros, other = (0, 0) if verdict.status.is_failure else _zeros(case, operands, actual, reference, outputs)
    return verdict.replace(zeros=zeros, zero_signs=other)


def _zeros(
    case: Case, operands: Operands, actual: torch.Tensor, reference: Expected, outputs: torch.Tensor | None
) -> tuple[int, int]:
    """The number of zeros, and of those whose sign is not that of IEEE's sum; 0 and 0 if sums are rounded."""
    if RECIPES[case.data].kind == "real" or not actual.is_floating_point():
        return 0, 0
    zeros = (actual == 0) & (reference.value == 0)
    if not zeros.any():
        return 0, 0
    negative = negative_zeros(case.geometry, operands.input, operands.weight, operands.bias, outputs=outputs)
    other = zeros & (actual.signbit() != negative.reshape(actual.shape))
    return int(zeros.sum()), int(other.sum())


def finite_part(operands: Operands) -> Operands:
    """The operands with zeros in place of NaN and infinities."""

    def clean(values: torch.Tensor) -> torch.Tensor:
        return torch.where(values.isfinite(), values, 0)

    bias = None if operands.bias is None else clean(operands.bias)
    return replace(operands, input=clean(operands.input), weight=clean(operands.weight), bias=bias)


def _forward(subject: Implementation, case: Case) -> Verdict:
    """Check the result of a case; its data recipe decides how."""
    return forward_verdict(subject, case)


def _without_channels(subject: Implementation, case: Case) -> Verdict:
    if case.geometry.in_channels:
        return Verdict(Status.MISTRUSTED, case, "the case has input channels; this law checks only cases without any")
    return forward_verdict(subject, case)


FORWARD_EXACT = Law(
    "forward-exact",
    "On integers whose sums are exact in the accumulator, the result equals T x + b, rounded once.",
    "wrong taps, strides, padding or groups; operands that are rounded; an accumulator that is too narrow",
    _forward,
    recipes=tuple(
        name for name, recipe in RECIPES.items() if recipe.is_drawn and recipe.kind in ("storage", "accumulator")
    ),
    dtypes=CASE_DTYPES,
)
FORWARD_BOUND = Law(
    "forward-bound",
    "On real numbers, every element of the result lies within the derived rounding error bound of T x + b.",
    "more precision lost than the arithmetic allows; an overflow where no sum can overflow",
    _forward,
    recipes=tuple(name for name, recipe in RECIPES.items() if recipe.kind == "real"),
    dtypes=ROUNDED_DTYPES,
)
SPECIAL_VALUES = Law(
    "special-values",
    "NaN and infinities in the operands reach every output that depends on them, and no other output.",
    "NaN read from padding or from memory next to the image; an infinity that a mask suppresses",
    _forward,
    recipes=tuple(name for name, recipe in RECIPES.items() if recipe.kind == "special"),
    # Libraries define infinity times a complex number differently.
    dtypes=REAL_DTYPES,
)
NO_CHANNELS = Law(
    "no-channels",
    "Without input channels there is nothing to sum, so every output equals the bias.",
    "a division by the number of channels; a result without its output channels or its bias",
    _without_channels,
    recipes=("integers",),
    dtypes=CASE_DTYPES,
    sharpen=without_channels,
)
