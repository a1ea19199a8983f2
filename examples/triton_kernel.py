"""A Triton kernel in float32. Without a GPU, Triton's interpreter runs it on the CPU."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # Triton reads it when it is imported

import triton
import triton.language as tl

# Results of one program, and products that it adds at a time. In the interpreter, large blocks take no longer.
LARGEST_BLOCK, PRODUCTS = (128, 16) if torch.cuda.is_available() else (1024, 64)


@triton.jit
def kernel(
    x, w, b, y, total, outputs, group_outputs, channels, group_channels, rows, columns, output_rows, output_columns,
    kernel_rows, kernel_columns, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x,
    HAS_BIAS: tl.constexpr, BLOCK: tl.constexpr, PRODUCTS: tl.constexpr,
):  # fmt: skip
    """Each program computes a block of results. All operands are contiguous."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ox, oy = at % output_columns, at // output_columns % output_rows
    o = at // (output_columns * output_rows) % outputs
    n = at // (output_columns * output_rows * outputs)
    taps = group_channels * kernel_rows * kernel_columns
    sums = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, taps, PRODUCTS):
        tap = first + tl.arange(0, PRODUCTS)
        row = (oy * stride_y - padding_y)[:, None] + (tap // kernel_columns % kernel_rows * dilation_y)[None, :]
        column = (ox * stride_x - padding_x)[:, None] + (tap % kernel_columns * dilation_x)[None, :]
        channel = (o // group_outputs * group_channels)[:, None] + (tap // (kernel_rows * kernel_columns))[None, :]
        inside = (at < total)[:, None] & (tap < taps)[None, :]
        # wrong: inside = inside & (row >= 0) & (row < rows) & (column >= 0) & (column <= columns)
        inside = inside & (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        pixels = tl.load(
            x + ((n[:, None] * channels + channel) * rows + row) * columns + column, mask=inside, other=0.0
        )
        weights = tl.load(w + o[:, None] * taps + tap[None, :], mask=inside, other=0.0)
        sums += tl.sum(pixels * weights, axis=1)
    if HAS_BIAS:
        sums += tl.load(b + o, mask=at < total, other=0.0)
    tl.store(y + at, sums, mask=at < total)


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """The convolution of an image or a batch, in float32 alone."""
    if isinstance(padding, str) or input.dtype != torch.float32:
        raise NotImplementedError("float32 alone, and padding by numbers alone")
    outputs, size, kernel_size = weight.shape[0], input.shape[-2:], weight.shape[2:]
    axes = zip(size, kernel_size, stride, padding, dilation, strict=True)
    output_size = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes]
    y = torch.empty(*input.shape[:-3], outputs, *output_size, device=input.device)
    if y.numel():
        x, w, b = (t if t is None else t.contiguous() for t in (input, weight, bias))
        block = min(triton.next_power_of_2(y.numel()), LARGEST_BLOCK)
        kernel[triton.cdiv(y.numel(), block),](
            x, w, b, y, y.numel(), outputs, outputs // groups, x.shape[-3], w.shape[1], *size, *output_size,
            *kernel_size, *stride, *padding, *dilation, HAS_BIAS=b is not None, BLOCK=block,
            PRODUCTS=PRODUCTS,
        )  # fmt: skip
    return y
