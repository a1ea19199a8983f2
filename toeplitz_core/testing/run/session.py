"""A run for every driver: options become a plan, the plan produces events, and the events become a record."""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from toeplitz_core.testing.findings.gathering import Gathering
from toeplitz_core.testing.findings.known_failures.staleness import Stale
from toeplitz_core.testing.findings.remembered import opened
from toeplitz_core.testing.isolation.isolated_subject import SubjectError
from toeplitz_core.testing.isolation.sandbox import Sandbox, clear_abandoned_sandboxes
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.accuracy import Accuracy, accuracy
from toeplitz_core.testing.laws.families.forward import FORWARD_BOUND
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run.comparison.comparison import Comparison, Limits, compared
from toeplitz_core.testing.run.comparison.facts import Facts
from toeplitz_core.testing.run.events import Consumer, Ended, Event, Failed, Said, Started, StepEnded, tell_all
from toeplitz_core.testing.run.execution import judgement
from toeplitz_core.testing.run.execution.adoption import Adoption
from toeplitz_core.testing.run.execution.campaign import Campaign
from toeplitz_core.testing.run.execution.elsewhere import Elsewhere, ExecutorLost
from toeplitz_core.testing.run.execution.executors import Executor, JudgeDied, Judges, ThisProcess
from toeplitz_core.testing.run.execution.known_upkeep import NOT_CHECKED, hanging, stale
from toeplitz_core.testing.run.execution.subject_pool import SubjectPool, why_not_run
from toeplitz_core.testing.run.exit_code import ExitCode, exit_code
from toeplitz_core.testing.run.journal import Journal, Resumed, clear_abandoned_journals
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.run.plan import Plan, Task
from toeplitz_core.testing.run.record import Ending, Record
from toeplitz_core.testing.run.rounds import Progress, tasks
from toeplitz_core.testing.run.stopwatch import Stopwatch
from toeplitz_core.testing.subjects import Subject, check_name, check_undeclared
from toeplitz_core.testing.support import interrupts
from toeplitz_core.testing.support.places import LOCAL

# The reason for steps that were not run because of --time.
SPENT = "the time budget was spent"


