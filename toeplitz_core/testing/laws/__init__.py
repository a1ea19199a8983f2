"""The laws that every correct convolution satisfies."""

from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.registry import LAWS

__all__ = ["LAWS", "Law"]
