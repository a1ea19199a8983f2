"""Arguments: conv2d accepts the valid calls and refuses all others with an exception.

Any ``Exception`` counts as a refusal, including ``AssertionError`` and ``KeyError``: ``F.conv2d`` documents no
exception types, and raises ``RuntimeError``, ``TypeError`` and ``ValueError`` for arguments of the same kind. Two
things do not count: an exception that ends the program unless it is caught (``SystemExit``), and torch's report that
one of its internal assertions failed. A refused call must leave its operands unchanged, because the caller may catch
the exception and go on using them.
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
from toeplitz_core.testing.subjects.symptom import Symptom

if TYPE_CHECKING:
    from toeplitz_core.testing.case.call import Acceptance
    from toeplitz_core.testing.subjects.interface import Implementation
    from toeplitz_core.testing.subjects.outcome import Answer

# Operands on meta with at most this many bytes are given data.
_SMALL = 2**24
# Torch's wording for a failed internal assertion: that reports a bug and is not a check of arguments.
_INTERNAL = "INTERNAL ASSERT FAILED"


def definition(call: Call) -> Acceptance:
    """The outcome that the definition and the rules of F.conv2d require, computed by this package's own conv2d.

    It is computed on the CPU. Operands on the call's device are moved to the CPU, and operands on other devices to
    meta, so that they still differ. Small operands that are all on meta are also computed on the CPU, because torch's
    first sum on meta takes seconds.
    """
    if {operand.device for operand in call.operands} == {"meta"} and call.nbytes <= _SMALL:
        found = _moved(call, "meta").accepted_by(conv2d)
        return found if found.value is None else replace(found, value=found.value.to("meta"))
    return (call if call.device == "cpu" else _moved(call, call.device)).accepted_by(conv2d)


def _moved(call: Call, device: str) -> Call:
    """The call with the operands of one device on the CPU and all others on meta."""
    changes = {}
    for name in OPERANDS:
        value = call[name]
        if isinstance(value, TensorSpec):
            changes[name] = str(replace(value, device="cpu" if value.device == device else "meta"))
    return replace(call, **changes)


def _errors(subject: Implementation, call: Call) -> Verdict:
    answer, right = subject.answer(call), definition(call)
    if answer.status in STATUSES:
        found = Verdict(STATUSES[answer.status], call, answer.message, symptom=answer.symptom)
        return found.replace(printed=answer.printed, traceback=answer.traceback)
    if answer.status == "unimplemented" and right.accepted:
        return Verdict(Status.UNSUPPORTED, call, answer.message)
    wrong = _wrong_refusal(call, answer, right) if answer.result is None else _wrong_result(answer.result, right, call)
    if wrong is None:
        return Verdict(Status.PASS, call)
    if answer.result is not None and not right.accepted and answer.result.numel():
        subject.restart()  # the result may have been written out of bounds
    return wrong.replace(printed=answer.printed)


def _wrong_refusal(call: Call, answer: Answer, right: Acceptance) -> Verdict | None:
    """The failure if a refusal is wrong; None if it is right."""
    why = "refused, but it is valid" if right.accepted else "refused by an internal assertion"
    if right.accepted or _INTERNAL in answer.message:
        message = f"{why}: {answer.message}"
        return Verdict(Status.FAIL, call, message, traceback=answer.traceback, symptom=Symptom.REFUSED)
    return None


def _wrong_result(result: torch.Tensor, right: Acceptance, call: Call) -> Verdict | None:
    """The failure if a result is wrong; None if it is right."""
    if not right.accepted:
        if right.error is MemoryError and not result.numel():
            return None  # the definition counts the pixels of images in an empty batch
        message = f"accepted, but it is invalid: {right.message}"
        return Verdict(Status.FAIL, call, message, symptom=Symptom.ACCEPTED)
    assert right.value is not None
    if tuple(result.shape) != right.shape:
        message = f"returned shape {tuple(result.shape)}, not {right.shape}"
        return Verdict(Status.FAIL, call, message, symptom=Symptom.WRONG_SHAPE)
    if result.dtype != right.dtype:
        message = f"returned dtype {result.dtype}, not {right.dtype}"
        return Verdict(Status.FAIL, call, message, symptom=Symptom.WRONG_DTYPE)
    if result.is_meta != right.value.is_meta:
        return Verdict(Status.FAIL, call, f"returned a result on {result.device.type}, not on {call.operands[0].kind}")
    if result.is_meta:
        return None
    # The exact results are integers. With any algorithm, rounding errors stay below the distance to another integer.
    wide = torch.complex128 if result.is_complex() else torch.float64
    error = (result.to(wide) - right.value.to(wide)).abs()
    worst = compare_bound(error, torch.full_like(error, 0.5))
    return None if worst is None or worst.ratio < 1 else failure(call, worst, result, right.value)


ERRORS = CallLaw(
    LAW,
    "A valid call returns, however its arguments are spelled. An invalid call raises an exception and leaves its "
    "operands unchanged. No call ends the process.",
    "an unchecked argument: memory out of bounds is read or written, or a size wraps around",
    _errors,
    recipes=(),
    dtypes=CASE_DTYPES,
    procedure="argument_checks",
)
