"""Run a failing case again, so that no report names a value that is not the same each time."""

from __future__ import annotations

from collections.abc import Sequence

from toeplitz_core.testing.laws.difference import BETWEEN_RUNS, WITH_MEMORY
from toeplitz_core.testing.laws.families.contract import STALE_MEMORY
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.verdict import Verdict
from toeplitz_core.testing.subjects.interface import Implementation


def without_chance(
    verdict: Verdict, law: Law, subject: Implementation, seen: Sequence[Verdict] | None = None
) -> Verdict:
    """A verdict; without the values that it names if they change between runs, or with what memory held before.

    Parameters
    ----------
    seen : sequence of Verdict, optional
        The verdicts of other runs. By default, the case is run again in the same process and in a fresh one. In any
        case it is run with new memory filled in two ways.
    """
    if verdict.difference is None or verdict.difference.varies:
        return verdict
    if seen is None:
        seen = [law(subject, verdict.case)]
        subject.restart()
        seen = [*seen, law(subject, verdict.case)]
    verdict = verdict.unless_repeated(seen, BETWEEN_RUNS)
    if verdict.difference is None or verdict.difference.varies or law.name == STALE_MEMORY.name:  # it fills the memory
        return verdict
    return verdict.unless_repeated([law(filled, verdict.case) for filled in subject.poisoned()], WITH_MEMORY)
