"""Convolutions in rational numbers, data with large rounding errors, and the bounds of the oracle."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from hypothesis import strategies as st

from tests.helpers.accumulators import Rounding
from toeplitz_core import ConvGeometry
from toeplitz_core.bound import FLOAT32, Algorithm, Arithmetic
from toeplitz_core.testing.oracle.results import expected

SINGLE = Arithmetic(FLOAT32, FLOAT32)
ROUND = Rounding(FLOAT32)
Numbers = np.ndarray  # of Fractions


def bounds(g: ConvGeometry, x: torch.Tensor, weight: torch.Tensor, *algorithms: Algorithm) -> torch.Tensor:
    """The bound of the oracle for float32 arithmetic."""
    arithmetic = replace(SINGLE, algorithms=algorithms)
    return expected(g, x, weight, None, algorithms=algorithms).bound(arithmetic, has_bias=False)


def data(shape: tuple[int, ...], kind: str, shuffle: random.Random) -> torch.Tensor:
    """Numbers of a kind that makes rounding errors large."""
    count = math.prod(shape)
    if kind == "constant":
        values = [1 + shuffle.random()] * count
    elif kind == "alternating":
        values = [(-1) ** i * (1 + shuffle.random() * 2**-8) for i in range(count)]
    elif kind == "wide":
        values = [shuffle.uniform(-1, 1) * 2.0 ** shuffle.randint(-20, 20) for _ in range(count)]
    elif kind == "spike":  # one large number among tiny ones in its tile
        values = [shuffle.uniform(-1, 1) * 2.0**-20 for _ in range(count)]
        if count:
            values[shuffle.randrange(count)] = shuffle.uniform(1, 2)
    elif kind == "tiny":
        values = [shuffle.uniform(-1, 1) * 2.0**-75 for _ in range(count)]
    else:
        values = [shuffle.uniform(-1, 1) for _ in range(count)]
    return torch.tensor(values, dtype=torch.float32).reshape(shape)


KINDS = st.sampled_from(("normal", "constant", "alternating", "wide", "spike", "tiny"))


def exactly(x: Numbers, weight: Numbers) -> Numbers:
    """The exact convolution of one image and one output channel, from the definition."""
    size = [n - k + 1 for n, k in zip(x.shape[1:], weight.shape[1:], strict=True)]
    result = np.full(size, Fraction(0), dtype=object)
    for place in np.ndindex(*size):
        window = tuple(slice(p, p + k) for p, k in zip(place, weight.shape[1:], strict=True))
        result[place] = (x[(slice(None), *window)] * weight).sum()
    return result
