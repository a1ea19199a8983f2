"""Shared code of the subjects on plain arrays: padded images and the bias."""

from __future__ import annotations

import numpy as np

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.data.operands import Array


def padded_images(
    x: Array,
    weight: Array,
    stride: tuple[int, ...],
    padding: tuple[int, ...] | str,
    dilation: tuple[int, ...],
    groups: int,
) -> tuple[Array, ConvGeometry]:
    """The batch of padded images (an unbatched input becomes a batch of one), and the geometry.

    Examples
    --------
    >>> images, geometry = padded_images(np.ones((1, 1, 3)), np.ones((1, 1, 1, 2)), (1, 1), "same", (1, 1), 1)
    >>> images.tolist(), geometry.output_size
    ([[[[1.0, 1.0, 1.0, 0.0]]]], (1, 3))
    """
    geometry = ConvGeometry.from_weight(weight.shape, x.shape[-2:], stride, padding, dilation, groups)
    batch = x if x.ndim == 4 else x[None]
    images = np.zeros((*batch.shape[:2], *geometry.padded_size), batch.dtype)
    (top, _), (left, _) = geometry.pads
    height, width = geometry.input_size
    images[:, :, top : top + height, left : left + width] = batch
    return images, geometry


def with_bias(y: Array, bias: Array | None, x: Array) -> Array:
    """The result plus the bias, without a batch axis if the input has none."""
    y = y if bias is None else y + bias[:, None, None]
    return y if x.ndim == 4 else y[0]
