"""Files that are whole or not there, and where a run keeps what may be lost."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def check_writable(path: str | Path) -> Path:
    """The path itself; ``ValueError`` where no file can be written, which is better known before a long run."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"'{path}' must be a file, and is a directory")
    if not path.parent.is_dir():
        raise ValueError(f"'{path}' must be in a directory that exists, and '{path.parent}' does not")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"'{path}' must be writable, and is not")
    return path


def write_atomically(path: str | Path, text: str) -> None:
    """Write a text file so that a reader, or what is left after a crash, has the old text or all of the new one."""
    target = Path(path).resolve()  # a link stays one
    if target.exists() and not target.is_file():  # a pipe or a terminal
        target.write_text(text, encoding="utf-8")
        return
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8", newline="\n")
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def cache_directory() -> Path:
    """Where a run keeps what may be lost: the user's cache directory, and never the one that the run is started in."""
    try:
        import platformdirs  # noqa: PLC0415  # where it is missing, all but this directory works
    except ImportError:
        return Path(tempfile.gettempdir()) / "toeplitz-core"
    return platformdirs.user_cache_path("toeplitz-core", appauthor=False)
