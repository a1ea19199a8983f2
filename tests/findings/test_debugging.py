"""Debugging: ``replay --pdb`` and ``pytest --pdb`` stop in the subject; a breakpoint in a worker says how to do so."""

from __future__ import annotations

import gc
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from tests.helpers.paths import CHECKOUT
from toeplitz_core.testing import cli
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.debugging import stop
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.subjects import ArraySubject, Subject, TorchSubject

LINE = "input=1x1x2x3 weight=1x1x1x2 law="
KERNELS = """
import pdb
import torch
from torch.nn.functional import conv2d

def right(x, *rest):
    return conv2d(x, *rest)

def raises(x, w, *rest):
    y = conv2d(x, w, *rest)
    return torch.einsum("ij,jk->ik", y, w)

def wrong(x, *rest):
    y = conv2d(x, *rest)
    z = y + 1
    return z

def breaks(x, *rest):
    breakpoint()
    return conv2d(x, *rest)

def traces(x, *rest):
    pdb.set_trace()
    return conv2d(x, *rest)

class Doubles(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y):
        return y.clone()

    @staticmethod
    def backward(ctx, g):
        h = g * 2
        return h

class Refuses(Doubles):
    @staticmethod
    def backward(ctx, g):
        raise ValueError("no")

def doubles(x, *rest):
    return Doubles.apply(conv2d(x, *rest))

def refuses(x, *rest):
    return Refuses.apply(conv2d(x, *rest))

def crashes(x, *rest):
    import ctypes
    ctypes.string_at(0)
"""
TESTS = """
import kernels
from toeplitz_core.testing import parametrize_with_laws

@parametrize_with_laws(
    [kernels.wrong, kernels.raises, kernels.crashes, lambda x, *rest: kernels.raises(x, *rest)],
    dtypes=["float32"], laws=["forward-exact"], devices=["cpu"], examples=5,
)
def test_conv2d(law):
    law()
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with kernels and tests of them."""
    (tmp_path / "kernels.py").write_text(KERNELS, encoding="utf-8")
    (tmp_path / "test_kernels.py").write_text(TESTS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)
    monkeypatch.delitem(sys.modules, "kernels", raising=False)
    # pytest replaces these in its own process, where the command line runs too.
    monkeypatch.setattr(sys, "breakpointhook", sys.__breakpointhook__)
    monkeypatch.setattr("pdb.set_trace", _set_trace)
    return tmp_path


def _set_trace(*, header: str | None = None) -> None:  # noqa: ARG001  # as in pdb
    import pdb  # noqa: T100  # the debugger of the command line's process

    pdb.Pdb().set_trace(sys._getframe().f_back)


def call(line: str, *typed: str) -> Result:
    """The command line in this process, and what a user types."""
    return CliRunner().invoke(
        cli.app, shlex.split(line), prog_name="toeplitz-core", input="".join(f"{t}\n" for t in typed)
    )


