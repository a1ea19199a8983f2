"""What machines read of a run: JSON that its schema describes, JUnit XML that parses whatever a subject said."""

from __future__ import annotations

import importlib.resources
import io
import json
from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.findings.conditions import Condition
from toeplitz_core.testing.findings.entry import Entry
from toeplitz_core.testing.findings.known import KnownFailures
from toeplitz_core.testing.findings.staleness import Stale
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.reports.json import SCHEMA_VERSION, document, to_json
from toeplitz_core.testing.reports.junit import to_junit
from toeplitz_core.testing.reports.table import MOST_LINES, print_results
from toeplitz_core.testing.reports.text import result_line
from toeplitz_core.testing.run.record import Record

SCHEMA = json.loads((importlib.resources.files("toeplitz_core.testing.reports") / "schema.json").read_text("utf-8"))
LINE = "input=1x2x1x1 weight=2x1x1x1 groups=2"
CASE = Case.parse(f"{LINE} law=forward-bound")
LISTED = Entry(
    "listed", ("torch",), ("forward-bound",), Condition("groups > 1"), CASE, "It is so.", link="https://x.org"
)


def result(status: Status, message: str = "", *, cases: int = 3, ratio: float | None = None, **other: object) -> Result:
    """A result of this status; a failing one with its case."""
    failure = Verdict(status, CASE, message, ratio=ratio, index=(0, 1)) if status.is_failure else None
    counts = Counter({status: cases}) if cases else Counter()
    values = {"counts": counts, "max_ratio": 0.5, "failure": failure, "message": message} | other
    return Result("torch", "forward-bound", "float32", "cpu", status, **values)


# One of each kind.
RESULTS = [
    result(Status.PASS, assumed=Counter({"sums in float32": 3})),
    result(Status.PASS, max_ratio=None),
    result(Status.FAIL, "out[0]=0, but should be 1", ratio=3.5),
    result(Status.FAIL, "out[0]=nan, but should be 1", ratio=float("inf")),
    result(Status.CRASH, "killed by signal 11 (SIGSEGV)"),
    result(Status.TIMEOUT, "took longer than 10 s"),
    result(Status.MISTRUSTED, "nothing proven: only 0 of 3 cases could be judged"),
    result(
        Status.UNSUPPORTED,
        "nothing proven: only 1 of 3 cases could be judged",
        counts=Counter({Status.UNSUPPORTED: 2, Status.PASS: 1}),
    ),
    result(Status.UNSUPPORTED, "forward-bound is not for int64", cases=0),
    result(Status.KNOWN, known=Counter({"listed": 3})),
    result(Status.NOT_RUN, "torch sees no CUDA device", cases=0),
]
RECORD = Record(
    RESULTS,
    exit_code=1,
    options={"profile": "gate", "seed": None, "devices": ["cpu"]},
    known=KnownFailures((LISTED,)),
    stale=[Stale(LISTED, "torch", "its example holds")],
)


def validated(record: Record) -> dict[str, object]:
    """The JSON of a run, read again and held against the schema."""
    read = json.loads(to_json(record))
    jsonschema.validate(read, SCHEMA, cls=jsonschema.Draft202012Validator)
    return read


