"""A call must not access memory before or behind its operands. Protected pages of memory lie there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.data.gradient_operands import draw_with_gradient
from toeplitz_core.testing.data.operands import Guard
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws.families.forward import forward_verdict
from toeplitz_core.testing.laws.families.gradients import gradients_verdict
from toeplitz_core.testing.laws.judging import call_of, gravest, unanswered
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.subjects.guard_pages import why_not_guarded
from toeplitz_core.testing.subjects.symptom import Symptom

if TYPE_CHECKING:
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.data.operands import Operands
    from toeplitz_core.testing.subjects.interface import Implementation
    from toeplitz_core.testing.subjects.outcome import Outcome

_NOT_ISOLATED = "an access beyond an operand ends the process, so this law needs a separate process (not --inline)"
_GUARDS = (Guard("before"), Guard("behind"))
# For each procedure, how to draw its operands and how to judge its results.
_Judge = Callable[["Implementation", "Case", "Operands"], Verdict]
_Procedure = Literal["forward", "gradients"]
_JUDGES: dict[_Procedure, tuple[Callable[[Case], Operands], _Judge]] = {
    "forward": (draw, forward_verdict),
    "gradients": (draw_with_gradient, gradients_verdict),
}


def _in_bounds(subject: Implementation, case: Case) -> Verdict:
    reason = why_not_guarded(case.device) if subject.isolated else _NOT_ISOLATED
    if reason:
        return Verdict(Status.UNSUPPORTED, case, reason)
    verdicts = []
    for procedure, (drawn, judged) in _JUDGES.items():
        if procedure not in subject.claims.procedures or (procedure == "gradients" and case.dtype == "int64"):
            continue
        operands = drawn(case)
        for guard in _GUARDS:
            verdict = judged(subject, case, replace(operands, guard=guard))
            if verdict.status is Status.CRASH:
                return _explained(subject, case, procedure, operands, guard, verdict)
            if verdict.status.is_failure:
                return verdict.replace(call=verdict.call or call_of(case))
            if procedure == "forward" or verdict.status is not Status.UNSUPPORTED:
                verdicts.append(verdict)
    return gravest(verdicts)


def _explained(
    subject: Implementation, case: Case, procedure: _Procedure, operands: Operands, guard: Guard, verdict: Verdict
) -> Verdict:
    """The verdict on a crash with guarded operands: a crash, if it does not need them, else an access beyond one."""

    def crash(guard: Guard | None) -> Outcome | None:
        """The outcome if it is a crash. The process is fresh after each crash, the first of which is the verdict's."""
        outcome = subject.run(case, replace(operands, guard=guard), procedure)
        return outcome if outcome.status == "crashed" else None

    if (unguarded := crash(None)) is not None:
        return unanswered(case, unguarded).replace(call=call_of(case, procedure))
    present = [name for name in guard.operands if getattr(operands, name) is not None]
    beyond = tuple(name for name in present if crash(replace(guard, operands=(name,))))
    if not beyond:
        message = f"{verdict.message} once, while its operands lay against protected pages, but not again"
        return verdict.replace(message=message, call=None)
    verb = "writes" if crash(replace(guard, operands=beyond, readable=True)) else "reads"
    whose = " and ".join("the incoming gradient" if name == "grad" else f"its {name}" for name in beyond)
    when = " while it computes gradients" if procedure == "gradients" else ""
    message = f"{verb} memory {guard.side} {whose}{when}; where that memory is protected, it {verdict.message}"
    return verdict.replace(status=Status.FAIL, message=message, call=None, symptom=Symptom.BEYOND)


IN_BOUNDS = Law(
    "in-bounds",
    "No call reads or writes memory before or behind an operand, and results and gradients stay right if that memory "
    "may not be accessed. An implementation that copies its operands before it computes passes without proof.",
    "a kernel that reads an element beyond its weight and drops the value; a vector load that starts before the image",
    _in_bounds,
    recipes=("integers", "normal"),
    dtypes=CASE_DTYPES,
)
