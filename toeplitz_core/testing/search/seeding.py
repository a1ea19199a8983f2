"""Make the cases of a search depend on nothing but its seed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from hypothesis.internal.conjecture import providers

# Internals of Hypothesis that another version may lack.
_INTERNAL = ("_get_local_constants", "CONSTANTS_CACHE", "Constants")


@contextlib.contextmanager
def no_constants_of_modules() -> Iterator[None]:
    """Keep Hypothesis from drawing constants from the source files of imported modules.

    Hypothesis sometimes draws such constants because they help to test those modules. They do not help here: the same
    seed would give other cases in another process, in an installed package, or after an unrelated edit. Hypothesis
    would also write the constants to a directory in the working directory.
    """
    source: Any = providers
    if not all(hasattr(source, name) for name in _INTERNAL):
        yield  # this version draws no constants, or draws them in another way
        return
    before, cache = source._get_local_constants, source.CONSTANTS_CACHE
    none = source.Constants()
    source._get_local_constants, source.CONSTANTS_CACHE = lambda: none, {}
    try:
        yield
    finally:
        source._get_local_constants, source.CONSTANTS_CACHE = before, cache
