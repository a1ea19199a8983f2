"""Strides say where numbers lie, and nothing of what they are."""

from __future__ import annotations

import torch

from toeplitz_core.testing.case.layouts import LAYOUTS
from toeplitz_core.testing.laws.relation import Convolution, Sides, relation_law

# Layouts that a law may choose where a case names none; all others are for those who asked for them.
_HARMLESS = ("offset", "sliced", "transposed", "permuted", "odd_strides")


def _strides_do_not_matter(c: Convolution) -> Sides:
    """The result of a case in its strides, and of its operands apart in others, is that where no strides are named."""
    shapes = {"input": c.case.input, "weight": c.case.weight} | ({"bias": c.case.weight[:1]} if c.case.bias else {})
    plain = c.of(layouts=())
    results = [c.result()]
    for operand, shape in shapes.items():
        legal = [name for name in _HARMLESS if len(shape) in LAYOUTS[name][2]]
        results.append(c.of(layouts=((operand, legal[c.choice(f"layout {operand}", len(legal))]),)))
    return torch.stack(results), torch.stack((plain,) * len(results))


STRIDES = relation_law(
    "strides",
    "The same values in any strides, each operand apart, give the same result.",
    "a kernel that takes an operand for contiguous",
    _strides_do_not_matter,
)
