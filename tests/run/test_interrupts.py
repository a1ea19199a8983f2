"""Ctrl-C and SIGTERM are never lost, wherever Python is when they arrive, and no result is lost."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from rich.console import Console

from toeplitz_core import conv2d
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.checking import carry_out
from toeplitz_core.testing.reports.cases.replayed_cases import replay_all
from toeplitz_core.testing.reports.files.json import JsonReport
from toeplitz_core.testing.run.events import Ended, Event
from toeplitz_core.testing.run.record import Record
from toeplitz_core.testing.subjects import TorchSubject
from toeplitz_core.testing.support import interrupts

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="not run: no signals for one thread here"),
    pytest.mark.usefixtures("default_handlers"),
]
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture
def default_handlers() -> Iterator[None]:
    """Set the default handlers, and check that they are still set afterwards."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    try:
        yield
        assert {number: signal.getsignal(number) for number in usual} == usual
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt(number: int = signal.SIGINT) -> None:
    """Send a signal to this thread."""
    signal.pthread_kill(threading.get_ident(), number)


def in_noted(function: Callable[[], object]) -> None:
    """Run a function while interrupts are noted."""
    with interrupts.noted():
        function()


def test_a_driver_that_sigterm_ends_as_ctrl_c_does(monkeypatch: pytest.MonkeyPatch):
    """SIGTERM raises once, also while interrupts are noted, if it comes twice at once, as ``timeout`` sends it."""
    undo = interrupts.raise_at_sigterm()
    reached: list[str] = []

    def interrupted(name: str) -> None:
        interrupt(signal.SIGTERM)
        reached.append(name)

    try:
        for name, run in (("at once", lambda function: function()), ("noted", in_noted)):
            monkeypatch.setattr(interrupts, "_noted_at", -10.0)
            with pytest.raises(KeyboardInterrupt):
                run(partial(interrupted, name))
            interrupt(signal.SIGTERM)
    finally:
        undo()
    assert reached == ["noted"]  # raised at the end of the block


@BOTH
def test_an_interrupt_is_raised_by_the_next_check(number: int):
    """A signal raises nothing where it arrives. The next check raises, and so does every later one."""
    reached = []

    def interrupted() -> None:
        interrupts.raise_if_requested()
        interrupt(number)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                interrupts.raise_if_requested()
            reached.append("after")

    with pytest.raises(KeyboardInterrupt):
        in_noted(interrupted)
    assert reached == ["after"] * 2
    interrupts.raise_if_requested()  # the interrupt is over


@BOTH
@pytest.mark.parametrize("nested", [False, True])
def test_an_interrupt_is_raised_at_the_end_at_the_latest(number: int, nested: bool):
    """Without a check, or if code swallows the exception of a check, the end of the block raises."""

    def interrupted() -> None:
        with contextlib.suppress(KeyboardInterrupt), interrupts.noted() if nested else contextlib.nullcontext():
            interrupt(number)
            interrupts.raise_if_requested()

    with pytest.raises(KeyboardInterrupt):
        in_noted(interrupted)


@BOTH
def test_who_waits_is_interrupted_at_once(number: int):
    """An interrupt wakes a waiting program; after an interrupt, a wait does not begin."""
    reached = []

    def interrupted() -> None:
        with contextlib.suppress(KeyboardInterrupt), interrupts.at_once():
            interrupt(number)
            reached.append("within")
        with pytest.raises(KeyboardInterrupt), interrupts.at_once():
            reached.append("again")
        with interrupts.at_once(False):
            reached.append("not asked")

    with pytest.raises(KeyboardInterrupt):
        in_noted(interrupted)
    assert reached == ["not asked"]


def test_a_second_interrupt_is_raised_at_once(monkeypatch: pytest.MonkeyPatch):
    """A second Ctrl-C is raised at once, anywhere; two signals in quick succession count as one."""
    reached = []

    def interrupted() -> None:
        interrupt(signal.SIGTERM)  # as timeout does
        interrupt(signal.SIGTERM)
        reached.append("noted")
        monkeypatch.setattr(interrupts, "_ONE_REQUEST", 0.0)
        time.sleep(0.01)
        interrupt(signal.SIGTERM)
        reached.append("never")

    with pytest.raises(KeyboardInterrupt):
        in_noted(interrupted)
    assert reached == ["noted"]


@BOTH
def test_who_ends_in_order_is_not_interrupted(number: int):
    """Signals are ignored while reports are written, and the first interrupt counts as handled."""
    reached = []

    def interrupted() -> None:
        interrupt(number)
        with interrupts.ignored():
            interrupt(number)
            interrupts.raise_if_requested()
        reached.append("after")

    in_noted(interrupted)
    with interrupts.ignored():
        interrupt(number)
    assert reached == ["after"]


def test_an_interrupt_that_comes_out_as_another_error():
    """An error that a library raises because of an interrupt is reported as the interrupt."""

    def broken() -> None:
        raise AssertionError

    def interrupted() -> None:
        interrupt()
        broken()

    with pytest.raises(KeyboardInterrupt):
        in_noted(interrupted)
    with pytest.raises(AssertionError):
        in_noted(broken)


