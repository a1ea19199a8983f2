"""The simplest numbers that show a mistake: one 1 in the weight, and one in the image, where they meet.

At most one product of the convolution is 1, and all others are 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.recipe_table import ONE_HOT
from toeplitz_core.testing.data.operands import Operands


def one_hot(case: Case) -> Operands:
    """Operands with one 1 each. The bias has it in the channel of the product.

    The seed counts the products: taps first, then positions and images. If the tap reads padding there, the pixel
    nearest to it is 1 instead; then the product is elsewhere or nowhere.
    """
    tap, pixel, _ = _product(case)
    return Operands(
        _with_one(case, "input", case.input, pixel),
        _with_one(case, "weight", case.weight, tap),
        _with_one(case, "bias", case.weight[:1], tap[:1]) if case.bias else None,
        miss_probability=1 - 1 / max(1, _count(case)),
    )


def _count(case: Case) -> int:
    """The number of products of a call, with those of the padding."""
    return math.prod(case.weight) * (1 if case.batch is None else case.batch) * math.prod(case.geometry.output_size)


def one_hot_gradient(case: Case) -> torch.Tensor:
    """The gradient of the result, with a 1 where the product is."""
    return _with_one(case, "grad", case.output_shape, _product(case)[2])


def _product(case: Case) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """The indices of a product in the weight, in the input and in the result; zeros if there is none."""
    g = case.geometry
    places = (1 if case.batch is None else case.batch, *g.output_size)
    if not math.prod(case.weight) or not math.prod(places):
        return (0,) * len(case.weight), (0,) * len(case.input), (0,) * len(case.output_shape)
    number, tap_number = divmod(case.seed, math.prod(case.weight))
    tap = tuple(map(int, np.unravel_index(tap_number, case.weight)))
    image, *window = map(int, np.unravel_index(number % math.prod(places), places))
    channel = tap[0] // (g.out_channels // g.groups) * g.group_channels + tap[1]
    pixel = [
        min(max(0, at * step + k * dilation - before), size - 1)
        for at, step, k, dilation, (before, _), size in zip(
            window, g.stride, tap[2:], g.dilation, g.pads, g.input_size, strict=True
        )
    ]
    front = () if case.batch is None else (image,)
    return tap, (*front, channel, *pixel), (*front, tap[0], *window)


def _with_one(case: Case, operand: str, shape: tuple[int, ...], index: tuple[int, ...]) -> torch.Tensor:
    """Zeros and a 1; where the layout of an operand repeats a part of it, that part has the 1."""
    values = torch.zeros(shape, dtype=case.torch_dtype)
    if not values.numel():
        return values
    repeated = {"expanded": 1, "repeated": len(shape)}.get(str(case.layout(operand)), 0)
    values[(slice(None),) * repeated + index[repeated:]] = 1
    return values


def one_hot_cases(case: Case, count: int) -> Iterator[Case]:
    """The case with up to this many different products in turn, from the first to the last one."""
    for seed in dict.fromkeys(np.linspace(0, max(0, _count(case) - 1), count).round().astype(int).tolist()):
        yield case.replace(data=ONE_HOT, seed=seed)
