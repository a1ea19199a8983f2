"""The files that the command line writes: reports, and lists of known failures."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import torch
from typer.testing import Result

from tests.helpers.command_line import ONE, call, unfolded, validated
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status, Verdict

CHECK = "check {} --dtype float32 --device cpu --inline --law forward-exact "
KERNELS = """
import torch
from toeplitz_core import conv2d

print("imported")

def right(*args):
    return conv2d(*args)

def refuses(*args):
    raise NotImplementedError("some day")

def two_faults(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    print("called")
    if groups > 1:
        raise RuntimeError("\\x1b[31mno groups\\x1b[0m")
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    return y if b is None else y + 1
"""
GROUPS = """
[[failure]]
name = "groups"
subject = ["kernels:two_faults", "kernels:right", "kernels:refuses"]
law = "forward-exact"
condition = "groups > 1"
example = "input=1x2x1x1 weight=2x1x1x1 groups=2"
reason = "There are no groups."
"""
BIAS = """
[[failure]]
name = "bias"
subject = "kernels:two_faults"
law = "forward-exact"
condition = "bias and groups == 1"
example = "input=1x1x1x1 weight=1x1x1x1 bias"
reason = "It adds one."
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with implementations and lists of known failures."""
    for name, text in (("kernels.py", KERNELS), ("groups.toml", GROUPS), ("both.toml", GROUPS + BIAS)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # of journals
    return tmp_path


def check(subject: str, options: str = "") -> Result:
    """Check one law of a subject in float32."""
    return call(CHECK.format(f"kernels:{subject}") + options)


def test_json_and_junit(directory: Path):
    """Both reports agree with the terminal, and their replay command reproduces the failure."""
    result = check("two_faults", "--json run.json --junit run.xml --seed 3")
    assert result.exit_code == 1, result.output
    read = validated((directory / "run.json").read_text(encoding="utf-8"))
    (found,) = read["results"]
    assert (found["status"], found["subject"], found["law"]) == ("fail", "kernels:two_faults", "forward-exact")
    finding = next(each for each in read["findings"] if each["id"] == found["finding"])
    assert f"  case:   {finding['case']}\n" in result.output
    assert f"  replay: {finding['replay']}\n" in result.output
    assert read["summary"]["exit_code"] == 1
    assert (read["options"]["seed"], read["options"]["examples"]) == (3, 100)
    assert read["known"] is None
    again = call(found["replay"].removeprefix("python -m toeplitz_core ") + " --inline")
    assert again.exit_code == 1
    (case,) = ET.parse(directory / "run.xml").getroot().iter("testcase")
    failure = case.find("failure")
    assert failure is not None
    assert finding["replay"] in str(failure.text)


@pytest.mark.parametrize("subject", ["right", "two_faults"])
def test_json_on_standard_output(subject: str):
    """With ``--json -`` the standard output has only the document, whatever a subject prints."""
    result = check(subject, "--json - --examples 20")
    assert validated(result.stdout)["summary"]["exit_code"] == result.exit_code
    assert "Checked against T x + b" in result.stderr
    assert "imported" in result.stderr


def test_nothing_proven_is_in_both_reports(directory: Path):
    """If a subject refuses everything, JSON has unsupported; JUnit has skipped steps and an error for the run."""
    assert check("refuses", "--examples 5 --json run.json --junit run.xml").exit_code == 3
    read = validated((directory / "run.json").read_text(encoding="utf-8"))
    assert read["results"][0]["status"] == "unsupported"
    assert read["results"][0]["counts"]["unsupported"] == 5
    assert read["results"][0]["message"] == "NotImplementedError: some day"
    cases = list(ET.parse(directory / "run.xml").getroot().iter("testcase"))
    said = [[(child.tag, child.get("type"), child.get("message")) for child in case][-1] for case in cases]
    assert said == [
        ("skipped", "unsupported", "NotImplementedError: some day"),
        ("error", "nothing proven", "no law could be checked on kernels:refuses"),
    ]


def test_a_sweep_is_in_both_reports(directory: Path):
    """Both reports have the sweep instead of a profile; a law without a sweep is not run, which is not an error."""
    written = "--json run.json --junit run.xml"
    result = check("two_faults", f"--law errors --sweep 2 --fail-fast --known groups.toml {written}")
    assert result.exit_code == 1, result.output
    assert "  case:   input=1x1x1x1 weight=1x1x1x1 bias data=one-hot " in result.output
    read = validated((directory / "run.json").read_text(encoding="utf-8"))
    assert [read["options"][name] for name in ("sweep", "profile", "examples", "seed")] == [2, None, None, 0]
    assert [(r["law"], r["status"]) for r in read["results"]] == [("forward-exact", "fail"), ("errors", "not-run")]
    reason = read["results"][1]["message"]
    assert reason.startswith("it is checked on calls")
    assert f"not run: errors: {reason}\n" in unfolded(result.output)
    assert read["summary"]["ended"] == "completed"
    result = check("two_faults", f"--law errors --sweep 2 --known both.toml {written}")
    assert result.exit_code == 0, result.output
    assert "0 of 1 hold; 1 more fail only in known ways" in result.output
    cases = list(ET.parse(directory / "run.xml").getroot().iter("testcase"))
    skipped = [case.get("name") for case in cases if case.find("skipped") is not None]
    assert skipped == ["forward-exact[float32-cpu]", "errors[float32-cpu]"]
    assert [case for case in cases if case.find("error") is not None or case.find("failure") is not None] == []


def test_absent_device_is_in_both_reports(directory: Path):
    """Steps on a missing device are not run, with the reason."""
    laws = "--law forward-exact --law forward-bound"
    line = f"check kernels:right --inline --device cuda:77 --dtype float32 {laws} --json run.json --junit run.xml"
    assert call(line).exit_code == 3
    read = validated((directory / "run.json").read_text(encoding="utf-8"))
    assert [r["status"] for r in read["results"]] == ["not-run"] * 2
    assert all(r["message"].startswith("torch sees") for r in read["results"])
    assert len(list(ET.parse(directory / "run.xml").getroot().iter("error"))) == 2


def test_interrupted_run_is_written(directory: Path, monkeypatch: pytest.MonkeyPatch):
    """After Ctrl-C both reports have the earlier results, and name the steps that were not run."""
    cases = []

    def interrupted(_: object, case: Case) -> Verdict:
        cases.append(case)
        if len(cases) == 3:  # the second looks for calls of torch's convolution
            raise KeyboardInterrupt
        return Verdict(Status.FAIL, case, "wrong")

    law = LAWS["forward-bound"]
    monkeypatch.setitem(LAWS, law.name, replace(law, check=interrupted))
    steps = "--dtype float32 --dtype float64 --law forward-exact --law forward-bound"
    result = call(f"check kernels:right --inline --examples 2 --device cpu {steps} --json run.json --junit run.xml")
    assert result.exit_code == 130
    read = validated((directory / "run.json").read_text(encoding="utf-8"))
    assert read["summary"]["ended"] == "interrupted"
    assert read["summary"]["exit_code"] == 130
    assert [(r["status"], r["message"]) for r in read["results"]] == [
        ("pass", None), ("pass", None), ("fail", "wrong (not shrunk to the end)"), ("not-run", "interrupted"),
    ]  # fmt: skip
    kinds = [[child.tag for child in case] for case in ET.parse(directory / "run.xml").getroot().iter("testcase")]
    passed = ["properties"]
    assert kinds == [passed, passed, [*passed, "failure"], [*passed, "skipped"]]


def test_error_of_our_own_is_written(directory: Path, monkeypatch: pytest.MonkeyPatch):
    """An error of our own is in both reports, with the earlier results."""

    def broken(_: object, case: Case) -> Verdict:
        if case.dtype == "float64":
            raise ZeroDivisionError("a bug in a law")
        return Verdict(Status.PASS, case)

    law = LAWS["forward-exact"]
    monkeypatch.setitem(LAWS, law.name, replace(law, check=broken))
    options = "--dtype float32 --dtype float64 --device cpu --examples 2 --json run.json --junit run.xml"
    result = call(f"check kernels:right --inline --law forward-exact {options}")
    assert result.exit_code == 4
    read = validated((directory / "run.json").read_text(encoding="utf-8"))
    assert read["summary"]["ended"] == "error"
    assert read["summary"]["error"].startswith("LawError: law forward-exact could not judge")
    assert [r["status"] for r in read["results"]] == ["pass", "not-run"]
    assert [e.get("type") for e in ET.parse(directory / "run.xml").getroot().iter("error")] == [
        "error of toeplitz-core"
    ]


def test_fail_fast_is_written(directory: Path):
    """The steps that ``--fail-fast`` left out are reported as not run."""
    line = "check kernels:two_faults kernels:right --inline --dtype float32 --device cpu --law forward-exact"
    assert call(f"{line} --fail-fast --json run.json --examples 30").exit_code == 1
    read = validated((directory / "run.json").read_text(encoding="utf-8"))
    assert [r["status"] for r in read["results"]] == ["fail", "not-run"]
    assert read["summary"]["ended"] == "stopped at the first failure"


def test_a_replay_is_written(directory: Path):
    """``replay --json`` writes a result for each case and law, with the case also if it passes; ``-`` prints it."""
    (directory / "two.cases").write_text(f"{ONE} law=forward-exact\n{ONE} bias law=forward-exact\n", encoding="utf-8")
    result = call("replay --file two.cases --subject kernels:two_faults --inline --runs 3 --json run.json")
    assert result.exit_code == 1
    read = validated((directory / "run.json").read_text(encoding="utf-8"))
    assert read["summary"]["exit_code"] == 1
    right, wrong = read["results"]
    assert (right["status"], right["cases"], right["case"]) == ("pass", 3, f"{ONE} law=forward-exact")
    assert (wrong["status"], wrong["dtype"], wrong["counts"]["fail"]) == ("fail", "float32", 3)
    assert wrong["difference"]["samples"][0]["element"] == "out[0, 0, 0, 0]"
    result = call(f"replay '{ONE} bias law=forward-exact' --subject kernels:two_faults --inline --runs 1 --json -")
    assert validated(result.stdout)["results"][0]["case"] == f"{ONE} bias law=forward-exact"
    assert "FAIL kernels:two_faults" in result.stderr
    assert call(f"replay '{ONE}' --json none/run.json").exit_code == 2


@pytest.mark.parametrize("option", ["--json", "--junit", "--html"])
def test_file_that_cannot_be_written(option: str):
    """If an output file cannot be written, that is a usage error before anything runs."""
    for path in ("none/run", "."):
        result = check("right", f"{option} {path}")
        assert result.exit_code == 2
        assert "forward-exact float32" not in result.output


# Known failures


def test_known_failures_do_not_fail_a_run(directory: Path):
    """If both of its faults are listed, a subject passes the gate; each is reported with its count and reason."""
    result = check("two_faults")
    assert result.exit_code == 1
    assert "known: " not in result.output
    result = check("two_faults", "--known groups.toml --seed 1")
    assert result.exit_code == 1
    assert "known: groups: " in result.output
    assert "bias data=one-hot law=forward-exact" in result.output
    result = check("two_faults", "--known both.toml --json run.json --junit run.xml --fail-stale")
    assert result.exit_code == 0, result.output
    read = validated((directory / "run.json").read_text(encoding="utf-8"))
    (found,) = read["results"]
    assert found["status"] == "known"
    assert found["counts"]["known"] == sum(found["known"].values())
    for name, reason in (("groups", "There are no groups."), ("bias", "It adds one.")):
        assert f"known: {name}: {found['known'][name]} cases: {reason}" in result.output
    assert [entry["cases"] for entry in read["known"]] == [found["known"]["groups"], found["known"]["bias"]]
    assert "stale: " not in result.output
    summary = "100 cases; 0 of 1 hold; 1 more fail only in known ways (each law with each dtype)."
    assert summary in unfolded(result.output)
    suite = ET.parse(directory / "run.xml").getroot()[0]
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["1", "0", "0", "1"]


def test_stale_entry_is_said_and_fails_where_asked(directory: Path):
    """An entry whose example passes is reported as stale; with ``--fail-stale`` it ends the run with 3."""
    result = check("right", "--examples 20 --known groups.toml --json run.json")
    assert result.exit_code == 0
    assert "stale: groups for kernels:right: its example holds" in result.output
    read = validated((directory / "run.json").read_text(encoding="utf-8"))
    assert read["known"][0]["stale"] == [{"subject": "kernels:right", "why": "its example holds"}]
    result = check("right", "--examples 20 --known groups.toml --fail-stale --junit run.xml")
    assert result.exit_code == 3
    assert [e.get("type") for e in ET.parse(directory / "run.xml").getroot().iter("error")] == ["stale"]
    result = check("refuses", "--examples 3 --known groups.toml")
    assert "stale: groups for kernels:refuses: it matches nothing; its example ends as unsupported" in unfolded(
        result.output
    )


def test_failure_outweighs_a_stale_entry():
    """If a law fails, the exit code is 1 even with a stale entry."""
    line = "check kernels:right kernels:two_faults --inline --dtype float32 --device cpu --law forward-exact"
    result = call(f"{line} --known groups.toml --fail-stale --examples 30")
    assert result.exit_code == 1
    assert "stale: groups for kernels:right" in result.output


def test_entry_in_a_layout_that_is_not_run_is_left_alone(directory: Path):
    """Inline, an entry whose example has an unsafe layout is neither replayed nor reported as stale."""
    text = GROUPS.replace("groups=2", "groups=2 layout=channels_last")
    (directory / "groups.toml").write_text(text, encoding="utf-8")
    result = check("right", "--examples 3 --known groups.toml --fail-stale")
    assert result.exit_code == 0
    assert "stale: " not in result.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--known none.toml", "No such file"),
        ("--known wrong.toml", "wrong.toml: failure 1: law='forward': did you mean "),
        ("--fail-stale", "fail-stale needs known=FILE"),
    ],
)
def test_wrong_list(directory: Path, options: str, said: str):
    """A missing or wrong list is a usage error that says what is wrong."""
    (directory / "wrong.toml").write_text(GROUPS.replace("forward-exact", "forward"), encoding="utf-8")
    result = check("right", options)
    assert result.exit_code == 2
    assert said in unfolded(result.stderr)


def test_a_known_failure_of_another_version_is_named(directory: Path):
    """An entry for other versions does not match, but the failure names it."""
    other = GROUPS.replace('condition = "groups > 1"', 'condition = "groups > 1"\nversions = { torch = "<1" }')
    (directory / "other.toml").write_text(other + BIAS, encoding="utf-8")
    result = check("two_faults", "--known other.toml --json run.json")
    assert result.exit_code == 1
    said = f"(known failure groups would match, but it is for torch <1, and {torch.__version__} is installed)"
    assert f"wrong: raised RuntimeError: \\x1b[31mno groups\\x1b[0m {said} case:" in " ".join(result.output.split())
    (found,) = validated((directory / "run.json").read_text(encoding="utf-8"))["results"]
    assert found["message"].endswith(said)


def test_known_crash_in_a_worker(directory: Path):
    """A listed crash of a worker is counted, and the search continues."""
    kernel = "import os\nfrom toeplitz_core import conv2d\n"
    kernel += "def dies(x, w, b, s, p, d, g):\n    return os.abort() if g > 1 else conv2d(x, w, b, s, p, d, g)\n"
    (directory / "deadly.py").write_text(kernel, encoding="utf-8")
    listed = GROUPS.replace('["kernels:two_faults", "kernels:right", "kernels:refuses"]', '"deadly:dies"')
    (directory / "deadly.toml").write_text(f'{listed}status = "crash"\n', encoding="utf-8")
    line = "check deadly:dies --dtype float32 --device cpu --law forward-exact --examples 30"
    assert call(line).exit_code == 1
    result = call(f"{line} --known deadly.toml --fail-stale")
    assert result.exit_code == 0, result.output
    assert "known: groups: " in result.output
