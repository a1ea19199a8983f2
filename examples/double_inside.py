"""PyTorch's own convolution, computed in float64 and rounded once."""

import torch
import torch.nn.functional as F


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """``F.conv2d`` of the operands in float64 or complex128. Integers stay as they are."""
    dtype = input.dtype
    if dtype.is_floating_point or dtype.is_complex:
        # wrong: dtype = torch.complex64 if dtype.is_complex else torch.float32
        dtype = torch.promote_types(dtype, torch.float64)
    x, w, b = (operand if operand is None else operand.to(dtype) for operand in (input, weight, bias))
    return F.conv2d(x, w, b, stride, padding, dilation, groups).to(input.dtype)
