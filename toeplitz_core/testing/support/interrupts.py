"""Ctrl-C and SIGTERM: noted when they come, and raised where the program is ready for it.

Python raises ``KeyboardInterrupt`` wherever it is at that moment. In a callback of the garbage collector, in a
destructor or in the middle of a library it is lost, or comes out as another error. So the handler takes a note, which
:func:`check` raises, and raises at once only where the program waits (:func:`at_once`), or if it is asked again.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

# Seconds within which two signals are one request: ``timeout`` sends SIGTERM to a process, and then to its group.
_ONE_REQUEST = 1.0
# Of the process, like signals.
_requested = False
_raising = False
_depth = 0
_noted_at = 0.0


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Let no interrupt be lost: it is raised by the next :func:`check`, and at the end at the latest.

    Where a signal is ignored, as Ctrl-C is in a job that a script has put into the background, it still is.
    """
    global _depth, _requested, _raising  # noqa: PLW0603
    before: dict[signal.Signals, Any] = {}
    if not _depth:  # nothing of an earlier run is left
        _requested = _raising = False
    if threading.current_thread() is threading.main_thread() and not _depth:
        for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            if signal.getsignal(number) is usual or signal.getsignal(number) == usual:
                before[number] = signal.signal(number, _note)
    _depth += 1
    try:
        yield
        check()
    except Exception as error:
        if _requested:  # whatever comes out instead of the interrupt is one
            raise KeyboardInterrupt from error
        raise
    finally:
        _depth -= 1
        for number, handler in before.items():
            signal.signal(number, handler)
        _requested = _requested and bool(_depth)


def _note(_number: int, _frame: FrameType | None) -> None:
    global _noted_at  # noqa: PLW0603
    now = time.monotonic()
    again = _requested and now - _noted_at > _ONE_REQUEST
    if not _requested:
        _noted_at = now
    request()
    if _raising or again:
        raise KeyboardInterrupt


def request() -> None:
    """Let the next :func:`check` raise ``KeyboardInterrupt``."""
    global _requested  # noqa: PLW0603
    _requested = True


def check() -> None:
    """Raise ``KeyboardInterrupt`` if it was asked for."""
    if _requested:
        raise KeyboardInterrupt


@contextlib.contextmanager
def at_once(raising: bool = True) -> Iterator[None]:
    """Let an interrupt be raised as soon as it comes: for a program that only waits."""
    global _raising  # noqa: PLW0603
    before, _raising = _raising, raising and bool(_depth)
    try:
        if _raising:
            check()
        yield
    finally:
        _raising = before


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    """Ignore interrupts for the seconds that it takes to end in order: that is the answer to any that came before."""
    global _requested  # noqa: PLW0603
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, signal.SIG_IGN)
    _requested = False
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Start a process that is not interrupted: it inherits that until it says what to do then."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock() -> None:
    """Receive signals again, in a process that was started while they were blocked."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
