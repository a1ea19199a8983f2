"""Find entries of a list of known failures that are no longer needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.findings.known_failures.entry import Entry
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status, Verdict


@dataclass(frozen=True, slots=True)
class Stale:
    """An entry that a subject no longer needs.

    Parameters
    ----------
    entry : Entry
        The known failure that is no longer needed.
    subject : str
        The name of the subject that no longer needs it.
    why : str
        The observation that shows this, as text for reports.
    holds : bool
        Whether its example holds. If not, it fails in a way that the entry does not describe.
    """

    entry: Entry
    subject: str
    why: str
    holds: bool = False


def stale_entries(
    entries: Iterable[Entry],
    results: Iterable[Result],
    replays: Callable[[str, Case | Call], Iterator[Verdict]],
    takes: Callable[[Case | Call], bool] = lambda _: True,
) -> list[Stale]:
    """The entries that are no longer needed, of those that the run could have met.

    The example of an entry is judged by the first of its laws that takes it; other laws may pass on it. An entry is
    checked if the run has a result with its subject, that law, and the dtype and device of its example. It is stale if
    its example passes in every replay, or if it matches neither its example nor any case of the run.

    Parameters
    ----------
    replays : callable
        Takes the name of a subject and a case that names its law, and yields at least one verdict, each from a new
        run. No more verdicts are taken than needed.
    takes : callable
        Returns whether the law that a case names can judge it.
    """
    ran = [r for r in results if r.status is not Status.NOT_RUN and r.cases]
    steps = {r.step for r in ran}
    found = []
    for entry in entries:
        named = (entry.example.replace(law=law) for law in entry.laws if entry.example.law in (None, law))
        example = next((case for case in named if takes(case)), None)
        if example is None or not entry.applies:
            continue
        for subject in entry.subjects:
            if steps & _steps(subject, example):
                met = any(entry.name in r.known for r in ran if r.subject == subject)
                if (stale := _stale(entry, subject, replays(subject, example), met=met)) is not None:
                    found.append(stale)
    return found


def _stale(entry: Entry, subject: str, replays: Iterator[Verdict], *, met: bool) -> Stale | None:
    """Whether an entry is stale, and why; None if it is not."""
    verdict = next(replays)
    while verdict.status is Status.PASS and (again := next(replays, None)) is not None:
        verdict = again
    if verdict.status is Status.PASS:
        return Stale(entry, subject, "its example holds", holds=True)
    if met or entry.speaks_for(subject, verdict):
        return None
    why = f"it matches nothing; its example ends as {verdict.status}: {verdict.message}".removesuffix(": ")
    return Stale(entry, subject, why)


def _steps(subject: str, example: Case | Call) -> set[Step]:
    """The steps that could meet an example. A call may occur in the steps of all dtypes."""
    dtypes = (example.dtype,) if isinstance(example, Case) else CASE_DTYPES
    return {Step(subject, str(example.law), dtype, example.device) for dtype in dtypes}