class Session:
    """Judge steps: one at a time for pytest (:meth:`result`), or all of them (:meth:`run`).

    Creating a session starts no process, so that pytest can create one to list tests.

    Parameters
    ----------
    options : Options
    subjects : mapping of str to Subject or None, optional
        The subjects by their names. None means that a worker finds the subject by its name; a ``Subject`` runs in this
        process. The default is the subjects of the options.
    sandbox : callable, optional
        Creates the owner of the workers, when a worker is first needed.

    Raises
    ------
    ValueError
        If an option or a name is wrong; the message has the value and the rule, or the nearest legal name.
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
                check_undeclared(name, options.arithmetic)
        self.plan = Plan.of(options, tuple(self.subjects), inline=here)
        self._adoption = None if options.write_known is None else Adoption(options.write_known, options, self.plan)
        self._baseline = None if options.baseline is None else Facts.read(options.baseline)
        if self._baseline is not None and not set(self.subjects) & set(self._baseline.subjects):
            raise ValueError(
                f"baseline={options.baseline!r} is of {', '.join(self._baseline.subjects)}, and the run of "
                f"{', '.join(self.subjects)}: no subject is in both"
            )
        self._elsewhere: Elsewhere | None = None
        if options.executor != LOCAL:
            if self.plan.inline:
                raise ValueError(
                    f"executor={options.executor} needs subjects that another process can import, but "
                    f"{', '.join(sorted(self.plan.inline))} runs in this process"
                )
            self._elsewhere = Elsewhere(self.plan, options.executor, options.jobs or None, timeout=options.timeout)
        self._campaign: Campaign | None = None
        self._gathering: Gathering | None = None
        self.pool = SubjectPool(
            partial(Sandbox, timeout=options.timeout) if sandbox is None else sandbox,
            here=here,
            inline=options.inline,
            declared=self.plan.declared,
        )

    @property
    def steps(self) -> list[Step]:
        """The steps in the order of the run."""
        return self.plan.steps

    @property
    def gathering(self) -> Gathering:
        """The findings of this session."""
        if self._gathering is None:
            laws = {**LAWS, **self.plan.laws}
            self._gathering = Gathering(self.pool.__getitem__, laws, domain=self.plan.domain)
        return self._gathering

    @property
    def campaign(self) -> Campaign:
        """What the run takes from earlier ones, opened when it is first needed; ``ValueError`` if it cannot be."""
        if self._campaign is None:
            self._campaign = Campaign(self.plan, partial(opened, self.options.memory), self.options.memory)
        return self._campaign

    def start(self) -> None:
        """Import every subject, and connect to the executor.

        Raises
        ------
        SubjectError
            If a subject cannot be imported.
        ValueError
            If there is no such executor.
        """
        with interrupts.noted():
            _ = self.campaign
            for name in self.subjects:
                self.pool[name]
            if self._elsewhere is not None:
                self._elsewhere.open()

    def result(self, step: Step, announce: judgement.Announce | None = None) -> Result:
        """Judge one step and return its result.

        Parameters
        ----------
        announce : callable, optional
            Called with the result so far at each failure that is smaller than the one before. After an interrupt, the
            last of these results is all there is.

        Raises
        ------
        SubjectError
            If the subject cannot be imported.
        LawError
            If a law raises an error, which is a bug of the suite.
        """
        with interrupts.noted():
            task = self.campaign.recalled(Task(step))
            result = judgement.judge(self.plan, self.pool, task, announce)
            self.campaign(StepEnded(task, result))
            self.gathering.gather([result])
            return result

    def run(self, *consumers: Consumer, resumed: Resumed | None = None) -> Record:
        """Run all steps, send every event to the consumers, and return the record, however the run ends.

        Parameters
        ----------
        resumed : Resumed, optional
            The journal of an earlier run. Only the rest of that run is done.
        """
        with interrupts.noted():  # until the reports are written, signals are only noted
            return self._run(consumers, resumed)

    def _run(self, consumers: Sequence[Consumer], resumed: Resumed | None) -> Record:
        journal = Journal(None if resumed is None else resumed.path)
        _clear_abandoned()
        self.pool.keep_last_case(journal.directory / "last.case")
        progress, stopwatch = Progress(self.plan), Stopwatch()
        told: list[Consumer] = [progress, stopwatch, *consumers]

        def emit(event: Event) -> None:
            journal(event)
            for consumer in told:
                consumer(event)
            self.campaign(event)
            say_trouble()

        def say_trouble() -> None:
            if said := self.campaign.new_trouble():
                emit(Said(said))

        code: ExitCode | None = None
        stopped, failed = "", None
        stale: list[Stale] = []
        measured: list[Accuracy] = []
        try:
            with interrupts.noted():
                emit(Started(self.plan, self.options, str(journal.path)))
                for event in () if resumed is None else resumed.events:
                    for consumer in told:
                        consumer(event)
                self._executor(journal).execute(self.campaign.with_first(tasks(progress)), emit)
                stopped = "stopped at the first failure" if progress.stopped else SPENT
                stopped = stopped if len(progress.results) < len(self.steps) else ""
                stale = self.stale(progress.results)
                if self._adoption is not None:
                    emit(self._adoption.in_full(self.pool, progress.results, stale, self._red))
                self.gathering.gather(progress.results)
                measured = list(self._accuracy())
        except KeyboardInterrupt:
            code, stopped = ExitCode.INTERRUPTED, "interrupted"
        except Exception as raised:  # noqa: BLE001  # earlier results are reported after any error
            code, stopped, failed = ExitCode.OUR_ERROR, "an error of toeplitz-core", raised
        with interrupts.ignored():  # a second interrupt would lose the reports
            if code is ExitCode.INTERRUPTED and self._adoption is not None:
                emit(self._adoption.in_brief(progress.results))
            error = ""
            if failed is not None:
                error = f"{type(failed).__name__}: {failed}"
                emit(_failed(failed, error))
            if code is not None:
                self.gathering.gather(progress.results, briefly=True)
            record = replace(
                self._record(progress, code, stopped, error, stale), accuracy=measured, timing=stopwatch.timing
            )
            if code is None:
                record = replace(record, remembered=self.campaign.known(record.findings))
                say_trouble()
            record, comparison = self._compared(record)
            keep = True
            try:
                tell_all(consumers, Ended(record, self._left_out(record, stopped), comparison))
                keep = code is not None
            except OSError as error:
                error.strerror = f"{error.strerror} (to write the reports again: check --resume {journal.path})"
                raise
            finally:
                journal.close(keep=keep)
        return record

    def _executor(self, journal: Journal) -> Executor:
        if self._elsewhere is not None:
            return self._elsewhere
        if self.options.processes == 1 or self.plan.inline:
            return ThisProcess(self.plan, self.pool)
        return Judges(self.plan, self.options.processes, timeout=self.options.timeout, directory=journal.directory)

    def _record(
        self, progress: Progress, code: ExitCode | None, stopped: str, error: str, unneeded: Sequence[Stale]
    ) -> Record:
        results = progress.results
        if code is None:
            refused = unneeded if self.options.fail_stale else ()
            code = exit_code(results, required_devices=self.options.device, refused_stale=refused)
        # A run that has used up its --time is complete.
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
            options=shown_options(self.options, self.plan),
            required_devices=self.options.device,
            known=self.plan.known,
            stale=unneeded,
            unreached=self.plan.unreached(results, stopped),
            rounds=None if self.plan.time is None else progress.rounds,
            findings=self.gathering.findings,
        )

    def _accuracy(self) -> Iterator[Accuracy]:
        """The accuracy of each subject, dtype and device whose law of rounding errors is checked."""
        law = self.plan.laws.get(FORWARD_BOUND.name)
        for name, device, dtype in itertools.product(self.plan.subjects, self.plan.devices, self.plan.dtypes):
            subject = self.pool[name]
            asked = not (why_not_run(subject, device) or subject.claims.not_asked(dtype, FORWARD_BOUND.procedure))
            if law is not None and dtype in law.dtypes and asked:
                found = accuracy(subject, dtype, device, self.plan.domain.within(subject.claims.where).contains)
                yield from () if found is None else (found,)

    def _compared(self, record: Record) -> tuple[Record, Comparison | None]:
        """The record as the baseline and --min-judged have it, and how it differs from the baseline."""
        comparison, facts = None, Facts.of(record)
        if record.ended in ("completed", "stopped at the first failure") and self._baseline is not None:
            accepted = frozenset(self._baseline.findings)
            if set(facts.steps) & set(self._baseline.steps):
                comparison = compared(self._baseline, facts)
                accepted -= {changed.new.id for changed in comparison.changed if changed.may_be_another}
            record = replace(record, accepted=accepted)
            failed = comparison is not None and bool(comparison.fails(Limits()))
            record = replace(record, exit_code=self._code(record, failed=failed))
            if comparison is None and record.exit_code == ExitCode.ALL_HOLD:
                record = replace(record, exit_code=ExitCode.NOTHING_PROVEN)
        if record.exit_code == ExitCode.ALL_HOLD and record.too_little_judged:
            record = replace(record, exit_code=ExitCode.NOTHING_PROVEN)
        return record, comparison

    def _code(self, record: Record, *, failed: bool) -> ExitCode:
        """The exit code of a run with a baseline: what stands there counts as known."""
        results = [replace(r, status=Status.KNOWN) if record.is_accepted(r) else r for r in record.results]
        refused = record.stale if self.options.fail_stale else ()
        code = exit_code(results, required_devices=self.options.device, refused_stale=refused)
        return ExitCode.FAILURE if failed else code

    @property
    def left_out(self) -> list[str]:
        """What the plan leaves out from the start, with the reasons."""
        unchecked = () if self.options.fail_stale else hanging(self.plan)
        return [*self.plan.left_out, *(f"{name}: {NOT_CHECKED}" for name in unchecked)]

    def _left_out(self, record: Record, stopped: str) -> list[str]:
        """What was not run, with the reasons."""
        lines = self.left_out
        if self._baseline is not None and not set(Facts.of(record).steps) & set(self._baseline.steps):
            lines = [*lines, f"the comparison with {self._baseline.name}: no subject, law, dtype and device is in both"]
        if missed := len(self.steps) - len(record.results):
            lines.append(f"{missed} of {len(self.steps)} (each law with each dtype): {stopped}")
        return lines

    def stale(self, results: Sequence[Result]) -> list[Stale]:
        """The stale entries among the known failures that these results could have matched.

        Entries whose examples hang are checked only if a stale entry fails the run.
        """
        return stale(self.plan, self.pool, results, slow=self.options.fail_stale)

    def _red(self, results: Sequence[Result], unneeded: Sequence[Stale]) -> str:
        """Why a run with these results and stale entries would not end with 0; empty if it would."""
        if self.plan.time is not None:
            return "with --time, it may search for longer"
        if len(results) < len(self.steps):
            return "this run was cut short"
        refused = unneeded if self.options.fail_stale else ()
        code = exit_code(results, required_devices=self.options.device, refused_stale=refused)
        record, _ = self._compared(Record(results, code, options=shown_options(self.options, self.plan)))
        return "" if record.exit_code == ExitCode.ALL_HOLD else f"it would end with {int(record.exit_code)}"

    def close(self) -> None:
        """End all workers. The next step starts new ones."""
        with interrupts.ignored():
            if self._elsewhere is not None:
                self._elsewhere.close()
            self.pool.close()


def shown_options(options: Options, plan: Plan) -> dict[str, object]:
    """The options that reports show: those on which the results depend."""
    return {
        "command": options.command,
        "subjects": list(plan.subjects),
        "laws": list(plan.laws),
        "dtypes": list(plan.dtypes),
        "devices": list(plan.devices),
        "arithmetic": list(plan.declared.arithmetic),
        **plan.effort.document(),
        "where": options.where,
        "max_products": options.max_products,
        "max_failures": options.max_failures,
        "min_judged": options.min_judged,
        "seed": plan.seed,
        "time": plan.time,
        "sweep": options.sweep,
        "jobs": options.processes,
        "executor": options.executor,
        "memory": list(options.memory),
        "timeout": options.timeout,
        "known": list(options.known),
        "fail_fast": plan.fail_fast,
        "fail_stale": options.fail_stale,
        "strict": options.strict,
        "inline": options.inline,
        "differentiable": options.differentiable,
    }


def _clear_abandoned() -> None:
    """Remove what killed runs have left."""
    clear_abandoned_sandboxes()
    clear_abandoned_journals()


def _failed(error: Exception, said: str) -> Failed:
    """The event for an error. It has no traceback if our code is not to blame."""
    if isinstance(error, JudgeDied | ExecutorLost | SubjectError):
        return Failed(str(error))
    return Failed(said, "".join(traceback.format_exception(error)).rstrip())
