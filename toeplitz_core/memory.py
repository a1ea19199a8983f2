"""The free memory of a device: a matrix that cannot fit is refused before it is allocated."""

from __future__ import annotations

import os
from pathlib import Path

import torch

# Assumed if the platform does not report free memory: any machine that runs torch has this much.
_UNKNOWN = 4 * 2**30


class MatrixTooLargeError(MemoryError):
    """Raised before allocation if a matrix would take more memory than the budget allows."""


def available_bytes(device: torch.device) -> int:
    """Bytes that can still be allocated on a device; on the CPU, the limit of the process's control group counts."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    limits = [limit for limit in (_machine(), _control_group()) if limit is not None]
    return min(limits, default=_UNKNOWN)


def _machine() -> int | None:
    """Free memory of the machine: MemAvailable on Linux, else all physical memory, else None if unknown."""
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
    """Free memory of the container's control group (version 2), or None without a limit. File cache counts as free."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        cache = dict(line.split() for line in (group / "memory.stat").read_text().splitlines()).get("inactive_file", 0)
    except (OSError, ValueError):
        return None
    return max(0, int(limit) - used + int(cache)) if limit.isdigit() else None
