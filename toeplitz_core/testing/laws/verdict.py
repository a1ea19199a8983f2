"""The verdict on a case: its status, and the comparison that decided it. Judging and printing are elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
import torch

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.laws.difference import WITH_MEMORY, Difference
from toeplitz_core.testing.subjects.outcome import OUTPUT
from toeplitz_core.testing.subjects.symptom import Symptom

# What begins the words of a message about one of several calls of a law.
IN_CALL = ": in the law's call "
# What begins the words about the law that has found the failure of a call.
FOUND_BY = " (found by "
# A number in a message, also as one of a list; not the 16 of float16.
_NUMBER = re.compile(r"[-+]?\b(0x[0-9a-f]+|\d+(\.\d+)?(e[-+]?\d+)?j?|inf|nan)\b", re.IGNORECASE)
# The words for dtypes and devices in messages.
_DTYPES = re.compile(
    r"\b(torch\.)?(b?float\d*|complex\w*|double|half|long|int\d+|char|short|cpu|meta|cuda)\b", re.IGNORECASE
)


class Status(StrEnum):
    """The status of a verdict or a result. Only ``PASS`` counts as a pass."""

    PASS = "pass"
    FAIL = "fail"
    CRASH = "crash"
    TIMEOUT = "timeout"
    UNSUPPORTED = "unsupported"
    MISTRUSTED = "mistrusted"
    KNOWN = "known"
    SHARED = "shared"
    NOT_RUN = "not-run"

    @property
    def is_failure(self) -> bool:
        return self in (Status.FAIL, Status.CRASH, Status.TIMEOUT)


# The statuses of failures that do not fail a run: they are listed, or torch's own convolution has them too.
EXCUSED = (Status.KNOWN, Status.SHARED)


@dataclass(frozen=True, slots=True)
class Excuse:
    """Why a failure does not fail a run.

    Parameters
    ----------
    status : Status
        ``KNOWN`` if an entry of a list of known failures matches it, ``SHARED`` if torch's own convolution, which the
        subject called, fails in the same way.
    name : str
        The name of the entry. If a failure is shared, of the entry for torch, or ``UNLISTED``.
    """

    status: Status
    name: str


# The name of all shared failures that are not on the list of torch's known failures.
UNLISTED = "unlisted"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of a law on a case.

    Parameters
    ----------
    status : Status
        Whether the law holds, or why this is not known.
    case : Case or Call
        The input on which the law was checked.
    message : str
        What is wrong, or why nothing was proven.
    ratio : float, optional
        The largest error in units of the bound; None for an exact comparison.
    index : tuple of int, optional
        The element with the largest error.
    expected, actual : number, optional
        The value that the element should have, and the value that it has. ``actual`` is None if it is not the same in
        every run.
    sharpness : float, optional
        The smallest bound in units of the sum of magnitudes: 1 proves nothing.
    miss_probability : float, optional
        The probability that exact data misses a wrong output row of a linear implementation.
    printed : str
        What the implementation wrote to its standard streams.
    traceback : str
        Where the implementation raised an exception or crashed: its own frames, as Python prints them.
    difference : Difference, optional
        Which elements are wrong.
    assumed : str
        The arithmetic by which the result was judged, in words.
    chosen : tuple of str
        The values of ``--arithmetic`` for the subject, as far as they concern the dtype of the case.
    flags : tuple of str
        The options of the run without a value that a replay needs, such as ``--strict``.
    kernel : str
        The kernel that computed the result, if known.
    zeros, zero_signs : int
        The number of results that are exactly zero, and of those whose sign is not that of IEEE's sum in index order.
        No law checks that sign.
    call : Case, optional
        The call that the verdict is about, under the law that judges such a call alone, if the law of ``case`` makes
        other calls too. It may pass alone: it may need the earlier calls, or other numbers than its recipe draws.
    symptom : Symptom
        What a failure looks like.
    quantity : str
        The quantity that is wrong: the ``output``, or the operand whose gradient is wrong.
    """

    status: Status
    case: Case | Call
    message: str = ""
    ratio: float | None = None
    index: tuple[int, ...] | None = None
    expected: float | complex | None = None
    actual: float | complex | None = None
    sharpness: float | None = None
    miss_probability: float | None = None
    printed: str = ""
    assumed: str = ""
    chosen: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    kernel: str = ""
    zeros: int = 0
    zero_signs: int = 0
    traceback: str = ""
    difference: Difference | None = None
    call: Case | None = None
    symptom: Symptom = Symptom.OTHER
    quantity: str = OUTPUT.of

    @property
    def said(self) -> str:
        """The message, without the law's call that it is about, and without the law that has found it."""
        return self.message.partition(IN_CALL)[0].partition(FOUND_BY)[0]

    @property
    def kind(self) -> str:
        """What a failure looks like, without its numbers. Two failures of a kind may have one reason.

        Examples
        --------
        >>> case = Case.parse("input=1x1x1x1 weight=1x1x1x1")
        >>> Verdict(Status.FAIL, case, "out[0, 1]=3", symptom=Symptom.VALUES, quantity="weight").kind
        'fail values weight'
        >>> Verdict(Status.FAIL, case, "returned shape (1, 0), not (1, 4)", symptom=Symptom.WRONG_SHAPE).kind
        'fail wrong-shape output: returned shape (#, #), not (#, #)'
        """
        found = f"{self.status} {self.symptom} {self.quantity}"
        # The message of a breakpoint has the command that gets there.
        is_told = self.symptom not in (Symptom.VALUES, Symptom.BREAKPOINT)
        return f"{found}: {_NUMBER.sub('#', self.said)}" if is_told else found

    def replace(self, **changes: object) -> Verdict:
        """A copy with some values changed."""
        return replace(self, **changes)  # type: ignore[arg-type]  # dataclasses.replace checks the names at run time

    def unless_repeated(self, others: Iterable[Verdict], how: str) -> Verdict:
        """The verdict, without the values that it names if they differ in other verdicts on the case.

        ``how`` says when they change: ``between runs``.
        """
        was = self.difference
        if was is None or was.varies or all(other.difference == was for other in others):
            return self
        found = was.varying(how)
        message = self.message.replace(str(was), str(found))
        symptom = Symptom.STALE if how == WITH_MEMORY else Symptom.CHANGING
        return self.replace(message=message, actual=None, ratio=None, difference=found, symptom=symptom)


