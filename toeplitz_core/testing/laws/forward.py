"""The result of a convolution: equal to ``T x + b`` where the data is exact, within the bound where not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from toeplitz_core.bound import Arithmetic
from toeplitz_core.testing.case.dtypes import CASE_DTYPES, REAL_DTYPES, ROUNDED_DTYPES
from toeplitz_core.testing.case.recipes import RECIPES
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws.judging import (
    alike,
    gravest,
    in_words,
    is_exact,
    judge_bound,
    judge_exact,
    judge_special,
    shape_or_dtype,
    unanswered,
)
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.sharpening import without_channels
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.oracle.expected import Expected
from toeplitz_core.testing.oracle.results import expected
from toeplitz_core.testing.oracle.signed_zeros import negative_zeros

if TYPE_CHECKING:
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.subjects.interface import Implementation
    from toeplitz_core.testing.subjects.outcome import Outcome


def forward_verdict(
    subject: Implementation, case: Case, operands: Operands | None = None, outputs: torch.Tensor | None = None
) -> Verdict:
    """Judge the result for a case, wholly or at chosen outputs (flat indices), by the kind of its data recipe."""
    operands = draw(case) if operands is None else operands
    outcome = subject.run(case, operands)
    if outcome.status != "returned":
        return unanswered(case, outcome)
    return judged_results(case, operands, outcome, outcome.results, outputs)


def judged_results(
    case: Case,
    operands: Operands,
    outcome: Outcome,
    results: Mapping[str, torch.Tensor],
    outputs: torch.Tensor | None = None,
) -> Verdict:
    """The gravest verdict on results that are all the convolution of a case, by the arithmetic of an outcome."""
    if message := next((said for y in results.values() if (said := shape_or_dtype(case, y)) is not None), None):
        return Verdict(Status.FAIL, case, message, printed=outcome.printed)
    finite = operands if RECIPES[case.data].kind != "special" else _finite(operands)
    algorithms = outcome.arithmetic.algorithms
    reference = expected(
        case.geometry, finite.input, finite.weight, finite.bias, outputs=outputs, algorithms=algorithms
    )
    distinct: dict[str, torch.Tensor] = {}
    for name, result in results.items():
        actual = result.detach().cpu()
        if not any(alike(actual, other) for other in distinct.values()):
            distinct[name] = actual
    verdicts = []
    for name, y in distinct.items():
        values = y if outputs is None else y.reshape(-1)[outputs]
        verdict = _judged(case, operands, outcome.arithmetic, values, reference, outputs)
        if verdict.status.is_failure and name != "output":
            verdict = verdict.replace(message=f"{verdict.message}: {name.replace('-', ' ')}")
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
    kind = RECIPES[case.data].kind
    if kind == "special":
        verdict = judge_special(arithmetic, case, operands, actual, reference, outputs)
    elif kind == "real" or not is_exact(arithmetic, case, reference):
        verdict = judge_bound(arithmetic, case, actual, reference, has_bias=case.bias)
    else:
        verdict = judge_exact(arithmetic, case, operands.miss_probability, actual, reference)
    zeros, other = (0, 0) if verdict.status.is_failure else _zeros(case, operands, actual, reference, outputs)
    return verdict.replace(zeros=zeros, zero_signs=other)


def _zeros(
    case: Case, operands: Operands, actual: torch.Tensor, reference: Expected, outputs: torch.Tensor | None
) -> tuple[int, int]:
    """Results that are exactly zero, and how many have another sign than IEEE's sum; none where sums are rounded."""
    if RECIPES[case.data].kind == "real" or not actual.is_floating_point():
        return 0, 0
    zeros = (actual == 0) & (reference.value == 0)
    if not zeros.any():
        return 0, 0
    negative = negative_zeros(case.geometry, operands.input, operands.weight, operands.bias, outputs=outputs)
    other = zeros & (actual.signbit() != negative.reshape(actual.shape))
    return int(zeros.sum()), int(other.sum())


def _finite(operands: Operands) -> Operands:
    """The same with zeros for what is not finite."""

    def clean(values: torch.Tensor) -> torch.Tensor:
        return torch.where(values.isfinite(), values, 0)

    bias = None if operands.bias is None else clean(operands.bias)
    return replace(operands, input=clean(operands.input), weight=clean(operands.weight), bias=bias)


def forward(subject: Implementation, case: Case) -> Verdict:
    """The check of the laws on a result: by what its case is filled with."""
    return forward_verdict(subject, case)


def _without_channels(subject: Implementation, case: Case) -> Verdict:
    if case.geometry.in_channels:
        return Verdict(Status.MISTRUSTED, case, "it has input channels, and the law is of inputs without")
    return forward_verdict(subject, case)


FORWARD_EXACT = Law(
    "forward-exact",
    "On integers whose sums are exact in the accumulator, the result is T x + b, rounded once.",
    "wrong taps, strides, padding and groups; operands that are rounded; sums that are kept too narrow",
    forward,
    recipes=tuple(name for name, recipe in RECIPES.items() if recipe.kind in ("storage", "accumulator")),
    dtypes=CASE_DTYPES,
)
FORWARD_BOUND = Law(
    "forward-bound",
    "On real numbers, no element of the result is further from T x + b than rounding errors can take it.",
    "precision lost beyond what the arithmetic allows; an overflow where none must be",
    forward,
    recipes=tuple(name for name, recipe in RECIPES.items() if recipe.kind == "real"),
    dtypes=ROUNDED_DTYPES,
)
SPECIAL_VALUES = Law(
    "special-values",
    "NaN and infinities reach the results that depend on them, and no others.",
    "NaN read from padding or from beside the image; an infinity that a mask swallows",
    forward,
    recipes=tuple(name for name, recipe in RECIPES.items() if recipe.kind == "special"),
    # What infinity times a complex number is, libraries define differently.
    dtypes=REAL_DTYPES,
)
NO_CHANNELS = Law(
    "no-channels",
    "Without input channels there is nothing to sum, and the result is the bias in every pixel.",
    "a division by the number of channels; a result that has lost its output channels or its bias",
    _without_channels,
    recipes=("integers",),
    dtypes=CASE_DTYPES,
    sharpen=without_channels,
)
