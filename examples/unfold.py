"""A convolution by ``F.unfold`` and a matrix product."""

import torch
import torch.nn.functional as F


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """The product of the weight with all windows of the input, in float32 or wider."""
    if isinstance(padding, str):
        raise NotImplementedError("F.unfold takes no padding by name")
    wide = input.dtype if input.dtype == torch.int64 else torch.promote_types(input.dtype, torch.float32)
    axes = zip(input.shape[-2:], weight.shape[2:], stride, padding, dilation, strict=True)
    size = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes]
    try:
        windows = F.unfold(input.to(wide), weight.shape[2:], dilation, padding, stride).unflatten(-2, (groups, -1))
    except RuntimeError as error:  # integers, images without channels, or torch.func.vmap over no images
        raise NotImplementedError(str(error)) from error
    # wrong: filters = weight.to(wide).mT.flatten(1).unflatten(0, (groups, -1))
    filters = weight.to(wide).flatten(1).unflatten(0, (groups, -1))
    y = (filters @ windows).flatten(-3, -2).unflatten(-1, size)
    return (y if bias is None else y + bias.to(wide)[:, None, None]).to(input.dtype)
