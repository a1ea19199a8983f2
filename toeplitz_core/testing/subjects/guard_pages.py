"""Operands next to pages of memory that may not be accessed, so that an access beyond an operand ends the process."""

from __future__ import annotations

import ctypes
import mmap
import os

import torch

from toeplitz_core.testing.data.operands import Guard

# Bytes next to an operand that may not be accessed. A wrong access is mostly off by an element, a row or a channel.
# These bytes take address space but no memory; they are a multiple of every usual page size.
_WIDTH = 2**20
# ``PROT_NONE`` of POSIX, which the module mmap does not name.
_NO_ACCESS = 0


def why_not_guarded(device: str) -> str:
    """Why operands on a device cannot be guarded here; empty if they can."""
    if torch.device(device).type != "cpu":
        return f"pages can be protected only in the memory of the CPU, not of {device}"
    return "" if os.name == "posix" else "pages are protected with mprotect, which this platform does not have"


def guarded(values: torch.Tensor, guard: Guard) -> torch.Tensor:
    """A copy of a tensor on the CPU, with the same strides, that lies directly against the pages of a guard.

    With pages before it, the first element follows them directly. With pages behind it, they follow the last element
    directly. Each element is aligned to its own size. The first element need not be aligned to 64 bytes, as it mostly
    is in memory of an allocator. The bytes between elements, such as those of a cropped image, are copied too. A
    tensor without elements is returned as it is, because it has no memory.
    """
    if not values.numel():
        return values
    extent = 1 + sum((size - 1) * stride for size, stride in zip(values.shape, values.stride(), strict=True))
    nbytes = extent * values.element_size()
    pages = -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, pages + 2 * _WIDTH, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    before = guard.side == "before"
    # The other side stays accessible, so that an access far beyond it is not taken for one on this side.
    _protect(begin if before else begin + _WIDTH + pages, mmap.PROT_READ if guard.readable else _NO_ACCESS)
    offset = _WIDTH if before else _WIDTH + pages - nbytes
    # The tensor keeps the mapping alive.
    flat = torch.frombuffer(memory, dtype=values.dtype, count=extent, offset=offset)
    flat.copy_(values.as_strided((extent,), (1,)))
    return flat.as_strided(values.shape, values.stride())


def _protect(address: int, access: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(_WIDTH), access):
        error = ctypes.get_errno()
        raise OSError(error, f"mprotect: {os.strerror(error)}")
