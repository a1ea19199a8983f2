"""Replaying cases: number of failures, cases from a file, known failures."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from tests.helpers.command_line import call, unfolded
from tests.helpers.known_failures import GROUPED
from toeplitz_core import conv2d
from toeplitz_core.testing import commands
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.findings.replay import RUNS, read_cases, repeated, replay
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.run.execution.subject_pool import SubjectPool
from toeplitz_core.testing.subjects import TorchSubject
from toeplitz_core.testing.subjects.declared import Declared

LAW = "law=forward-exact"
ONE = f"input=1x1x1x1 weight=1x1x1x1 {LAW}"
GROUPS = f"{GROUPED} {LAW}"
CASE = Case.parse(ONE)
KERNELS = """
from toeplitz_core import conv2d

def no_groups(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    return y.zero_() if groups > 1 else y

calls = 0

def sometimes(*args):
    global calls
    calls += 1
    return conv2d(*args) if calls % 3 else conv2d(*args) + 1
"""
LISTED = """
[[failure]]
name = "groups"
subject = "kernels:no_groups"
law = "forward-exact"
condition = "groups > 1"
example = "input=1x2x1x1 weight=2x1x1x1 groups=2"
reason = "There are no groups."
"""


class Counted(TorchSubject):
    """Fails in the calls with these numbers, from 1, and counts calls and restarts."""

    def __init__(self, *failing: int) -> None:
        super().__init__("counted", self._conv2d, calls_torch=False)
        self.failing, self.calls, self.restarts = failing, 0, 0

    def _conv2d(self, *args: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return conv2d(*args) + (self.calls in self.failing)

    def restart(self) -> None:
        """Count it."""
        self.restarts += 1


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with implementations and a list of known failures."""
    (tmp_path / "kernels.py").write_text(KERNELS, encoding="utf-8")
    (tmp_path / "known.toml").write_text(LISTED, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    return tmp_path


@pytest.mark.parametrize("failing", [(1,), (10,), (2, 3, 7)])
def test_a_failure_in_some_runs_is_a_failure(failing: tuple[int, ...]):
    """A case that fails in any of ten runs has failed; the message counts the failures; every other run is fresh."""
    subject = Counted(*failing)
    (replayed,) = replay(CASE, subject)
    assert replayed.verdict.status is Status.FAIL
    assert replayed.verdict.message.endswith(f"(fails in {len(failing)} of 10 runs)")
    assert (replayed.runs, replayed.failures, subject.calls, subject.restarts) == (10, len(failing), 10, 4)


def test_a_failure_in_all_runs_needs_no_count():
    """A case that fails in all runs has no count in its message; a case that never fails passes."""
    (always,) = replay(CASE, Counted(*range(1, 11)))
    assert "runs" not in always.verdict.message
    (never,) = replay(CASE, Counted())
    assert (never.verdict.status, never.runs) == (Status.PASS, 10)


def test_runs_end_early_where_they_take_long():
    """After the time limit no further run begins, but there is at least one; an unsupported case has one run."""
    subject = Counted()
    assert [r.runs for r in replay(CASE, subject, enough=0)] == [1]
    unsupported = Case.parse("input=1x1x1x1 weight=1x1x1x1 dtype=int64 data=normal law=forward-bound")
    assert [r.runs for r in replay(unsupported, subject)] == [1]
    broken = TorchSubject("broken", lambda *_: conv2d())
    assert [r.failures for r in replay(CASE, broken, runs=3)] == [3]


def test_cases_of_a_file(directory: Path):
    """Blank lines and comments in a file of cases are skipped."""
    (directory / "cases").write_text(f"# found\n\n  {ONE} # torch\n{GROUPS} bias\n", encoding="utf-8")
    assert read_cases("cases") == [Case.parse(ONE), Case.parse(f"{GROUPS} bias")]
    result = call("replay --file cases --subject kernels:no_groups --runs 2")
    assert result.exit_code == 1
    assert "PASS kernels:no_groups, forward-exact" in result.output
    assert result.output.endswith("2 cases: 1 fail, 1 pass\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{ONE}\n\n{ONE} strid=2\n", "cases:3: in case word 4 'strid=2'"),
        (f"{ONE}t\n", "cases:1: law=forward-exactt is unknown; did you mean 'forward-exact'?"),
        ("input=4000x4000x800x800 weight=4000x4000x1x1", "cases:1: the case has tensors of"),
        ("# nothing\n", "cases: the file has no case"),
        (None, "No such file"),
    ],
)
def test_wrong_file(directory: Path, text: str | None, said: str):
    """A wrong file ends the command with 2 before anything runs; the error names the line."""
    if text is not None:
        (directory / "cases").write_text(text, encoding="utf-8")
    result = call("replay --file cases")
    assert result.exit_code == 2
    assert said in unfolded(result.stderr)


