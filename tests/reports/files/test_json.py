"""The JSON report of a run, and its schema."""

from __future__ import annotations

import importlib.resources
import io
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reports.records import CASE, GAPS, LINE, RECORD, RESULTS, TRACEBACK, result
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.reports.files.json import SCHEMA_VERSION, JsonReport, document, to_json
from toeplitz_core.testing.run.events import Ended, Failed
from toeplitz_core.testing.run.record import Record, read_result, result_document

SCHEMA = json.loads((importlib.resources.files("toeplitz_core.testing.reports") / "schema.json").read_text("utf-8"))


def validated(record: Record) -> dict[str, object]:
    """The JSON of a run, read again and validated against the schema."""
    read = json.loads(to_json(record))
    jsonschema.validate(read, SCHEMA, cls=jsonschema.Draft202012Validator)
    return read


def test_schema_is_one():
    """The schema is valid, and is that of the version that is written."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert document(RECORD)["schema_version"] == SCHEMA_VERSION
    statuses = SCHEMA["$defs"]["result"]["properties"]["status"]["enum"]
    assert statuses == SCHEMA["$defs"]["counts"]["required"] == [status.value for status in Status]


@pytest.mark.parametrize("ended", ["completed", "stopped at the first failure", "interrupted", "error"])
def test_json_of_every_status(ended: str):
    """The JSON of runs with every status and ending is valid, and is read back unchanged."""
    record = replace(RECORD, ended=ended, error="LawError: x" if ended == "error" else "")
    read = validated(record)
    assert read == document(record)
    assert [r["status"] for r in read["results"]] == [r.status.value for r in RESULTS]
    assert read["summary"]["ended"] == ended
    assert read["summary"]["results"]["fail"] == 2
    assert read["summary"]["cases"] == sum(r.cases for r in RESULTS)
    assert read["summary"]["counts"]["fail"] == 6


def test_json_of_a_failure():
    """A failure has its case with the law, its message, a field for the cause, and the command that replays it."""
    failed = validated(RECORD)["results"][2]
    assert failed["case"] == f"{LINE} law=forward-bound"
    assert failed["replay"] == f'python -m toeplitz_core replay "{failed["case"]}" --subject torch'
    assert failed["message"] == "out[0]=0, but should be 1"
    assert failed["cause"] is None
    assert (failed["ratio"], failed["max_ratio"], failed["index"]) == (3.5, 0.5, [0, 1])
    assert (failed["subject"], failed["law"], failed["dtype"], failed["device"]) == (
        "torch", "forward-bound", "float32", "cpu",
    )  # fmt: skip
    assert "case" not in validated(RECORD)["results"][0]


def test_json_says_which_elements_are_wrong_and_where_it_was_raised():
    """The difference has ranges, words, samples and a map; the traceback is that of the verdict; both may be null."""
    wrong, crashed = validated(RECORD)["results"][3:5]
    assert wrong["difference"]["where"] == "output channel 1 of 2, columns 3.. of 6"
    assert wrong["difference"]["ranges"][1] == {
        "axis": "column", "size": 6, "first": 3, "last": 5, "step": 1, "count": 3,
    }  # fmt: skip
    assert wrong["difference"]["samples"][1] == {"element": "out[0, 1, 0, 4]", "actual": "2", "expected": "3"}
    assert wrong["difference"]["map"] == ["...Xxx"]
    assert (wrong["traceback"], crashed["traceback"], crashed["difference"]) == (None, TRACEBACK, None)


def test_json_has_no_infinity():
    """An infinite error is the string ``inf``, because JSON has no such number."""
    text = to_json(RECORD)
    assert "Infinity" not in text
    assert json.loads(text)["results"][3]["ratio"] == "inf"


def test_arithmetic_and_rounds():
    """The JSON has the number of cases per arithmetic, and the rounds of a run with a time."""
    read = validated(replace(RECORD, rounds=4))
    assert read["results"][0]["assumed"] == {"sums in float32": 3}
    assert read["results"][1]["assumed"] == {}
    assert (read["summary"]["rounds"], validated(RECORD)["summary"]["rounds"]) == (4, None)


def test_what_was_refused():
    """Counts and reason of refusals are those of the result; without a refusal the reason is null."""
    first, second = validated(replace(RECORD, results=[GAPS, result(Status.PASS)]))["results"]
    assert (first["counts"]["unsupported"], first["counts"]["mistrusted"]) == (20, 5)
    assert (first["refused"], second["refused"]) == ("NotImplementedError: no bias gradient", None)


def test_json_of_known_failures():
    """Entries have their number of matches and the subjects for which they are stale; without a list there is null."""
    (entry,) = validated(RECORD)["known"]
    assert entry["cases"] == 3
    assert entry["stale"] == [{"subject": "torch", "why": "its example holds"}]
    assert (entry["reason"], entry["link"], entry["applies"]) == ("It is so.", "https://x.org", True)
    assert validated(replace(RECORD, known=KnownFailures(), stale=[]))["known"] is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.pop("summary"),
        lambda d: d["results"][2].pop("case"),
        lambda d: d["results"][2].pop("replay"),
        lambda d: d["results"][0].pop("cases"),
        lambda d: d["results"][0].update(status="passed"),
        lambda d: d["results"][0].update(max_ratio="0.5"),
        lambda d: d["results"][0].update(cases=-1),
        lambda d: d["summary"].update(exit_code=7),
        lambda d: d.update(schema_version="2.0"),
        lambda d: d["known"][0].pop("reason"),
        lambda d: d["results"][0].update(assumed={"sums in float32": "3"}),
        lambda d: d["summary"].update(rounds=-1),
    ],
)
def test_schema_refuses(spoil: object):
    """The schema rejects documents with faults."""
    read = json.loads(to_json(RECORD))
    spoil(read)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(read, SCHEMA)


@given(message=st.text(st.characters(exclude_categories=[])), subject=st.text(min_size=1))
def test_any_text_survives(message: str, subject: str):
    """Any text of a subject is read back unchanged."""
    failure = Verdict(Status.FAIL, CASE, message)
    said = replace(RESULTS[2], step=replace(RESULTS[2].step, subject=subject), failure=failure, message=message)
    read = json.loads(to_json(replace(RECORD, results=[said])))
    # JSON joins two surrogates to one character.
    whole = message.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert (read["results"][0]["message"], read["results"][0]["subject"]) == (whole, subject)


@pytest.mark.parametrize("ratio", [None, 0.25, float("inf")])
def test_a_result_survives_its_document(ratio: float | None):
    """A result survives its JSON document, also with an infinite error."""
    counts = Counter({Status.PASS: 3, Status.MISTRUSTED: 1})
    more = {"known": Counter({"a": 1}), "assumed": Counter({"b": 4}), "refused": "c", "zeros": 2, "zero_signs": 1}
    passed = result(Status.PASS, "said", counts=counts, max_ratio=ratio, **more)
    failed = result(Status.FAIL, "wrong", ratio=ratio, max_ratio=ratio)
    for found in (passed, failed, *RESULTS[3:5]):
        assert read_result(json.loads(json.dumps(result_document(found)))) == found


def test_the_report_is_written_when_the_run_has_ended(tmp_path: Path):
    """Only the end of a run writes the file, and replaces what was there."""
    path = tmp_path / "run.json"
    path.write_text("before", encoding="utf-8")
    report = JsonReport(str(path))
    report(Failed("LawError: x"))
    assert path.read_text(encoding="utf-8") == "before"
    report(Ended(RECORD))
    assert path.read_text(encoding="utf-8") == to_json(RECORD)


def test_a_dash_is_the_standard_output_of_before_the_run(monkeypatch: pytest.MonkeyPatch):
    """With ``-`` the document goes to the standard output at the time when the report was created."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    report = JsonReport("-")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    report(Ended(RECORD))
    assert out.getvalue() == to_json(RECORD)
