"""The signs of zeros. No law demands them: IEEE 754 fixes them for one order of a sum, and libraries use other orders.

A sum that is zero is -0 only if all its terms are -0 (IEEE 754-2019, 6.3, to nearest). So where the sum of the products
alone is -0, a kernel returns +0 if its sums begin with +0 or if it multiplies padding too. Neither sign is wrong.
"""

from __future__ import annotations

import torch

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.products import by_image
from toeplitz_core.testing.oracle.sums import apply, products_per_output


def negative_zeros(
    geometry: ConvGeometry,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    outputs: torch.Tensor | None = None,
) -> torch.Tensor:
    """Which results are -0: all products, padding excluded, and the bias are -0. A sum without terms is +0.

    Parameters
    ----------
    x : floating-point tensor of shape ([batch,] in_channels, *input_size)
    weight : tensor of shape (out_channels, in_channels / groups, *kernel_size)
    bias : tensor of shape (out_channels,), optional
    outputs : int64 tensor of shape (m,), optional
        Only these outputs, as flat indices into ``(batch, out_channels, *output_size)``.

    Returns
    -------
    bool tensor of shape (batch, out_channels, positions), or (m,) for chosen outputs

    Examples
    --------
    >>> g = ConvGeometry(1, 1, (1, 2), (1, 1))
    >>> negative_zeros(g, torch.tensor([[[[0.0, -0.0]]]]), torch.tensor([[[[-2.0]]]]), None)
    tensor([[[ True, False]]])
    """
    images = by_image(geometry, x)
    count = products_per_output(geometry, outputs).double()
    found = torch.zeros_like(count)
    # Zeros of either sign times any number of the opposite sign; then nonzero numbers times a zero.
    pairs = (
        ((images == 0) & ~images.signbit(), weight.signbit()),
        ((images == 0) & images.signbit(), ~weight.signbit()),
        (images > 0, (weight == 0) & weight.signbit()),
        (images < 0, (weight == 0) & ~weight.signbit()),
    )
    for of_x, of_weight in pairs:
        if of_x.any() and of_weight.any():
            found = found + apply(geometry, of_x, of_weight, outputs, torch.float64)
    if bias is None:
        negative = (found == count) & (count > 0)
    else:
        is_negative = (bias == 0) & bias.signbit()
        if outputs is None:
            negative = (found == count) & is_negative[:, None]
        else:
            negative = (found == count) & is_negative[outputs // geometry.positions % geometry.out_channels]
    return negative.expand(len(images), geometry.out_channels, -1) if outputs is None else negative
