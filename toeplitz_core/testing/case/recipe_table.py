"""The recipes: named ways to fill the operands of a case, with the way to judge the results.

``toeplitz_core.testing.data`` draws the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# How results are judged. ``storage`` and ``accumulator``: exactly, because sums are exact in the output's format or in
# the accumulator. ``real``: by the error bound. ``special``: by class (NaN, each infinity, or finite); finite results
# are exact.
Kind = Literal["storage", "accumulator", "real", "special"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A way to fill the operands.

    Parameters
    ----------
    kind : str
        How results are judged.
    statement : str
        A description of the numbers.
    has_gradients : bool
        Whether a gradient of the result can be drawn by the same recipe. This is so for exact numbers of both signs,
        and for real numbers of ordinary size.
    is_drawn : bool
        Whether the search draws it. What is not drawn shows a failure that was found with ``integers``.
    """

    kind: Kind
    statement: str
    has_gradients: bool = False
    is_drawn: bool = True


# The simplest numbers that show a mistake.
ONE_HOT = "one-hot"

RECIPES: dict[str, Recipe] = {
    "integers": Recipe(
        "storage",
        "signed integers whose sums are exact in the output's format: any order, blocking and epilogue gives ==",
        has_gradients=True,
    ),
    "accumulator": Recipe(
        "accumulator",
        "signed integers whose sums are exact in the accumulator: the result is the exact one, rounded once",
        has_gradients=True,
    ),
    "probe": Recipe(
        "accumulator",
        "positive odd inputs too wide for TF32 or bfloat16: rounded, or summed narrowly, they lose the low bit",
    ),
    "probe-weight": Recipe("accumulator", "the probe with the wide numbers in the weight"),
    "normal": Recipe("real", "unit normal numbers", has_gradients=True),
    "wide": Recipe("real", "normal numbers over a wide range of exponents", has_gradients=True),
    "constant": Recipe("real", "one number per tensor, so that rounding errors add up", has_gradients=True),
    "alternating": Recipe("real", "alternating signs, so that sums cancel", has_gradients=True),
    "impulse": Recipe("storage", "a unit impulse in each channel: results are the weights themselves"),
    "overflow": Recipe("real", "sums of magnitudes around the largest number of the format"),
    "subnormal": Recipe("real", "operands or products around and below the smallest normal number"),
    "nonfinite": Recipe("special", "exact integers with NaN, infinities and zeros sprinkled in"),
    ONE_HOT: Recipe("storage", "one 1 in the weight, and one in the pixel that it meets", is_drawn=False),
}
