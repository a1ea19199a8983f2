"""A user's implementations and list of known failures, as texts of files."""

from __future__ import annotations

KERNELS = '''
import ctypes
import sys
import torch
from toeplitz_core import conv2d

def right(*args):
    return conv2d(*args)

def no_groups(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    """Zero where there are groups."""
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    return y.zero_() if groups > 1 else y

def refuses(*args):
    raise NotImplementedError("some day")

def one_tap(*args):
    return conv2d(*args) if args[1].numel() == 1 else refuses()

def only_float32(x, *args):
    if x.dtype != torch.float32:
        raise NotImplementedError(f"{x.dtype}")
    return conv2d(x, *args)

def crashes(*args):
    ctypes.string_at(0)

def colours(*args):
    raise RuntimeError("\\x1b[31mred\\x1b[0m \\u2297 [bold]not markup[/bold] stride[1]")

def leaves(*args):
    sys.exit(0)

def interrupts(*args):
    raise KeyboardInterrupt

class Namespace:
    conv = staticmethod(conv2d)

number = 3
'''


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
