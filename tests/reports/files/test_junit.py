"""The JUnit XML of a run parses for any text of a subject, and is green only if the run is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reports.records import CASE, GAPS, LINE, RECORD, RESULTS, of_step, result
from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.reports.files.junit import to_junit
from toeplitz_core.testing.reports.files.report_files import ReportFile
from toeplitz_core.testing.run.events import Ended, Failed
from toeplitz_core.testing.run.record import Record, Timing


def parsed(record: Record) -> tuple[ET.Element, list[ET.Element]]:
    """The suite of a run's JUnit XML, and its cases."""
    root = ET.fromstring(to_junit(record))
    (suite,) = root
    cases = suite.findall("testcase")
    assert suite.get("tests") == str(len(cases))
    return suite, cases


def outcome(case: ET.Element) -> str:
    """The outcome of a test case: its only child that is not a property."""
    kinds = [child.tag for child in case if child.tag != "properties"]
    assert len(kinds) <= 1
    return kinds[0] if kinds else "passed"


def test_junit_of_every_status():
    """A failing law is a failure, nothing proven is an error; not-run, known and shared failures are skipped."""
    suite, cases = parsed(RECORD)
    wanted = ["passed", "passed", *["failure"] * 4, "error", "error", "skipped", "skipped", "skipped", "skipped"]
    assert [outcome(case) for case in cases] == [*wanted, "skipped"]
    assert [suite.get(name) for name in ("failures", "errors", "skipped")] == ["4", "2", "5"]
    assert {(case.get("classname"), case.get("name")) for case in cases[:-1]} == {
        ("torch", "forward-bound[float32-cpu]")
    }
    crash = cases[4].find("failure")
    assert crash is not None
    assert (crash.get("type"), crash.get("message")) == ("crash", "killed by signal 11 (SIGSEGV)")
    assert crash.text is not None
    assert f'replay "{LINE} law=forward-bound" --subject torch' in crash.text
    assert 'trace:  File "kernels.py", line 9, in conv2d\n' in crash.text
    wrong = cases[3].find("failure")
    assert wrong is not None
    assert "where:  output channel 1 of 2, columns 3.. of 6\n" in str(wrong.text)
    properties = {p.get("name"): p.get("value") for p in cases[9].iter("property")}
    assert properties["known: listed"] == "3 cases"
    assert (cases[-1].get("classname"), cases[-1].get("name")) == ("known failures", "listed")
    for case, said in ((9, "known: listed"), (10, "shared: torch itself fails this: vmap-of-an-empty-batch; ")):
        excused = cases[case].find("skipped")
        assert excused is not None
        assert str(excused.get("message")).startswith(said)
    absent = cases[11].find("skipped")
    assert absent is not None
    assert absent.get("message") == "torch sees no CUDA device"


def test_times_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each test case has its time, and the file of the module that its subject names, relative to the directory."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kernels.py").write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found = of_step(result(Status.PASS), subject="mine.kernels:conv2d")
    timing = Timing("2026-11-30T11:00:00Z", 12.5, {found.step: 3.25}, {found.step: "2026-11-30T11:00:07Z"})
    suite, (case, other) = parsed(
        replace(RECORD, results=[found, result(Status.PASS)], exit_code=0, stale=[], timing=timing)
    )
    assert (suite.get("time"), suite.get("timestamp")) == ("12.500", "2026-11-30T11:00:00Z")
    assert (case.get("time"), case.get("file")) == ("3.250", str(Path("mine") / "kernels.py"))
    assert [each.get("timestamp") for each in (case, other)] == ["2026-11-30T11:00:07Z", "2026-11-30T11:00:00Z"]
    assert (other.get("time"), other.get("file")) == ("0.000", None)


def test_what_the_baseline_has_is_skipped():
    """A failure whose finding stands in the baseline is skipped, with its text; any other is a failure."""
    (failing,) = (found for found in RESULTS if found.status is Status.CRASH)
    assert failing.failure is not None
    finding = Finding("torch", failing.failure, "crash", "").also_in(failing.step, failing.failure)
    record = replace(RECORD, results=[failing], findings=[finding], stale=[], accepted=[finding.id])
    (case,) = parsed(replace(record, exit_code=0))[1]
    assert outcome(case) == "skipped"
    assert "SIGSEGV" in str(case.find("skipped").get("message"))  # type: ignore[union-attr]  # it is there
    assert [outcome(case) for case in parsed(replace(record, accepted=[]))[1]] == ["failure"]


