"""What the suite needs of an implementation under test."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from toeplitz_core.bound import FLOAT64, Arithmetic

if TYPE_CHECKING:
    import torch

    from toeplitz_core.testing.case import Case
    from toeplitz_core.testing.data import Operands


class Subject(ABC):
    """An implementation of conv2d. Subclasses say what they support, how they compute, and compute."""

    name: str

    def unsupported(self, case: Case) -> str | None:
        """Why the implementation does not claim to handle a case; None if it does. It is then not called."""
        return None

    def arithmetic(self, case: Case) -> Arithmetic:
        """How it computes: what its error is judged by. The strictest for the dtype unless it declares otherwise."""
        if case.dtype == "int64":
            return Arithmetic(FLOAT64, FLOAT64)
        return Arithmetic.strictest(case.torch_dtype)

    @abstractmethod
    def forward(self, case: Case, operands: Operands) -> torch.Tensor:
        """The result for a case. ``NotImplementedError`` means unsupported; any other exception is a failure."""
