"""How much memory counts as free, on platforms that report it and on platforms that do not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from toeplitz_core import memory

CPU = torch.device("cpu")
Files = Callable[..., None]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """A function that replaces the system's files about memory by the given ones."""
    monkeypatch.setattr(memory, "Path", lambda name: tmp_path / name.lstrip("/"))

    def write(*, meminfo: str | None = None, **group: str) -> None:
        if meminfo is not None:
            (tmp_path / "proc").mkdir()
            (tmp_path / "proc/meminfo").write_text(meminfo)
        if group:
            (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
            for name, text in group.items():
                (tmp_path / "sys/fs/cgroup" / name.replace("_", ".")).write_text(text)

    return write


def test_linux_says_what_is_available(files: Files) -> None:
    """Without a control group, MemAvailable can be allocated."""
    files(meminfo="MemTotal:  9 kB\nMemAvailable:  3 kB\n")
    assert memory.available_bytes(CPU) == 3 * 1024


def test_a_control_group_limits_below_the_machine(files: Files) -> None:
    """In a container, the limit minus the used memory counts; cache that can be dropped is not used memory."""
    files(
        meminfo="MemAvailable:  9 kB\n",
        memory_max="5000\n",
        memory_current="3000\n",
        memory_stat="anon 2000\ninactive_file 700\n",
    )
    assert memory.available_bytes(CPU) == 5000 - 3000 + 700


def test_an_exhausted_control_group_has_nothing_left(files: Files) -> None:
    """Use beyond the limit leaves 0 bytes, not less; a group that does not report its cache has none."""
    files(meminfo="MemAvailable:  9 kB\n", memory_max="5000\n", memory_current="6000\n", memory_stat="anon 6000\n")
    assert memory.available_bytes(CPU) == 0


@pytest.mark.parametrize("limit", ["max\n", "no number\n"])
def test_a_control_group_without_a_limit_does_not_count(files: Files, limit: str) -> None:
    """A group whose limit is not a number is ignored: the machine's memory counts."""
    files(meminfo="MemAvailable:  9 kB\n", memory_max=limit, memory_current="1\n", memory_stat="anon 1\n")
    assert memory.available_bytes(CPU) == 9 * 1024


def test_an_unreadable_control_group_does_not_count(files: Files) -> None:
    """A group that does not report its used memory is ignored: the machine's memory counts."""
    files(meminfo="MemAvailable:  9 kB\n", memory_max="5000\n", memory_current="none\n")
    assert memory.available_bytes(CPU) == 9 * 1024


@pytest.mark.parametrize("meminfo", [None, "MemTotal:  9 kB\n"])
def test_elsewhere_all_physical_memory_counts(
    files: Files, meminfo: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the available memory is not reported, all physical pages of the machine count."""
    files(meminfo=meminfo)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 10}.__getitem__, raising=False)
    assert memory.available_bytes(CPU) == 40960


def test_where_nothing_is_known_four_gibibytes_count(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform that reports nothing counts as having 4 GiB."""
    files()
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert memory.available_bytes(CPU) == 4 * 2**30


def test_a_gpu_says_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a CUDA device, the free memory of that device counts, not the host's."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100 + device.index, 1000))
    assert memory.available_bytes(torch.device("cuda", 1)) == 101


def test_this_machine_has_memory() -> None:
    """A plausible amount of memory is free on this machine."""
    assert 2**20 < memory.available_bytes(CPU) < 2**60


def test_the_refusal_is_a_memory_error() -> None:
    """MatrixTooLargeError is a MemoryError, so handlers of MemoryError catch it."""
    assert issubclass(memory.MatrixTooLargeError, MemoryError)
