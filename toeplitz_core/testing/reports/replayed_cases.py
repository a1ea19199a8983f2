"""Print cases as they are replayed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rich.console import Console

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.known import KnownFailures
from toeplitz_core.testing.findings.replay import RUNS, replay
from toeplitz_core.testing.laws.verdict import EXCUSED, Status
from toeplitz_core.testing.reports.text import plain, print_verdict
from toeplitz_core.testing.run.exit_code import ExitCode
from toeplitz_core.testing.run.subject_pool import why_not_run
from toeplitz_core.testing.subjects.interface import Implementation
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
