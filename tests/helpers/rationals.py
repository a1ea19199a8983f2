"""Tensors as exact rational numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch


def rationals(values: torch.Tensor) -> list[Fraction]:
    """The elements as exact rational numbers."""
    return [Fraction(v) for v in values.flatten().tolist()]


def rational_array(values: torch.Tensor) -> np.ndarray:
    """The elements as exact rational numbers, in the same shape."""
    return np.array(rationals(values), dtype=object).reshape(values.shape)
