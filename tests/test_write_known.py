"""``--write-known``: the list that the next run passes with, and what of it stays when it is written again."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
from typer.testing import Result

from tests.helpers.command_line import call, unfolded, validated
from toeplitz_core.testing.findings import gathering
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.result import Result as Found
from toeplitz_core.testing.run.execution import judgement
from toeplitz_core.testing.search.search import find

pytest.importorskip("tomlkit", reason="not run: tomlkit, which --write-known needs, is not installed")

KERNEL = """
from toeplitz_core import conv2d

def right(*args):
    return conv2d(*args)

def two_faults(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    if groups > 1:
        raise RuntimeError("no groups")
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    return y if b is None else y + 1
"""
# The kernel after one of its faults was mended.
MENDED = KERNEL.replace("y + 1", "y")
GROUPS = """\
# Mine.

# Ask Ann.
[[failure]]
name = 'groups'   # not "no groups"
subject = ["kernels:two_faults"]
law = "forward-exact"
condition = "groups > 1"
example = "input=1x2x1x1 weight=2x1x1x1 groups=2"
reason = "There are no groups."
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a kernel and a list of one of its two failures."""
    (tmp_path / "kernels.py").write_text(KERNEL, encoding="utf-8")
    (tmp_path / "known.toml").write_text(GROUPS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # of journals
    monkeypatch.setattr(gathering, "CALLS", dict.fromkeys(gathering.CALLS, (0, 0)))  # findings are tested elsewhere
    return tmp_path


def check(options: str, subject: str = "two_faults") -> Result:
    """Run check in this process, on a new import of the kernel."""
    sys.modules.pop("kernels", None)
    few = "--dtype float32 --device cpu --inline --law forward-exact --examples 30"
    return call(f"check kernels:{subject} {few} {options}")


def mend(directory: Path) -> None:
    """Mend one of the two faults."""
    (directory / "kernels.py").write_text(MENDED + "# longer, so that it is compiled anew\n", encoding="utf-8")


def test_adopting_turns_the_gate_green(directory: Path):
    """``--write-known`` lists every fault that the gate finds, so that the next run with the list passes."""
    result = check("--write-known adopted.toml")
    assert result.exit_code == 1
    assert "adopted.toml: 2 added, 0 removed, 0 kept" in result.output
    assert "the next run with --known adopted.toml will be green" in result.output
    listed = KnownFailures.load(directory / "adopted.toml", laws=LAWS)
    assert {(entry.example.groups > 1, entry.example.bias) for entry in listed.entries} == {
        (True, False),
        (False, True),
    }
    assert all(entry.reason.startswith("adopted on 2") for entry in listed.entries)
    text = (directory / "adopted.toml").read_text(encoding="utf-8")
    result = check("--known adopted.toml --fail-stale --write-known adopted.toml")
    assert result.exit_code == 0, result.output
    assert (directory / "adopted.toml").read_text(encoding="utf-8") == text
    # A second list gets only the entries that the first one lacks.
    result = check("--known known.toml --write-known rest.toml")
    assert "the next run with --known known.toml --known rest.toml will be green" in result.output
    assert len(KnownFailures.load(directory / "rest.toml").entries) == 1


def test_an_update_in_place(directory: Path):
    """A list that is written again gets new entries, loses those that hold, and keeps the rest to the byte."""
    result = check("--write-known known.toml")
    assert result.exit_code == 1  # no list applies without --known
    assert (
        "known.toml: 1 added, 0 removed, 1 kept\n  added: kernels:two_faults-forward-exact-float32-1\n" in result.output
    )
    both = (directory / "known.toml").read_text(encoding="utf-8")
    assert both.startswith(f"{GROUPS}\n[[failure]]\nname = ")
    assert check("--known known.toml --fail-stale").exit_code == 0
    mend(directory)
    result = check("--known known.toml --write-known known.toml")
    assert result.exit_code == 0, result.output
    removed = "known.toml: 0 added, 1 removed, 1 kept\n  removed: kernels:two_faults-forward-exact-float32-1\n"
    assert f"{removed}the next run with --known known.toml will be green\n" in result.output
    assert (directory / "known.toml").read_text(encoding="utf-8") == GROUPS
    assert check("--known known.toml --fail-stale").exit_code == 0


def test_an_update_of_a_list_that_does_not_apply(directory: Path):
    """Without ``--known``, the list does not excuse failures, but entries that hold are removed all the same."""
    bias = GROUPS.replace("# Mine.", "").replace("'groups'", "'bias'").replace("groups > 1", "bias and groups == 1")
    bias = bias.replace("input=1x2x1x1 weight=2x1x1x1 groups=2", "input=1x1x1x1 weight=1x1x1x1 bias")
    (directory / "known.toml").write_text(GROUPS + bias, encoding="utf-8")
    mend(directory)
    result = check("--write-known known.toml")
    assert result.exit_code == 1
    assert "known.toml: 0 added, 1 removed, 1 kept\n  removed: bias\n" in result.output
    assert (directory / "known.toml").read_text(encoding="utf-8") == GROUPS
    assert check("--known known.toml --fail-stale").exit_code == 0


def test_what_an_update_leaves_alone(directory: Path):
    """An entry stays if its example did not run, if it still matches a failure, or if it holds for only one subject."""
    other = GROUPS.replace("'groups'   # not", "'double' # not").replace("law =", "status = 'crash'\nlaw =")
    texts = {
        "not-run.toml": other.replace("groups=2", "groups=2 dtype=float64"),
        "needed.toml": GROUPS.replace("groups > 1", "bias or groups > 1").replace("groups=2", "groups=2 bias"),
        "shared.toml": GROUPS.replace('["kernels', '["kernels:two_faults", "kernels:right", "kernels').replace(
            '"kernels:two_faults"]', '"mine:other"]'
        ),
    }
    kernel = KERNEL.replace("if groups > 1:", "if groups > 1 and b is None:").replace("y + 1", "y")
    (directory / "kernels.py").write_text(kernel, encoding="utf-8")
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8")
        result = check(
            f"--known {name} --write-known {name}", subject="right" if "needed" not in name else "two_faults"
        )
        assert f"{name}: 0 added, 0 removed, 1 kept\n" in result.output
        assert result.exit_code == 0
        assert (directory / name).read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--write-known none/run", "'none/run' must be in a directory that exists"),
        ("--write-known .", "'.' must be a file"),
        ("--write-known wrong.toml", "wrong.toml: failure 1: unknown key 'raison'"),
        (
            "--known known.toml --write-known same.toml",
            "same.toml and known.toml: name='groups' must be the name of one",
        ),
    ],
)
def test_a_list_that_cannot_be_updated(directory: Path, options: str, said: str):
    """A file that cannot be written, or is no list, is a usage error before anything runs, and stays as it is."""
    texts = {"wrong.toml": GROUPS.replace("reason", "raison"), "same.toml": GROUPS}
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8")
    result = check(options)
    assert result.exit_code == 2
    assert said in unfolded(result.stderr)
    assert "forward-exact float32" not in result.output
    assert {name: (directory / name).read_text(encoding="utf-8") for name in texts} == texts


@pytest.mark.parametrize(
    ("options", "red"),
    [
        ("--time 0.2", "with --time, it may search for longer"),
        ("--device meta", "it would end with 3"),
    ],
)
def test_what_the_next_run_does(options: str, red: str):
    """If the next run would not end with 0, or this is not known, the reason is said."""
    result = check(f"{options} --write-known new.toml", subject="right")
    assert f"the next run with --known new.toml will not be green: {red}\n" in result.output


def interrupted_at_the_second_search(monkeypatch: pytest.MonkeyPatch, *, at_its_end: bool = False) -> list[object]:
    """Simulate Ctrl-C in the second search; return the list of searches."""
    searches: list[object] = []

    def interrupted(*args: object, **options: object) -> Found:
        searches.append(args)
        if len(searches) < 2:
            return find(*args, **options)
        if at_its_end:
            find(*args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(judgement, "find", interrupted)
    return searches


def test_interrupted_before_adopting(directory: Path, monkeypatch: pytest.MonkeyPatch):
    """Failures found before Ctrl-C are adopted without a further search, and printed with their arithmetic."""
    searches = interrupted_at_the_second_search(monkeypatch)
    result = check("--dtype float64 --write-known adopted.toml")
    assert result.exit_code == 130
    assert len(searches) == 2
    assert "adopted.toml: 2 added, 0 removed, 0 kept" in result.output
    assert len(KnownFailures.load(directory / "adopted.toml").entries) == 2
    assert "\n  judged: by sums in float32\n" in result.output


def test_interrupted_while_adopting(directory: Path, monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C during the search for more faults keeps what was adopted, and each failure is listed once."""
    searches = interrupted_at_the_second_search(monkeypatch, at_its_end=True)
    result = check("--write-known adopted.toml --json run.json")
    assert result.exit_code == 130
    assert len(searches) == 2
    assert len(KnownFailures.load(directory / "adopted.toml").entries) == 2
    assert len(validated((directory / "run.json").read_text(encoding="utf-8"))["results"]) == 1
