"""The result of a convolution: equal to ``T x + b`` where the data is exact, within the bound where not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from toeplitz_core.bound import Arithmetic
from toeplitz_core.testing.case import DTYPES
from toeplitz_core.testing.data import RECIPES, draw
from toeplitz_core.testing.expected import Expected
from toeplitz_core.testing.laws.base import Law
from toeplitz_core.testing.laws.judgement import (
    alike,
    failure,
    gravest,
    in_words,
    is_exact,
    judge_bound,
    judge_exact,
    shape_or_dtype,
    unanswered,
)
from toeplitz_core.testing.laws.sharpening import without_channels
from toeplitz_core.testing.nonfinite import Classes, classes
from toeplitz_core.testing.operands import Operands
from toeplitz_core.testing.oracle import expected
from toeplitz_core.testing.signed_zeros import negative_zeros
from toeplitz_core.testing.verdict import Status, Verdict, compare_bound, compare_exact

if TYPE_CHECKING:
    from toeplitz_core.testing.case import Case
    from toeplitz_core.testing.subjects.base import Outcome, Runner


def forward_verdict(
    subject: Runner, case: Case, operands: Operands | None = None, outputs: torch.Tensor | None = None
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
    distinct: list[torch.Tensor] = []
    for result in results.values():
        actual = result.detach().cpu()
        if not any(alike(actual, other) for other in distinct):
            distinct.append(actual)
    found = gravest(
        [
            _judged(
                case, operands, outcome.arithmetic, y if outputs is None else y.reshape(-1)[outputs], reference, outputs
            )
            for y in distinct
        ]
    )
    return found.replace(assumed=in_words(case, outcome.arithmetic), kernel=outcome.kernel)


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
        verdict = _judge_special(arithmetic, case, operands, actual, reference, outputs)
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


def _judge_special(
    arithmetic: Arithmetic,
    case: Case,
    operands: Operands,
    actual: torch.Tensor,
    reference: Expected,
    outputs: torch.Tensor | None,
) -> Verdict:
    found = classes(case.geometry, operands.input, operands.weight, operands.bias, arithmetic.algorithms)
    special, may_be_nan = (t.flatten() if outputs is None else t.flatten()[outputs] for t in found)
    if arithmetic.compensates:
        may_be_nan |= special.isinf()
    found = Classes(special.reshape(actual.shape), may_be_nan.reshape(actual.shape))
    wanted = torch.where(found.special == 0, reference.value, found.special)
    right = found.settles(actual)
    if is_exact(arithmetic, case, reference):
        comparison = compare_exact(torch.where(right, 0, actual.double()), torch.where(right, 0, wanted))
    else:
        right |= (found.special != 0) & (actual == found.special)
        error = torch.where(right, 0, actual.double() - wanted)
        comparison = compare_bound(error.abs(), reference.bound(arithmetic, has_bias=case.bias))
        comparison = comparison if comparison is not None and comparison.ratio > 1 else None
    if comparison is not None:
        return failure(case, comparison, actual, wanted)
    if actual.numel() and bool(found.may_be_nan.all()):
        return Verdict(Status.MISTRUSTED, case, "any result may be NaN")
    return Verdict(Status.PASS, case, miss_probability=operands.miss_probability)


def _forward(subject: Runner, case: Case) -> Verdict:
    return forward_verdict(subject, case)


FORWARD_EXACT = Law(
    "forward-exact",
    "On integers whose sums are exact in the accumulator, the result is T x + b, rounded once.",
    "wrong taps, strides, padding and groups; operands that are rounded; sums that are kept too narrow",
    _forward,
    recipes=tuple(name for name, recipe in RECIPES.items() if recipe.kind in ("storage", "accumulator")),
    dtypes=tuple(DTYPES),
)
FORWARD_BOUND = Law(
    "forward-bound",
    "On real numbers, no element of the result is further from T x + b than rounding errors can take it.",
    "precision lost beyond what the arithmetic allows; an overflow where none must be",
    _forward,
    recipes=tuple(name for name, recipe in RECIPES.items() if recipe.kind == "real"),
    dtypes=tuple(name for name in DTYPES if name != "int64"),
)
NO_CHANNELS = Law(
    "no-channels",
    "Without input channels there is nothing to sum, and the result is the bias in every pixel.",
    "a division by the number of channels; a result that has lost its output channels or its bias",
    _forward,
    recipes=("integers",),
    dtypes=tuple(DTYPES),
    effort=0.1,
    sharpen=without_channels,
)
SPECIAL_VALUES = Law(
    "special-values",
    "NaN and infinities reach the results that depend on them, and no others.",
    "NaN read from padding or from beside the image; an infinity that a mask swallows",
    _forward,
    recipes=tuple(name for name, recipe in RECIPES.items() if recipe.kind == "special"),
    # What infinity times a complex number is, libraries define differently.
    dtypes=tuple(name for name, dtype in DTYPES.items() if dtype.is_floating_point),
    effort=0.5,
)
