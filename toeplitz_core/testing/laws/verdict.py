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
    """The outcome of a law on a case.

    ``ratio`` is the largest error in units of the bound (None for an exact comparison), ``index`` where it is, with
    ``expected`` and ``actual`` there. ``sharpness`` is the smallest bound / S of the case: 1 proves nothing.
    ``miss_probability`` is the chance that exact data overlooks a wrong row of a linear implementation. ``printed`` is
    what the implementation wrote to its standard streams, ``assumed`` the arithmetic by which it was judged,
    ``kernel`` what computed it, if that is known. ``zeros`` are results that are exactly zero, ``zero_signs`` those of
    them that have another sign than IEEE's sum in index order: no law is about that.
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
    """Where two tensors differ most: the error in units of what is allowed, and how many elements exceed it."""

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
