"""Faults of bounds: the right result, and an access to memory before or behind an operand."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.faults.gradients import backward, is_plain, right
from toeplitz_core.testing.subjects import ArraySubject


def _behind(tensor: Tensor, elements: int = 0) -> int:
    """The address that many elements behind the last one."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr() + (last + 1 + elements) * tensor.element_size()


def reads_behind_its_weight(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Reads one element behind its weight, and drops it."""
    if is_plain(x, weight, bias) and weight.numel():
        ctypes.string_at(_behind(weight), weight.element_size())
    return right(x, weight, bias, *rest)


def reads_before_its_input(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Reads the element before its input if the first window begins in padding, and drops it."""
    padding = rest[1] if len(rest) > 1 else 0
    if is_plain(x, weight, bias) and x.numel() and padding not in (0, (0, 0), "valid"):
        ctypes.string_at(x.data_ptr() - x.element_size(), x.element_size())
    return right(x, weight, bias, *rest)


def reads_a_row_behind_its_input(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Reads an element more than a page behind its input, where the next row of a large image would be."""
    if is_plain(x, weight, bias) and x.numel():
        ctypes.string_at(_behind(x, 1100), x.element_size())
    return right(x, weight, bias, *rest)


def writes_behind_its_bias(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Writes the element behind its bias as it was."""
    if bias is not None and is_plain(x, weight, bias):
        ctypes.memmove(_behind(bias), _behind(bias), bias.element_size())
    return right(x, weight, bias, *rest)


def reads_behind_the_incoming_gradient(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The backward pass reads one element behind the gradient of the result, and drops it."""

    def change(grad: Tensor) -> Tensor:
        if is_plain(grad) and grad.numel():
            ctypes.string_at(_behind(grad), grad.element_size())
        return grad

    return backward(right(x, weight, bias, *rest), change)


def _of_arrays(x: Any, weight: Any, bias: Any, *rest: Any) -> Any:
    if weight.size:
        ctypes.string_at(_behind(torch.from_numpy(weight)), weight.itemsize)
    given = (None if array is None else torch.from_numpy(array) for array in (x, weight, bias))
    return np.asarray(right(*given, *rest))


# Reads one element behind its weight, an array of NumPy.
reads_behind_its_array = ArraySubject("reads_behind_its_array", _of_arrays, dtypes=("float32", "float64"))
