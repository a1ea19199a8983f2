"""Errors of the command line: a wrong word, an interrupt, an error of the suite, a missing package."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.command_line import ONE, TWO_LAWS, call, process, replayed, unfolded
from toeplitz_core.testing import cli
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.result import Result as Found
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.run.execution import judgement
from toeplitz_core.testing.search.search import find

pytestmark = pytest.mark.usefixtures("own_journals")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("check torhc", ["no subject 'torhc'", "did you mean 'torch'?", "package.module:callable"]),
        ("check kernels.right", ["did you mean 'kernels:right'?"]),
        ("check kernles:right", ["cannot import kernles", "No module named 'kernles'; nearest: kernels"]),
        ("check torch --dtype fp32", ["dtype='fp32' is unknown; did you mean 'float32'?", "bfloat16"]),
        ("check torch --dtype half", ["did you mean 'float16'?"]),
        ("check kernels", ["'kernels' is a module", "did you mean 'kernels:conv2d'?", "package.module:callable"]),
        ("check unfinished:conv2d", ["cannot import unfinished", "SyntaxError"]),
        ("check needy:conv2d", ["cannot import needy", "no_such_package_of_mine"]),
        ("check leaving:conv2d", ["cannot import leaving", "SystemExit"]),
        ("check kernels:rigth", ["kernels has no 'rigth'", "nearest: right"]),
        ("check kernels:number", ["must be a callable or a Subject, not int"]),
        ("check :conv2d", ["':conv2d' must be module:callable, but has no module"]),
        (
            "check torch --law forward-exakt",
            ["law='forward-exakt' is unknown; did you mean 'forward-exact'? legal: forward-exact, forward-bound"],
        ),
        ("check torch --dtype float31", ["dtype='float31' is unknown; did you mean 'float32'?", "bfloat16"]),
        ("check torch --profile gaet", ["profile='gaet' is unknown; did you mean 'gate'? legal: smoke, gate, nightly"]),
        ("check torch --device gpu", ["device=gpu", "cpu, cuda, cuda:1"]),
        ("check torch --examples 0", ["examples=0 must be"]),
        ("check torch --seed -1", ["seed=-1 must be"]),
        ("check torch --sweep 0", ["sweep=0 must be a whole number from 1 to 8"]),
        ("check torch --sweep 9", ["sweep=9 must be a whole number from 1 to 8"]),
        ("check torch --law forward-bound --dtype int64", ["nothing to check: forward-bound: not for int64"]),
        ("check torch --sweep 1 --law errors", ["nothing to check: errors: it is checked on calls"]),
        (
            "check torch --sweep 2 --examples 5",
            ["sweep=2 checks every convolution, so it cannot be combined with examples"],
        ),
        ("check torch --sweep 2 --seed 5", ["sweep=2 checks every convolution, so it cannot be combined with seed"]),
        ("check torch --sweep 2 --time 5", ["sweep=2 checks every convolution, so it cannot be combined with time"]),
        (
            "check torch --sweep 2 --profile gate",
            ["sweep=2 checks every convolution, so it cannot be combined with profile"],
        ),
        (
            "check torch --sweep 2 --write-known k.toml",
            ["sweep=2 does not shrink failures, so it cannot be combined with write-known"],
        ),
        ("check torch --exampels 3", ["--exampels", "--examples"]),
        ("check", ["subject"]),
        ("chekc torch", ["chekc", "check"]),
        (f"replay '{ONE} strid=2'", ["word 3 'strid=2'", "did you mean 'stride'?"]),
        (f"replay '{ONE} stride=0'", ["stride[0]=0 must be >= 1"]),
        (f"replay '{ONE} law=forward-exakt'", ["law=forward-exakt", "did you mean 'forward-exact'?"]),
        (f"replay '{ONE}' --subject torhc", ["did you mean 'torch'?"]),
    ],
)
def test_usage_errors(kernels: Path, line: str, said: list[str]):  # noqa: ARG001  # the working directory
    """A wrong word ends the command with 2 before anything runs, and the error suggests a correction."""
    result = call(line)
    assert result.exit_code == 2, result.output
    for part in said:
        assert part in unfolded(result.output)
    assert [line for line in result.output.splitlines() if len(line) > 80] == []


def test_interrupted(monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C ends a run with 130; earlier results and the command that resumes the run are printed."""
    searches = []

    def interrupted(*args: object, **options: object) -> Found:
        searches.append(args)
        if len(searches) == 2:
            raise KeyboardInterrupt
        return find(*args, **options)

    monkeypatch.setattr(judgement, "find", interrupted)
    result = call(f"check torch --inline --dtype float32 --dtype float64 --device cpu --examples 3 -v {TWO_LAWS}")
    assert result.exit_code == 130
    assert "torch forward-exact float32 cpu: pass, 3 cases" in result.output
    assert "3 cases; 1 of 1 hold" in result.output
    assert "not run: 3 of 4 (each law with each dtype): interrupted" in result.output
    line = re.search("^to resume this run: python -m toeplitz_core (check --resume .*)$", result.output, re.MULTILINE)
    assert line is not None
    rest = call(line[1])
    assert rest.exit_code == 0, rest.output
    assert "12 cases; 4 of 4 hold" in rest.output
    assert len(searches) == 5