def alike(one: Verdict, other: Verdict) -> bool:
    """Whether two failures look alike, whatever the dtype and the numbers are."""
    if (one.status, one.symptom) != (other.status, other.symptom):
        return False
    if one.symptom in (Symptom.REFUSED, Symptom.OTHER, Symptom.ACCEPTED):
        frames = [verdict.traceback.rstrip().splitlines()[-2:-1] for verdict in (one, other)]
        return _words(one) == _words(other) or (frames[0] == frames[1] != [])
    return True


def same_refusal(one: Verdict, other: Verdict) -> bool:
    """Whether both are breakpoints, or refusals by the same lines, or results detached from the same operands."""
    if one.symptom is other.symptom is Symptom.BREAKPOINT:
        return True
    if one.symptom is other.symptom is Symptom.DETACHED:
        return one.said == other.said
    lines = []
    for verdict in (one, other):
        frames = [line for line in verdict.traceback.splitlines() if line.startswith("  File ")]
        lines.append([line for line in frames if "site-packages" not in line] or frames)
    same = one.symptom is other.symptom is Symptom.REFUSED and _words(one) == _words(other)
    return same and lines[0] == lines[1] != []


def _words(verdict: Verdict) -> str:
    return _DTYPES.sub("#", verdict.kind.partition(": ")[2])


@dataclass(frozen=True, slots=True)
class Comparison:
    """The element where two tensors differ most, and how many elements are wrong.

    Parameters
    ----------
    ratio : float
        The error in units of the allowed error; infinity if equality is required.
    index : tuple of int
        The index of the element.
    wrong, total : int
        The number of elements that exceed the allowed error, and the number of all elements.
    elements : bool tensor
        Which elements exceed it.
    """

    ratio: float
    index: tuple[int, ...]
    wrong: int
    total: int
    elements: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool), compare=False, repr=False)


def compare_exact(actual: torch.Tensor, expected: torch.Tensor) -> Comparison | None:
    """The first of the elements that differ most, with an infinite ratio; None if all are equal. NaN equals nothing."""
    differs = actual != expected
    if not differs.any():
        return None
    error = torch.nan_to_num((actual.double() - expected.double()).abs(), nan=float("inf"), posinf=float("inf"))
    worst = _index(torch.where(differs, error, -1.0))
    return Comparison(float("inf"), worst, int(differs.sum()), differs.numel(), differs)


def compare_bound(error: torch.Tensor, bound: torch.Tensor) -> Comparison | None:
    """The element whose error is largest in units of its bound, or None if there are no elements.

    NaN and infinite errors count as infinite. An error of 0 has ratio 0 even if the bound is 0.
    """
    if error.numel() == 0:
        return None
    ratio = torch.where(error == 0, 0.0, error / bound)
    ratio = torch.nan_to_num(ratio, nan=float("inf"), posinf=float("inf"))
    index = _index(ratio)
    return Comparison(float(ratio[index]), index, int((ratio > 1).sum()), ratio.numel(), ratio > 1)


def _index(values: torch.Tensor) -> tuple[int, ...]:
    """The index of the first of the largest values."""
    return tuple(int(i) for i in np.unravel_index(int(values.argmax()), values.shape))
