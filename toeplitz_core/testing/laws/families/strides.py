"""Strides say where values lie in memory; they must not change a result."""

from __future__ import annotations

import torch

from toeplitz_core.testing.case.layouts import LAYOUTS
from toeplitz_core.testing.laws.relation import Convolution, Sides, relation_law

# Layouts that the law may choose by itself. The others are used only if a case names them.
_HARMLESS = ("offset", "sliced", "transposed", "permuted", "odd_strides")


def _strides_do_not_matter(c: Convolution) -> Sides:
    """The result is the same in the strides of the case, with each operand alone in other strides, and in none."""
    shapes = {"input": c.case.input, "weight": c.case.weight} | ({"bias": c.case.weight[:1]} if c.case.bias else {})
    plain = c.of(layouts=())
    results = [c.result()]
    for operand, shape in shapes.items():
        legal = [name for name in _HARMLESS if len(shape) in LAYOUTS[name][2]]
        results.append(c.of(layouts=((operand, legal[c.choice(f"layout {operand}", len(legal))]),)))
    return torch.stack(results), torch.stack((plain,) * len(results))


STRIDES = relation_law(
    "strides",
    "The result depends on the values of the operands alone, and not on the strides of any of them.",
    "a kernel that assumes a contiguous operand",
    _strides_do_not_matter,
)
