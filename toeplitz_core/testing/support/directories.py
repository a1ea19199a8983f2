"""Temporary directories with an owner. The owner removes its directory; if it died, a later process does."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "toeplitz-core-"
_LOCK = "owner.lock"
# Seconds. A directory whose lock is free, or not there yet, may be so new that its owner has not taken the lock.
_SETTLED = 2.0
# Seconds. A search for abandoned directories takes the lock of each one for less than this.
_MOMENT = 1.0


class OwnedDirectory:
    """A temporary directory that is locked while this process lives.

    Parameters
    ----------
    kind : str
        The purpose of the directory, a part of its name.
    parent : path, optional
        Where to create it; the system's directory for temporary files if not given.
    left : path, optional
        An abandoned directory of another process to take over; a new directory is created if not given.

    Raises
    ------
    ValueError
        If ``left`` still belongs to another process.
    """

    def __init__(self, kind: str, parent: Path | None = None, *, left: Path | None = None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-", dir=parent)) if left is None else left
        self._lock = FileLock(self.path / _LOCK)
        try:
            self._lock.acquire(timeout=None if left is None else _MOMENT)
        except Timeout:
            raise ValueError(f"{self.path} belongs to another process, which has not ended") from None

    def release(self) -> None:
        """Unlock the directory without removing it."""
        self._lock.release(force=True)

    def remove(self) -> None:
        """Remove the directory and everything in it."""
        self.release()
        shutil.rmtree(self.path, ignore_errors=True)


def is_owned(path: Path, kind: str) -> bool:
    """Whether a path belongs to an :class:`OwnedDirectory` of a kind."""
    return path.name.startswith(f"{PREFIX}{kind}-")


def abandoned(kind: str, parent: Path | None = None) -> Iterator[Path]:
    """The directories of a kind whose owners have died. Each is locked until the next one is asked for."""
    for path in sorted((parent or Path(tempfile.gettempdir())).glob(f"{PREFIX}{kind}-*")):
        lock = path / _LOCK
        try:
            if time.time() - (lock if lock.exists() else path).stat().st_mtime > _SETTLED:
                with FileLock(lock, timeout=0):
                    yield path
        except (Timeout, OSError):  # the owner lives, or it is another user's
            continue
