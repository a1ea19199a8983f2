"""What the cases of a search depend on: its seed, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from hypothesis.internal.conjecture import providers

# Not part of Hypothesis's interface: each may be gone in another version.
_INTERNAL = ("_get_local_constants", "CONSTANTS_CACHE", "Constants")


@contextlib.contextmanager
def no_constants_of_modules() -> Iterator[None]:
    """Keep Hypothesis from drawing the numbers that stand in the source files of imported modules.

    It tries them now and then, for the sake of a test of those modules. That is not what is tested here: the same seed
    would give other cases in another process, from an installed package, or after an edit to a line that has nothing to
    do with them. It would also write what it read to a directory in the working directory.
    """
    source: Any = providers
    if not all(hasattr(source, name) for name in _INTERNAL):
        yield  # a version that draws none, or draws them otherwise
        return
    before, cache = source._get_local_constants, source.CONSTANTS_CACHE
    none = source.Constants()
    source._get_local_constants, source.CONSTANTS_CACHE = lambda: none, {}
    try:
        yield
    finally:
        source._get_local_constants, source.CONSTANTS_CACHE = before, cache
