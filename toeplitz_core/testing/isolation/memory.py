"""The memory of a worker: filled with something before it is given out, and limited."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np

# A worker that has less than this share of its memory left is replaced: what the allocator does not give back, or
# what a subject keeps, would be missing to a later call, and a module whose import fails halfway may kill the process.
_SPARE = 0.25
# The parameter of glibc's ``mallopt`` of that name.
_M_PERTURB = -6
# How many freed arrays of a size NumPy keeps.
_KEPT_ARRAYS = 7


def poison(byte: int) -> bool:
    """Let glibc fill freed memory with a byte, and new memory with its complement (``MALLOC_PERTURB_``, but now).

    Returns
    -------
    bool
        Whether that worked: another library may give out memory instead.
    """
    library = ctypes.CDLL(None)
    library.mallopt(_M_PERTURB, byte)
    memory = np.empty(2**16, np.uint8)
    return bool((memory == byte ^ 0xFF).all())


def poison_arrays(byte: int) -> None:
    """Fill what NumPy has freed and keeps for its next arrays: of each number of bytes a few, and none of a KiB."""
    for size in range(2, 1024, 2):
        for array in [np.empty(size, np.uint8) for _ in range(_KEPT_ARRAYS)]:
            array.fill(byte)


def limit_memory(limit: int) -> int | None:
    """Allow this process some bytes of address space more than it has now, where the platform can limit it.

    Returns
    -------
    int or None
        The address space with which little of that is left; None where there is no limit.
    """
    try:
        import resource  # noqa: PLC0415  # not on Windows

        now = address_space()
        resource.setrlimit(resource.RLIMIT_AS, (now + limit, now + limit))
    except (ImportError, OSError, ValueError):
        return None
    return now + int(limit * (1 - _SPARE))


def address_space() -> int:
    """The bytes of address space that this process has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")
