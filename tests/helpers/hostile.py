"""Implementations that harm their process or change its state; otherwise their values are right."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

_HOARD: list[mmap.mmap] = []


def correct(*args: Tensor) -> Tensor:
    """Does no harm."""
    return conv2d(*args)


def stale(*args: Tensor) -> Tensor:
    """Returns uninitialised memory."""
    return torch.empty(conv2d(*args).shape)


_libc = ctypes.CDLL(None)
_libc.malloc.restype = ctypes.c_void_p
_libc.free.argtypes = (ctypes.c_void_p,)


def stale_blocks(*args: Tensor) -> Tensor:
    """Returns the last four bytes of new blocks of the C library, two of each size."""
    y = conv2d(*args)
    sizes = [64 + 16 * (i // 2) for i in range(y.numel())]
    blocks = [_libc.malloc(size) for size in sizes]
    held = [ctypes.string_at(block + size - 4, 4) for block, size in zip(blocks, sizes, strict=True)]
    for block in blocks:
        _libc.free(block)
    return torch.frombuffer(bytearray(b"".join(held)), dtype=torch.float32).view(y.shape)


def stale_arrays(*args: Tensor) -> Tensor:
    """Returns the first four bytes of new NumPy arrays, four of each size."""
    y = conv2d(*args)
    arrays = [np.empty(1 + i // 4, np.float32) for i in range(y.numel())]
    held = np.array([array[0] for array in arrays])
    for array in arrays:
        array.fill(0)
    return torch.from_numpy(held).view(y.shape)


def old_memory(*args: Tensor) -> Tensor:
    """Returns the first element of a new array in place of its own first element."""
    y = conv2d(*args)
    y.view(-1)[0] = float(np.empty(2000, np.float32)[0])
    return y


def segfault(*args: Tensor) -> Tensor:
    """Reads address 0 if the kernel is larger than 1x1."""
    print("called with", args[1].shape[-1], flush=True)
    if args[1].shape[-1] > 1:
        print("the last words", flush=True)
        ctypes.string_at(0)
    return conv2d(*args)


def abort(*_: Tensor) -> Tensor:
    """Aborts, like a failed assertion in C."""
    os.abort()


def leave(*_: Tensor) -> Tensor:
    """Ends the process with exit code 0."""
    os._exit(0)


def give_up(*_: Tensor) -> Tensor:
    """Raises SystemExit."""
    sys.exit(3)


def interrupt(*_: Tensor) -> Tensor:
    """Raises KeyboardInterrupt without Ctrl-C."""
    raise KeyboardInterrupt


def killed(*args: Tensor) -> Tensor:
    """Kills its process, as the operating system does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10)
    return conv2d(*args)


def hang(*_: Tensor) -> Tensor:
    """Never returns and ignores SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)


def hangs_with_stride(
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    stride: list[int],
    padding: list[int] | str,
    dilation: list[int],
    groups: int,
) -> Tensor:
    """Does not return for several output channels and a stride of the width."""
    while len(w) > 1 and stride[1] > 1:
        time.sleep(1)
    return conv2d(x, w, b, stride, padding, dilation, groups)


def hang_up(*_: Tensor) -> Tensor:
    """Closes all files except the standard streams, also the connection to the judge, and never returns."""
    os.closerange(3, 1024)
    while True:
        time.sleep(1)


def kill_parent(*args: Tensor) -> Tensor:
    """Kills the process that started it."""
    os.kill(os.getppid(), signal.SIGKILL)
    return conv2d(*args)


def kill_parent_and_leave(*_: Tensor) -> Tensor:
    """Kills the process that started it, and exits."""
    os.kill(os.getppid(), signal.SIGKILL)
    os._exit(0)


def signals(*args: Tensor) -> Tensor:
    """Returns the right result only if no signals are blocked in its process."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return conv2d(*args) * (not {signal.SIGINT, signal.SIGUSR1} & held)


def greedy(*args: Tensor) -> Tensor:
    """Allocates a terabyte."""
    torch.empty(2**40, dtype=torch.uint8)
    return conv2d(*args)


def hoarding(*args: Tensor) -> Tensor:
    """Keeps an unused gigabyte of address space in each call."""
    _HOARD.append(mmap.mmap(-1, 2**30))
    return conv2d(*args)


def talkative(*args: Tensor) -> Tensor:
    """Writes to standard output, from Python and directly."""
    print("from Python")
    os.write(1, b"from C\n")
    return conv2d(*args)


def default_dtype(*args: Tensor) -> Tensor:
    """Changes the default dtype."""
    torch.set_default_dtype(torch.float64)
    return conv2d(*args)


def flush(*args: Tensor) -> Tensor:
    """Changes the processor's flushing of subnormals."""
    torch.set_flush_denormal(True)
    return conv2d(*args)


def threads(*args: Tensor) -> Tensor:
    """Changes the number of threads."""
    torch.set_num_threads(torch.get_num_threads() + 1)
    return conv2d(*args)


def seed(*args: Tensor) -> Tensor:
    """Draws from the global random stream."""
    torch.rand(1)
    return conv2d(*args)


def cudnn(*args: Tensor) -> Tensor:
    """Switches cuDNN's benchmark mode."""
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
    return conv2d(*args)


def nothing(*_: Tensor) -> None:
    """Returns None."""


def write_input(*args: Tensor) -> Tensor:
    """Overwrites its input after use."""
    result = conv2d(*args)
    args[0].zero_()
    return result
