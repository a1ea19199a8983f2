"""NaN and infinities in the data: what they reach."""

from __future__ import annotations

from toeplitz_core.testing.case.case import DTYPES
from toeplitz_core.testing.data.recipes import RECIPES
from toeplitz_core.testing.laws.forward import forward
from toeplitz_core.testing.laws.law import Law

SPECIAL_VALUES = Law(
    "special-values",
    "NaN and infinities reach the results that depend on them, and no others.",
    "NaN read from padding or from beside the image; an infinity that a mask swallows",
    forward,
    recipes=tuple(name for name, recipe in RECIPES.items() if recipe.kind == "special"),
    # What infinity times a complex number is, libraries define differently.
    dtypes=tuple(name for name, dtype in DTYPES.items() if dtype.is_floating_point),
    effort=0.4,
)
