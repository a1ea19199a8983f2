"""Whose failure it is: that of the law which found it, or that of one of the law's calls."""

from __future__ import annotations

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.laws.registry import LAWS
from toeplitz_core.testing.laws.verdict import FOUND_BY, Status, Verdict
from toeplitz_core.testing.subjects.interface import Implementation

# How often a call must fail alone, each time in a fresh process.
_RUNS = 2


def attributed(verdict: Verdict, subject: Implementation, *, predicted: bool = False) -> Verdict:
    """The verdict on the wrong call alone, if it fails in the same way alone; otherwise the verdict itself.

    The verdict on the call has a case of its own, under the law that judges one such call. Processes are fresh, so that
    the line of the case fails again when it is replayed. A subject that runs in this process keeps its state.
    """
    found = verdict
    while (alone := _alone(found, subject, predicted=predicted)) is not None:
        found = alone  # the gradients of a wrong result belong to the result in turn
    return found if found is verdict else found.replace(message=f"{found.message}{FOUND_BY}{verdict.case.law})")


def _alone(verdict: Verdict, subject: Implementation, *, predicted: bool) -> Verdict | None:
    """The verdict on the wrong call alone. None if no call is named, or if the call alone fails differently."""
    if not verdict.status.is_failure or verdict.call is None or verdict.call == verdict.case:
        return None
    for call in _calls(verdict.call, str(verdict.case.law)):
        for _ in range(1 if predicted else _RUNS):
            if not predicted:
                subject.restart()
            alone = LAWS[str(call.law)](subject, call)
            if not _alike(alone, verdict):
                break
        else:
            return alone
    return None


def _calls(call: Case, law: str) -> list[Case]:
    """The calls that may be wrong alone: under ``vmap``, the subject is called with images without a batch axis."""
    images = [call.replace(input=call.input[1:], layouts=())] if law == "vmap" and call.batch else []
    return [call, *images]


def _alike(alone: Verdict, verdict: Verdict) -> bool:
    """Whether two failures are of one kind: a wrong element, the same message, or the same end of the process."""
    if alone.status is not verdict.status:
        return False
    if alone.status is not Status.FAIL or verdict.index is not None:
        return (alone.index is None) == (verdict.index is None)
    return verdict.said.startswith(alone.said)
