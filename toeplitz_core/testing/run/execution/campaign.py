"""What a run takes from earlier runs and leaves to later ones: failures to try first, and findings that are known.

The process that started the run reads and writes the memory. Judges and workers of executors need no access to it.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from hypothesis.database import ExampleDatabase

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.findings.remembered import KnownFindings, Remembered
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run.events import Event, FailureFound, StepEnded
from toeplitz_core.testing.run.plan import Plan, Task
from toeplitz_core.testing.support.places import READ_ONLY


class Campaign:
    """The memory of a run. It consumes the events of the run.

    Parameters
    ----------
    plan : Plan
        If it remembers nothing, neither does this.
    database : callable
        Opens the database.
    places : sequence of str
        Where the memory is, for messages; if all are read-only, nothing is written.
    """

    def __init__(self, plan: Plan, database: Callable[[], ExampleDatabase], places: Sequence[str] = ()) -> None:
        self._plan = plan
        self._places = places
        self._writes = not places or any(not place.startswith(READ_ONLY) for place in places)
        self._database = database() if plan.remembers else None
        # What this run has added for a task, and may replace by smaller cases.
        self._added: dict[Task, set[Case | Call]] = defaultdict(set)
        self._trouble = ""

    def with_first(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """The tasks, each first round with the cases that its step remembers and can run."""
        for task in tasks:
            yield self.recalled(task)

    def recalled(self, task: Task) -> Task:
        """The task with the cases to try first."""
        if self._database is None or task.number:
            return task
        first: list[Case | Call] = []
        with self._guarded():
            first = Remembered(task.step, self._database).recall()
        return replace(task, first=tuple(case for case in first if self._plan.takes(task.step, case)))

    def __call__(self, event: Event) -> None:
        """Remember what fails, and forget what was tried first and holds now."""
        if not isinstance(event, FailureFound | StepEnded) or self._database is None or not self._writes:
            return
        task, result = event.task, event.result
        if result.status in (Status.NOT_RUN, Status.UNSUPPORTED):
            return
        cases = {failure.case for failure in result.failures}
        memory = Remembered(task.step, self._database)
        with self._guarded():
            if cases:
                memory.add(cases)
                memory.drop(self._added[task] - cases)
                self._added[task] = cases
            elif isinstance(event, StepEnded):
                memory.drop([*task.first, *self._added[task]])

    def known(self, findings: Iterable[Finding]) -> frozenset[str]:
        """The ids of the findings that earlier runs reported; the others are remembered from now on."""
        found = set()
        for finding in findings:
            if self._database is not None:
                memory = KnownFindings(finding.subject, self._database)
                with self._guarded():
                    if memory.has(finding):
                        found.add(finding.id)
                    elif self._writes:
                        memory.add(finding)
        return frozenset(found)

    def new_trouble(self) -> str:
        """Why the memory is not used any more; empty if it is, or if that was asked before."""
        said, self._trouble = self._trouble, ""
        return said

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Go on without the memory after its first error, which is kept to be said once."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # each database has its own errors
            self._database = None
            place = ", ".join(self._places) or "the user's cache directory"
            self._trouble = f"the memory ({place}) is not used any more: {error}. The report has every finding"
