"""What must hold of a convolution. One file per family."""

from toeplitz_core.testing.laws.base import Law
from toeplitz_core.testing.laws.forward import FORWARD_BOUND, FORWARD_EXACT, SPECIAL_VALUES

LAWS: dict[str, Law] = {law.name: law for law in (FORWARD_EXACT, FORWARD_BOUND, SPECIAL_VALUES)}

__all__ = ["LAWS", "Law"]
