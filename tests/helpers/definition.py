"""``T`` computed from the definition of a convolution, entry by entry, in plain Python, independent of the package."""

from __future__ import annotations

import torch

Number = int | float | complex


def pads_by_definition(
    padding: tuple[int, ...] | str, kernel_size: tuple[int, ...], dilation: tuple[int, ...]
) -> list[tuple[int, int]]:
    """Zeros (before, after) on each axis; ``"same"`` keeps the size and adds an odd zero after the pixels."""
    pads = []
    for axis, (kernel, step) in enumerate(zip(kernel_size, dilation, strict=True)):
        if padding == "same":
            total = step * (kernel - 1)
            pads.append((total // 2, total - total // 2))
        elif isinstance(padding, str):
            pads.append((0, 0))
        else:
            pads.append((padding[axis], padding[axis]))
    return pads


def output_size_by_definition(
    input_size: tuple[int, ...],
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...] | str,
    dilation: tuple[int, ...],
) -> tuple[int, ...]:
    """Per axis, the number of positions of the dilated kernel within the padded input, a stride apart."""
    pads = pads_by_definition(padding, kernel_size, dilation)
    sizes = []
    for size, kernel, stride_, (before, after), step in zip(
        input_size, kernel_size, stride, pads, dilation, strict=True
    ):
        outputs = 0
        while outputs * stride_ + (kernel - 1) * step < before + size + after:
            outputs += 1
        sizes.append(outputs)
    return tuple(sizes)


def entries_by_definition(
    weight: torch.Tensor,
    input_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...] | str,
    dilation: tuple[int, ...],
    groups: int,
    rows: range | None = None,
) -> dict[tuple[int, int], Number]:
    """``(row, column): value`` of every tap that reads a pixel, rows ascending, for all rows or for the given ones."""
    out_channels, group_channels, kernel_height, kernel_width = weight.shape
    kernel_size = (kernel_height, kernel_width)
    height, width = input_size
    (top, _), (left, _) = pads_by_definition(padding, kernel_size, dilation)
    out_height, out_width = output_size_by_definition(input_size, kernel_size, stride, padding, dilation)
    taps = weight.tolist()
    entries: dict[tuple[int, int], Number] = {}
    for out_channel in range(out_channels):
        group = out_channel // (out_channels // groups)
        for oh in range(out_height):
            for ow in range(out_width):
                row = (out_channel * out_height + oh) * out_width + ow
                if rows is not None and row not in rows:
                    continue
                for c in range(group_channels):
                    for kh in range(kernel_height):
                        for kw in range(kernel_width):
                            h = oh * stride[0] + kh * dilation[0] - top
                            w = ow * stride[1] + kw * dilation[1] - left
                            if 0 <= h < height and 0 <= w < width:
                                in_channel = group * group_channels + c
                                entries[row, (in_channel * height + h) * width + w] = taps[out_channel][c][kh][kw]
    return entries


def matrix_by_definition(
    weight: torch.Tensor,
    input_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...] | str,
    dilation: tuple[int, ...],
    groups: int,
) -> torch.Tensor:
    """All of ``T``, dense, in the weight's dtype."""
    out_channels, group_channels, *kernel_size = weight.shape
    output_size = output_size_by_definition(input_size, tuple(kernel_size), stride, padding, dilation)
    rows = out_channels * output_size[0] * output_size[1]
    columns = groups * group_channels * input_size[0] * input_size[1]
    matrix = torch.zeros(rows, columns, dtype=weight.dtype)
    for (row, column), value in entries_by_definition(weight, input_size, stride, padding, dilation, groups).items():
        matrix[row, column] = value
    return matrix
