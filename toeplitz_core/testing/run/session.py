"""A run, for whoever drives it: options become a plan, the plan events, and the events a record."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from toeplitz_core.testing.findings.entry import Entry
from toeplitz_core.testing.findings.known import KnownFailures
from toeplitz_core.testing.findings.staleness import Stale, stale_entries
from toeplitz_core.testing.isolation.isolated import SubjectError
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.isolation.sandbox import clear_abandoned as clear_sandboxes
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run import judging
from toeplitz_core.testing.run.events import Adopted, Consumer, Ended, Event, Failed, Started
from toeplitz_core.testing.run.executors import Executor, JudgeDied, Judges, ThisProcess
from toeplitz_core.testing.run.journal import Journal, Resumed
from toeplitz_core.testing.run.journal import clear_abandoned as clear_journals
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.run.plan import Plan, Task
from toeplitz_core.testing.run.pool import SubjectPool
from toeplitz_core.testing.run.record import Ending, Record, exit_code
from toeplitz_core.testing.run.replay import repeated
from toeplitz_core.testing.run.rounds import Progress, tasks
from toeplitz_core.testing.subjects import Subject, check_name
from toeplitz_core.testing.support import interrupts
from toeplitz_core.testing.support.files import check_writable

# Why steps were not reached where the time was limited.
SPENT = "the time budget was spent"
# How often a failing law is searched again while its failures are adopted: each round finds the next of its faults, and
# an implementation with more of them than this has none to be kept apart.
ADOPTION_ROUNDS = 20


class Session:
    """What judges steps: one at a time for pytest (:meth:`result`), or all of them (:meth:`run`).

    It starts nothing before it is asked, so that it can be made where tests are only listed.

    Parameters
    ----------
    options : Options
    subjects : mapping of str to Subject or None, optional
        By name: None for one that is found by its name, and runs in a worker; a ``Subject`` runs in this process.
        Those of the options if not given.
    sandbox : callable, optional
        Makes what owns the workers, when one is needed first.

    Raises
    ------
    ValueError
        With the value and the rule, or the nearest legal name.
    """

    def __init__(
        self,
        options: Options,
        subjects: Mapping[str, Subject | None] | None = None,
        *,
        sandbox: Callable[[], Sandbox] | None = None,
    ) -> None:
        self.options = options
        self.subjects: Mapping[str, Subject | None] = (
            dict.fromkeys(options.subject) if subjects is None else dict(subjects)
        )
        here = {name: subject for name, subject in self.subjects.items() if subject is not None}
        for name in self.subjects:
            if name not in here:
                check_name(name)
        self.plan = Plan.of(options, tuple(self.subjects), inline=here)
        self._adopting = None
        if options.write_known is not None:
            path = check_writable(options.write_known)
            there = path.is_file() and path.stat().st_size
            self._adopting = KnownFailures.load(path) if there else KnownFailures()
        self.pool = SubjectPool(
            partial(Sandbox, timeout=options.timeout) if sandbox is None else sandbox,
            here=here,
            inline=options.inline,
        )

    @property
    def steps(self) -> list[Step]:
        """In the order of a run."""
        return self.plan.steps

    def start(self) -> None:
        """Import every subject.

        Raises
        ------
        SubjectError
            If one cannot be imported.
        """
        for name in self.subjects:
            self.pool[name]

    def result(self, step: Step, announce: judging.Announce | None = None) -> Result:
        """The result of a step.

        Parameters
        ----------
        announce : callable, optional
            Told the result so far at each failure that is smaller than the one before: what is left after an interrupt.

        Raises
        ------
        SubjectError
            If the subject cannot be imported.
        LawError
            If a law could not judge: an error of the suite.
        """
        with interrupts.noted():
            return judging.judge(self.plan, self.pool, Task(step), announce)

    def run(self, *consumers: Consumer, resumed: Resumed | None = None) -> Record:
        """Run all steps, and tell the consumers of every event; what came of it, whatever ends it.

        Parameters
        ----------
        resumed : Resumed, optional
            What an earlier run has left: only the rest is run.
        """
        clear_sandboxes()
        clear_journals()
        journal = Journal(None if resumed is None else resumed.path)
        progress = Progress(self.plan)

        def emit(event: Event) -> None:
            for consumer in (journal, progress, *consumers):
                consumer(event)

        code, stopped, error = None, "", ""
        stale: list[Stale] = []
        try:
            with interrupts.noted():
                emit(Started(self.plan, self.options, str(journal.path)))
                for event in () if resumed is None else resumed.events:
                    for consumer in (progress, *consumers):
                        consumer(event)
                self._executor(journal).execute(tasks(progress), emit)
                stopped = "stopped at the first failure" if progress.stopped else SPENT
                stopped = stopped if len(progress.results) < len(self.steps) else ""
                stale = self.stale(progress.results)
                self._adopt(progress.results, emit)
        except KeyboardInterrupt:
            code, stopped = 130, "interrupted"
            with interrupts.ignored():
                self._adopt(progress.results, emit, briefly=True)
        except Exception as raised:  # noqa: BLE001  # whatever it is, what was found before it is reported
            code, stopped = 4, "an error of toeplitz-core"
            error = f"{type(raised).__name__}: {raised}"
            # Where no line of our code is to blame, its traceback would mislead.
            blameless = isinstance(raised, JudgeDied | SubjectError)
            emit(Failed(str(raised) if blameless else error, "" if blameless else traceback.format_exc().rstrip()))
        with interrupts.ignored():  # a second one would lose the reports
            record = self._record(progress, code, stopped, error, stale)
            _tell_all(consumers, Ended(record, self._left_out(record, stopped)))
            journal.close(keep=code is not None)
        return record

    def _executor(self, journal: Journal) -> Executor:
        if self.options.processes == 1 or self.plan.inline:
            return ThisProcess(self.plan, self.pool)
        return Judges(self.plan, self.options.processes, timeout=self.options.timeout, directory=journal.directory)

    def _record(self, progress: Progress, code: int | None, stopped: str, error: str, stale: Sequence[Stale]) -> Record:
        results = progress.results
        if code is None:
            refused = stale if self.options.fail_stale else ()
            code = exit_code(results, required_devices=self.options.device, refused_stale=refused)
        # A budget is spent in every run that has one: it has come to its end.
        endings: dict[str, Ending] = {
            "stopped at the first failure": "stopped at the first failure",
            "interrupted": "interrupted",
            "an error of toeplitz-core": "error",
        }
        return Record(
            results,
            code,
            ended=endings.get(stopped, "completed"),
            error=error,
            options=described(self.options, self.plan),
            required_devices=self.options.device,
            known=self.plan.known,
            stale=stale,
            unreached=self.plan.unreached(results, stopped),
            rounds=None if self.plan.time is None else progress.rounds,
        )

    def _left_out(self, record: Record, stopped: str) -> list[str]:
        """What was not run, each with its reason."""
        lines = list(self.plan.left_out)
        if not self.options.fail_stale:
            lines += [f"{name}: {NOT_CHECKED}" for name in self.hanging]
        if missed := len(self.steps) - len(record.results):
            lines.append(f"{missed} of {len(self.steps)} (each law with each dtype): {stopped}")
        return lines

    @property
    def hanging(self) -> list[str]:
        """The known failures of these subjects and laws whose examples do not return: each takes its whole timeout."""
        return [
            entry.name
            for entry in self.plan.known.entries
            if entry.status is Status.TIMEOUT
            and entry.applies
            and not {*self.subjects}.isdisjoint(entry.subjects)
            and not self.plan.laws.keys().isdisjoint(entry.laws)
        ]

    def stale(self, results: Iterable[Result]) -> list[Stale]:
        """The known failures that are not needed any more, of those that some results could have met.

        Those whose example does not return are looked at only if a stale entry fails the run. An example in a layout
        that is not run is left alone.
        """
        results = list(results)
        put_off = () if self.options.fail_stale else self.hanging
        laws = self.plan.laws
        found = []
        for name in self.subjects:
            entries = [entry for entry in self.plan.known.entries if self._is_looked_at(entry, name, put_off)]
            found += stale_entries(
                entries,
                [result for result in results if result.subject == name],
                lambda subject, case: repeated(laws[str(case.law)], self.pool[subject], case),
                takes=lambda case: case.law not in laws or laws[case.law].takes(case),
            )
        return found

    def _is_looked_at(self, entry: Entry, subject: str, put_off: Sequence[str]) -> bool:
        return entry.name not in put_off and self.plan.has_layouts_of(subject, entry.example)

    def _adopt(self, results: Sequence[Result], emit: Consumer, *, briefly: bool = False) -> None:
        """Write what fails to the list of known failures, if there is to be one; then what fails beyond that.

        ``briefly``: without looking for the latter.
        """
        if self._adopting is None or self.options.write_known is None:
            return
        date, there = datetime.now(UTC).date().isoformat(), self._adopting
        own = self.plan.known.entries
        names = {entry.name for entry in own}
        failing = [result for result in results if result.status.is_failure]
        for _ in range(ADOPTION_ROUNDS):
            there = there.adopt(failing, date)
            there.write(self.options.write_known)
            if briefly or not failing:
                break
            known = KnownFailures((*own, *(entry for entry in there.entries if entry.name not in names)))
            plan = replace(self.plan, known=known, remembers=False)
            again = [judging.judge(plan, self.pool, Task(result.step)) for result in failing]
            failing = [result for result in again if result.status.is_failure]
        emit(Adopted(self.options.write_known, len(there.entries) - len(self._adopting.entries)))

    def close(self) -> None:
        """End all workers; the next step starts new ones."""
        self.pool.close()


NOT_CHECKED = "not checked for staleness, because its example hangs; --fail-stale checks it"


def described(options: Options, plan: Plan) -> dict[str, object]:
    """What reports say of the options: whatever the results depend on."""
    searched = plan.sweep is None
    return {
        "subjects": list(plan.subjects),
        "laws": list(plan.laws),
        "dtypes": list(plan.dtypes),
        "devices": list(plan.devices),
        "profile": plan.profile.name if searched else None,
        "examples": plan.examples or plan.profile.examples if searched else None,
        "seed": plan.seed,
        "time": plan.time,
        "sweep": plan.sweep,
        "jobs": options.processes,
        "timeout": options.timeout,
        "known": list(options.known),
        "fail_fast": plan.fail_fast,
        "fail_stale": options.fail_stale,
        "inline": options.inline,
    }


def _tell_all(consumers: Iterable[Consumer], event: Event) -> None:
    """Tell every consumer, also if one of them fails; then fail."""
    failed: Exception | None = None
    for consumer in consumers:
        try:
            consumer(event)
        except Exception as error:  # noqa: BLE001  # the others' reports are written all the same
            failed = failed or error
    if failed is not None:
        raise failed