def test_junit_is_as_grave_as_the_exit_code():
    """With a refused stale entry, a missing required device or an error of our own, the report is not green."""
    green = replace(RECORD, results=[result(Status.PASS)], exit_code=0, stale=[])
    assert [outcome(case) for case in parsed(green)[1]] == ["passed"]
    absent = replace(green, results=[RESULTS[-1]], exit_code=3, required_devices=["cpu"])
    assert [outcome(case) for case in parsed(absent)[1]] == ["error"]
    stale = replace(green, exit_code=3, stale=RECORD.stale, options={"fail_stale": True})
    assert [outcome(case) for case in parsed(stale)[1]] == ["passed", "error"]
    unreached = [result(Status.NOT_RUN, "interrupted", cases=0)]
    interrupted = replace(green, exit_code=130, ended="interrupted", unreached=unreached, required_devices=["cpu"])
    assert [outcome(case) for case in parsed(interrupted)[1]] == ["passed", "skipped", "error"]
    for results in ([], [RESULTS[-1]]):
        cases = parsed(replace(green, results=results, exit_code=3))[1]
        assert [outcome(case) for case in cases] == [*["skipped"] * len(results), "error"]
        error = cases[-1].find("error")
        assert error is not None
        assert (error.get("type"), error.get("message")) == ("nothing proven", "nothing could be run")
    broken = replace(green, exit_code=4, ended="error", error="LawError: x")
    assert [outcome(case) for case in parsed(broken)[1]] == ["passed", "error"]


def test_what_was_judged_and_refused():
    """Arithmetic, counts and reasons are properties; without refusals there are none for them."""
    properties = {p.get("name"): p.get("value") for p in parsed(RECORD)[1][0].iter("property")}
    assert properties["assumed: sums in float32"] == "3 cases"
    cases = parsed(replace(RECORD, results=[GAPS, result(Status.PASS)]))[1]
    found = [{p.get("name"): p.get("value") for p in case.iter("property")} for case in cases]
    counts = {"cases": "40", "mistrusted": "5", "unsupported": "20"}
    assert found[0] == counts | {"refused": GAPS.refused, "max_ratio": "0.5"}
    assert found[1] == {"cases": "3", "max_ratio": "0.5"}


@given(message=st.text(st.characters(exclude_categories=[])), subject=st.text(min_size=1))
def test_any_text_can_be_read(message: str, subject: str):
    """The document parses for any text of a subject; plain text is read back unchanged."""
    failure = Verdict(Status.FAIL, CASE, message)
    said = replace(RESULTS[2], step=replace(RESULTS[2].step, subject=subject), failure=failure, message=message)
    record = replace(RECORD, results=[said])
    to_junit(record).encode()
    found = parsed(record)[1][0].find("failure")
    assert found is not None
    assert all(c in "\t\n" or c >= " " for c in found.get("message", ""))
    if message.isascii() and message.isprintable():
        assert found.get("message") == message


def test_junit_escapes_control_characters():
    """Control characters are escaped visibly."""
    record = replace(RECORD, results=[result(Status.FAIL, '\x1b[31mred\x00\r\ud800\uffff\x85 ⊗ <&"\n')])
    failure = parsed(record)[1][0].find("failure")
    assert failure is not None
    assert failure.get("message") == '\\x1b[31mred\\x00\\r\\ud800\\uffff\x85 ⊗ <&"\n'


def test_the_report_is_written_when_the_run_has_ended(tmp_path: Path):
    """Only the end of a run writes the file, and replaces what was there."""
    path = tmp_path / "run.xml"
    path.write_text("before", encoding="utf-8")
    report = ReportFile(str(path), lambda ended: to_junit(ended.record))
    report(Failed("LawError: x"))
    assert path.read_text(encoding="utf-8") == "before"
    report(Ended(RECORD))
    assert path.read_text(encoding="utf-8") == to_junit(RECORD)
