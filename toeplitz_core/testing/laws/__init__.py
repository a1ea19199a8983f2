"""The laws that every correct convolution satisfies, one file per family."""

from toeplitz_core.testing.laws.algebra import ALGEBRA
from toeplitz_core.testing.laws.contract import CONTRACT, STALE_MEMORY
from toeplitz_core.testing.laws.errors import ERRORS
from toeplitz_core.testing.laws.forward import FORWARD_BOUND, FORWARD_EXACT, NO_CHANNELS, SPECIAL_VALUES
from toeplitz_core.testing.laws.gradients import GRADIENTS
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.matrix import MATRIX
from toeplitz_core.testing.laws.strides import STRIDES

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
        CONTRACT,
        STRIDES,
        STALE_MEMORY,
        ERRORS,
    )
}

__all__ = ["LAWS", "Law"]
