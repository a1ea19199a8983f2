"""Files that are written completely or not at all, and the cache directory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def check_writable(path: str | Path) -> Path:
    """The path itself; ``ValueError`` if no file can be written there, so that a long run fails before it starts."""
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"'{path}' must be a file, but is a directory")
    if not path.parent.is_dir():
        raise ValueError(f"'{path}' must be in a directory that exists, but '{path.parent}' does not")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"'{path}' must be writable, but is not")
    return path


class NotWrittenError(OSError):
    """A file could not be written. Its message has the reason and the path."""


def write_atomically(path: str | Path, text: str) -> None:
    """Write a text file atomically: a reader, or a crash, leaves either the old text or all of the new text.

    Raises
    ------
    NotWrittenError
    """
    target = Path(path).resolve()  # a symbolic link stays a link
    try:
        if target.exists() and not target.is_file():  # a pipe or a terminal
            target.write_text(text, encoding="utf-8")
        else:
            _replace(target, text)
    except OSError as error:  # a full disk names no file
        raise NotWrittenError(error.errno, error.strerror, str(path)) from None


def _replace(target: Path, text: str) -> None:
    """Write a file next to the target, and put it in its place."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def cache_directory() -> Path:
    """The directory for files that may be lost: the user's cache directory, never the working directory."""
    try:
        import platformdirs  # noqa: PLC0415  # optional: without it, only this directory differs
    except ImportError:
        return Path(tempfile.gettempdir()) / "toeplitz-core"
    return platformdirs.user_cache_path("toeplitz-core", appauthor=False)
