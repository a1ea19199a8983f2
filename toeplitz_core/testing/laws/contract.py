"""What a call may do besides returning its result: nothing to its operands, to earlier results, to what is not its."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws.forward import forward_verdict, judged_results
from toeplitz_core.testing.laws.gradients import gradients_verdict
from toeplitz_core.testing.laws.judging import gravest, same_bits, unanswered
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.verdict import Status, Verdict

if TYPE_CHECKING:
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.subjects.interface import Implementation


def _contract(subject: Implementation, case: Case) -> Verdict:
    operands = draw(case)
    outcome = subject.run(case, operands, "contract")
    if outcome.status != "returned":
        return unanswered(case, outcome)
    verdict = judged_results(case, operands, outcome, outcome.results)
    if verdict.status.is_failure or not subject.claims.repeatable:
        return verdict
    first, *others = (y for name, y in outcome.results.items() if name.partition(" ")[0] == "output")
    if not all(same_bits(first, other) for other in others):
        return Verdict(Status.FAIL, case, "calls with the same operands gave different results")
    return verdict


_NOT_POISONED = "memory can be poisoned in a process of its own only, where glibc gives it out"


def _stale_memory(subject: Implementation, case: Case) -> Verdict:
    poisoned = subject.poisoned()
    if not poisoned:
        return Verdict(Status.UNSUPPORTED, case, _NOT_POISONED)
    verdicts = [forward_verdict(runner, case) for runner in poisoned]
    if "gradients" in subject.claims.procedures and case.dtype != "int64":
        # In one of them, for they are many calls: which, the case decides.
        of_gradients = gradients_verdict(poisoned[case.seed % len(poisoned)], case)
        verdicts += [of_gradients] if of_gradients.status is not Status.UNSUPPORTED else []
    return gravest(verdicts)


CONTRACT = Law(
    "contract",
    "A call leaves its operands, what lies beside them and earlier results as they were; its "
    "result shares no memory with them, is right however often it is computed and whatever its operands held before, "
    "and has the memory format that the subject promises, and the same bits each time if it promises that.",
    "a kernel that uses its operands as scratch, hands out a buffer that it writes again, or packs a weight only once",
    _contract,
    recipes=("normal", "integers"),
    dtypes=CASE_DTYPES,
    procedure="contract",
)
STALE_MEMORY = Law(
    "stale-memory",
    "No result or gradient depends on what memory held before: it is right whatever the allocator leaves there.",
    "results that are right only where new memory is zero",
    _stale_memory,
    recipes=("integers", "normal"),
    dtypes=CASE_DTYPES,
)
