"""How much memory a device has left, so that a matrix that cannot fit is refused before it is allocated."""

from __future__ import annotations

import os
from pathlib import Path

import torch

# Where the platform does not say what is free: small enough for any machine that runs torch.
_UNKNOWN = 4 * 2**30


class MatrixTooLargeError(MemoryError):
    """The matrix would take more memory than the budget allows; nothing was allocated."""


def available_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated on a device (on the CPU: by this process, its control group considered)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [limit for limit in (_machine(), _control_group()) if limit is not None]
    return min(limits, default=_UNKNOWN)


def _machine() -> int | None:
    """MemAvailable on Linux; elsewhere all physical memory, where the platform tells it."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _control_group() -> int | None:
    """What a container's control group (version 2) leaves, where one sets a limit; its file cache counts as free."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        cache = dict(line.split() for line in (group / "memory.stat").read_text().splitlines()).get("inactive_file", 0)
    except (OSError, ValueError):
        return None
    return max(0, int(limit) - used + int(cache)) if limit.isdigit() else None
