"""SciPy: ``scipy.signal.correlate2d`` for each pair of channels."""

from __future__ import annotations

from itertools import product

import numpy as np

from toeplitz_core.testing.case.dtypes import CASE_DTYPES, DTYPES
from toeplitz_core.testing.data.operands import Array
from toeplitz_core.testing.subjects.arrays import ArraySubject
from toeplitz_core.testing.subjects.libraries.padded_images import padded_images, with_bias

# correlate2d has no half precision.
_DTYPES = tuple(name for name in CASE_DTYPES if DTYPES[name].torch.itemsize > 2)


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...] | str,
    dilation: tuple[int, ...],
    groups: int,
) -> Array:
    """The sum of the correlations of all channels, subsampled by the stride.

    A dilated kernel reads only pixels with the same residue modulo the dilation, so each residue is correlated
    separately. A kernel with zeros between its taps would return NaN because of pixels that the convolution does not
    read.
    """
    from scipy.signal import correlate2d  # noqa: PLC0415  # an optional package

    images, geometry = padded_images(x, weight, stride, padding, dilation, groups)
    (sh, sw), (dh, dw) = geometry.stride, geometry.dilation
    outputs, channels = geometry.out_channels // groups, geometry.group_channels
    kernels = weight.conj()  # correlate2d conjugates its second argument
    y = np.zeros((len(images), geometry.out_channels, *geometry.output_size), x.dtype)
    # The results of stride 1.
    sizes = [n - extent + 1 for n, extent in zip(geometry.padded_size, geometry.kernel_extent, strict=True)]
    plane = np.zeros(sizes, x.dtype)
    residues = list(product(range(min(dh, sizes[0])), range(min(dw, sizes[1]))))
    for image, out, channel in product(range(len(images)), range(geometry.out_channels), range(channels)):
        pixels = images[image, out // outputs * channels + channel]
        for i, j in residues:
            plane[i::dh, j::dw] = correlate2d(pixels[i::dh, j::dw], kernels[out, channel], mode="valid")
        y[image, out] += plane[::sh, ::sw]
    return with_bias(y, bias, x)


def scipy_signal() -> ArraySubject:
    """SciPy on the CPU, for every dtype that correlate2d supports."""
    return ArraySubject("scipy", conv2d, dtypes=_DTYPES)
