"""Temporary directories that outlive nobody: removed by their owner, or after its death by whoever comes next."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "toeplitz-core-"
_LOCK = "owner.lock"
# A directory without a lock may be one whose owner is about to make it. Older ones, in seconds, are nobody's.
_SETTLED = 60.0
# Whoever looks for abandoned directories holds the lock of each for a moment, which is shorter than this, in seconds.
_MOMENT = 1.0


class OwnedDirectory:
    """A temporary directory, locked as long as this process lives.

    Parameters
    ----------
    kind : str
        A part of its name: what it is for.
    parent : path, optional
        Where it is made; the system's directory for temporary files if not given.
    left : path, optional
        One that another process has left, to be taken over; a new one if not given.

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
        """Leave the directory to whoever comes next."""
        self._lock.release(force=True)

    def remove(self) -> None:
        """Remove the directory and all that it holds."""
        self.release()
        shutil.rmtree(self.path, ignore_errors=True)


def is_owned(path: Path, kind: str) -> bool:
    """Whether a path is that of an :class:`OwnedDirectory` of a kind."""
    return path.name.startswith(f"{PREFIX}{kind}-")


def abandoned(kind: str, parent: Path | None = None) -> Iterator[Path]:
    """The directories of a kind whose owners have died."""
    for path in sorted((parent or Path(tempfile.gettempdir())).glob(f"{PREFIX}{kind}-*")):
        lock = path / _LOCK
        try:
            if not lock.exists():
                if time.time() - path.stat().st_mtime > _SETTLED:
                    yield path
                continue
            with FileLock(lock, timeout=0):
                pass
        except (Timeout, OSError):  # somebody's, or another user's
            continue
        yield path