def test_schema_is_one():
    """The schema is itself valid, and is for the version that is written."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert document(RECORD)["schema_version"] == SCHEMA_VERSION
    statuses = SCHEMA["$defs"]["result"]["properties"]["status"]["enum"]
    assert statuses == SCHEMA["$defs"]["counts"]["required"] == [status.value for status in Status]


@pytest.mark.parametrize("ended", ["completed", "stopped at the first failure", "interrupted", "error"])
def test_json_of_every_status(ended: str):
    """A run of each status and end is as the schema says, and is read again as what was written."""
    record = replace(RECORD, ended=ended, error="LawError: x" if ended == "error" else "")
    read = validated(record)
    assert read == document(record)
    assert [r["status"] for r in read["results"]] == [r.status.value for r in RESULTS]
    assert read["summary"]["ended"] == ended
    assert read["summary"]["results"]["fail"] == 2
    assert read["summary"]["cases"] == sum(r.cases for r in RESULTS)
    assert read["summary"]["counts"]["fail"] == 6


def test_json_of_a_failure():
    """A failure has its case with its law, its message, a place for its cause, and the command that replays it."""
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


def test_json_has_no_infinity():
    """An infinite error is a word: JSON has no number for it, and strict readers refuse what Python would write."""
    text = to_json(RECORD)
    assert "Infinity" not in text
    assert json.loads(text)["results"][3]["ratio"] == "inf"


def test_arithmetic_is_in_both_reports():
    """How many cases were judged by which arithmetic is in JSON and JUnit XML, and the rounds of a run with a time."""
    read = validated(replace(RECORD, rounds=4))
    assert read["results"][0]["assumed"] == {"sums in float32": 3}
    assert read["results"][1]["assumed"] == {}
    assert (read["summary"]["rounds"], validated(RECORD)["summary"]["rounds"]) == (4, None)
    properties = {p.get("name"): p.get("value") for p in parsed(RECORD)[1][0].iter("property")}
    assert properties["assumed: sums in float32"] == "3 cases"


# A pass of which much was refused.
GAPS = result(
    Status.PASS,
    counts=Counter({Status.PASS: 15, Status.UNSUPPORTED: 20, Status.MISTRUSTED: 5}),
    refused="NotImplementedError: no bias gradient",
)


def printed(*results: Result, width: int = 160) -> list[str]:
    """What is printed of a run, line by line."""
    file = io.StringIO()
    print_results(Console(file=file, width=width), results)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_what_was_refused_is_in_the_table_and_its_reason_below():
    """A law that passes says which share of its cases the subject refused, and why one of them was."""
    said = printed(GAPS, replace(GAPS, dtype="float64"), result(Status.PASS))
    heading = next(line.split() for line in said if line.startswith(" law"))
    assert heading == ["law", "f64", "f32", "cases", "mistrusted", "unsupported"]
    assert [line.split()[-3:] for line in said if line.startswith(" forward")] == [["43", "12%", "47%"]]
    reason = "20 of 40 cases: NotImplementedError: no bias gradient"
    assert f"unsupported in part: torch on cpu: forward-bound, float32: {reason}" in printed(GAPS)
    assert "unsupported" not in "".join(printed(result(Status.PASS, cases=1000)))


def test_a_share_is_not_rounded_to_none():
    """One case of a thousand is less than one per cent of them, and no case is a dash."""
    counts = Counter({Status.PASS: 999, Status.UNSUPPORTED: 1})
    assert [line.split()[-2:] for line in printed(result(Status.PASS, counts=counts)) if line.startswith(" f")] == [
        ["-", "<1%"]
    ]


def test_a_table_of_every_dtype_is_whole_on_80_columns():
    """Nothing of a law's name, an error or a share is cut off."""
    every = [replace(GAPS, law="functional-gradients", dtype=dtype) for dtype in CASE_DTYPES]
    (row,) = (line for line in printed(*every, width=80) if line.startswith(" functional"))
    assert row.split() == ["functional-gradients", *["0.500"] * 7, "280", "12%", "50%"]
    assert len(row) <= 80


def test_reasons_of_refusals_are_limited():
    """A subject that words each refusal anew does not fill the screen."""
    said = printed(*(replace(GAPS, law=f"law-{number}", refused=f"reason {number}") for number in range(20)))
    assert sum(line.startswith("unsupported in part: torch on cpu: law-") for line in said) == MOST_LINES
    assert f"unsupported in part: {20 - MOST_LINES} more lines: see --json" in said


def test_line_of_a_result():
    """A log says how many cases proved nothing where some did not, and the largest error where there is one."""
    who = "torch forward-bound float32 cpu"
    assert result_line(GAPS) == f"{who}: pass, 40 cases, 5 mistrusted, 20 unsupported, largest error 0.500 of the bound"
    assert result_line(result(Status.PASS, max_ratio=None)) == f"{who}: pass, 3 cases"
    assert result_line(result(Status.UNSUPPORTED, max_ratio=None)) == f"{who}: unsupported, 3 cases"
    assert "\x1b" not in result_line(replace(GAPS, subject="\x1b[31m"))


