"""Sums of products over shared axes, on every dtype and device."""

from __future__ import annotations

import torch


def contract(equation: str, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``einsum`` of two tensors. CUDA has no matrix product for integers, so there products are summed explicitly."""
    if a.is_floating_point() or a.is_complex() or a.device.type == "cpu":
        return torch.einsum(equation, a, b)
    return einsum_by_products(equation, a, b)


def einsum_by_products(equation: str, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``einsum`` as a broadcast product and a sum: slower and larger, but it supports every dtype and device."""
    inputs, kept = equation.split("->")
    names = inputs.split(",")
    axes = kept + "".join(sorted(set("".join(names)) - set(kept)))
    aligned = [
        tensor.permute([own.index(axis) for axis in axes if axis in own])[
            tuple(slice(None) if axis in own else None for axis in axes)
        ]
        for own, tensor in zip(names, (a, b), strict=True)
    ]
    # The extra axis of size 1 ensures that there is an axis to sum over: given none, torch sums over all.
    return (aligned[0] * aligned[1])[..., None].flatten(len(kept)).sum(-1).to(a.dtype)
