"""``compare``, ``--baseline``, ``--min-judged`` and ``--markdown`` at the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.helpers.command_line import call, unfolded, validated
from tests.helpers.html import Document

pytestmark = pytest.mark.usefixtures("own_journals", "own_command_line")

KERNEL = """
import torch

def conv2d(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    CHANGE
    return torch.nn.functional.conv2d(x, w, b, stride, padding, dilation, groups)
"""
CHECK = (
    "check baselined:conv2d --inline --device cpu --dtype float32 --dtype float64 --law forward-exact "
    "--law forward-bound --examples 40"
)
CHANGES = {
    "wrong": "w = w.flip(-1)",
    "less": "if x.dtype == torch.float64: raise NotImplementedError('no float64')",
    "no groups": "if groups > 1: raise NotImplementedError('no groups')",
}


@pytest.fixture(autouse=True)
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a kernel, and with what its run has found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written(tmp_path, "pass")
    assert call(f"{CHECK} --write-baseline base.json --json right.json").exit_code == 0
    return tmp_path


def written(directory: Path, change: str) -> None:
    """Write the kernel with a change; it is imported anew."""
    (directory / "baselined.py").write_text(KERNEL.replace("CHANGE", change), encoding="utf-8")
    sys.modules.pop("baselined", None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("wrong", "fails: 1 new finding"),
        ("less", "float64: forward-exact, forward-bound: pass -> unsupported (NotImplementedError: no float64)"),
        ("no groups", "float32, float64: forward-exact, forward-bound: refuses groups"),
    ],
)
def test_a_change_of_the_kernel_is_told(kernel: Path, change: str, said: str):
    """New findings and less support fail a run with a baseline, and the comparison of two runs; the summary says it."""
    written(kernel, CHANGES[change])
    result = call(f"{CHECK} --baseline base.json --json now.json --markdown now.md")
    assert result.exit_code == 1, result.output
    assert said in unfolded(result.output)
    found = validated((kernel / "now.json").read_text(encoding="utf-8"))["comparison"]
    assert found["baseline"] == "base.json"  # type: ignore[index]  # it is an object
    assert found["fails"]  # type: ignore[index]
    assert said.replace(">", r"\>") in (kernel / "now.md").read_text(encoding="utf-8")
    for old in ("base.json", "right.json"):
        again = call(f"compare {old} now.json --markdown both.md")
        assert again.exit_code == 1, again.output
        assert said in unfolded(again.output)
    assert call("compare right.json now.json --fail-on time:1000x").exit_code == 0
    assert call("compare now.json right.json").exit_code == 0


def test_what_the_baseline_has_does_not_fail(kernel: Path):
    """A finding that was adopted is shown, and does not fail the run; another one does."""
    written(kernel, CHANGES["wrong"])
    adopted = call(f"{CHECK} --write-baseline base.json")
    assert adopted.exit_code == 1
    assert "baseline base.json: 1 finding, 4 steps" in adopted.output
    result = call(f"{CHECK} --baseline base.json --markdown now.md --junit now.xml")
    assert result.exit_code == 0, result.output
    assert "F1 kernel-flipped: baselined:conv2d (fail) (in the baseline)" in result.output
    assert "\nno difference\n" in result.output
    assert "no finding that is not in the baseline" in (kernel / "now.md").read_text(encoding="utf-8")
    assert "<failure" not in (kernel / "now.xml").read_text(encoding="utf-8")
    written(kernel, "return torch.nn.functional.conv2d(x, w, b, stride, padding, dilation, groups) * 2")
    other = call(f"{CHECK} --baseline base.json")
    assert other.exit_code == 1
    assert "new finding: outputs-scaled" in other.output
    assert "gone: kernel-flipped" in other.output


def test_the_same_again(kernel: Path):
    """The same run again differs in nothing; its baseline is the same file; the summary has at most ten lines."""
    before = (kernel / "base.json").read_text(encoding="utf-8")
    result = call(f"{CHECK} --baseline base.json --write-baseline base.json --markdown now.md --html now.html")
    assert result.exit_code == 0, result.output
    assert "\nno difference\n" in result.output
    assert (kernel / "base.json").read_text(encoding="utf-8") == before
    text = (kernel / "now.md").read_text(encoding="utf-8")
    assert text.startswith("### toeplitz-core: baselined:conv2d: all laws hold\n")
    assert len(text.splitlines()) <= 10
    page = Document((kernel / "now.html").read_text(encoding="utf-8")).text
    assert "The baseline is base.json" in page
    assert "There is no finding." in page


def test_a_run_that_cannot_be_compared(kernel: Path):
    """A named device that is missing, or a run that was cut short, is no success, and the reason is printed."""
    meta = CHECK.replace("--inline --device cpu", "--device meta")
    result = call(f"{meta} --baseline base.json")
    assert result.exit_code == 3, result.output
    assert "no subject, law, dtype and device is in both" in unfolded(result.output)
    written(kernel, CHANGES["wrong"])
    assert call(f"{CHECK} --write-baseline base.json").exit_code == 1
    result = call(f"{CHECK} --baseline base.json --fail-fast --junit now.xml")
    assert result.exit_code == 1
    assert "fails: the new run was cut short: stopped at the first failure" in unfolded(result.output)
    written(kernel, CHANGES["less"])
    assert call(f"{CHECK} --baseline right.json --junit now.xml").exit_code == 1
    assert 'type="less is supported"' in (kernel / "now.xml").read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="not run: needs /dev/full")
@pytest.mark.parametrize(
    ("full", "others"), [("--write-baseline", "--html now.html"), ("--html", "--write-baseline now.html")]
)
def test_a_full_disk_loses_no_other_report(kernel: Path, full: str, others: str):
    """If one report cannot be written in the end, the others are, and the error names the file."""
    result = call(f"{CHECK} {full} /dev/full --json now.json --markdown now.md {others}")
    assert isinstance(result.exception, OSError)
    assert "'/dev/full'" in str(result.exception)
    assert "to write the reports again: check --resume" in str(result.exception)
    for name in ("now.json", "now.md", "now.html"):
        assert (kernel / name).exists()


def test_min_judged(kernel: Path):
    """Less than the given share of judged cases ends with 3, and the reports say so."""
    result = call(f"{CHECK} --min-judged 0.999 --markdown now.md --json now.json")
    assert result.exit_code == 3, result.output
    assert "judged too little: baselined:conv2d 9" in result.output
    assert "Judged too little: baselined:conv2d" in (kernel / "now.md").read_text(encoding="utf-8")
    assert json.loads((kernel / "now.json").read_text(encoding="utf-8"))["summary"]["exit_code"] == 3
    assert call(f"{CHECK} --min-judged 0.5").exit_code == 0
    assert call(f"{CHECK} --min-judged 1.5").exit_code == 2


def test_what_cannot_be_compared(kernel: Path):
    """A broken file and a baseline of another subject are usage errors, before anything runs."""
    (kernel / "cut.json").write_text((kernel / "right.json").read_text(encoding="utf-8")[:400], encoding="utf-8")
    for command in ("compare cut.json right.json", "compare right.json none.json", f"{CHECK} --baseline cut.json"):
        result = call(command)
        assert result.exit_code == 2, result.output
        assert ".json" in result.stderr
    other = call("check torch --inline --device cpu --dtype float32 --law forward-exact --baseline base.json")
    assert other.exit_code == 2
    assert "is of baselined:conv2d, and the run of torch" in unfolded(other.stderr)
    assert call("compare right.json right.json --fail-on everything").exit_code == 2
    assert call("compare base.json right.json --fail-on time:9x").exit_code == 2
    assert call("compare base.json right.json --markdown right.json").exit_code == 2
    assert call(f"{CHECK} --baseline base.json --json base.json").exit_code == 2
    assert call(f"{CHECK} --write-baseline -").exit_code == 2
    assert call(f"{CHECK} --write-baseline none/base.json").exit_code == 2
    assert call(f"{CHECK} --write-baseline base.json --json base.json").exit_code == 2