def test_one_of_case_and_file(directory: Path):  # noqa: ARG001  # the working directory
    """Both a case and a file, or neither, is a usage error."""
    for line in ("replay", f"replay '{ONE}' --file known.toml"):
        result = call(line)
        assert result.exit_code == 2
        assert "give either CASE or --file FILE" in result.stderr


def test_known_failure_in_replay(directory: Path):
    """A known failure is reported with its entry and does not fail the replay; any other failure does."""
    line = f"replay '{GROUPS}' --subject kernels:no_groups --inline"
    assert call(line).exit_code == 1
    result = call(f"{line} --known known.toml")
    assert result.exit_code == 0, result.output
    assert "KNOWN kernels:no_groups, forward-exact: out[" in result.output
    assert "  known:  groups: There are no groups." in result.output
    assert KnownFailures.load(directory / "known.toml").entries[0].name == "groups"
    result = call(f"replay '{ONE}' --subject kernels:sometimes --known known.toml --inline")
    assert result.exit_code == 1
    assert "(fails in 3 of 10 runs)" in unfolded(result.output)


def test_subject_of_the_environment(directory: Path, monkeypatch: pytest.MonkeyPatch):  # noqa: ARG001  # the working directory
    """The default subject is that of TOEPLITZ_SUBJECT, or else torch."""
    assert "PASS torch, forward-exact" in call(f"replay '{ONE}' --runs 1 --inline").output
    monkeypatch.setenv("TOEPLITZ_SUBJECT", "kernels:no_groups")
    assert "FAIL kernels:no_groups" in call(f"replay '{GROUPS}' --runs 1 --inline").output
    monkeypatch.setenv("TOEPLITZ_SUBJECT", "torch, kernels:no_groups")
    result = call(f"replay '{GROUPS}' --runs 1 --inline")
    assert result.exit_code == 2
    assert "replay takes one subject" in result.stderr


def test_replays_reach_filled_memory():
    """An example is replayed several times, and then once in each process with filled memory."""
    subject, filled = TorchSubject("as it is", conv2d), [TorchSubject(name, conv2d) for name in "ab"]
    law = replace(LAWS["forward-exact"], check=lambda ran, case: Verdict(Status.PASS, case, ran.name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TorchSubject, "poisoned", lambda self: filled if self is subject else ())
        ran = [verdict.message for verdict in repeated(law, subject, Case.parse(GROUPED))]
    assert ran == ["as it is"] * RUNS + ["a", "b"]


def test_options_of_the_table_apply_to_replay(directory: Path, monkeypatch: pytest.MonkeyPatch):
    """Subject, known failures, timeout and inline of pyproject.toml apply; the command line overrides them."""
    lines = ['subject = "kernels:no_groups"', 'known = "known.toml"', "inline = true", "timeout = 2.5"]
    table = "\n".join(["[tool.toeplitz_core]", *lines, "jobs = 2", "fail-fast = true"])
    (directory / "pyproject.toml").write_text(table, encoding="utf-8")
    (directory / "none.toml").write_text("", encoding="utf-8")
    started: list[tuple[float, bool]] = []

    def pool(sandbox: partial[Sandbox], *, inline: bool, declared: Declared) -> SubjectPool:
        started.append((sandbox.keywords["timeout"], inline))
        return SubjectPool(sandbox, inline=True, declared=declared)

    monkeypatch.setattr(commands, "SubjectPool", pool)
    result = call(f"replay '{GROUPS}' --runs 1")
    assert result.exit_code == 0, result.output
    assert "KNOWN kernels:no_groups" in result.output
    assert call(f"replay '{GROUPS}' --runs 1 --known none.toml --timeout 3 --no-inline").exit_code == 1
    assert started == [(2.5, True), (3.0, False)]
    assert "PASS toeplitz" in call(f"replay '{GROUPS}' --runs 1 --subject toeplitz").output
