"""Ctrl-C and SIGTERM: recorded when they arrive, and raised where the program is ready for them.

Python raises ``KeyboardInterrupt`` at any point of the program. In a callback of the garbage collector, in a destructor
or inside a library it is lost or becomes another error. So the handler only records the request, and
:func:`raise_if_requested` raises it. The handler raises at once only where the program waits (:func:`at_once`), or on a
second request.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

# Seconds within which two signals count as one request: ``timeout`` sends SIGTERM to a process, then to its group.
_ONE_REQUEST = 1.0
# Signals belong to the process, so this state is global too.
_requested = False
_raising = False
_depth = 0
_noted_at = 0.0


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Record interrupts so that none is lost.

    The next :func:`raise_if_requested` raises them, at the latest the end of the block.

    A signal that is already ignored stays ignored, such as Ctrl-C in a background job of a script.
    """
    global _depth, _requested, _raising  # noqa: PLW0603
    before: dict[signal.Signals, Any] = {}
    if not _depth:  # forget the requests of an earlier run
        _requested = _raising = False
    if threading.current_thread() is threading.main_thread() and not _depth:
        for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            if signal.getsignal(number) in (usual, _raise_once):
                before[number] = signal.signal(number, _note)
    _depth += 1
    try:
        yield
        raise_if_requested()
    except Exception as error:
        if _requested:  # a library may have turned the interrupt into this error
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


def raise_at_sigterm() -> Callable[[], None]:
    """Let SIGTERM raise ``KeyboardInterrupt``, as Ctrl-C does, unless it has a handler; return what undoes this."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        return lambda: None
    signal.signal(signal.SIGTERM, _raise_once)

    def undo() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    return undo


def _raise_once(_number: int, _frame: FrameType | None) -> None:
    global _noted_at  # noqa: PLW0603
    now = time.monotonic()
    if now - _noted_at > _ONE_REQUEST:
        _noted_at = now
        raise KeyboardInterrupt


def request() -> None:
    """Let the next :func:`raise_if_requested` raise ``KeyboardInterrupt``."""
    global _requested  # noqa: PLW0603
    _requested = True


def raise_if_requested() -> None:
    """Raise ``KeyboardInterrupt`` if one was requested."""
    if _requested:
        raise KeyboardInterrupt


@contextlib.contextmanager
def at_once(raising: bool = True) -> Iterator[None]:
    """Raise interrupts as soon as they arrive; for code that only waits."""
    global _raising  # noqa: PLW0603
    before, _raising = _raising, raising and bool(_depth)
    try:
        if _raising:
            raise_if_requested()
        yield
    finally:
        _raising = before


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    """Ignore interrupts during an orderly shutdown; earlier requests are dropped, since the shutdown answers them."""
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


def ignore() -> None:
    """Ignore interrupts for the rest of this process."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Block interrupts while a process is started; it inherits the block until it calls :func:`unblock`."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock() -> None:
    """Receive signals again in a process that was started while they were blocked."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
