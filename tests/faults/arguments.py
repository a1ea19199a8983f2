"""Faults of argument checks: convolutions with the right result that accept or refuse the wrong calls."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from torch import Tensor

from toeplitz_core.operator import conv2d
from toeplitz_core.testing.subjects import TorchSubject


def _crops(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, padding: Any = 0, **others: Any
) -> Tensor:
    h_w = tuple(padding) * (3 - len(padding)) if isinstance(padding, tuple | list) else (padding, padding)
    if len(h_w) == 2 and all(type(value) is int for value in h_w):
        height, width = (max(0, -value) for value in h_w)
        x = x[..., height : x.shape[-2] - height, width : x.shape[-1] - width]
        padding = tuple(max(0, value) for value in h_w)
    return conv2d(x, weight, bias, *rest, padding=padding, **others)


def _forgives(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **others: Any) -> Tensor:
    if isinstance(bias, Tensor) and bias.dim() == 1 and len(bias) > len(weight) > 0:
        bias = bias[: len(weight)]
    return conv2d(x, weight, bias, *rest, **others)


def _insists(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: Any = 1, **others: Any) -> Tensor:
    if isinstance(stride, list):
        raise TypeError("stride must be a tuple")
    return conv2d(x, weight, bias, stride=stride, **others)


def _leaves(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **others: Any) -> Tensor:
    if isinstance(weight, Tensor) and weight.dim() == 4 and 0 in weight.shape[2:]:
        raise SystemExit("empty kernel")
    return conv2d(x, weight, bias, *rest, **others)


def _dies(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, dilation: Any = 1, **others: Any) -> Tensor:
    if repr(dilation) in ("0", "(0, 0)", "[0]"):
        os.abort()
    return conv2d(x, weight, bias, dilation=dilation, **others)


def _spreads(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **others: Any) -> Tensor:
    if isinstance(bias, Tensor) and bias.dim() == 1 and len(bias) == 1 and isinstance(weight, Tensor) and weight.dim():
        bias = bias.expand(len(weight))
    return conv2d(x, weight, bias, *rest, **others)


def _truncates(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: Any = 1, **others: Any) -> Tensor:
    if isinstance(stride, float) and math.isfinite(stride):
        stride = int(stride)
    return conv2d(x, weight, bias, stride=stride, **others)


def _refuses(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: Any = 1, **others: Any) -> Tensor:
    if isinstance(stride, np.integer):
        raise TypeError("stride must be an int")
    return conv2d(x, weight, bias, stride=stride, **others)


def _clears(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **others: Any) -> Tensor:
    try:
        return conv2d(x, weight, bias, *rest, **others)
    except ValueError:
        if isinstance(weight, Tensor):
            weight.zero_()
        raise


# A negative padding crops.
crops_by_negative_padding = TorchSubject("crops", _crops, checks_arguments=True)
# A bias that is too long is truncated.
cuts_a_long_bias = TorchSubject("forgives", _forgives, checks_arguments=True)
# A bias with one element is added to every channel.
spreads_a_bias_of_one = TorchSubject("spreads", _spreads, checks_arguments=True)
# A float stride is truncated to an integer.
truncates_a_float_stride = TorchSubject("truncates", _truncates, checks_arguments=True)
# Only a Python int is accepted as stride, not a NumPy integer.
refuses_an_integer_of_numpy = TorchSubject("refuses", _refuses, checks_arguments=True)
# A refused call sets the weight to zero.
clears_the_weight_of_what_it_refuses = TorchSubject("clears", _clears, checks_arguments=True)
# A list is refused as stride.
refuses_a_list = TorchSubject("insists", _insists, checks_arguments=True)
# A kernel without taps ends the program with exit code 1.
exits_for_an_empty_kernel = TorchSubject("leaves", _leaves, checks_arguments=True)
# A dilation of 0 aborts the process.
aborts_without_dilation = TorchSubject("dies", _dies, checks_arguments=True)
