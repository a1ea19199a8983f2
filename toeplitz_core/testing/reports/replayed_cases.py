"""Print cases as they are replayed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.console import Console

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.debugging import look_around, step_into, stop
from toeplitz_core.testing.findings.known import KnownFailures
from toeplitz_core.testing.findings.replay import RUNS, laws_of, replay
from toeplitz_core.testing.laws.verdict import EXCUSED, Status
from toeplitz_core.testing.reports.text import plain, print_verdict
from toeplitz_core.testing.run.exit_code import ExitCode
from toeplitz_core.testing.run.subject_pool import why_not_run
from toeplitz_core.testing.subjects.interface import Implementation, Subject
from toeplitz_core.testing.support import interrupts
from toeplitz_core.testing.support.spelling import cases_of

# If a case is run under several laws, the first of these statuses counts.
_ORDER = (Status.FAIL, *EXCUSED, Status.PASS, Status.MISTRUSTED, Status.UNSUPPORTED)


def replay_all(
    console: Console,
    cases: Iterable[Case | Call],
    subject: Implementation,
    *,
    runs: int = RUNS,
    known: KnownFailures | None = None,
    strict: bool = False,
) -> ExitCode:
    """Run cases again, print their results, and return the exit code."""
    ended = Counter[Status]()
    try:
        with interrupts.noted():
            for case in cases:
                interrupts.raise_if_requested()
                ended[_printed(console, case, subject, runs, known, strict=strict)] += 1
    except KeyboardInterrupt:
        _summarise(console, ended, "interrupted after ")
        return ExitCode.INTERRUPTED
    if ended.total() > 1:
        _summarise(console, ended)
    if ended[Status.FAIL]:
        return ExitCode.FAILURE
    all_hold = sum(ended[status] for status in (Status.PASS, *EXCUSED)) == ended.total()
    return ExitCode.ALL_HOLD if all_hold else ExitCode.NOTHING_PROVEN


def _summarise(console: Console, ended: Counter[Status], before: str = "") -> None:
    counted = ", ".join(f"{count} {status}" for status, count in sorted(ended.items()))
    plain(console, f"{before}{cases_of(ended.total())}{': ' * bool(counted)}{counted}")


def _printed(
    console: Console,
    case: Case | Call,
    subject: Implementation,
    runs: int,
    known: KnownFailures | None,
    *,
    strict: bool,
) -> Status:
    """Run a case again under each of its laws, print the results, and return the gravest status."""
    if reason := why_not_run(subject, case.device):
        plain(console, f"not run: {subject.name} on {case.device}: {reason}")
        return Status.NOT_RUN
    statuses = set()
    for replayed in replay(case, subject, runs=runs, known=known, strict=strict):
        print_verdict(console, subject.name, replayed.verdict)
        if replayed.runs > 1:
            plain(console, f"  runs:   {replayed.runs}")
        if replayed.known is not None:
            plain(console, f"  known:  {replayed.known.name}: {replayed.known.reason}")
        if replayed.shared:
            plain(console, f"  shared: {replayed.shared}")
        statuses.add(Status.FAIL if replayed.verdict.status.is_failure else replayed.verdict.status)
    return next(status for status in _ORDER if status in statuses)


def debug(console: Console, case: Case | Call, subject: Subject) -> ExitCode:
    """Run a case once in this process, and open a debugger where its subject went wrong.

    If the subject raises, that is the frame in which it raised. If it returns a wrong result, the case is run again,
    and the debugger stops at the calls of the subject. The exit code is that of the first run, or that of an interrupt
    if the user quits at a breakpoint of the subject.
    """
    if reason := why_not_run(subject, case.device):
        plain(console, f"not run: {subject.name} on {case.device}: {reason}")
        return ExitCode.NOTHING_PROVEN
    proven = True
    for law in laws_of(case):
        try:
            found = stop(law, subject, case)
        except KeyboardInterrupt:
            plain(console, "interrupted")
            return ExitCode.INTERRUPTED
        print_verdict(console, subject.name, found.verdict)
        proven &= found.verdict.status is Status.PASS
        if not found.verdict.status.is_failure:
            continue
        if found.raised and found.traceback is not None:
            plain(console, "debug: where the subject raised; q quits")
            look_around(found.traceback)
        else:
            plain(console, "debug: it runs again, and stops at each call of the subject; s steps, c goes on, q quits")
            step_into(law, subject, case)
        return ExitCode.FAILURE
    plain(console, "debug: the case does not fail in this process")
    return ExitCode.ALL_HOLD if proven else ExitCode.NOTHING_PROVEN