def test_interrupted_while_shrinking(monkeypatch: pytest.MonkeyPatch):
    """A failure that was not yet shrunk at Ctrl-C is printed with its case."""
    cases = []

    def interrupted(_: object, case: Case) -> Verdict:
        cases.append(case)
        if len(cases) == 2:
            raise KeyboardInterrupt
        return Verdict(Status.FAIL, case, "out[0]=1, but should be 2")

    law = LAWS["forward-exact"]
    monkeypatch.setitem(LAWS, law.name, replace(law, check=interrupted))
    result = call("check torch --inline --device cpu")
    assert result.exit_code == 130
    assert result.output.count("unknown: torch (fail)\n") == 1
    assert result.output.count("  wrong:  out[0]=1, but should be 2 (not shrunk to the end)\n") == 1
    assert replayed(result.output).startswith(f'replay "{cases[0]}"')
    assert "0 of 1 hold" in result.output


def test_interrupt_in_replay(kernels: Path):  # noqa: ARG001  # the working directory
    """Ctrl-C in ``replay`` ends with 130 too."""
    result = call(f"replay '{ONE}' --subject kernels:interrupts --inline")
    assert result.exit_code == 130
    assert "interrupted after 0 cases" in result.output


def test_interrupt_by_a_subject_is_its_failure(kernels: Path):  # noqa: ARG001  # the working directory
    """A KeyboardInterrupt that a subject raises is its failure, and not the user's Ctrl-C."""
    result = call(f"replay '{ONE} law=forward-exact' --runs 2 --subject kernels:interrupts")
    assert result.exit_code == 1
    assert "FAIL kernels:interrupts, forward-exact: raised KeyboardInterrupt\n" in result.output


def test_error_of_our_own(monkeypatch: pytest.MonkeyPatch):
    """A law that raises ends the run with 4; earlier results are printed, and the error is said to be ours."""

    def broken(_: object, case: Case) -> Verdict:
        if case.dtype == "float64":
            raise ZeroDivisionError("a bug in a law")
        return Verdict(Status.FAIL, case, "as planned")

    law = LAWS["forward-exact"]
    monkeypatch.setitem(LAWS, law.name, replace(law, check=broken))
    result = call("check torch --law forward-exact --dtype float32 --dtype float64 --device cpu")
    assert result.exit_code == 4
    assert "FAIL torch, forward-exact: as planned" in result.output
    assert "0 of 1 hold" in result.output
    assert "not run: 1 of 2 (each law with each dtype): an error of toeplitz-core" in result.output
    for said in ("ZeroDivisionError: a bug in a law", "LawError: law forward-exact could not judge subject torch on"):
        assert said in result.stderr
    assert "This is an error of toeplitz-core, not of the subject" in result.stderr


def test_error_of_our_own_in_replay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """An unexpected exception in any command ends the program with 4, and the error is said to be ours."""

    def broken(*_: object) -> Verdict:
        raise ZeroDivisionError("a bug in a law")

    law = LAWS["forward-exact"]
    monkeypatch.setitem(LAWS, law.name, replace(law, check=broken))
    monkeypatch.setattr(sys, "argv", ["toeplitz-core", "replay", ONE])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 4
    printed = capsys.readouterr().err
    assert "ZeroDivisionError: a bug in a law" in printed
    assert "This is an error of toeplitz-core" in printed


WITHOUT = """
import runpy, sys
import torch

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
sys.argv[1:] = ["laws"]
for package in ("typer", "rich", "hypothesis"):
    for name in list(sys.modules):
        if name.partition(".")[0] in ("toeplitz_core", "typer", "rich", "hypothesis"):
            del sys.modules[name]
    try:
        runpy.run_module("toeplitz_core", run_name="__main__")
    except SystemExit as error:
        print(error)
"""


def test_package_of_the_extra_is_missing():
    """Without a package of the extra, the command line says in one line how to install it."""
    result = process("-c", WITHOUT)
    assert result.stdout.splitlines() == [
        f"The command line needs {package}: python -m pip install 'toeplitz-core[testing]'"
        for package in ("typer", "rich", "hypothesis")
    ], result.stderr
