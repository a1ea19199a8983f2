"""Correct but unusual implementations, which the suite must never report as wrong."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import torch
from torch import Tensor

from tests.faults.convolution import Convolution, implementation
from toeplitz_core.testing.oracle.strictest import strictest
from toeplitz_core.testing.subjects import TorchSubject


def _random_order(count: int) -> list[int]:
    # The order is the same in every call, because a verdict must not depend on how often a case was tried.
    return random.Random(count).sample(range(count), count)


@implementation
def in_random_order(c: Convolution) -> Tensor:
    """Adds the products in a random order."""
    total = c.zeros(c.accumulator)
    for term in c.terms(c.accumulator, _random_order):
        total = total + term
    return c.with_bias(total)


@implementation
def backwards_from_the_bias(c: Convolution) -> Tensor:
    """Starts with the bias and adds the products from the last to the first."""
    total: Tensor = c.with_bias(c.zeros(c.accumulator)).unflatten(1, (c.groups, -1))
    for term in c.terms(c.accumulator, lambda n: list(range(n))[::-1]):
        total = total + term
    return total.flatten(1, 2)


@implementation
def _compensated(c: Convolution) -> Tensor:
    """Carries the rounding error of each addition to the next (Kahan, 1965)."""
    total, lost = c.zeros(c.accumulator), c.zeros(c.accumulator)
    for term in c.terms(c.accumulator):
        corrected = term - lost
        larger = total + corrected
        lost = (larger - total) - corrected
        total = larger
    return c.with_bias(total)


# The correction of an infinite sum is NaN, which is allowed only if the subject declares compensated sums.
compensated = TorchSubject(
    "compensated", _compensated, arithmetic=lambda case: replace(strictest(case), compensates=True)
)


@implementation
def in_a_tree(c: Convolution) -> Tensor:
    """Adds the products pairwise, as a binary tree."""
    waiting: list[tuple[int, Tensor]] = []
    for term in c.terms(c.accumulator):
        size, total = 1, term
        while waiting and waiting[-1][0] == size:
            size, total = 2 * size, waiting.pop()[1] + total
        waiting.append((size, total))
    total = c.zeros(c.accumulator)
    for _, part in reversed(waiting):
        total = total + part
    return c.with_bias(total)


@implementation
def split_over_channels(c: Convolution) -> Tensor:
    """Sums each channel separately and adds these sums, as split-K does."""
    parts: list[Tensor] = []
    taps = math.prod(c.weight.shape[2:])
    for number, term in enumerate(c.terms(c.accumulator)):
        if number % taps == 0:
            parts.append(term)
        else:
            parts[-1] = parts[-1] + term
    total = c.zeros(c.accumulator)
    for part in parts:
        total = total + part
    return c.with_bias(total)


@implementation
def strided_view_of_a_buffer(c: Convolution) -> Tensor:
    """Sums in the widest format, and returns a channels-last view of a larger buffer full of NaN."""
    y = c.value().to(c.dtype)
    images, channels, height, width = y.shape
    fill = -1 if y.dtype == torch.int64 else float("nan")
    buffer = torch.full((images + 1, height + 2, width + 3, channels + 5), fill, dtype=y.dtype)
    view = buffer[1:, 1:-1, 2:-1, 4:-1].permute(0, 3, 1, 2)
    view.copy_(y)
    return view


CORRECT = (
    "in_random_order",
    "backwards_from_the_bias",
    "compensated",
    "in_a_tree",
    "split_over_channels",
    "strided_view_of_a_buffer",
)
