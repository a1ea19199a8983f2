"""What must hold of a convolution. One file per family."""

from toeplitz_core.testing.laws.base import Law
from toeplitz_core.testing.laws.forward import FORWARD_BOUND, FORWARD_EXACT

LAWS: dict[str, Law] = {law.name: law for law in (FORWARD_EXACT, FORWARD_BOUND)}

__all__ = ["LAWS", "Law"]
