"""PyTorch's own convolution, called from a function of yours."""

import torch.nn.functional as F


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """``F.conv2d``, unchanged."""
    # wrong: return F.conv2d(input, weight, bias, stride, padding, dilation if groups == 1 else 1, groups)
    return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
