"""NumPy: a view of all windows of an image, and a matrix product with the weight."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from numpy.lib.stride_tricks import sliding_window_view

from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.data.operands import Array
from toeplitz_core.testing.oracle.strictest import strictest
from toeplitz_core.testing.subjects.arrays import ArraySubject
from toeplitz_core.testing.subjects.libraries.padded_images import padded_images, with_bias

if TYPE_CHECKING:
    from toeplitz_core.bound import Arithmetic
    from toeplitz_core.testing.case.case import Case

# NumPy itself has no bfloat16.
_DTYPES = tuple(name for name in CASE_DTYPES if name != "bfloat16")


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...] | str,
    dilation: tuple[int, ...],
    groups: int,
) -> Array:
    """The product of a matrix with one window per row and a matrix with one kernel per column, for each group.

    Examples
    --------
    >>> import numpy as np
    >>> conv2d(np.arange(4.0).reshape(1, 1, 4), np.array([[[[1.0, 10.0]]]]), None, (1, 2), (0, 0), (1, 1), 1)
    array([[[10., 32.]]])
    """
    images, geometry = padded_images(x, weight, stride, padding, dilation, groups)
    (sh, sw), (dh, dw) = geometry.stride, geometry.dilation
    windows = sliding_window_view(images, geometry.kernel_extent, axis=(2, 3))[:, :, ::sh, ::sw, ::dh, ::dw]
    count, positions = len(images), geometry.positions
    channels, outputs = geometry.group_channels, geometry.out_channels // groups
    taps = channels * math.prod(geometry.kernel_size)
    rows = windows.reshape(count, groups, channels, positions, *geometry.kernel_size).transpose(0, 1, 3, 2, 4, 5)
    rows = rows.reshape(count, groups, positions, taps)
    columns = weight.reshape(groups, outputs, taps).transpose(0, 2, 1)
    y = (rows @ columns).transpose(0, 1, 3, 2).reshape(count, geometry.out_channels, *geometry.output_size)
    return with_bias(y, bias, x)


def _arithmetic(case: Case) -> Arithmetic:
    # float16 is multiplied and added in float32 and rounded (measured: 5000 ones add up to 5000). The bias comes last.
    return replace(strictest(case), bias_after_rounding=case.dtype == "float16" and case.bias)


def numpy_windows() -> ArraySubject:
    """NumPy on the CPU, for every dtype that NumPy itself has."""
    return ArraySubject("numpy", conv2d, dtypes=_DTYPES, arithmetic=_arithmetic)
