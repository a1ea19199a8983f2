"""A run, for whoever drives it: options become a plan, the plan events, and the events a record."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from toeplitz_core.testing.findings.known import KnownFailures
from toeplitz_core.testing.findings.staleness import Stale
from toeplitz_core.testing.isolation.isolated import SubjectError
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.isolation.sandbox import clear_abandoned as clear_sandboxes
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.run import judging
from toeplitz_core.testing.run.events import Adopted, Consumer, Ended, Event, Failed, Started
from toeplitz_core.testing.run.executors import Executor, JudgeDied, Judges, ThisProcess
from toeplitz_core.testing.run.journal import Journal, Resumed
from toeplitz_core.testing.run.journal import clear_abandoned as clear_journals
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.run.plan import Plan, Task
from toeplitz_core.testing.run.pool import SubjectPool
from toeplitz_core.testing.run.record import Ending, Record, exit_code
from toeplitz_core.testing.run.rounds import Progress, tasks
from toeplitz_core.testing.run.upkeep import NOT_CHECKED, adopted, hanging, stale
from toeplitz_core.testing.subjects import Subject, check_name
from toeplitz_core.testing.support import interrupts
from toeplitz_core.testing.support.files import check_writable

# Why steps were not reached where the time was limited.
SPENT = "the time budget was spent"


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
        with interrupts.noted():
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
        with interrupts.noted():  # from here until the reports are written: none comes in between
            return self._run(consumers, resumed)

    def _run(self, consumers: Sequence[Consumer], resumed: Resumed | None) -> Record:
        journal = Journal(None if resumed is None else resumed.path)
        clear_sandboxes()
        clear_journals()
        self.pool.keep_last_case(journal.directory / "last.case")
        progress = Progress(self.plan)
        told: list[Consumer] = [progress, *consumers]

        def emit(event: Event) -> None:
            journal(event)
            for consumer in told:
                consumer(event)

        code, stopped, failed = None, "", None
        stale: list[Stale] = []
        try:
            with interrupts.noted():
                emit(Started(self.plan, self.options, str(journal.path)))
                for event in () if resumed is None else resumed.events:
                    for consumer in told:
                        consumer(event)
                self._executor(journal).execute(tasks(progress), emit)
                stopped = "stopped at the first failure" if progress.stopped else SPENT
                stopped = stopped if len(progress.results) < len(self.steps) else ""
                stale = self.stale(progress.results)
                self._adopt(progress.results, emit)
        except KeyboardInterrupt:
            code, stopped = 130, "interrupted"
        except Exception as raised:  # noqa: BLE001  # whatever it is, what was found before it is reported
            code, stopped, failed = 4, "an error of toeplitz-core", raised
        with interrupts.ignored():  # a second one would lose the reports
            if code == 130:
                self._adopt(progress.results, emit, briefly=True)
            error = ""
            if failed is not None:
                error = f"{type(failed).__name__}: {failed}"
                emit(_failed(failed, error))
            record = self._record(progress, code, stopped, error, stale)
            keep = True
            try:
                _tell_all(consumers, Ended(record, self._left_out(record, stopped)))
                keep = code is not None
            finally:
                journal.close(keep=keep)
        return record

    def _executor(self, journal: Journal) -> Executor:
        if self.options.processes == 1 or self.plan.inline:
            return ThisProcess(self.plan, self.pool)
        return Judges(self.plan, self.options.processes, timeout=self.options.timeout, directory=journal.directory)

    def _record(
        self, progress: Progress, code: int | None, stopped: str, error: str, unneeded: Sequence[Stale]
    ) -> Record:
        results = progress.results
        if code is None:
            refused = unneeded if self.options.fail_stale else ()
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
            stale=unneeded,
            unreached=self.plan.unreached(results, stopped),
            rounds=None if self.plan.time is None else progress.rounds,
        )

    @property
    def left_out(self) -> list[str]:
        """What is not run, whatever comes, each with its reason."""
        unchecked = () if self.options.fail_stale else hanging(self.plan)
        return [*self.plan.left_out, *(f"{name}: {NOT_CHECKED}" for name in unchecked)]

    def _left_out(self, record: Record, stopped: str) -> list[str]:
        """What was not run, each with its reason."""
        lines = self.left_out
        if missed := len(self.steps) - len(record.results):
            lines.append(f"{missed} of {len(self.steps)} (each law with each dtype): {stopped}")
        return lines

    def stale(self, results: Sequence[Result]) -> list[Stale]:
        """The known failures that are not needed any more, of those that some results could have met.

        Those whose example does not return are looked at only if a stale entry fails the run.
        """
        return stale(self.plan, self.pool, results, slow=self.options.fail_stale)

    def _adopt(self, results: Sequence[Result], emit: Consumer, *, briefly: bool = False) -> None:
        """Write what fails to the list of known failures, if there is to be one; then what fails beyond that.

        ``briefly``: without looking for the latter.
        """
        if self._adopting is None or self.options.write_known is None:
            return
        grown, date = self._adopting, datetime.now(UTC).date().isoformat()
        for grown in adopted(self.plan, self.pool, results, self._adopting, date):
            grown.write(self.options.write_known)
            if briefly:
                break
        emit(Adopted(self.options.write_known, len(grown.entries) - len(self._adopting.entries)))

    def close(self) -> None:
        """End all workers; the next step starts new ones."""
        with interrupts.ignored():
            self.pool.close()


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


def _failed(error: Exception, said: str) -> Failed:
    """Where no line of our code is to blame, its traceback would mislead."""
    if isinstance(error, JudgeDied | SubjectError):
        return Failed(str(error))
    return Failed(said, "".join(traceback.format_exception(error)).rstrip())


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
