"""A user's implementations and list of known failures, as texts of files."""

from __future__ import annotations

KERNELS = """
import torch
from torch.nn.functional import conv2d

def right(*args):
    return conv2d(*args)

def no_groups(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    return y.zero_() if groups > 1 else y

def crashes(*args):
    import ctypes
    ctypes.string_at(0)

def colours(*args):
    raise RuntimeError("\\x1b[31mred")

def refuses(*args):
    if args[1].numel() > 1:
        raise NotImplementedError("some day")
    return conv2d(*args)
"""


KNOWN = """
[[failure]]
name = "no-groups"
subject = "kernels:no_groups"
law = "forward-exact"
condition = "groups > 1"
example = "input=1x2x1x1 weight=2x1x1x1 groups=2"
reason = "Groups come next year."

[[failure]]
name = "mended"
subject = "kernels:right"
law = "forward-exact"
condition = "groups > 1"
example = "input=1x2x1x1 weight=2x1x1x1 groups=2"
reason = "It was wrong once."
"""
