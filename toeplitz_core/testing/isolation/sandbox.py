"""The owner of the processes of a run and of the files that they share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TextIO

from toeplitz_core.testing.isolation.fork_server import ForkServer
from toeplitz_core.testing.subjects.interface import Environment
from toeplitz_core.testing.support.directories import OwnedDirectory, abandoned
from toeplitz_core.testing.support.limits import TIMEOUT

# Bytes of address space that a worker may take beyond what it starts with.
MEMORY = 8 * 2**30
_KIND = "sandbox"


class Closable(Protocol):
    """Something that a sandbox closes."""

    def close(self) -> None:
        """Close it for good."""
        ...


class Sandbox:
    """Owns the processes of a run. Use as a context manager.

    Parameters
    ----------
    timeout : float
        Seconds that one call may take.
    memory : int or None
        Bytes of address space that a worker may take beyond what it starts with; None for no limit.
    last_case : path, optional
        A file that always holds the running case, in case the judge itself is killed.
    """

    def __init__(self, *, timeout: float = TIMEOUT, memory: int | None = MEMORY, last_case: Path | None = None) -> None:
        self.timeout = timeout
        self.memory = memory
        self._directory = shared_directory()
        self._last_case: TextIO | None = None
        if last_case is not None:
            self.keep_last_case(last_case)
        self._servers: dict[Environment, ForkServer] = {}
        self._owned: list[Closable] = []

    @property
    def directory(self) -> Path:
        """The directory of the shared files."""
        return self._directory.path

    def own(self, process: Closable) -> None:
        """Close this process together with everything else."""
        self._owned.append(process)

    def keep_last_case(self, path: Path) -> None:
        """Write each case to a file from now on, before it runs."""
        self._last_case = path.open("w", buffering=1, encoding="utf-8")

    def write_case(self, lines: Sequence[str]) -> None:
        """Write cases to disk before they run."""
        if self._last_case is not None:
            self._last_case.seek(0)
            self._last_case.write("\n".join(lines) + "\n")
            self._last_case.truncate()

    def fork_server(self, environment: Environment) -> ForkServer:
        """The process that forks workers with an environment, started on first use or after it died."""
        found = self._servers.get(environment)
        if found is not None and found.has_died:
            found.give_back()
            found = None
        if found is None:
            found = self._servers[environment] = ForkServer.taken(environment)
        return found

    def file(self, name: str) -> Path:
        """A new, empty file that lives as long as the run."""
        descriptor, path = tempfile.mkstemp(prefix=f"{name}-", dir=self.directory)
        os.close(descriptor)
        return Path(path)

    def close(self) -> None:
        """End all workers and remove the shared files, even after an interrupt in the middle of a message."""
        for server in self._servers.values():
            if server.is_waiting:
                server.close()
        for process in self._owned:
            process.close()
        while self._servers:
            self._servers.popitem()[1].give_back()
        if self._last_case is not None:
            self._last_case.close()
        self._directory.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def shared_directory() -> OwnedDirectory:
    """A new directory for files that processes share. The next run removes it if this process is killed."""
    return OwnedDirectory(_KIND, _in_memory())


def clear_abandoned_sandboxes() -> None:
    """Remove the directories of sandboxes whose processes were all killed."""
    for directory in abandoned(_KIND, _in_memory()):
        shutil.rmtree(directory, ignore_errors=True)


def _in_memory() -> Path | None:
    """The directory for files in memory, if there is one (Linux)."""
    directory = Path("/dev/shm")
    return directory if directory.is_dir() and os.access(directory, os.W_OK) else None