def test_an_interrupt_that_another_thread_gets():
    """A signal that another thread receives is noted too."""

    def interrupted() -> None:
        assert thread.ident is not None
        signal.pthread_kill(thread.ident, signal.SIGINT)
        for _ in range(1000):
            interrupts.raise_if_requested()
            time.sleep(0.01)

    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    thread.start()
    begin = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            in_noted(interrupted)
    finally:
        leave.set()
        thread.join()
    assert time.monotonic() - begin < 5


def test_handlers_of_others_are_left_alone():
    """An ignored Ctrl-C stays ignored, and another library's handler still gets it."""
    handled: list[int] = []
    for handler in (signal.SIG_IGN, lambda number, _: handled.append(number)):
        signal.signal(signal.SIGINT, handler)
        in_noted(interrupt)
        assert signal.signal(signal.SIGINT, signal.default_int_handler) is handler
    assert handled == [signal.SIGINT]


def test_what_was_asked_for_outside_of_a_run_is_forgotten():
    """A request outside of a run does not interrupt the next run."""
    interrupts.request()
    in_noted(interrupts.raise_if_requested)
    with interrupts.at_once():
        pass


def test_a_process_that_starts_is_not_interrupted():
    """Signals are blocked while a process is started, and noted afterwards."""
    reached = []

    def interrupted() -> None:
        with interrupts.blocked():
            interrupt()
            interrupts.raise_if_requested()
            reached.append("within")
        interrupts.raise_if_requested()
        reached.append("after")

    with pytest.raises(KeyboardInterrupt):
        in_noted(interrupted)
    assert reached == ["within"]


def interrupted_at_call(number: int) -> tuple[TorchSubject, list[object]]:
    """A convolution with one call that is interrupted where Python drops the exception; and the list of its calls."""
    calls: list[object] = []

    def in_the_collector(*_: object) -> None:
        interrupt()

    def convolution(*args: object) -> torch.Tensor:
        calls.append(args)
        if len(calls) == number:
            gc.callbacks.append(in_the_collector)
            gc.collect()
            gc.callbacks.remove(in_the_collector)
        return conv2d(*args)

    return TorchSubject("ours", convolution), calls


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The types of exceptions that Python cannot raise."""
    found: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: found.append(unraisable.exc_type))
    return found


def checked(subject: TorchSubject, **options: object) -> tuple[Record, str]:
    """Check five cases in each of two steps, in this process; the record, and what is printed."""
    console = Console(file=io.StringIO(), width=200)
    given = {
        "subject": (subject.name,), "law": "forward-exact", "dtype": ("float32", "float64"), "device": "cpu",
        "examples": 5, "profile": "gate", **options,
    }  # fmt: skip
    record = carry_out(given, {subject.name: subject}, console, console)
    return record, console.file.getvalue()


def test_a_check_ends_at_the_next_case(dropped: list[object]):
    """An interrupt in the garbage collector ends a check with 130, and earlier results are printed."""
    convolution, calls = interrupted_at_call(7)
    record, printed = checked(convolution)
    assert (record.exit_code, record.ended, len(calls)) == (130, "interrupted", 7)
    assert KeyboardInterrupt in dropped
    assert "1 of 2 (each law with each dtype): interrupted" in printed
    assert "to resume this run: python -m toeplitz_core check --resume " in printed


def test_a_replay_ends_at_the_next_case(dropped: list[object]):  # noqa: ARG001  # else pytest would report it
    """An interrupt in the garbage collector ends a replay with 130."""
    convolution, calls = interrupted_at_call(2)
    console = Console(file=io.StringIO(), width=200)
    case = Case.parse("input=1x1x3x3 weight=1x1x2x2 law=forward-exact")
    assert replay_all(console, [case] * 4, convolution, runs=1) == 130
    assert len(calls) == 2
    assert "interrupted after 2 cases: 2 pass" in console.file.getvalue()


@BOTH
@pytest.mark.parametrize(("call", "code"), [(7, 130), (0, 0)])
def test_the_reports_are_written_whatever_is_pressed(
    number: int, call: int, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dropped: list[object]
):
    """A second signal, or a signal at the end of a run, loses no results and changes no exit code."""
    write = JsonReport.__call__

    def interrupted(report: JsonReport, event: Event) -> None:
        if isinstance(event, Ended):
            interrupt(number)
        write(report, event)

    monkeypatch.setattr(JsonReport, "__call__", interrupted)
    convolution, _ = interrupted_at_call(call)
    record, _ = checked(convolution, json=str(tmp_path / "run.json"))
    assert record.exit_code == code
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["summary"]["exit_code"] == code
    assert bool(dropped) == (code == 130)


@BOTH
def test_an_interrupt_before_the_first_step(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An interrupt while subjects are imported ends the run at once, and its report is written."""
    monkeypatch.setattr(
        "toeplitz_core.testing.run.execution.subject_pool.SubjectPool.__getitem__", lambda *_: interrupt(number)
    )
    record, _ = checked(TorchSubject("ours", conv2d), json=str(tmp_path / "run.json"))
    assert (record.exit_code, record.ended, list(record.results)) == (130, "interrupted", [])
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["summary"]["exit_code"] == 130
