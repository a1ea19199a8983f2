"""The result of a convolution of NaN and infinities: which outputs are NaN, an infinity, or finite.

A product is NaN if a factor is NaN, or if it is zero times infinity. Infinities of both signs add up to NaN in any
order. The rules count these terms row by row: a product with the dense matrix would spread NaN to its structural zeros.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from toeplitz_core.bound import Algorithm
from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.oracle.sums import apply


class Classes(NamedTuple):
    """Which results are not finite, and which others may be NaN.

    Parameters
    ----------
    special : float64 tensor of shape (batch, out_channels, positions), or (m,) for chosen outputs
        NaN, an infinity, or 0 where the result is finite.
    may_be_nan : bool tensor of the same shape
        Where NaN is right too.
    """

    special: torch.Tensor
    may_be_nan: torch.Tensor

    def settles(self, actual: torch.Tensor) -> torch.Tensor:
        """Which results are NaN where NaN is right."""
        return actual.isnan() & (self.special.isnan() | self.may_be_nan)


def classes(
    geometry: ConvGeometry,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    algorithms: tuple[Algorithm, ...] = (),
    *,
    outputs: torch.Tensor | None = None,
) -> Classes:
    """The classes of the results of a convolution of real numbers: all, or those of chosen outputs (flat indices).

    Where a weight that is not finite meets padding, some implementations skip it and others multiply it by zero: both
    are right. NaN is also right where an algorithm combines a result with numbers that it does not depend on.

    Examples
    --------
    >>> g = ConvGeometry(1, 1, (1, 3), (1, 1))
    >>> x, weight = torch.tensor([[[[1.0, -torch.inf, torch.nan]]]]), torch.tensor([[[[2.0]]]])
    >>> classes(g, x, weight, None).special
    tensor([[[0., -inf, nan]]], dtype=torch.float64)
    """
    count_of_images = len(x) if x.ndim == geometry.rank + 2 else 1
    images = x.reshape(count_of_images, geometry.in_channels, geometry.pixels)

    def count(of_weight: torch.Tensor, of_x: torch.Tensor) -> torch.Tensor:
        return apply(geometry, of_x, of_weight, outputs, torch.float64)

    def of_channel(values: torch.Tensor) -> torch.Tensor:
        return values[:, None] if outputs is None else values[outputs // geometry.positions % geometry.out_channels]

    anything = torch.ones_like
    nan = count(weight.isnan(), anything(images)) + count(anything(weight), images.isnan())
    nan += count(weight.isinf(), images == 0) + count(weight == 0, images.isinf())
    # Infinity times a finite factor of either sign, or times another infinity; NaN is already counted.
    up = count(weight.isposinf(), images > 0) + count(weight.isneginf(), images < 0)
    up += count(weight > 0, images.isposinf()) + count(weight < 0, images.isneginf())
    down = count(weight.isposinf(), images < 0) + count(weight.isneginf(), images > 0)
    down += count(weight < 0, images.isposinf()) + count(weight > 0, images.isneginf())
    if bias is not None:
        column = of_channel(bias)
        nan, up, down = nan + column.isnan(), up + column.isposinf(), down + column.isneginf()
    special = torch.zeros_like(nan)
    special[up > 0], special[down > 0] = torch.inf, -torch.inf
    special[(nan > 0) | ((up > 0) & (down > 0))] = torch.nan

    odd = ~weight.isfinite()
    total = of_channel(odd.flatten(1).sum(1).double())
    may_be_nan = count(odd, anything(images)) < total
    for algorithm in algorithms:
        for a, b in ((~images.isfinite(), anything(weight)), (anything(images), odd)):
            sums = algorithm.sums(geometry, a.double(), b.double())
            if sums is not None and sums.magnitude is not None:
                reached = sums.magnitude > 0
                may_be_nan |= reached if outputs is None else reached.flatten()[outputs]
                # A bias is transformed with the rest.
                if bias is not None:
                    may_be_nan |= ~of_channel(bias).isfinite()
    return Classes(special, may_be_nan)
