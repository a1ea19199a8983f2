"""The spelling of places outside of this process: executors."""

from __future__ import annotations

import re

# The executor of processes on this machine.
LOCAL = "local"
DASK = "dask://"
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
