"""Ctrl-C: held back while processes talk, ignored while they end, never lost, and asked for by ourselves."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

# Of the process, like the signal.
_asked = False
_holding = 0
_keeping = 0


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Let no interrupt get lost: it is raised by the next :func:`raise_asked`, or at the end at the latest.

    Python raises ``KeyboardInterrupt`` wherever it is at that moment. In a callback of the garbage collector
    (Hypothesis has one) or in a destructor it is printed as unraisable, and the program goes on; in the middle of a
    library it may come out as another error, of a clean-up that meets what cannot be. So the handler takes a note.
    Where interrupts are ignored, as in a job that a script has put into the background, they still are.
    """
    global _asked, _keeping  # noqa: PLW0603
    before = sys.unraisablehook

    def keep(unraisable: UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            interrupt_later()
        else:
            before(unraisable)

    handler = signal.getsignal(signal.SIGINT)
    ours = handler is signal.default_int_handler and threading.current_thread() is threading.main_thread()
    _keeping += 1
    sys.unraisablehook = keep
    if ours:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
        raise_asked()
    except Exception as error:
        if _asked:
            raise KeyboardInterrupt from error
        raise
    finally:
        if ours:
            signal.signal(signal.SIGINT, handler)
        sys.unraisablehook = before
        _keeping -= 1
        if not _keeping:
            _asked = False


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal as Ctrl-C."""
    interrupt_later()
    if not _holding:
        raise KeyboardInterrupt


def interrupt_later() -> None:
    """Let the next :func:`raise_asked` raise ``KeyboardInterrupt``."""
    global _asked  # noqa: PLW0603
    _asked = True


def raise_asked() -> None:
    """Raise ``KeyboardInterrupt`` if it was asked for, again and again until :func:`kept` ends."""
    if _asked:
        raise KeyboardInterrupt


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Hold an interrupt back, while a process is started, or asked something whose answer belongs to it.

    A process that is started inherits that, and is not interrupted before it can say what to do then.
    """
    global _holding  # noqa: PLW0603
    asked = _asked
    _holding += 1  # a mask is of one thread: another, of some library, would take the signal
    try:
        with _masked():
            yield
    finally:
        _holding -= 1
    if not asked and not _holding:
        raise_asked()


@contextlib.contextmanager
def _masked() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGUSR1})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_go() -> None:
    """Receive signals again, in a process that was started while they were held back."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGUSR1})


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    """Without another interrupt, for the seconds that it takes to end in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
