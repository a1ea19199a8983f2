"""Kernels that call torch's own convolution, or fail as it does."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from toeplitz_core import conv2d
from toeplitz_core.testing.subjects import TorchSubject


def wrapper(*args: Any) -> Tensor:
    """Torch's own convolution."""
    return functional.conv2d(*args)


def calls_nothing(x: Tensor, w: Tensor, *rest: Any) -> Tensor:
    """Loses all output channels where there are no input channels, as torch does, but does not call torch's."""
    y = conv2d(x, w, *rest)
    return y if w.shape[1] else y.narrow(-3, 0, 0)


def refuses_strides(x: Tensor, w: Tensor, b: Tensor | None, stride: Any, *rest: Any) -> Tensor:
    """Torch's own convolution, with a fault of its own: it refuses a stride."""
    y = functional.conv2d(x, w, b, stride, *rest)
    if max(stride) > 1:
        raise ValueError("stride")
    return y


def raises_where_torch_crashes(x: Tensor, w: Tensor, *rest: Any) -> Tensor:
    """Torch's own convolution of contiguous operands, which does not crash; raises for all others."""
    y = functional.conv2d(x.contiguous(), w.contiguous(), *rest)
    if not x.is_contiguous():
        raise ValueError("not contiguous")
    return y


def adds_the_bias(x: Tensor, w: Tensor, b: Tensor | None, *rest: Any) -> Tensor:
    """Torch's own convolution without a bias, which it adds itself."""
    y = functional.conv2d(x, w, None, *rest)
    return y if b is None else y + b.view(-1, 1, 1)


def adds_it_only_sometimes(x: Tensor, w: Tensor, b: Tensor | None, *rest: Any) -> Tensor:
    """Adds the bias itself too, but not where there are no input channels."""
    if b is not None and x.shape[-3] == 0:
        raise ValueError("no channels")
    return adds_the_bias(x, w, b, *rest)


def adds_it_and_refuses(x: Tensor, w: Tensor, _: Tensor | None, *rest: Any) -> Tensor:
    """Torch's own convolution, called before a fault of its own: it refuses to have no input channels."""
    adds_the_bias(x, w, None, *rest)
    raise ValueError("no channels")


def raises_as_if_it_added(x: Tensor, w: Tensor, b: Tensor | None, *rest: Any) -> Tensor:
    """Fails as the sum with a bias does, but does not call torch's convolution."""
    y = calls_nothing(x, w, None, *rest)
    return y if b is None else y + b.view(-1, 1, 1)


declared = TorchSubject("declared", calls_nothing, calls_torch=True)
denied = TorchSubject("denied", wrapper, calls_torch=False)


def calls_for_nothing(*args: Any) -> Tensor:
    """Fails as torch does, by itself; it calls torch's convolution too, but on other numbers."""
    functional.conv2d(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
    return calls_nothing(*args)


def in_float32(x: Tensor, w: Tensor, b: Tensor | None, *rest: Any) -> Tensor:
    """Torch's own convolution in float32 or complex64, whatever the dtype of the operands is."""
    inside = torch.complex64 if x.is_complex() else torch.float32
    bias = None if b is None else b.to(inside)
    return functional.conv2d(x.to(inside), w.to(inside), bias, *rest).to(x.dtype)


def crashes_beside_it(x: Tensor, w: Tensor, _: Tensor | None, *rest: Any) -> Tensor:
    """Ends the process by itself, where torch's convolution in float32 would, after calling it in float64."""
    functional.conv2d(x.double(), w.double(), None, *rest)
    ctypes.string_at(0)
    return x
