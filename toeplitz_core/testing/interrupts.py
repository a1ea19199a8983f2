"""Ctrl-C: held back while a process starts, ignored while one ends, never lost, and asked for by ourselves."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_lost = False


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Hold Ctrl-C back while a process is started, which would be interrupted before it can say what to do then.

    The process inherits that: a worker ignores interrupts anyway.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Remember an interrupt that Python drops, for :func:`raise_lost`.

    Python raises ``KeyboardInterrupt`` wherever it is at that moment. In a callback of the garbage collector
    (Hypothesis has one) or in a destructor it is printed as unraisable, and the program goes on.
    """
    before = sys.unraisablehook

    def keep(unraisable: UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            interrupt_later()
        else:
            before(unraisable)

    sys.unraisablehook = keep
    try:
        yield
    finally:
        sys.unraisablehook = before


def interrupt_later() -> None:
    """Let the next :func:`raise_lost` raise ``KeyboardInterrupt``."""
    global _lost  # noqa: PLW0603  # of the process, like the signal
    _lost = True


def raise_lost() -> None:
    """Raise ``KeyboardInterrupt`` if one was lost, or put off."""
    global _lost  # noqa: PLW0603
    if _lost:
        _lost = False
        raise KeyboardInterrupt
