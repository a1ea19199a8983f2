"""Ctrl-C is not lost, wherever Python happens to be when it comes."""

import contextlib
import gc
import io
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from rich.console import Console
from toeplitz_core.testing.run.outputs import Asked, Outputs

from toeplitz_core import conv2d
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.check import carry_out
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.reports.replayed import replay_all
from toeplitz_core.testing.run.plan import Plan
from toeplitz_core.testing.run.record import Record
from toeplitz_core.testing.search.effort import PROFILES
from toeplitz_core.testing.subjects import TorchSubject
from toeplitz_core.testing.support import interrupts


def interrupt(*_: object) -> None:
    """What Ctrl-C does in the middle of any function."""
    raise KeyboardInterrupt


@contextmanager
def in_the_collector() -> Iterator[None]:
    """Every callback of the garbage collector is interrupted."""
    gc.callbacks.append(interrupt)
    try:
        yield
    finally:
        gc.callbacks.remove(interrupt)


def interrupted_at_call(number: int) -> tuple[Callable[..., torch.Tensor], list[object]]:
    """A convolution, one call of which is interrupted where Python drops that; and its calls."""
    calls: list[object] = []

    def convolution(*args: object) -> torch.Tensor:
        calls.append(args)
        if len(calls) == number:
            with in_the_collector():
                gc.collect()
        return conv2d(*args)

    return convolution, calls


def plan_of(convolution: Callable[..., torch.Tensor]) -> Plan:
    """Five cases of each of two steps."""
    return Plan(
        subjects=[TorchSubject("ours", convolution)],
        laws=[LAWS["forward-exact"]],
        dtypes=["float32", "float64"],
        devices=["cpu"],
        profile=PROFILES["gate"],
        examples=5,
    )


def test_a_check_ends_at_the_next_case():
    """An interrupt within the garbage collector ends a check with 130, and what was found before it is printed."""
    convolution, calls = interrupted_at_call(7)
    console = Console(file=io.StringIO(), width=200)
    assert carry_out(Asked(plan_of(convolution)), console, console, Outputs()) == 130
    assert len(calls) == 7
    assert "1 of 2 (each law with each dtype): interrupted" in console.file.getvalue()


def test_a_replay_ends_at_the_next_case():
    """The same for cases that are run again."""
    convolution, calls = interrupted_at_call(2)
    console = Console(file=io.StringIO(), width=200)
    case = Case.parse("input=1x1x3x3 weight=1x1x2x2 law=forward-exact")
    assert replay_all(console, [case] * 4, TorchSubject("ours", convolution), runs=1) == 130
    assert len(calls) == 2
    assert "interrupted after 2 cases: 2 pass" in console.file.getvalue()


def test_what_else_python_drops_is_reported_as_before():
    """Only interrupts are remembered, and a hook that was there gets everything else, then and afterwards."""
    reported = []
    before, sys.unraisablehook = sys.unraisablehook, reported.append

    class Broken:
        def __del__(self) -> None:
            raise ZeroDivisionError

    def interrupted() -> None:
        Broken()
        interrupts.raise_asked()
        assert [unraisable.exc_type for unraisable in reported] == [ZeroDivisionError]
        with in_the_collector():
            gc.collect()
        assert len(reported) == 1

    try:
        with pytest.raises(KeyboardInterrupt):
            keeping(interrupted)
        Broken()
        assert len(reported) == 2
    finally:
        sys.unraisablehook = before


def keeping(function: Callable[[], object]) -> None:
    """Run a function that may be interrupted."""
    with interrupts.kept():
        function()


def interrupt_this_thread() -> None:
    """Ctrl-C, taken by no other thread."""
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)


@pytest.fixture
def default_handler() -> Iterator[None]:
    """Interrupts are neither ignored, as in a job in the background, nor another's."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


signals = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="not run: no signals for one thread here")


@signals
@pytest.mark.usefixtures("default_handler")
@pytest.mark.parametrize(("number", "code"), [(7, 130), (0, 0)])
def test_the_reports_are_written_whatever_is_pressed(
    number: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A second Ctrl-C, or one as a run has just ended, does not cost what was found."""
    write = Outputs.write

    def interrupted(outputs: Outputs, record: Record) -> None:
        interrupt_this_thread()
        write(outputs, record)

    monkeypatch.setattr(Outputs, "write", interrupted)
    convolution, _ = interrupted_at_call(number)
    console, written = Console(file=io.StringIO(), width=200), tmp_path / "run.json"
    assert carry_out(Asked(plan_of(convolution)), console, console, Outputs(json=str(written))) == code
    assert json.loads(written.read_text(encoding="utf-8"))["summary"]["exit_code"] == code


@signals
@pytest.mark.usefixtures("default_handler")
def test_an_interrupt_that_comes_out_as_another_error():
    """A library whose clean-up meets what cannot be, because it was interrupted, is not to blame."""

    def broken() -> None:
        raise AssertionError

    def interrupted() -> None:
        try:
            interrupt_this_thread()
        finally:
            broken()

    with pytest.raises(KeyboardInterrupt):
        keeping(interrupted)
    with pytest.raises(AssertionError):
        keeping(broken)


@signals
@pytest.mark.usefixtures("default_handler")
@pytest.mark.parametrize("nested", [False, True])
def test_an_interrupt_that_somebody_swallows(nested: bool):
    """It is raised when it is asked about, as often as that happens, and at the end at the latest."""
    reached = []

    def interrupted() -> None:
        with contextlib.suppress(KeyboardInterrupt), interrupts.kept() if nested else contextlib.nullcontext():
            interrupt_this_thread()
        for number in range(2):
            with pytest.raises(KeyboardInterrupt):
                interrupts.raise_asked()
            reached.append(number)

    with pytest.raises(KeyboardInterrupt):
        keeping(interrupted)
    assert reached == [0, 1]
    interrupts.raise_asked()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@signals
@pytest.mark.usefixtures("default_handler")
@pytest.mark.parametrize("kept", [True, False])
def test_an_interrupt_is_held_back(kept: bool):
    """It is raised when all is done that must not be interrupted."""
    reached = []

    def interrupted() -> None:
        with interrupts.held():
            with interrupts.held():
                interrupt_this_thread()
                reached.append("within")
            reached.append("between")
        reached.append("after")

    with pytest.raises(KeyboardInterrupt):
        keeping(interrupted) if kept else interrupted()
    assert reached == ["within", "between"]


@signals
@pytest.mark.usefixtures("default_handler")
def test_an_interrupt_that_another_thread_gets_is_held_back():
    """A mask is of one thread: where a library has others, they take the signal, and Python runs the handler here."""
    reached = []

    def interrupted() -> None:
        with interrupts.held():
            assert thread.ident is not None
            signal.pthread_kill(thread.ident, signal.SIGINT)
            for _ in range(1000):
                if interrupts._asked:
                    break
                time.sleep(0.01)
            reached.append("within")
        reached.append("after")

    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            keeping(interrupted)
    finally:
        leave.set()
        thread.join()
    assert reached == ["within"]
