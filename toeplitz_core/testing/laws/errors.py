"""Arguments: what conv2d accepts, and that it refuses the rest with an exception.

Any ``Exception`` is a refusal, an ``AssertionError`` or a ``KeyError`` too: ``F.conv2d`` documents no types, and raises
``RuntimeError``, ``TypeError`` and ``ValueError`` for arguments of the same kind. What ends the program if nobody
expects it (``SystemExit``), and a report of torch that its own assumptions do not hold, are none. A call that is
refused leaves its operands as they were, since whoever catches the exception goes on with them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from toeplitz_core.operator import conv2d
from toeplitz_core.testing.case.call import LAW, Call, TensorSpec
from toeplitz_core.testing.case.case import OPERANDS
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.laws.judging import STATUSES, failure
from toeplitz_core.testing.laws.law import CallLaw
from toeplitz_core.testing.laws.verdict import Status, Verdict, compare_bound

if TYPE_CHECKING:
    from toeplitz_core.testing.case.call import Acceptance
    from toeplitz_core.testing.subjects.interface import Implementation

# Bytes of operands without data that are given some.
_SMALL = 2**24
# How torch words that one of its own assumptions does not hold: a report of a bug rather than a check of arguments.
_INTERNAL = "INTERNAL ASSERT FAILED"


def definition(call: Call) -> Acceptance:
    """What this package's own conv2d makes of a call, which is what the definition and F.conv2d's rules say.

    It is computed on the CPU: what is on the device of the others is moved there, and what is not, to meta. So are
    operands that are all on meta, if they are small: torch's first sum there takes seconds.
    """
    if {operand.device for operand in call.operands} == {"meta"} and call.nbytes <= _SMALL:
        found = _moved(call, "meta").accepted_by(conv2d)
        return found if found.value is None else replace(found, value=found.value.to("meta"))
    return (call if call.device == "cpu" else _moved(call, call.device)).accepted_by(conv2d)


def _moved(call: Call, device: str) -> Call:
    """A call with what is on a device on the CPU, and all else on meta."""
    changes = {}
    for name in OPERANDS:
        value = call[name]
        if isinstance(value, TensorSpec):
            changes[name] = str(replace(value, device="cpu" if value.device == device else "meta"))
    return replace(call, **changes)


def _errors(subject: Implementation, call: Call) -> Verdict:
    answer, right = subject.answer(call), definition(call)
    if answer.status in STATUSES:
        return Verdict(STATUSES[answer.status], call, answer.message, printed=answer.printed)
    if answer.status == "unimplemented" and right.accepted:
        return Verdict(Status.UNSUPPORTED, call, answer.message)
    message = None
    if answer.result is None:
        message = _wrong_refusal(answer.message, right)
    else:
        message = _wrong_result(answer.result, right, call)
    if message is None:
        return Verdict(Status.PASS, call)
    if answer.result is not None and not right.accepted and answer.result.numel():
        subject.restart()  # what it computed may have been written where it should not be
    return Verdict(Status.FAIL, call, message, printed=answer.printed)


def _wrong_refusal(said: str, right: Acceptance) -> str | None:
    """What is wrong with a refusal."""
    if right.accepted:
        return f"refused, but it is valid: {said}"
    return f"refused by an internal assertion: {said}" if _INTERNAL in said else None


def _wrong_result(result: torch.Tensor, right: Acceptance, call: Call) -> str | None:
    """What is wrong with a result."""
    if not right.accepted:
        if right.error is MemoryError and not result.numel():
            return None  # it counts the pixels of images that are not there
        return f"accepted, but it is invalid: {right.message}"
    assert right.value is not None
    if tuple(result.shape) != right.shape:
        return f"returned shape {tuple(result.shape)}, not {right.shape}"
    if result.dtype != right.dtype:
        return f"returned dtype {result.dtype}, not {right.dtype}"
    if result.is_meta != right.value.is_meta:
        return f"returned a result on {result.device.type}, not on {call.operands[0].kind}"
    if result.is_meta:
        return None
    # Whole numbers: whatever the algorithm, its rounding errors do not reach as far as to another of them.
    wide = torch.complex128 if result.is_complex() else torch.float64
    error = (result.to(wide) - right.value.to(wide)).abs()
    worst = compare_bound(error, torch.full_like(error, 0.5))
    return None if worst is None or worst.ratio < 1 else failure(call, worst, result, right.value).message


ERRORS = CallLaw(
    LAW,
    "A valid call returns, however its arguments are spelled; an invalid one raises an exception and leaves its "
    "operands as they were; none ends the process.",
    "an argument that is not checked: memory is read or written that is not there, or a size wraps around",
    _errors,
    recipes=(),
    dtypes=CASE_DTYPES,
    procedure="argument_checks",
)
