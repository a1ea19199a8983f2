"""Faults that end or block the process; returned values are right."""

from __future__ import annotations

import ctypes
import os
import time

from torch import Tensor

from tests.faults.convolution import Convolution, implementation


@implementation
def segfault(c: Convolution) -> Tensor:
    """Reads address 0 if the first window lies wholly in padding."""
    if any(before >= extent for (before, _), extent in zip(c.pads, c.extent, strict=True)):
        ctypes.string_at(0)
    return c.value()


@implementation
def abort(c: Convolution) -> Tensor:
    """Aborts on an empty batch, like a failed assertion in C."""
    if c.input.shape[0] == 0:
        os.abort()
    return c.value()


@implementation
def hang(c: Convolution) -> Tensor:
    """Never returns if there are both groups and dilation."""
    while c.groups > 1 and max(c.dilation) > 1:
        time.sleep(1)
    return c.value()
