"""Side effects: a call must not change its operands, earlier results or any memory that is not its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws.difference import WITH_MEMORY
from toeplitz_core.testing.laws.families.forward import forward_verdict, judged_results
from toeplitz_core.testing.laws.families.gradients import gradients_verdict
from toeplitz_core.testing.laws.judging import call_of, gravest, same_bits, unanswered
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.subjects.outcome import OUTPUT
from toeplitz_core.testing.subjects.symptom import Symptom

if TYPE_CHECKING:
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.subjects.interface import Implementation


def _contract(subject: Implementation, case: Case) -> Verdict:
    operands = draw(case)
    outcome = subject.run(case, operands, "contract")
    if outcome.status != "returned":
        return unanswered(case, outcome).replace(call=call_of(case))
    verdict = judged_results(case, operands, outcome, outcome.results).replace(call=call_of(case))
    if verdict.status.is_failure or not subject.claims.repeatable:
        return verdict
    first, *others = (y for name, y in outcome.results.items() if name.of == OUTPUT.of)
    if not all(same_bits(first, other) for other in others):
        message = "each result is right, but calls with the same operands gave different bits"
        return Verdict(Status.FAIL, case, message, symptom=Symptom.CHANGING)
    return verdict


_NOT_POISONED = "memory can be poisoned only in a separate process that allocates with glibc"


def _stale_memory(subject: Implementation, case: Case) -> Verdict:
    poisoned = subject.poisoned()
    if not poisoned:
        return Verdict(Status.UNSUPPORTED, case, _NOT_POISONED)
    verdicts = [forward_verdict(implementation, case) for implementation in poisoned]
    if len({(verdict.status, verdict.index, verdict.actual) for verdict in verdicts}) == 1:
        # What memory held makes no difference, so any other memory may show the same failure.
        verdicts = [verdict.replace(call=call_of(case)) for verdict in verdicts]
    verdicts = _of_each(verdicts)
    if "gradients" in subject.claims.procedures and case.dtype != "int64":
        # Gradients take many calls, so only one poisoned process runs them; the case's seed selects it.
        at = case.seed % len(poisoned)
        of_gradients = [gradients_verdict(poisoned[at], case)]
        if of_gradients[0].status.is_failure:  # its values may be those of the memory
            of_gradients += [gradients_verdict(other, case) for other in poisoned if other is not poisoned[at]]
        verdicts += [one for one in _of_each(of_gradients) if one.status is not Status.UNSUPPORTED]
    return gravest(verdicts)


def _of_each(verdicts: list[Verdict]) -> list[Verdict]:
    """The verdicts of processes with other memory; they name no value that differs between the processes."""
    return [verdict.unless_repeated(verdicts, WITH_MEMORY) for verdict in verdicts]


CONTRACT = Law(
    "contract",
    "A call does not change its operands, the memory around them or earlier results, and its result shares no memory "
    "with the operands. Repeated calls return the right result, whatever the operands held before. The result has the "
    "memory format that the subject declares, and the same bits each time if the subject declares that.",
    "a kernel that uses its operands as scratch memory, returns a buffer that it later overwrites, or packs a weight "
    "only once",
    _contract,
    recipes=("normal", "integers"),
    dtypes=CASE_DTYPES,
    procedure="contract",
)
STALE_MEMORY = Law(
    "stale-memory",
    "No result or gradient depends on what newly allocated memory held before.",
    "results that are right only if new memory is zero",
    _stale_memory,
    recipes=("integers", "normal"),
    dtypes=CASE_DTYPES,
)
