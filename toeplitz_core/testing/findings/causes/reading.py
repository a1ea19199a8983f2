"""A convolution that may be wrong: which pixel each tap of each output reads, and what is outside of the image."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch

from toeplitz_core.geometry import ConvGeometry

# What a tap reads that lies outside of the image: zero; the nearest pixel; the pixel mirrored at the border; the pixel
# on the opposite side; the pixel at that address in memory, such as one of the next row; NaN, or another number.
Outside = Literal["zero", "edge", "reflect", "circular", "memory", "memory of rows"] | float
# Convolutions with more products are not computed, and images of those with more than the second number one at a time.
_MOST_PRODUCTS, _AT_ONCE = 2**27, 2**22


@dataclass(frozen=True, slots=True)
class Reading:
    """The index arithmetic of a convolution.

    ``y[n, o, i, j]`` is ``bias[o]`` plus the sum over ``c, k, l`` of
    ``weight[o, c, k, l] * x[n, channels[o, c], rows[i, k], columns[j, l]]``.

    Parameters
    ----------
    rows : int64 tensor of shape (oH, kH)
        The row that each tap reads at each output row. Rows outside of the image are legal.
    columns : int64 tensor of shape (oW, kW)
        The columns likewise.
    channels : int64 tensor of shape (out_channels, in_channels / groups)
        The input channel that each weight is multiplied by.
    outside : str or float
        What is read outside of the image.
    meets_padding : bool
        Whether a weight that is not finite makes NaN of a zero of the padding.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    channels: torch.Tensor
    outside: Outside = "zero"
    meets_padding: bool = False

    @classmethod
    def of(cls, g: ConvGeometry) -> Self:
        """The index arithmetic that is right."""
        return cls(taps_of(g, 0), taps_of(g, 1), channels_of(g))

    def replace(self, **changes: object) -> Self:
        """A copy with some values changed."""
        return replace(self, **changes)  # type: ignore[arg-type]  # dataclasses.replace checks the names at run time

    def __call__(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor | None:
        """The result of shape (N, out_channels, oH, oW), differentiable; None if it is too large to be computed."""
        (o_h, k_h), (o_w, k_w) = self.rows.shape, self.columns.shape
        images, _, height, width = x.shape
        outputs, channels = self.channels.shape
        count = images * outputs * channels * o_h * k_h * o_w * k_w
        if count > _MOST_PRODUCTS:
            return None
        if count > _AT_ONCE and images > 1:
            found = [y for image in x.split(1) if (y := self(image, weight, bias)) is not None]
            return torch.cat(found)
        if not x.numel():  # nothing is read
            y = x.new_zeros(images, outputs, o_h, o_w)
            return y if bias is None else y + bias[:, None, None]
        rows = self.rows[:, :, None, None].expand(-1, -1, o_w, k_w)
        columns = self.columns[None, None].expand(o_h, k_h, -1, -1)
        index, live = self._located(rows, columns, height, width)
        if isinstance(self.outside, str) and self.outside.startswith("memory"):
            pixels = self._from_memory(x, rows, columns, live)
        else:
            pixels = x.flatten(2)[:, :, index.flatten()].unflatten(2, index.shape)
        other = self.outside if isinstance(self.outside, float) else 0
        results = []
        plain = self.meets_padding or bool(x.isfinite().all() and weight.isfinite().all() and not math.isnan(other))
        for o in range(outputs):
            read = pixels[:, self.channels[o]]
            if plain:
                read = torch.where(live, read, other)
                results.append(torch.einsum("ncikjl,ckl->nij", read, weight[o]))
            else:  # a weight that is not finite does not meet padding
                products = torch.where(live, read * weight[o][None, :, None, :, None, :], other)
                results.append(products.sum((1, 3, 5)))
        y = torch.stack(results, dim=1)
        return y if bias is None else y + bias[:, None, None]

    def _located(
        self, rows: torch.Tensor, columns: torch.Tensor, height: int, width: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The pixel that is read, and whether there is one."""
        live = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        if self.outside == "edge":
            rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        elif self.outside == "circular":
            rows, columns = rows % height, columns % width
        elif self.outside == "reflect":
            rows, columns = _mirrored(rows, height), _mirrored(columns, width)
        else:
            return torch.where(live, rows * width + columns, 0), live
        return rows * width + columns, torch.ones_like(live)

    def _from_memory(
        self, x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, live: torch.Tensor
    ) -> torch.Tensor:
        """Pixels by their address, as if memory were one long row; zero outside of the tensor."""
        images, channels, height, width = x.shape
        address = rows * width + columns
        inside = torch.ones_like(live)
        if self.outside == "memory of rows":  # a row outside of the image is padding as it should be
            inside = (rows >= 0) & (rows < height)
        planes = torch.arange(images * channels).view(images, channels) * height * width
        flat = planes[:, :, None, None, None, None] + address
        there = (flat >= 0) & (flat < x.numel()) & inside
        if self.outside == "memory of rows":
            there &= (address >= 0) & (address < height * width)
        live |= True
        return torch.where(there, x.flatten()[flat.clamp(0, x.numel() - 1)], 0)


def taps_of(
    g: ConvGeometry,
    axis: int,
    *,
    stride: int | None = None,
    before: int | None = None,
    dilation: int | None = None,
    kept_inside: bool = False,
) -> torch.Tensor:
    """The pixel that each tap reads along an axis at each output, for these parameters in place of the right ones.

    Parameters
    ----------
    kept_inside : bool
        Whether a window that would leave the padded image is moved back inside.

    Returns
    -------
    int64 tensor of shape (outputs, taps)
    """
    stride = g.stride[axis] if stride is None else stride
    before = g.pads[axis][0] if before is None else before
    dilation = g.dilation[axis] if dilation is None else dilation
    starts = torch.arange(g.output_size[axis]) * stride
    if kept_inside:
        starts = starts.clamp(max=g.padded_size[axis] - g.kernel_extent[axis])
    return (starts - before)[:, None] + torch.arange(g.kernel_size[axis]) * dilation


def channels_of(g: ConvGeometry, group: torch.Tensor | None = None) -> torch.Tensor:
    """The input channels of each output channel: those of its group, or of the group that is given for each.

    Returns
    -------
    int64 tensor of shape (out_channels, in_channels / groups)
    """
    if group is None:
        group = torch.arange(g.out_channels) // (g.out_channels // g.groups)
    return group[:, None] * g.group_channels + torch.arange(g.group_channels)


def _mirrored(index: torch.Tensor, size: int) -> torch.Tensor:
    if size == 1:
        return torch.zeros_like(index)
    period = 2 * (size - 1)
    index = index % period
    return torch.where(index < size, index, period - index)