def test_what_was_refused_is_in_both_reports():
    """Counts and reason are in JSON and JUnit XML, and JUnit XML has no property where nothing was refused."""
    record = replace(RECORD, results=[GAPS, result(Status.PASS)])
    first, second = validated(record)["results"]
    assert (first["counts"]["unsupported"], first["counts"]["mistrusted"]) == (20, 5)
    assert (first["refused"], second["refused"]) == ("NotImplementedError: no bias gradient", None)
    found = [{p.get("name"): p.get("value") for p in case.iter("property")} for case in parsed(record)[1]]
    assert found[0] == {
        "cases": "40",
        "mistrusted": "5",
        "unsupported": "20",
        "refused": GAPS.refused,
        "max_ratio": "0.5",
    }
    assert found[1] == {"cases": "3", "max_ratio": "0.5"}


def test_json_of_known_failures():
    """Entries are listed with how often they matched and where they are stale; without a list there is null."""
    (entry,) = validated(RECORD)["known"]
    assert entry["cases"] == 3
    assert entry["stale"] == [{"subject": "torch", "why": "its example holds"}]
    assert (entry["reason"], entry["link"], entry["applies"]) == ("It is so.", "https://x.org", True)
    assert validated(replace(RECORD, known=None, stale=[]))["known"] is None


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
    """The schema is not satisfied by just anything."""
    read = json.loads(to_json(RECORD))
    spoil(read)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(read, SCHEMA)


def parsed(record: Record) -> tuple[ET.Element, list[ET.Element]]:
    """The suite of a run's JUnit XML, and its cases."""
    root = ET.fromstring(to_junit(record))
    (suite,) = root
    cases = suite.findall("testcase")
    assert suite.get("tests") == str(len(cases))
    return suite, cases


def outcome(case: ET.Element) -> str:
    """What a reader of the XML takes a case for: the only child that is no property."""
    kinds = [child.tag for child in case if child.tag != "properties"]
    assert len(kinds) <= 1
    return kinds[0] if kinds else "passed"


def test_junit_of_every_status():
    """A failing law is a failure, nothing proven an error, what did not run is skipped, what is known passes."""
    suite, cases = parsed(RECORD)
    wanted = ["passed", "passed", *["failure"] * 4, "error", "error", "skipped", "passed", "skipped"]
    assert [outcome(case) for case in cases] == [*wanted, "skipped"]
    assert [suite.get(name) for name in ("failures", "errors", "skipped")] == ["4", "2", "3"]
    assert {(case.get("classname"), case.get("name")) for case in cases[:-1]} == {
        ("torch", "forward-bound[float32-cpu]")
    }
    crash = cases[4].find("failure")
    assert crash is not None
    assert (crash.get("type"), crash.get("message")) == ("crash", "killed by signal 11 (SIGSEGV)")
    assert crash.text is not None
    assert f'replay "{LINE} law=forward-bound" --subject torch' in crash.text
    properties = {p.get("name"): p.get("value") for p in cases[9].iter("property")}
    assert properties["known: listed"] == "3 cases"
    assert (cases[-1].get("classname"), cases[-1].get("name")) == ("known failures", "listed")
    absent = cases[10].find("skipped")
    assert absent is not None
    assert absent.get("message") == "torch sees no CUDA device"


def test_junit_is_as_grave_as_the_exit_code():
    """A stale entry or an absent device that was asked for, and an error of our own, are no green report."""
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


@given(message=st.text(st.characters(exclude_categories=[])), subject=st.text(min_size=1))
def test_reports_survive_any_text(message: str, subject: str):
    """Whatever a subject says, both reports can be read, and what XML has no character for is shown as an escape."""
    said = replace(RESULTS[2], subject=subject, failure=Verdict(Status.FAIL, CASE, message), message=message)
    record = replace(RECORD, results=[said])
    read = validated(record)
    # Two halves of a character are that character in JSON.
    whole = message.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    assert (read["results"][0]["message"], read["results"][0]["subject"]) == (whole, subject)
    to_junit(record).encode()
    failure = parsed(record)[1][0].find("failure")
    assert failure is not None
    assert all(c in "\t\n" or c >= " " for c in failure.get("message", ""))
    if message.isascii() and message.isprintable():
        assert failure.get("message") == message


def test_junit_escapes_control_characters():
    """An escape sequence of a terminal arrives as text that shows it."""
    record = replace(RECORD, results=[result(Status.FAIL, '\x1b[31mred\x00\r\ud800\uffff\x85 ⊗ <&"\n')])
    failure = parsed(record)[1][0].find("failure")
    assert failure is not None
    assert failure.get("message") == '\\x1b[31mred\\x00\\r\\ud800\\uffff\x85 ⊗ <&"\n'
