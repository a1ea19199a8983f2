"""Sums and products of float64 with their rounding errors: twice its precision, without a wider format."""

from __future__ import annotations

import torch


def tree_sum(high: torch.Tensor, low: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of pairs over the last axis, halving it again and again."""
    if high.shape[-1] == 0:
        return high.sum(-1), low.sum(-1)
    while high.shape[-1] > 1:
        half = high.shape[-1] // 2
        total, error = two_sum(high[..., :half], high[..., half : 2 * half])
        rest = low[..., :half] + low[..., half : 2 * half] + error
        high = torch.cat((total, high[..., 2 * half :]), dim=-1)
        low = torch.cat((rest, low[..., 2 * half :]), dim=-1)
    return high[..., 0], low[..., 0]


def two_sum(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``a + b`` rounded, and its rounding error (Knuth, TAOCP vol. 2, 4.2.2)."""
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


def two_product(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``a * b`` rounded, and its rounding error, without FMA (Dekker, Numer. Math. 18, 1971, with Veltkamp's split)."""
    product = a * b
    (a1, a2), (b1, b2) = _split(a), _split(b)
    return product, a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)


def _split(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    c = a * (2.0**27 + 1)
    high = c - (c - a)
    return high, a - high
