"""Gradients: against the adjoint of ``T`` and its derivative in the weight, never by finite differences.

So the kernels of float32 and of half precision are reached, which a finite difference cannot tell from noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from toeplitz_core.testing.case import DTYPES
from toeplitz_core.testing.data import FILLS, RECIPES
from toeplitz_core.testing.gradients import RECIPE_NAMES, draw_with_gradient, expected_gradients
from toeplitz_core.testing.laws.base import Law
from toeplitz_core.testing.laws.judgement import is_exact, judge_bound, judge_exact, unanswered
from toeplitz_core.testing.verdict import Status, Verdict

if TYPE_CHECKING:
    from toeplitz_core.bound import Arithmetic
    from toeplitz_core.testing.case import Case
    from toeplitz_core.testing.oracle import Expected
    from toeplitz_core.testing.subjects.base import Procedure, Runner

# The gravest first: what a case says of a law is the gravest that one of its results says.
_ORDER = (Status.FAIL, Status.MISTRUSTED, Status.PASS)


def _gradients(subject: Runner, case: Case) -> Verdict:
    return _judged(subject, case, "gradients")


def _judged(subject: Runner, case: Case, procedure: Procedure) -> Verdict:
    operands = draw_with_gradient(case)
    outcome = subject.run(case, operands, procedure)
    if outcome.status != "returned":
        return unanswered(case, outcome)
    wanted = expected_gradients(case, operands)
    verdicts = [
        judged_gradient(
            case,
            outcome.gradients[name],
            operands.miss_probability,
            outcome.results[result],
            wanted[name],
            f"grad_{name}",
        )
        for result in outcome.results
        if (name := result.partition(" ")[0]) in wanted
    ]
    return gravest(verdicts)


def judged_gradient(
    case: Case, arithmetic: Arithmetic, miss: float, actual: torch.Tensor, wanted: Expected, name: str
) -> Verdict:
    """The verdict on one gradient."""
    shape = tuple(wanted.value.shape[:-1] if wanted.is_complex else wanted.value.shape)
    if tuple(actual.shape) != shape or actual.dtype != case.torch_dtype:
        message = f"{name} has shape {tuple(actual.shape)} and dtype {actual.dtype}, not {shape} and {case.torch_dtype}"
        return Verdict(Status.FAIL, case, message)
    if RECIPES[case.data].kind == "real" or not is_exact(arithmetic, case, wanted):
        verdict = judge_bound(arithmetic, case, actual, wanted, name, has_bias=False)
    else:
        verdict = judge_exact(arithmetic, case, miss, actual, wanted, name)
    return verdict.replace(assumed=str(arithmetic))


def gravest(verdicts: list[Verdict]) -> Verdict:
    """The first of the gravest verdicts, with the largest ratio of all."""
    worst = min(verdicts, key=lambda verdict: _ORDER.index(verdict.status))
    ratios = [verdict.ratio for verdict in verdicts if verdict.ratio is not None]
    return worst if worst.status is Status.FAIL or not ratios else worst.replace(ratio=max(ratios))


GRADIENTS_EXACT = Law(
    "gradients-exact",
    "On integers whose sums are exact, the gradients in input, weight and bias are T' g and its like, rounded once.",
    _gradients,
    recipes=tuple(name for name in RECIPE_NAMES if name not in FILLS),
    dtypes=tuple(name for name in DTYPES if name != "int64"),
)
GRADIENTS_BOUND = Law(
    "gradients-bound",
    "On real numbers, no gradient is further from the exact one than rounding errors can take it.",
    _gradients,
    recipes=tuple(FILLS),
    dtypes=tuple(name for name, dtype in DTYPES.items() if dtype.is_floating_point),
)
