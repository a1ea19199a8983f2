"""The spelling of places outside of this process: executors and memories."""

from __future__ import annotations

import re
from pathlib import Path

# The executor of processes on this machine.
LOCAL = "local"
DASK = "dask://"
REDIS, READ_ONLY = "redis://", "readonly:"
_DASK_ADDRESS = re.compile(r"dask://(\[[0-9a-fA-F:.]+\]|[^\s/:\[\]]+):\d{1,5}")
_CALLABLE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def executor(name: str) -> str:
    """A legal name of an executor.

    Raises
    ------
    ValueError
        If it is none; the message has every legal spelling.
    """
    if name != LOCAL and not _DASK_ADDRESS.fullmatch(name) and not _CALLABLE.fullmatch(name):
        raise ValueError(
            f"executor={name!r} must be {LOCAL}, dask://HOST:PORT, or module:callable, which returns a "
            "concurrent.futures.Executor"
        )
    return name


def memory(place: str) -> str:
    """A legal place of a memory: a directory, ``readonly:`` and a directory, or the address of a Redis database.

    Raises
    ------
    ValueError
        If it is none, or if the directory cannot be one; the message has every legal spelling.
    """
    if place.startswith(REDIS):
        return place
    directory = Path(place.removeprefix(READ_ONLY))
    if "://" in place or directory == Path():
        raise ValueError(f"memory={place!r} must be a directory, {READ_ONLY}DIRECTORY, or {REDIS}HOST:PORT/N")
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"memory={place!r} must be a directory, but is a file")
    if place.startswith(READ_ONLY) and not directory.exists():
        raise ValueError(f"memory={place!r} must be a directory that exists")
    return place


def resolved(place: str, directory: Path) -> str:
    """The place of a memory with an absolute path; relative ones are in ``directory``."""
    if place.startswith(REDIS):
        return place
    only = READ_ONLY if place.startswith(READ_ONLY) else ""
    return only + str((directory / place.removeprefix(READ_ONLY)).resolve())
