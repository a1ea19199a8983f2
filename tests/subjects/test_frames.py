"""Tracebacks of a subject: its own frames, without those of the machinery."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import torch

from toeplitz_core import conv2d
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.gradient_operands import draw_with_gradient
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.subjects import TorchSubject
from toeplitz_core.testing.subjects.frames import traceback_of, traceback_of_crash

CASE = Case.parse("input=1x1x4x4 weight=1x1x2x2")


def helper(_: object) -> None:
    """Raise an exception."""
    raise ValueError("too large")


def raises(*arguments: object) -> None:
    """Raise an exception in another function."""
    helper(arguments[1])


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(_: object, *arguments: object) -> torch.Tensor:
        return conv2d(*arguments)

    @staticmethod
    def backward(_: object, gradient: torch.Tensor) -> None:
        helper(gradient)


def names(traceback: str) -> list[str]:
    """The functions of a traceback, outermost first."""
    return [line.rpartition(" in ")[2] for line in traceback.splitlines() if line.startswith("  File ")]


def test_an_exception_has_the_frames_of_the_subject_alone():
    """The traceback of an exception begins at the subject's function and has file, line and source text."""
    outcome = TorchSubject("raises", raises).run(CASE, draw_with_gradient(CASE))
    assert outcome.message == "raised ValueError: too large"
    assert names(outcome.traceback) == ["raises", "helper"]
    line = Path(__file__).read_text(encoding="utf-8").splitlines().index('    raise ValueError("too large")') + 1
    assert outcome.traceback.endswith(
        f'{Path(__file__).name}", line {line}, in helper\n    raise ValueError("too large")\nValueError: too large\n'
    )


def test_a_backward_pass_has_no_frames_of_the_autograd_engine():
    """An exception of a backward pass begins at the subject's backward function."""
    subject = TorchSubject("backward", _Backward.apply)
    outcome = subject.run(CASE, draw_with_gradient(CASE), "gradients")
    assert names(outcome.traceback) == ["backward", "helper"]


def test_a_kernel_that_calls_the_autograd_engine_ends_with_its_own_line():
    """The frames of torch's autograd engine are cut off at the inner end too."""

    def differentiates(*arguments: torch.Tensor) -> None:
        torch.autograd.grad(arguments[0].sum(), arguments[0])

    outcome = TorchSubject("differentiates", differentiates).run(CASE, draw_with_gradient(CASE))
    assert names(outcome.traceback) == ["differentiates"]


def test_an_exception_without_a_frame_of_the_subject_has_no_traceback():
    """If a function of C raises, no frame belongs to the subject."""
    outcome = TorchSubject("matmul", torch.matmul).run(CASE, draw_with_gradient(CASE))
    assert (outcome.status, outcome.traceback) == ("raised", "")


def test_causes_are_shown():
    """The exception that led to another one is part of its traceback."""
    try:
        try:
            raises(0, 0)
        except ValueError as error:
            raise KeyError("x") from error
    except KeyError as error:
        found = traceback_of(error)
    assert names(found)[:2] == ["test_causes_are_shown", "raises"]
    assert "The above exception was the direct cause" in found


def test_a_failing_verdict_has_the_traceback():
    """The traceback reaches the verdict of a law, also if the subject refuses a valid call."""
    verdict = LAWS["forward-exact"](TorchSubject("raises", raises), CASE)
    assert (verdict.status, names(verdict.traceback)) == (Status.FAIL, ["raises", "helper"])


def test_frames_of_a_crash_are_printed_as_in_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The frames that faulthandler wrote, innermost first, become a traceback without our frames."""
    (tmp_path / "kernels.py").write_text("def conv2d():\n    crash()\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    ours = Path(traceback_of.__code__.co_filename)
    dump = textwrap.dedent(f"""\
        Fatal Python error: Segmentation fault

        Current thread 0x00007f (most recent call first):
          File "{tmp_path}/kernels.py", line 2 in conv2d
          File "{ours}", line 5 in forward
          File "{ours.parents[2] / "__main__.py"}", line 15 in main
          File "<frozen runpy>", line 88 in _run_code
          File "<string>", line 1 in <module>

        Extension modules: numpy (total: 1)
        """)
    assert traceback_of_crash(dump) == (
        'Traceback (most recent call last):\n  File "kernels.py", line 2, in conv2d\n    crash()\n'
    )
    assert traceback_of_crash("") == ""
