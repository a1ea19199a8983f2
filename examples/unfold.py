"""A convolution by ``F.unfold`` and a matrix product."""

import torch
import torch.nn.functional as F


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """The product of the weight with all windows of the input, in float32 or wider."""
    if isinstance(padding, str) or not (input.is_floating_point() or input.is_complex()) or 0 in input.shape[-3:]:
        raise NotImplementedError("F.unfold takes neither padding by name, nor integers, nor images without channels")
    wide = torch.promote_types(input.dtype, torch.float32)
    kernel_size, dtype = weight.shape[2:], input.dtype
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(input.shape[-2:], kernel_size, stride, padding, dilation, strict=True)
    ]
    windows = F.unfold(input.to(wide), kernel_size, dilation, padding, stride).unflatten(-2, (groups, -1))
    # wrong: filters = weight.to(wide).mT.flatten(1).unflatten(0, (groups, -1))
    filters = weight.to(wide).flatten(1).unflatten(0, (groups, -1))
    y = (filters @ windows).flatten(-3, -2).unflatten(-1, size)
    return (y if bias is None else y + bias.to(wide)[:, None, None]).to(dtype)
