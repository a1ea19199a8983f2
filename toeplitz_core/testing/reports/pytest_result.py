"""Results as outcomes of pytest tests: only a pass passes. The report of a test has its result."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

import pytest
from hypothesis.statistics import collector, describe_statistics

from toeplitz_core.testing.findings.debugging import Stop, stop
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.findings.shared import in_words
from toeplitz_core.testing.isolation.isolated_subject import SubjectError
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.reports.finding_text import finding_lines
from toeplitz_core.testing.reports.terminal import OUR_ERROR
from toeplitz_core.testing.reports.text import printable, result_line, verdict_lines
from toeplitz_core.testing.run.contribution import Contribution
from toeplitz_core.testing.run.record import replay_command
from toeplitz_core.testing.run.session import Session
from toeplitz_core.testing.subjects import resolve
from toeplitz_core.testing.support.importable import needed_path
from toeplitz_core.testing.support.spelling import cases_of

# The property of a test that holds its result as JSON. pytest passes it to every report, also from another process.
PROPERTY = "toeplitz_core"
# How the error of a test ends that has not said anything else.
UNENDED = ": its test did not end"
_TOLD = pytest.StashKey[set[str]]()


def _lines(result: Result, failure: Verdict, replay: str | None, session: Session | None, told: set[str]) -> list[str]:
    """The lines for a failure. The first test that fails for a finding tells it; later tests name it in one line."""
    findings = () if session is None else session.gathering.findings
    finding = next((finding for finding in findings if finding.covers(result.step, failure)), None)
    if finding is None:
        return verdict_lines(result.subject, failure, replay or _command(result.subject, failure))
    if finding.id in told:
        return [f"{finding.cause} ({finding.id}), as before; here: {failure.case}"]
    told.add(finding.id)
    return finding_lines(finding, None, replay=replay or _command(result.subject, finding.failure), limit=None)


def told_by(item: pytest.Item | None) -> set[str]:
    """The ids of the findings that tests of this process have told, whatever session of the suite found them."""
    return set() if item is None else item.config.stash.setdefault(_TOLD, set())


def reported(item: pytest.Item | None, session: Session, step: Step, replay: str | None = None) -> Result:
    """Run a step; add its result to the report of a test: in words, as JSON, and as Hypothesis's statistics.

    A failure is reported as soon as it is found, so that nothing is lost if the process ends. An interrupt ends the
    tests. What the step had found by then is reported.
    """
    if item is None:
        return _judged(session, step, lambda _: None)

    def keep_statistics(found: Any) -> None:
        found["nodeid"] = item.nodeid
        item.hypothesis_statistics = describe_statistics(found)  # type: ignore[attr-defined]  # its plugin looks for it

    def contribution(result: Result) -> Contribution:
        return Contribution.of(session, result, lambda one: replay or _command(one.subject, one.failure))

    announced: list[Result] = []

    def announce(result: Result) -> None:
        announced.append(result)
        _send(item, contribution(result))

    _send(item, Contribution(error=f"{step}{UNENDED}"))
    try:
        # As Hypothesis's own plugin does for its tests, so that --hypothesis-show-statistics works here.
        with collector.with_value(keep_statistics):  # type: ignore[arg-type]  # its default is None
            result = _judged(session, step, announce)
    except KeyboardInterrupt:
        if not announced:
            raise
        result = announced[-1]
        item.session.shouldstop = "interrupted"
    except (Exception, pytest.fail.Exception) as error:
        absent = isinstance(error, pytest.fail.Exception)
        item.user_properties.append(
            _property(Contribution(error=str(error) if absent else f"{type(error).__name__}: {error}"))
        )
        raise
    # As the fixture record_property does, but without its warning that strict readers of JUnit XML refuse properties.
    item.user_properties.append(_property(contribution(result)))
    item.add_report_section("call", "toeplitz_core", f"{result_line(result)}, seed {session.plan.seed}")
    return result


def _send(item: pytest.Item, found: Contribution) -> None:
    """Report what is known before the test ends, in case that it does not.

    pytest and pytest-xdist pass on a report of a setup that passed, and show nothing of it.
    """
    report = pytest.TestReport(
        item.nodeid, item.location, {}, "passed", None, "setup", user_properties=[_property(found)]
    )
    item.ihook.pytest_runtest_logreport(report=report)


def _property(found: Contribution) -> tuple[str, str]:
    return PROPERTY, json.dumps(found.document(), allow_nan=False)


def contribution_in(report: pytest.TestReport) -> Contribution | None:
    """What a test contributes to the record of the session, from its report; None from other reports."""
    found = [str(value) for name, value in report.user_properties if name == PROPERTY]
    return Contribution.read(json.loads(found[-1])) if found and report.when != "teardown" else None


def _judged(session: Session, step: Step, announce: Callable[[Result], None]) -> Result:
    """Run a step. A missing subject fails the test with one line; an error of our own says that it is ours."""
    try:
        return session.result(step, announce)
    except SubjectError as error:
        absent = str(error)
    except Exception as error:
        error.add_note(OUR_ERROR)
        raise
    pytest.fail(printable(absent), pytrace=False)  # outside of the except block: pytest would print both errors


def conclude(
    result: Result,
    *,
    known: KnownFailures,
    required_devices: Collection[str] = (),
    replay: str | None = None,
    stopped: Stop | None = None,
    session: Session | None = None,
    told: set[str] | None = None,
) -> None:
    """End a test with the outcome of its result: return if it passes, else raise pytest's fail, skip or xfail.

    Parameters
    ----------
    known : KnownFailures
        The known failures of the search; xfailed tests quote their reasons.
    required_devices : collection of str
        Devices that were named. If one is missing, its tests fail; tests of other missing devices are skipped.
    replay : str, optional
        What to print as the replay line, instead of the command.
    stopped : Stop, optional
        Where the failure occurs in this process. The debugger of pytest then opens there.
    session : Session, optional
        Its findings are told instead of the single failures.
    told : set of str, optional
        The ids of findings that earlier tests have told, so that they are only named. Those told here are added.
    """
    if result.status.is_failure:
        told = set() if told is None else told
        lines = [line for failure in result.failures for line in _lines(result, failure, replay, session, told)]
        if stopped is not None:
            lines.append(f"  debug:  {_stopped_at(stopped)}")
        failed = pytest.fail.Exception(printable("\n".join(lines)), pytrace=False)
        raise failed.with_traceback(None if stopped is None else stopped.traceback)
    message = printable(result.message)
    if result.status is Status.NOT_RUN:
        if result.device in required_devices:
            pytest.fail(f"not run, although {result.device} was requested: {message}", pytrace=False)
        pytest.skip(f"not run: {message}")
    if result.status is Status.KNOWN:
        reasons = {entry.name: entry.reason for entry in known.entries}
        said = "; ".join(f"{name}: {cases_of(count)}: {reasons.get(name, '')}" for name, count in result.known.items())
        pytest.xfail(f"known: {said}")
        pytest.fail(f"known: {said}", pytrace=False)  # reached with --runxfail
    if result.status is Status.SHARED:
        said = "; ".join(f"{in_words(name)}: {cases_of(count)}" for name, count in result.shared.items())
        pytest.xfail(f"shared: {said}")
        pytest.fail(f"shared: {said}", pytrace=False)  # reached with --runxfail
    if result.status is Status.UNSUPPORTED and not result.nothing_proven:
        pytest.skip(f"unsupported: {message}")
    if result.status is not Status.PASS:
        pytest.fail(message or f"nothing proven: {result.status}", pytrace=False)


def stopped(item: pytest.Item | None, session: Session, result: Result) -> Stop | None:
    """With ``--pdb``, run a failing case again in this process, to find where its subject went wrong.

    None without this option, and for crashes and timeouts, which would end or block this process.
    """
    failure = next((failure for failure in result.failures if failure.status is Status.FAIL), None)
    if item is None or not item.config.getoption("usepdb", False) or failure is None:
        return None
    subject = session.subjects[result.subject] or resolve(result.subject)
    return stop(session.plan.laws[result.law], subject, failure.case)


def _stopped_at(stopped: Stop) -> str:
    if not stopped.verdict.status.is_failure or stopped.traceback is None:
        return "none: this failure does not occur in the process of pytest"
    return "where the subject raised" if stopped.raised else "where the last call of the subject returned"


def _command(subject: str, failure: Verdict) -> str:
    """The command that replays a case. It sets PYTHONPATH if only pytest finds the subject's module."""
    command, path = replay_command(subject, failure), needed_path(subject)
    return command if path is None else f"PYTHONPATH={path} {command}"
