"""The frames of an implementation in a traceback, without those of the machinery that called it."""

from __future__ import annotations

import linecache
import multiprocessing
import re
import traceback
from pathlib import Path

import torch

from toeplitz_core.testing.support.spelling import head_and_tail

# The files of the machinery: this suite, and the parts of torch that call a function that they were given.
_MACHINERY = (
    str(Path(__file__).parents[1]),
    *(str(Path(torch.__file__).parent / name) for name in ("autograd", "_functorch", "utils", "_tensor.py")),
)
# The files in which a worker process begins, and those of the command line, which forks the first one.
_LAUNCHERS = (
    "<string>",
    "<frozen runpy>",
    str(Path(multiprocessing.__file__).parent),
    str(Path(__file__).parents[2] / "__main__.py"),
)
# A long chain of exceptions is shortened to this many characters.
_LENGTH = 8000
# A frame in the output of faulthandler.
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', flags=re.MULTILINE)


def traceback_of(error: BaseException) -> str:
    """The traceback of an exception as Python prints it, without our frames at both ends; empty if no frame is left.

    Examples
    --------
    >>> def kernel():
    ...     return 1 / 0
    >>> try:
    ...     kernel()
    ... except ZeroDivisionError as error:
    ...     print(traceback_of(error).splitlines()[-1])
    ZeroDivisionError: division by zero
    """
    found = traceback.TracebackException.from_exception(error)
    stack = found.stack = _own(found.stack)
    _cut_causes(found)
    return head_and_tail("".join(found.format()), _LENGTH) if stack else ""


def _cut_causes(found: traceback.TracebackException) -> None:
    """Cut our frames off the exceptions that led to this one."""
    for cause in (found.__cause__, found.__context__):
        if cause is not None:
            cause.stack = _own(cause.stack)
            _cut_causes(cause)


def traceback_of_crash(dump: str) -> str:
    """The frames in the output of faulthandler, as in a traceback; empty if no frame is left."""
    frames = [(file, int(line), name) for file, line, name in _FRAME.findall(dump)][::-1]
    while frames and frames[0][0].startswith(_LAUNCHERS):
        del frames[0]
    stack = traceback.StackSummary.from_list(
        [(file, line, name, linecache.getline(file, line).strip()) for file, line, name in frames]
    )
    kept = _own(stack)
    return "".join(("Traceback (most recent call last):\n", *kept.format())) if kept else ""


def _own(stack: traceback.StackSummary) -> traceback.StackSummary:
    """The frames between the first and the last that are not of the machinery; files are relative where possible."""
    frames = list(stack)
    while frames and _is_machinery(frames[0]):
        del frames[0]
    while frames and _is_machinery(frames[-1]):
        del frames[-1]
    # Without columns, Python prints no line of carets.
    return traceback.StackSummary.from_list(
        [(_relative(frame.filename), frame.lineno or 0, frame.name, frame.line) for frame in frames]
    )


def _is_machinery(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(_MACHINERY)


def _relative(file: str) -> str:
    """A path relative to the working directory, if the file is inside."""
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return file
