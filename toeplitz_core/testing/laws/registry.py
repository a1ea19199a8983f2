"""All laws by name. Each family has a file in ``families``."""

from toeplitz_core.testing.laws.families.algebra import ALGEBRA
from toeplitz_core.testing.laws.families.contract import CONTRACT, STALE_MEMORY
from toeplitz_core.testing.laws.families.errors import ERRORS
from toeplitz_core.testing.laws.families.forward import FORWARD_BOUND, FORWARD_EXACT, NO_CHANNELS, SPECIAL_VALUES
from toeplitz_core.testing.laws.families.gradients import GRADIENTS
from toeplitz_core.testing.laws.families.in_bounds import IN_BOUNDS
from toeplitz_core.testing.laws.families.matrix import MATRIX
from toeplitz_core.testing.laws.families.strides import STRIDES
from toeplitz_core.testing.laws.law import Law

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
        IN_BOUNDS,
        ERRORS,
    )
}
