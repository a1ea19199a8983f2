"""The record of a pytest session, from the reports of its tests."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers.known_failures import ENTRY, failing, load
from tests.helpers.known_failures import result as result_of
from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.reports.pytest_result import PROPERTY, UNENDED, contribution_in
from toeplitz_core.testing.reports.pytest_session import SessionRecord
from toeplitz_core.testing.run.contribution import Contribution
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.run.session import Session

SESSION = Session(Options(subject=("torch",), law=("forward-exact",), dtype=("float32",), device=("cpu",)))
BROKEN = replace(result_of(failing()), message=failing().message)
HOLDS = result_of(failing(status=Status.PASS))


def finding(result: Result, number: int = 1) -> Finding:
    """The finding of a result that fails."""
    failure = result.failures[0]
    return Finding(
        result.subject, failure, "groups", "It is.", ("a",), ((result.step, str(failure.case)),), "note", number
    )


def contribution(result: Result, *findings: Finding) -> Contribution:
    """That of a test with this result."""
    return Contribution(result, findings, {one.id: f"replay {one.id}" for one in findings}, options={"seed": 0})


def report(found: Contribution, name: str = "t.py::a", worker: str | None = None, when: Any = "call") -> Any:
    """The report of a test."""
    properties = [(PROPERTY, json.dumps(found.document()))]
    made = pytest.TestReport(name, ("t.py", 0, "a"), {}, "passed", None, when, user_properties=properties, duration=2.0)
    if worker is not None:
        made.node = SimpleNamespace(gateway=SimpleNamespace(id=worker))  # type: ignore[attr-defined]  # as xdist does
    return made


def session(path: Path | None = None) -> SessionRecord:
    """An empty record."""
    return SessionRecord(SESSION, "pytest", {} if path is None else {"json": str(path)})


def test_a_contribution_can_be_read_back(tmp_path: Path):
    """What a test sends is what the session gets."""
    (entry,) = load(ENTRY, tmp_path).entries
    one = finding(BROKEN)
    sent = Contribution(BROKEN, (one,), {one.id: "none"}, (entry,), {"seed": 1}, ("cuda",))
    assert contribution_in(report(sent)) == sent
    assert contribution_in(report(Contribution(error="wrong"))) == Contribution(error="wrong")
    assert contribution_in(report(sent, when="teardown")) is None


def test_each_worker_runs_each_test():
    """With ``--dist=each``, no worker's result replaces that of another one; the last word of each worker counts."""
    for results in ((BROKEN, HOLDS), (HOLDS, BROKEN)):
        tests = session()
        for worker, result in zip(("gw0", "gw1"), results, strict=True):
            tests.add(report(contribution(HOLDS), worker=worker))
            findings = [finding(result)] if result is BROKEN else []
            tests.add(report(contribution(result, *findings), worker=worker))
        record = tests.record()
        assert (record.exit_code, len(record.results)) == (1, 1)
        (found,) = record.findings
        assert (tests.tests_of(found), tests.replay_of(found)) == (1, f"replay {found.id}")
        assert record.timing.steps == {BROKEN.step: 4.0}


def test_findings_with_one_id_are_one():
    """Their laws, dtypes and devices are united; another number is another finding; the gravest is the first."""
    tests = session()
    other = result_of(failing(law="stride"))
    crash = result_of(failing("input=1x1x1x1 weight=1x1x1x1 dtype=float64", Status.CRASH))
    for name, each in enumerate((other, BROKEN)):
        tests.add(report(contribution(each, finding(each)), f"t.py::{name}"))
    tests.add(report(contribution(crash, finding(crash, 2)), "t.py::crash"))
    first, second = tests.record().findings
    assert (first.status, first.number, first.dtypes) == (Status.CRASH, 2, ("float64",))
    assert (second.laws, second.dtypes) == (("forward-exact", "stride"), ("float32",))


def test_the_file_is_there_before_the_end(tmp_path: Path):
    """The file is written as soon as a bug is found, and says that the session did not end."""
    path = tmp_path / "run.json"
    tests = session(path)
    tests.add(report(contribution(HOLDS)))
    assert not path.exists()
    tests.add(report(contribution(BROKEN), when="setup"))
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["summary"]["ended"] == "interrupted"
    assert [found["evidence"] for found in document["findings"]] == ["not examined"]
    path.unlink()
    tests.add(report(contribution(BROKEN, finding(BROKEN))))
    assert [found["evidence"] for found in json.loads(path.read_text(encoding="utf-8"))["findings"]] == ["It is."]
    path.unlink()
    tests.add(report(contribution(BROKEN, finding(BROKEN)), "t.py::b"))
    assert not path.exists()


def test_a_test_without_a_result_is_an_error():
    """A test whose process died is an error, unless the session was cut short; so is one with an error of our own."""
    tests = session()
    tests.add(report(contribution(HOLDS)))
    assert (tests.record().exit_code, tests.record().ended) == (0, "completed")
    tests.add(report(Contribution(error=f"torch{UNENDED}"), "t.py::b", when="setup"))
    record = tests.record()
    assert (record.exit_code, record.ended, record.error) == (4, "error", "torch: its test did not end")
    record = tests.record("interrupted")
    assert (record.exit_code, record.ended, record.error) == (130, "interrupted", "")
    tests.add(report(Contribution(error="LawError: wrong"), "t.py::b"))
    assert tests.record("stopped at the first failure").error == "LawError: wrong"


def test_options_on_which_tests_differ():
    """An option has a value in the record only if all tests have it."""
    tests = session()
    for seed, result in enumerate((HOLDS, BROKEN)):
        tests.add(report(Contribution(result, options={"seed": seed, "examples": 5}), f"t.py::{seed}"))
    options = tests.record(workers=3).options
    assert (options["seed"], options["examples"], options["command"], options["jobs"]) == (None, 5, "pytest", 3)
    assert (options["subjects"], options["laws"]) == (["mine"], ["forward-exact"])
