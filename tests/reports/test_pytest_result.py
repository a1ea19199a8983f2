"""A result as the outcome of a pytest test."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.helpers.paths import KNOWN_TORCH
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.reports.pytest_result import conclude, reported
from toeplitz_core.testing.reports.terminal import OUR_ERROR
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.run.session import Session

CASE = Case.parse("input=1x1x1x1 weight=1x1x1x1 law=forward-exact")
STEP = Step("m:f", "forward-exact", "float32", "cpu")
NOTHING = KnownFailures()


def ended(status: Status, message: str = "", **more: object) -> Result:
    """A result with this status."""
    failure = Verdict(status, CASE, message) if status.is_failure else None
    return Result(STEP, status, message=message, failure=failure, **more)


@pytest.mark.parametrize("status", Status)
def test_only_a_pass_passes(status: Status):
    """Every status except a pass ends a test as failed, skipped or xfailed."""
    expected = {
        Status.NOT_RUN: pytest.skip.Exception,
        Status.KNOWN: pytest.xfail.Exception,
        Status.SHARED: pytest.xfail.Exception,
        Status.UNSUPPORTED: (pytest.skip.Exception, pytest.fail.Exception),
    }
    if status is Status.PASS:
        conclude(ended(status), known=NOTHING)
        return
    with pytest.raises(expected.get(status, pytest.fail.Exception)):
        conclude(ended(status), known=NOTHING)


def test_known_failures_are_quoted():
    """An xfailed test quotes each entry that matched, with its count and its reason."""
    listed = KnownFailures.load(KNOWN_TORCH)
    entry = listed.entries[0]
    with pytest.raises(pytest.xfail.Exception, match=f"^known: {entry.name}: 3 cases: {re.escape(entry.reason)}$"):
        conclude(ended(Status.KNOWN, known=Counter({entry.name: 3})), known=listed)


def test_shared_failures_are_named():
    """An xfailed test names each failure of torch, with its count."""
    with pytest.raises(pytest.xfail.Exception, match=r"^shared: torch itself fails this: vmap-of-an-empty-batch: 2 "):
        conclude(ended(Status.SHARED, shared=Counter({"vmap-of-an-empty-batch": 2})), known=NOTHING)


def test_an_error_of_our_own_asks_to_be_reported(monkeypatch: pytest.MonkeyPatch):
    """An error in a law asks to be reported; a missing subject is a failure of the test, not an error of ours."""
    session = Session(Options(subject=("m:f",), law=("forward-exact",), dtype=("float32",), device=("cpu",)))
    with pytest.raises(pytest.fail.Exception, match=r"^subject 'm:f': cannot import m: ") as failed:
        reported(None, session, *session.steps)
    session.close()
    assert failed.value.__context__ is None
    assert failed.value.pytrace is False
    monkeypatch.setattr(Session, "result", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError) as raised:
        reported(None, session, *session.steps)
    assert raised.value.__notes__ == [OUR_ERROR]
