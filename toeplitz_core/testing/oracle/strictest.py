"""The arithmetic that is assumed of an implementation that declares none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from toeplitz_core.bound import FLOAT64, Arithmetic
from toeplitz_core.testing.oracle.algorithms import MatrixUnits

if TYPE_CHECKING:
    from toeplitz_core.testing.case.case import Case


def strictest(case: Case) -> Arithmetic:
    """The strictest arithmetic of the case's dtype and device, for an implementation without a declaration.

    On a GPU, half precision may run on matrix units, which truncate the numbers that they add. Integers are exact.
    """
    if case.dtype == "int64":
        return Arithmetic(FLOAT64, FLOAT64)
    declared = Arithmetic.of_dtype(case.torch_dtype)
    if torch.device(case.device).type == "cuda" and declared.output != declared.accumulator:
        return replace(declared, algorithms=(MatrixUnits(),))
    return declared
