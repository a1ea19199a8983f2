"""Print cases as they are replayed, and write the results as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from rich.console import Console

from toeplitz_core.testing.case.call import Call, TensorSpec
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.debugging import look_around, step_into, stop
from toeplitz_core.testing.findings.gathering import Gathering
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.findings.replay import Replayed, laws_of, replay
from toeplitz_core.testing.findings.shared import in_words
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import EXCUSED, Status, Verdict
from toeplitz_core.testing.reports.files.json import JsonReport
from toeplitz_core.testing.reports.finding_text import cause_in_words
from toeplitz_core.testing.reports.text import plain, print_note, print_verdict
from toeplitz_core.testing.run.events import Ended
from toeplitz_core.testing.run.execution.subject_pool import why_not_run
from toeplitz_core.testing.run.exit_code import ExitCode
from toeplitz_core.testing.run.record import Record
from toeplitz_core.testing.subjects.interface import Implementation, Subject
from toeplitz_core.testing.support import interrupts
from toeplitz_core.testing.support.limits import RUNS
from toeplitz_core.testing.support.spelling import cases_of

# If a case is run under several laws, the first of these statuses counts.
_ORDER = (Status.FAIL, *EXCUSED, Status.PASS, Status.MISTRUSTED, Status.UNSUPPORTED, Status.NOT_RUN)


def replay_all(
    console: Console,
    cases: Iterable[Case | Call],
    subject: Implementation,
    *,
    runs: int = RUNS,
    known: KnownFailures | None = None,
    strict: bool = False,
    report: JsonReport | None = None,
    flags: tuple[str, ...] = (),
) -> ExitCode:
    """Run cases again, print their results, and return the exit code.

    Parameters
    ----------
    flags : tuple of str
        The options without a value that the printed commands repeat.
    report : JsonReport, optional
        Gets the results in the end: one for each case and law, with the number of its runs as ``cases``.
    """
    ended = Counter[Status]()
    results: list[Result] = []
    interrupted = False
    try:
        with interrupts.noted():
            for case in cases:
                interrupts.raise_if_requested()
                of_case = _printed(console, case, subject, runs, known, strict=strict, flags=flags)
                results += of_case
                statuses = {Status.FAIL if result.status.is_failure else result.status for result in of_case}
                ended[next(status for status in _ORDER if status in statuses)] += 1
    except KeyboardInterrupt:
        interrupted = True
    if interrupted or ended.total() > 1:
        _summarise(console, ended, "interrupted after " * interrupted)
    code = ExitCode.INTERRUPTED if interrupted else _exit_code(ended)
    if report is not None:
        options = {"subjects": [subject.name], "runs": runs}
        listed = KnownFailures() if known is None else known
        record = Record(results, code, "interrupted" if interrupted else "completed", options=options, known=listed)
        report(Ended(record))
    return code


def _exit_code(ended: Counter[Status]) -> ExitCode:
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
    flags: tuple[str, ...],
) -> list[Result]:
    """Run a case again under each of its laws, and print and return the results."""
    if reason := why_not_run(subject, case.device):
        plain(console, f"not run: {subject.name} on {case.device}: {reason}")
        return [Result(_step(subject.name, case), Status.NOT_RUN, message=reason)]
    results = []
    gathering = Gathering(lambda _: subject, LAWS, polish=False)
    for found in replay(case, subject, runs=runs, known=known, strict=strict):
        replayed = replace(found, verdict=found.verdict.replace(flags=flags))
        print_verdict(console, subject.name, replayed.verdict)
        if replayed.verdict.status.is_failure and replayed.failures == replayed.runs:
            _print_finding(console, subject, replayed.verdict, gathering)
        if replayed.runs > 1:
            plain(console, f"  runs:   {replayed.runs}")
        if replayed.known is not None:
            print_note(console, "known:", f"{replayed.known.name}: {replayed.known.reason}")
        if replayed.shared is not None:
            print_note(console, "shared:", in_words(replayed.shared))
        results.append(_result(subject.name, replayed))
    return results


def _print_finding(console: Console, subject: Implementation, failure: Verdict, gathering: Gathering) -> None:
    """Print the cause of a failure and what it needs, once for all laws that fail for it."""
    known = len(gathering.findings)
    finding = gathering.add(_step(subject.name, failure.case), failure)
    if len(gathering.findings) == known:
        print_note(console, "cause:", f"{finding.cause}, as above")
        return
    print_note(console, "cause:", cause_in_words(finding))
    if finding.needs:
        print_note(console, "needs:", ", ".join(finding.needs))
    if finding.note:
        print_note(console, "also:", finding.note)


def _result(subject: str, replayed: Replayed) -> Result:
    """The result of a case under a law; the verdict is there also if it is not a failure."""
    verdict, failures = replayed.verdict, replayed.failures
    counts = Counter({verdict.status: failures or replayed.runs})
    if failures:
        counts[Status.PASS] += replayed.runs - failures
    return Result(
        _step(subject, verdict.case),
        verdict.status,
        counts,
        verdict.ratio if verdict.status is Status.PASS else None,
        verdict,
        verdict.message,
        Counter() if replayed.known is None else Counter({replayed.known.name: failures}),
        Counter({verdict.assumed: replayed.runs} if verdict.assumed else {}),
        shared=Counter() if replayed.shared is None else Counter({replayed.shared: failures}),
    )


def _step(subject: str, case: Case | Call) -> Step:
    """The step of a case. A call has the dtype of its first operand that is a tensor."""
    dtypes = [case.dtype] if isinstance(case, Case) else [o.dtype for o in case.operands if isinstance(o, TensorSpec)]
    return Step(subject, case.law or "", dtypes[0] if dtypes else "", case.device)


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