def process(*command: str, typed: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A command in another process, and what a user types."""
    return subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"},
        input="".join(f"{t}\n" for t in typed),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_replay_stops_where_the_kernel_raises():
    """After an exception, the debugger is in the kernel's frame, not in that of a library that it calls."""
    result = call(f"replay --pdb '{LINE}forward-exact' --subject kernels:raises", "p x.shape", "p y.shape", "q")
    assert result.exit_code == 1, result.output
    assert "FAIL kernels:raises, forward-exact: raised RuntimeError: einsum()" in result.output
    assert "kernels.py(11)raises()" in result.output
    assert "torch.Size([1, 1, 2, 3])" in result.output
    assert "torch.Size([1, 1, 2, 2])" in result.output
    assert "Traceback" not in result.output


def test_replay_stops_at_the_call_with_a_wrong_result():
    """For a wrong result, the debugger stops at the first line of the kernel, and can step."""
    typed = ("p x.shape", "n", "n", "p (z - y).sum()", "q")
    result = call(f"replay --pdb '{LINE}forward-exact' --subject kernels:wrong", *typed)
    assert result.exit_code == 1, result.output
    assert "kernels.py(14)wrong()" in result.output
    assert "torch.Size([1, 1, 2, 3])" in result.output
    assert "tensor(4.)" in result.output
    assert "Traceback" not in result.output


def test_replay_goes_on_to_the_next_call():
    """``c`` stops at the next call of the kernel, and the command ends with the exit code of the case."""
    result = call(f"replay --pdb '{LINE}contract' --subject kernels:wrong", "c", "c", "q")
    assert result.exit_code == 1
    assert result.output.count("kernels.py(14)wrong()") == 3


def test_a_debugger_needs_a_failure():
    """A case that passes, or that a subject refuses, ends as without ``--pdb``."""
    result = call(f"replay --pdb '{LINE}forward-exact' --subject kernels:right")
    assert result.exit_code == 0
    assert result.output.endswith("\ndebug: the case does not fail in this process\n")
    assert call(f"replay --pdb '{LINE}double-backward' --subject numpy").exit_code == 3


def test_replay_stops_in_a_backward_pass():
    """The debugger is in a backward method that raises, and stops at a breakpoint in one that is wrong."""
    result = call(f"replay --pdb '{LINE}gradients-exact' --subject kernels:refuses", "p g.shape", "q")
    assert result.exit_code == 1
    assert "kernels.py(39)backward()" in result.output
    assert "torch.Size([1, 1, 2, 2])" in result.output
    typed = ("b Doubles.backward", "c", "c", "c", "n", "p (h / g).unique()", "q")
    result = call(f"replay --pdb '{LINE}gradients-exact' --subject kernels:doubles", *typed)
    assert result.exit_code == 1
    assert "kernels.py(34)backward()" in result.output
    assert "bdb.py" not in result.output
    assert "tensor([2.])" in result.output


def test_a_function_without_python_code():
    """Where there is nothing to step into, the debugger stops at our call of it."""
    line = "input=1x0x1x1 weight=1x0x1x1 bias law=no-channels"
    result = call(f"replay --pdb '{line}' --subject torch", "p args[0].shape", "q")
    assert result.exit_code == 1
    assert "return function(*args, **kwargs)" in result.output
    assert "torch.Size([1, 0, 1, 1])" in result.output


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """Hypothesis is called at each collection, so a debugger that stops at the next line may stop there."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collection")
def test_quitting_at_a_breakpoint_of_the_kernel():
    """``q`` at a breakpoint of the kernel's own ends the command as an interrupt, without a traceback."""
    for name in ("breaks", "traces"):
        for option in ("--pdb", "--inline"):
            result = call(f"replay {option} '{LINE}forward-exact' --subject kernels:{name}", "p x.shape", "q")
            assert result.exit_code == 130, result.output
            assert "torch.Size([1, 1, 2, 3])" in result.output
            assert "Traceback" not in result.output
            assert "BdbQuit" not in result.output


@pytest.mark.parametrize("name", ["breaks", "traces"])
def test_a_breakpoint_in_a_worker(name: str):
    """A breakpoint in a worker fails with the command that reaches it."""
    case = f"{LINE}forward-exact"
    result = call(f"replay '{case}' --subject kernels:{name} --runs 1")
    command = f'python -m toeplitz_core replay --pdb "{case}" --subject kernels:{name}'
    assert result.exit_code == 1
    heading = f"FAIL kernels:{name}, forward-exact: reached a breakpoint in a process without a terminal; run:"
    assert " ".join(result.output.partition("python")[0].split()) == heading
    assert f"\n{command}\n" in result.output
    assert "cause:  breakpoint: The call stops at a breakpoint." in result.output
    typed = call(command.removeprefix("python -m toeplitz_core "), "p x.shape", "q")
    assert "torch.Size([1, 1, 2, 3])" in typed.output


def test_breakpoints_that_the_environment_switches_off(monkeypatch: pytest.MonkeyPatch):
    """``PYTHONBREAKPOINT=0`` switches breakpoints off, in workers too."""
    monkeypatch.setenv("PYTHONBREAKPOINT", "0")
    assert call(f"replay '{LINE}forward-exact' --subject kernels:breaks --runs 1").exit_code == 0


def test_a_debugger_is_for_one_case(directory: Path):
    """``--pdb`` takes no file of cases."""
    (directory / "cases.txt").write_text(f"{LINE}forward-exact\n", encoding="utf-8")
    result = call("replay --pdb --file cases.txt --subject kernels:right")
    assert result.exit_code == 2
    assert "--pdb is for one CASE, not for --file" in result.output


def test_decorated_tests_stop_in_the_kernel():
    """``pytest --pdb`` opens in the kernel's frame, where it raises or returns; of a crash, it says nothing more."""
    typed = ("p (z - y).sum()", "c", "p y.shape", "c", "p 7 * 6", "c", "p y.shape", "q")
    result = process("-m", "pytest", "--pdb", "-p", "no:cacheprovider", "test_kernels.py", typed=typed)
    assert result.returncode == 2, result.stdout + result.stderr
    wrong, raises, crashes, local = result.stdout.split("entering PDB")[1:5]
    assert "kernels.py(16)wrong()" in wrong
    assert "tensor(1.)" in wrong
    assert "kernels.py(11)raises()" in raises
    assert "torch.Size([1, 1, 1, 1])" in raises
    assert "kernels.py" not in crashes.partition("42")[0]
    assert "kernels.py(11)raises()" in local
    assert "debug:  where the last call of the subject returned" in result.stdout
    assert "debug:  where the subject raised" in result.stdout
    assert "Quitting debugger" in result.stdout


def test_quitting_at_a_breakpoint_of_a_test(directory: Path):
    """``q`` at a breakpoint of a kernel that runs in the process of pytest ends the tests at once."""
    text = TESTS.replace("[kernels.wrong, kernels.raises, kernels.crashes, ", "[").replace(
        "kernels.raises", "kernels.breaks"
    )
    (directory / "test_kernels.py").write_text(text, encoding="utf-8")
    result = process("-m", "pytest", "-p", "no:cacheprovider", "test_kernels.py", typed=("p x.shape", "q"))
    assert result.returncode == 2, result.stdout + result.stderr
    assert "torch.Size([1, 1, 1, 1])" in result.stdout
    assert result.stdout.count("breaks()") == 1


def test_the_suite_stops_in_the_kernel():
    """``pytest --pdb`` of the plugin's suite opens in the kernel's frame."""
    suite = ("-p", "toeplitz_core.testing.plugin", "--pyargs", "toeplitz_core.testing.suite", "-p", "no:cacheprovider")
    chosen = ("--subject=kernels:raises", "--law=forward-exact", "--dtype=float32", "--device=cpu", "--examples=5")
    result = process("-m", "pytest", "--pdb", *suite, *chosen, typed=("p y.shape", "q"))
    assert "kernels.py(11)raises()" in result.stdout, result.stdout + result.stderr
    assert "torch.Size([1, 1, 1, 1])" in result.stdout


def test_every_kind_of_subject_can_be_stopped():
    """A function on arrays and a derived subject stop in their own code, and are as before afterwards."""

    def arrays(*args: Any) -> Any:
        raise ValueError(len(args))

    class Own(Subject):
        name = "own"

        def forward(self, case: Case, operands: Any) -> torch.Tensor:  # noqa: ARG002  # as every subject
            return operands.input

    law, case = LAWS["forward-exact"], Case.parse(LINE[:-5])
    for subject, function in ((ArraySubject("arrays", arrays), "arrays"), (Own(), "forward")):
        before = dict(vars(subject))
        found = stop(law, subject, case)
        assert found.verdict.status is Status.FAIL
        assert found.traceback is not None
        last = found.traceback
        while last.tb_next is not None:
            last = last.tb_next
        assert last.tb_frame.f_code.co_name == function
        assert found.raised is (function == "arrays")
        assert vars(subject) == before


def test_a_failure_that_is_not_here():
    """A case that passes in this process has a verdict that says so."""
    subject = TorchSubject("own", torch.nn.functional.conv2d)
    assert stop(LAWS["forward-exact"], subject, Case.parse(LINE[:-5])).verdict.status is Status.PASS
