"""The memory of a worker: fill it before the allocator returns it, and limit it."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np

# A worker with less than this share of its memory left is replaced. Memory that the allocator or the subject keeps
# would be missing in a later call, and a module whose import fails halfway for lack of memory may kill the process.
_SPARE = 0.25
# glibc's ``M_PERTURB`` parameter of ``mallopt``.
_M_PERTURB = -6
# How many freed arrays of each size NumPy keeps.
_KEPT_ARRAYS = 7


def poison(byte: int) -> bool:
    """Make glibc fill freed memory with a byte and new memory with its complement, like ``MALLOC_PERTURB_``.

    Returns
    -------
    bool
        Whether that worked; it does not if another library allocates.
    """
    library = ctypes.CDLL(None)
    library.mallopt(_M_PERTURB, byte)
    memory = np.empty(2**16, np.uint8)
    return bool((memory == byte ^ 0xFF).all())


def poison_arrays(byte: int) -> None:
    """Fill the small freed blocks, below 1 KiB, that NumPy keeps for its next arrays."""
    for size in range(2, 1024, 2):
        for array in [np.empty(size, np.uint8) for _ in range(_KEPT_ARRAYS)]:
            array.fill(byte)


def limit_memory(limit: int) -> int | None:
    """Limit this process to some bytes of address space more than it has now, if the platform can.

    Returns
    -------
    int or None
        The address space above which the process should be replaced; None if there is no limit.
    """
    try:
        import resource  # noqa: PLC0415  # not on Windows

        now = address_space()
        resource.setrlimit(resource.RLIMIT_AS, (now + limit, now + limit))
    except (ImportError, OSError, ValueError):
        return None
    return now + int(limit * (1 - _SPARE))


def address_space() -> int:
    """The size of this process's address space in bytes."""
    with open("/proc/self/statm", "rb", buffering=0) as file:  # noqa: PTH123  # after each call, so it has to be quick
        return int(file.read().split()[0]) * mmap.PAGESIZE
