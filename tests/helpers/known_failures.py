"""A list with one known failure, and failures that it matches or not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status, Verdict

GROUPED = "input=1x2x1x1 weight=2x1x1x1 groups=2"
ENTRY = f"""
[[failure]]
name = "no-groups"
subject = "mine"
law = "forward-exact"
condition = "groups > 1"
example = "{GROUPED}"
reason = "It takes the first group for all."
"""


def load(text: str, directory: Path, **options: object) -> KnownFailures:
    """Load a list from a file with this text."""
    path = directory / "known.toml"
    path.write_text(text, encoding="utf-8")
    return KnownFailures.load(path, **options)


def failing(case: str = GROUPED, status: Status = Status.FAIL, law: str = "forward-exact") -> Verdict:
    """A failing verdict on a case."""
    return Verdict(status, Case.parse(case).replace(law=law), "out[0]=0, but should be 1")


def result(verdict: Verdict, subject: str = "mine") -> Result:
    """The result of a search that ended with this verdict after ten cases."""
    case = verdict.case
    failure = verdict if verdict.status.is_failure else None
    counts = Counter({Status.PASS: 9, verdict.status: 1})
    return Result(Step(subject, str(case.law), case.dtype, case.device), verdict.status, counts, failure=failure)
