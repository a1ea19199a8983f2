"""What must hold of a convolution. One file per family."""

from toeplitz_core.testing.laws.algebra import ALGEBRA
from toeplitz_core.testing.laws.base import Law
from toeplitz_core.testing.laws.contract import MATRIX, MEMORY
from toeplitz_core.testing.laws.errors import ERRORS
from toeplitz_core.testing.laws.forward import FORWARD_BOUND, FORWARD_EXACT, NO_CHANNELS, SPECIAL_VALUES
from toeplitz_core.testing.laws.gradients import GRADIENTS

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        FORWARD_EXACT,
        FORWARD_BOUND,
        MATRIX,
        SPECIAL_VALUES,
        NO_CHANNELS,
        *GRADIENTS,
        *ALGEBRA,
        *MEMORY,
        ERRORS,
    )
}

__all__ = ["LAWS", "Law"]
