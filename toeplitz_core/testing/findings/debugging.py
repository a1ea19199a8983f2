"""A failing case in this process, for a debugger: the frame of the subject in which it went wrong."""

from __future__ import annotations

import contextlib
import functools
import pdb  # noqa: T100  # the command replay --pdb is a debugger
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np
import torch

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.verdict import Verdict
from toeplitz_core.testing.subjects.interface import Subject
from toeplitz_core.testing.subjects.outcome import BrokenContract

# The methods and attributes of a subject that hold the code under test, and those through which laws call it.
_CODE = ("function", "transposed", "forward")
_ENTRANCES = ("perform", "invoke")
_OURS = str(Path(__file__).parents[1])
_LIBRARIES = tuple(str(Path(str(module.__file__)).parent) for module in (torch, np))


@dataclass(frozen=True, slots=True)
class Stop:
    """Where a case went wrong in the code of the subject.

    Parameters
    ----------
    verdict : Verdict
        The verdict on the case in this process.
    traceback : traceback, optional
        Its last frame is the subject's own; None if there is no such frame.
    raised : bool
        Whether the subject raised an exception there. Otherwise a call of the subject returned, the last one of the
        law; its frame still has its variables.
    """

    verdict: Verdict
    traceback: TracebackType | None
    raised: bool


def stop(law: Law, subject: Subject, case: Case | Call) -> Stop:
    """Run a case once in this process, and find where its subject raised, or where its last call returned."""
    errors: list[BaseException] = []
    returned: list[TracebackType] = []

    def entered(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (NotImplementedError, BrokenContract, KeyboardInterrupt):
            raise
        except BaseException as error:
            errors.append(error)
            raise

    def called(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        here = sys._getframe()
        last = TracebackType(None, here, here.f_lasti, here.f_lineno)

        def note(frame: FrameType, event: str, _: Any) -> None:
            nonlocal last
            if event == "return" and _is_own(frame.f_code.co_filename):
                last = TracebackType(None, frame, frame.f_lasti, frame.f_lineno)

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            return function(*args, **kwargs)
        finally:
            sys.setprofile(before)
            returned[:] = [last]

    with _wrapped(subject, _ENTRANCES, entered), _wrapped(subject, _CODE, called):
        verdict = law(subject, case)
    if errors:
        return Stop(verdict, _own(errors[-1].__traceback__), raised=True)
    return Stop(verdict, returned[0] if returned else None, raised=False)


def step_into(law: Law, subject: Subject, case: Case | Call) -> None:
    """Run a case once in this process, in a debugger that stops at each call of the subject.

    ``c`` goes on to the next call, or to the next breakpoint, also in a backward pass; ``q`` ends the run.
    """
    debugger = pdb.Pdb()

    def called(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        sys.settrace(None)  # it may wait for a breakpoint
        if not _is_python(function):
            debugger.set_trace()
            return function(*args, **kwargs)
        debugger.reset()
        sys.settrace(debugger.trace_dispatch)  # stops at the first line of the function
        try:
            return function(*args, **kwargs)
        finally:
            sys.settrace(None)
            if debugger.breaks and not debugger.quitting:
                debugger.set_continue()
                sys.settrace(debugger.trace_dispatch)

    before = sys.gettrace()
    with _wrapped(subject, _CODE, called), contextlib.suppress(KeyboardInterrupt):
        try:
            law(subject, case)
        finally:
            sys.settrace(before)


def look_around(traceback: TracebackType) -> None:
    """Open a debugger in the last frame of a traceback."""
    debugger = pdb.Pdb()
    debugger.reset()
    debugger.interaction(None, traceback)


@contextlib.contextmanager
def _wrapped(subject: Subject, names: tuple[str, ...], call: Callable[..., Any]) -> Iterator[None]:
    """Pass the calls of some attributes of a subject to ``call``, with the replaced function as first argument."""
    given = vars(subject)
    before = {name: getattr(subject, name) for name in names if callable(getattr(subject, name, None))}
    if "function" in before:  # then the method forward is ours
        before.pop("forward", None)
    was = {name: given[name] for name in before if name in given}
    for name, function in before.items():
        setattr(subject, name, functools.partial(call, function))
    try:
        yield
    finally:
        for name in before:
            if name in was:
                setattr(subject, name, was[name])
            else:
                delattr(subject, name)


def _own(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback without our frames at its beginning, and without those of libraries at its end."""
    entries: list[TracebackType] = []
    while traceback is not None:
        entries.append(traceback)
        traceback = traceback.tb_next
    own = [n for n, entry in enumerate(entries) if _is_own(entry.tb_frame.f_code.co_filename)]
    kept = entries[own[0] : own[-1] + 1] if own else entries
    found = None
    for entry in reversed(kept):
        found = TracebackType(found, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return found


@functools.cache
def _is_own(path: str) -> bool:
    """Whether a file is neither ours nor of torch, NumPy or Python's library."""
    if path.startswith(("<", _OURS, *_LIBRARIES)):
        return False
    of_python = sysconfig.get_path("stdlib")
    return not path.startswith(of_python) or "-packages" in path.removeprefix(of_python)


def _is_python(function: Callable[..., Any]) -> bool:
    """Whether a debugger can step into a function."""
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return code is not None or hasattr(function, "__func__")
