"""A run on a terminal or in a log: each result as it comes, then the tables."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator

import torch
from rich.console import Console
from rich.progress import Progress

import toeplitz_core
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.result import Step
from toeplitz_core.testing.laws.verdict import Verdict
from toeplitz_core.testing.reports.compared import comparison_lines
from toeplitz_core.testing.reports.finding_text import finding_lines, findings_heading
from toeplitz_core.testing.reports.remarks import MOST_LINES, print_known, print_remarks
from toeplitz_core.testing.reports.table import print_summary, print_tables
from toeplitz_core.testing.reports.text import STYLES, WIDTH, plain, print_verdict, prose, result_line
from toeplitz_core.testing.run.comparison.comparison import Limits
from toeplitz_core.testing.run.events import Adopted, Ended, Event, Failed, Said, Started, StepEnded
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.run.plan import Plan
from toeplitz_core.testing.support.limits import TIMEOUT
from toeplitz_core.testing.support.places import LOCAL
from toeplitz_core.testing.support.spelling import counted

# Seconds between two lines about the progress of a run with --time.
HOUR = 3600.0
OUR_ERROR = "This is an error of toeplitz-core, not of the subject. Please report it with the lines above."


class TerminalReport:
    """Print a run: the first failure of each kind as it comes, then findings, tables, remarks and one line as a sum.

    A terminal has a progress bar. With ``verbose`` there is a line for each step.

    Parameters
    ----------
    console, errors : Console
        For the results, and for errors of our own.
    """

    def __init__(self, console: Console, errors: Console) -> None:
        self._console = console
        self._errors = errors
        self._progress = Progress(console=console, transient=True, disable=not console.is_terminal)
        self._bar = self._progress.add_task("")
        self._begin = 0.0
        self._plan: Plan | None = None
        self._journal, self._baseline = "", ""
        self._verbose = False
        self._ended: set[Step] = set()
        self._cases, self._hours = 0, 0
        self._failed: set[Step] = set()
        self._kinds: set[tuple[str, str]] = set()

    def __call__(self, event: Event) -> None:
        """Print an event."""
        match event:
            case Started():
                self._start(event)
            case StepEnded():
                self._step(event)
            case Adopted():
                for line in _adopted(event):
                    plain(self._console, line)
            case Said():
                prose(self._errors, event.text)
            case Failed():
                self._progress.stop()
                plain(self._errors, event.traceback or f"error: {event.error}")
                if event.traceback:
                    plain(self._errors, OUR_ERROR)
            case Ended():
                self._end(event)

    def _start(self, event: Started) -> None:
        self._plan, self._journal, self._begin = event.plan, event.journal, time.monotonic()
        self._verbose, self._baseline = event.options.verbose, event.options.write_baseline or ""
        for line in header(event.plan).splitlines():
            prose(self._console, line)
        if line := options_line(event.options):
            plain(self._console, line)
        plain(self._console, f"journal: {event.journal} (kept if cut short)")
        self._progress.update(self._bar, total=event.plan.time or len(event.plan.steps))
        self._progress.start()

    def _step(self, event: StepEnded) -> None:
        assert self._plan is not None
        result, step = event.result, event.task.step
        at = f"{step.law} {step.dtype}"
        limit = self._plan.time
        news = step not in self._ended or result.status.is_failure  # later rounds rarely add anything else
        self._ended.add(step)
        done = len(self._ended) if limit is None else min(limit, time.monotonic() - self._begin)
        at = at if limit is None else f"round {event.task.number + 1}, {at}"
        self._progress.update(self._bar, completed=done, description=at)
        if self._verbose and result.cases and news:
            plain(self._console, result_line(result))
        for failure in result.failures:
            self._announce(result.step, failure)
        self._count(event)

    def _count(self, event: StepEnded) -> None:
        """Print a line each hour of a run with ``--time``: what was covered until now."""
        self._cases += event.result.cases
        self._failed |= {event.task.step} if event.result.status.is_failure else set()
        hours = int((time.monotonic() - self._begin) // HOUR)
        if self._plan is None or self._plan.time is None or hours <= self._hours:
            return
        self._hours = hours
        laws, dtypes = len({step.law for step in self._ended}), len({step.dtype for step in self._ended})
        plain(
            self._console,
            f"{hours} h: round {event.task.number + 1}, {self._cases:,} cases, {laws} laws and {dtypes} dtypes; "
            f"{len(self._ended)} of {len(self._plan.steps)} steps searched, {len(self._failed)} failed",
        )

    def _announce(self, step: Step, failure: Verdict) -> None:
        """Print one line for the first failure of each kind; the findings of the end tell the rest."""
        if (kind := (step.subject, failure.kind)) not in self._kinds:
            self._kinds.add(kind)
            line = f"{failure.status.upper()} {step.subject}, {step.law}: {failure.message}"
            line = line.partition("\n")[0]
            line = line if len(line) <= WIDTH else f"{line[: WIDTH - 4]} ..."
            plain(self._console, line, style=STYLES.get(failure.status))

    def _end(self, event: Ended) -> None:
        self._progress.stop()
        console, record = self._console, event.record
        if record.findings:
            plain(console, findings_heading(record.findings))
        for number, finding in enumerate(record.findings, start=1):
            heading, *lines = finding_lines(finding, number)
            heading += " (in the baseline)" * (finding.id in record.accepted)
            if finding.id in record.remembered:
                plain(console, f"{heading} (known to the memory)")
                continue
            plain(console, heading, style=STYLES.get(finding.status))
            for line in lines:
                plain(console, line)
        for result in record.results:
            for failure in result.failures:
                if record.finding_of(result.step, failure) is None:
                    print_verdict(console, result.subject, failure)
        print_tables(console, record)
        print_remarks(console, record.results, event.left_out)
        if record.rounds is not None and self._plan is not None:
            plain(console, f"time: {record.rounds} rounds in {self._plan.time:g} s, each with its own seed")
        print_known(console, record)
        if said := record.too_little_judged:
            prose(console, f"judged too little: {said}")
        if event.comparison is not None:
            for line in comparison_lines(event.comparison, Limits()):
                plain(console, line)
        print_summary(console, record.results)
        if self._baseline:
            found, steps = len(record.findings), len(record.results) + len(record.unreached)
            said = f"{found} finding{'s' * (found != 1)}, {steps} step{'s' * (steps != 1)}"
            said = said if record.ended == "completed" else "not written, because the run is not complete"
            prose(console, f"baseline {self._baseline}: {said}")
        if record.ended in ("interrupted", "error"):
            plain(console, f"to resume this run: python -m toeplitz_core check --resume {self._journal}")


def _adopted(event: Adopted) -> Iterator[str]:
    """What was changed in a list of known failures, and what the next run with it does."""
    yield f"{event.path}: {len(event.added)} added, {len(event.removed)} removed, {event.kept} kept"
    for word, names in (("added", event.added), ("removed", event.removed)):
        yield from (f"  {word}: {name}" for name in names[:MOST_LINES])
        yield from [f"  {word}: {len(names) - MOST_LINES} more"] * (len(names) > MOST_LINES)
    will = f"will not be green: {event.red}" if event.red else "will be green"
    yield f"the next run with {event.chosen} {will}"


def header(plan: Plan) -> str:
    """Echo the plan, so that a typo shows. The seed repeats the run."""
    laws = counted(list(plan.laws), "law") if set(plan.laws) != set(LAWS) else f"all {len(LAWS)}"
    laws = laws if laws[0].isdigit() else f"laws {laws}"
    return (
        f"toeplitz-core {toeplitz_core.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}\n"
        f"subjects {', '.join(plan.subjects)}; {laws}; devices {', '.join(plan.devices)}\n{plan.effort}"
    )


def options_line(options: Options) -> str:
    """The chosen options that the header of a run does not name."""
    names = (
        *(
            "verbose",
            "where",
            "max_products",
            "arithmetic",
            "time",
            "jobs",
            "executor",
            "memory",
            "timeout",
            "known",
            "baseline",
            "min_judged",
        ),
        *("baseline", "min_judged", "fail_fast", "fail_stale", "strict", "inline", "differentiable", "resume"),
    )
    usual = {"jobs": 1, "executor": LOCAL, "timeout": TIMEOUT}
    chosen = {name: value for name in names if (value := getattr(options, name)) and value != usual.get(name)}
    return "; ".join(
        f"--{name.replace('_', '-')}" + ("" if value is True else f" {_words(value)}") for name, value in chosen.items()
    )


def _words(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
