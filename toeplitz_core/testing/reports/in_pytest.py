"""What pytest makes of a result: only a pass passes; and what the report of a test says of it."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis.statistics import collector, describe_statistics

from toeplitz_core.testing.findings.known import KnownFailures
from toeplitz_core.testing.isolation.isolated import SubjectError
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.reports.terminal import OUR_ERROR
from toeplitz_core.testing.reports.text import printable, result_line, verdict_lines
from toeplitz_core.testing.run.record import replay_command, result_document
from toeplitz_core.testing.run.session import Session
from toeplitz_core.testing.support.importable import needed_path
from toeplitz_core.testing.support.spelling import cases_of

# The property of a test that holds its result, as JSON: it reaches whoever writes a report, also from another process.
PROPERTY = "toeplitz_core"


def reported(item: pytest.Item | None, session: Session, step: Step) -> Result:
    """The result of a step, which the report of a test then has: in words, as JSON, with Hypothesis's statistics.

    An interrupt ends the tests; what the step had found by then is reported.
    """
    if item is None:
        return _judged(session, step, [])

    def keep_statistics(found: Any) -> None:
        found["nodeid"] = item.nodeid
        item.hypothesis_statistics = describe_statistics(found)  # type: ignore[attr-defined]  # its plugin looks for it

    announced: list[Result] = []
    try:
        # As Hypothesis's own plugin does for a test that is one of Hypothesis: for --hypothesis-show-statistics.
        with collector.with_value(keep_statistics):  # type: ignore[arg-type]  # its default is None
            result = _judged(session, step, announced)
    except KeyboardInterrupt:
        if not announced:
            raise
        result = announced[-1]
        item.session.shouldstop = "interrupted"
    # What the fixture record_property does, but for its warning that a strict reader of JUnit XML wants no properties.
    item.user_properties.append((PROPERTY, json.dumps(result_document(result), allow_nan=False)))
    item.add_report_section("call", "toeplitz_core", f"{result_line(result)}, seed {session.plan.seed}")
    return result


def _judged(session: Session, step: Step, announced: list[Result]) -> Result:
    """The result of a step. A subject that is missing fails the test in a line; an error of our own says so."""
    try:
        return session.result(step, announced.append)
    except SubjectError as error:
        absent = str(error)
    except Exception as error:
        error.add_note(OUR_ERROR)
        raise
    pytest.fail(printable(absent), pytrace=False)  # not where it is handled: pytest would print both


def conclude(
    result: Result,
    *,
    known: KnownFailures,
    required_devices: Collection[str] = (),
    replay: str | None = None,
) -> None:
    """End a test as a result demands: return if it passes, else raise what pytest knows as failed, skipped or xfailed.

    Parameters
    ----------
    known : KnownFailures
        The list that the search was given: xfailed tests quote the reasons.
    required_devices : collection of str
        Devices that were asked for: where they are absent, a test fails that otherwise would be skipped.
    replay : str, optional
        How to run the case again, if not by the command.
    """
    if result.status.is_failure:
        assert result.failure is not None
        lines = verdict_lines(result.subject, result.failure, replay or _command(result.subject, result.failure))
        pytest.fail(printable("\n".join(lines)), pytrace=False)
    message = printable(result.message)
    if result.status is Status.NOT_RUN:
        if result.device in required_devices:
            pytest.fail(f"not run, and {result.device} was asked for: {message}", pytrace=False)
        pytest.skip(f"not run: {message}")
    if result.status is Status.KNOWN:
        reasons = {entry.name: entry.reason for entry in known.entries}
        said = "; ".join(f"{name}: {cases_of(count)}: {reasons.get(name, '')}" for name, count in result.known.items())
        pytest.xfail(f"known: {said}")
        pytest.fail(f"known: {said}", pytrace=False)  # --runxfail lets us come here
    if result.status is Status.UNSUPPORTED and not result.nothing_proven:
        pytest.skip(f"unsupported: {message}")
    if result.status is not Status.PASS:
        pytest.fail(message or f"nothing proven: {result.status}", pytrace=False)


def _command(subject: str, failure: Verdict) -> str:
    """What runs a case again, outside of pytest too, which may find modules where nothing else looks for them."""
    command, path = replay_command(subject, failure.case), needed_path(subject)
    return command if path is None else f"PYTHONPATH={path} {command}"
