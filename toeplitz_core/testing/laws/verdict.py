"""What came of a case: its status, and the comparison that decided it. Comparing, judging and printing are separate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import torch

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case


class Status(StrEnum):
    """Only ``PASS`` counts as a pass."""

    PASS = "pass"
    FAIL = "fail"
    CRASH = "crash"
    TIMEOUT = "timeout"
    UNSUPPORTED = "unsupported"
    MISTRUSTED = "mistrusted"
    KNOWN = "known"
    NOT_RUN = "not-run"

    @property
    def is_failure(self) -> bool:
        return self in (Status.FAIL, Status.CRASH, Status.TIMEOUT)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of a law on a case.

    Parameters
    ----------
    status : Status
    case : Case or Call
    message : str
        What is wrong, or why nothing was proven.
    ratio : float, optional
        The largest error in units of the bound; None for an exact comparison.
    index : tuple of int, optional
        The element where that is, or the first that is not equal.
    expected, actual : number, optional
        The element's value, as it should be and as it is.
    sharpness : float, optional
        The smallest bound in units of the sum of magnitudes: 1 proves nothing.
    miss_probability : float, optional
        The chance that exact data overlooks a wrong output row of a linear implementation.
    printed : str
        What the implementation wrote to its standard streams.
    assumed : str
        The arithmetic by which the result was judged, in words.
    kernel : str
        The kernel that computed the result, if known.
    zeros, zero_signs : int
        Results that are exactly zero, and those of them whose sign is not that of IEEE's sum in index order. No law is
        about that.
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
    kernel: str = ""
    zeros: int = 0
    zero_signs: int = 0

    def replace(self, **changes: object) -> Verdict:
        """A copy with other values."""
        return replace(self, **changes)  # type: ignore[arg-type]  # dataclasses.replace checks the names at run time


@dataclass(frozen=True, slots=True)
class Comparison:
    """Where two tensors differ most.

    Parameters
    ----------
    ratio : float
        The error in units of what is allowed; infinity where equality is asked for.
    index : tuple of int
        The element.
    wrong, total : int
        How many elements exceed what is allowed, of how many.
    """

    ratio: float
    index: tuple[int, ...]
    wrong: int
    total: int


def compare_exact(actual: torch.Tensor, expected: torch.Tensor) -> Comparison | None:
    """The first element that is not equal (NaN equals nothing), or None. Ratio infinity."""
    differs = actual != expected
    if not differs.any():
        return None
    first = tuple(int(i) for i in differs.nonzero()[0])
    return Comparison(float("inf"), first, int(differs.sum()), differs.numel())


def compare_bound(error: torch.Tensor, bound: torch.Tensor) -> Comparison | None:
    """The element whose error is largest in units of its bound, or None if there are no elements.

    NaN and infinite errors are infinitely large; no error is none even where the bound is 0.
    """
    if error.numel() == 0:
        return None
    ratio = torch.where(error == 0, 0.0, error / bound)
    ratio = torch.nan_to_num(ratio, nan=float("inf"), posinf=float("inf"))
    where = int(ratio.argmax())
    index = tuple(int(i) for i in np.unravel_index(where, ratio.shape))
    return Comparison(float(ratio.flatten()[where]), index, int((ratio > 1).sum()), ratio.numel())
