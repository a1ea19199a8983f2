"""Real numbers, from distributions that reveal rounding errors, overflow and underflow."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from toeplitz_core.bound import FLOAT16, format_of
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Array, Bits, Operands, filled, largest_part, magnitude_of


def real_numbers(case: Case) -> Operands:
    """Real numbers; the input is scaled down by a power of two if a sum could overflow the output's format."""
    fill = FILLS[case.data](case)
    x, weight = filled(case, "input", case.input, fill), filled(case, "weight", case.weight, fill)
    bias = filled(case, "bias", case.weight[:1], fill) if case.bias else None
    threshold = 2.0 ** (format_of(case.torch_dtype).max_exponent - 1)
    # The factors 8 and 4 also cover complex numbers: four products of parts, doubled.
    largest = 8 * largest_part(x) * largest_part(weight) * math.prod(case.weight[1:]) + (
        0 if bias is None else 4 * largest_part(bias)
    )
    if largest >= threshold and (magnitude := magnitude_of(case, x, weight, bias)).numel():
        over = float(magnitude.max()) / threshold
        x = x * 2.0 ** -math.ceil(math.log2(over) + 1) if over >= 1 else x
    return Operands(x, weight, bias, miss_probability=0.0)


def overflowing_numbers(case: Case) -> Operands:
    """Normal numbers, scaled by powers of two until the largest sum of magnitudes is about the largest number."""
    x, weight = filled(case, "input", case.input, Bits.normal), filled(case, "weight", case.weight, Bits.normal)
    bias = filled(case, "bias", case.weight[:1], Bits.normal) if case.bias else None
    limit = format_of(case.torch_dtype).max_exponent
    magnitude = magnitude_of(case, x, weight, None)
    largest = float(magnitude.max()) if magnitude.numel() else 0.0
    bits = Bits(case, "scale")
    # The largest sum is at most 1, 2, 4 or 8 times 2^limit: there is no overflow, or a few, or many.
    room = limit + int(bits.integers(1, 0, 3)[0]) - math.frexp(largest)[1]
    # Both factors are large, or only one. Neither may itself be infinite.
    heights = [limit - math.frexp(largest_part(t))[1] for t in (x, weight)]
    up = [room // 2, min(room, heights[0]), room - min(room, heights[1])][int(bits.integers(1, 0, 2)[0])]
    up = min(up, heights[0])
    x, weight = _raised(x, up), _raised(weight, min(room - up, heights[1]))
    return Operands(x, weight, None if bias is None else _raised(bias, limit - 3), miss_probability=0.0)


def _raised(values: torch.Tensor, exponent: int) -> torch.Tensor:
    """``values * 2^exponent``, in steps whose factors the narrowest format can represent."""
    while exponent:
        step = max(-14, min(14, exponent))
        values, exponent = values * 2.0**step, exponent - step
    return values


def subnormal_numbers(case: Case) -> Operands:
    """Subnormal inputs, or weights, or products of both; biases around the smallest normal number."""
    fmt = format_of(case.torch_dtype)
    low, half = fmt.min_exponent, fmt.min_exponent // 2
    around = (low - fmt.precision, low + 1)
    products = (half - fmt.precision // 2, half + 1)
    kind = int(Bits(case, "scale").integers(1, 0, 2)[0])
    of_x, of_weight = [(around, (-1, 1)), ((-1, 1), around), (products, products)][kind]

    def operand(name: str, shape: tuple[int, ...], exponents: tuple[int, int]) -> torch.Tensor:
        return filled(
            case, name, shape, lambda bits, count: np.ldexp(bits.normal(count), bits.integers(count, *exponents))
        )

    x, weight = operand("input", case.input, of_x), operand("weight", case.weight, of_weight)
    bias = operand("bias", case.weight[:1], around) if case.bias else None
    return Operands(x, weight, bias, miss_probability=0.0)


def _wide(bits: Bits, count: int, *, spread: int) -> Array:
    return np.ldexp(bits.normal(count), bits.integers(count, -spread, spread))


def _constant(bits: Bits, count: int) -> Array:
    # One number per tensor, in [1, 2): constants make rounding errors add up rather than cancel.
    return np.full(count, 1 + float(bits.raw(1)[0]) * 2.0**-32)


def _alternating(bits: Bits, count: int) -> Array:
    # Neighbours cancel except for noise of 2^-8; both operands alternate if the row length is odd.
    return (1 - 2 * (np.arange(count) % 2)) * (1 + bits.normal(count) * 2.0**-8)


def _wide_spread(case: Case) -> int:
    return 4 if format_of(case.torch_dtype) == FLOAT16 else 24


# For recipes that differ only in how they fill an operand: the function that fills it.
FILLS: dict[str, Callable[[Case], Callable[[Bits, int], Array]]] = {
    "normal": lambda case: Bits.normal,  # noqa: ARG005  # same signature as the others
    "wide": lambda case: partial(_wide, spread=_wide_spread(case)),
    "constant": lambda case: _constant,  # noqa: ARG005
    "alternating": lambda case: _alternating,  # noqa: ARG005
}
