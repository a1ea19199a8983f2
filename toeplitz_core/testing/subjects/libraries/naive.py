"""The textbook convolution: for each output pixel, the products of its window are added in index order."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import torch

from toeplitz_core.testing.data.operands import Array
from toeplitz_core.testing.subjects.libraries.padded_images import padded_images
from toeplitz_core.testing.subjects.pytorch.subject import TorchSubject


def conv2d(
    input: torch.Tensor,  # noqa: A002  # as F.conv2d
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: tuple[int, ...] = (1, 1),
    padding: tuple[int, ...] | str = (0, 0),
    dilation: tuple[int, ...] = (1, 1),
    groups: int = 1,
) -> torch.Tensor:
    """Each output starts with its bias and adds one product at a time, by channel, row and column of the kernel.

    Half precision is summed in float32 and rounded once, everything else in its own dtype.

    Examples
    --------
    >>> conv2d(torch.arange(4.0).view(1, 1, 4), torch.tensor([[[[1.0, 10.0]]]]), stride=(1, 2))
    tensor([[[10., 32.]]])
    """
    x, w, b = (None if t is None else _widened(t) for t in (input, weight, bias))
    assert x is not None  # for the type checker
    assert w is not None
    images, geometry = padded_images(x, w, stride, padding, dilation, groups)
    y = np.zeros((len(images), geometry.out_channels, *geometry.output_size), images.dtype)
    if b is not None:
        y += b[:, None, None]
    outputs, channels = geometry.out_channels // groups, geometry.group_channels
    (dh, dw), (sh, sw) = geometry.dilation, geometry.stride
    height, width = geometry.kernel_extent
    for group, oh, ow in product(range(groups), *map(range, geometry.output_size)):
        rows, columns = slice(oh * sh, oh * sh + height, dh), slice(ow * sw, ow * sw + width, dw)
        window = images[:, group * channels : (group + 1) * channels, rows, columns]
        chosen = slice(group * outputs, (group + 1) * outputs)
        y[:, chosen, oh, ow] = _added_in_order(y[:, chosen, oh, ow], window[:, None] * w[chosen])
    found = torch.from_numpy(y if input.ndim == 4 else y[0])
    return found.to(input.dtype)


def _widened(values: torch.Tensor) -> Array:
    half = values.dtype in (torch.float16, torch.bfloat16)
    array: Array = (values.float() if half else values).numpy()
    return array


def _added_in_order(start: Array, products: Array) -> Array:
    """Add the products of the last three axes to ``start`` one by one; ``numpy.sum`` would add pairs and blocks."""
    terms = np.concatenate((start[..., None], products.reshape(*start.shape, math.prod(products.shape[2:]))), axis=-1)
    sums: Array = np.add.accumulate(terms, axis=-1)[..., -1]
    return sums


def naive() -> TorchSubject:
    """The textbook loops on the CPU, for every dtype."""
    return TorchSubject("naive", conv2d, devices=("cpu",), differentiable=False)
