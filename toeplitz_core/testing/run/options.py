"""Options that stand in a project instead of on a command line: ``[tool.toeplitz_core]`` of ``pyproject.toml``.

.. code-block:: toml

    [tool.toeplitz_core]
    subject = "mypkg.kernels:conv2d"  # or a list
    profile = "gate"
    dtype = ["float32", "bfloat16"]
    known = "tests/known.toml"        # relative to this file; or a list
    jobs = 4

The keys are the names of the options of ``toeplitz-core check``. An option on the command line wins over its key.
``time``, ``jobs`` and ``fail-fast`` are for that command alone: pytest has ``-n`` and ``-x``.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from toeplitz_core.testing.support.spelling import legal_words

# Subjects, by names that are separated with commas or blanks.
VARIABLE = "TOEPLITZ_SUBJECT"
TABLE = "tool.toeplitz_core"

T = TypeVar("T")


def read_table(directory: str | Path) -> dict[str, Any]:
    """The table of the nearest ``pyproject.toml``, in a directory or above it; empty if that file has none.

    Returns
    -------
    dict
        The options by their names, as on the command line (``fail-stale``): those that can be repeated as tuples of
        strings, those of ``known`` as paths that hold from everywhere.

    Raises
    ------
    ValueError
        With the file, the key, its value and the rule.
    """
    start = Path(directory).resolve()
    file = next((f for folder in (start, *start.parents) if (f := folder / "pyproject.toml").is_file()), None)
    if file is None:
        return {}
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{file}: {error}") from None
    tool = document.get("tool", {})
    table = tool.get("toeplitz_core", {}) if isinstance(tool, dict) else {}
    try:
        options = _checked(table)
    except ValueError as error:
        raise ValueError(f"{file}: [{TABLE}]: {error}") from None
    if "known" in options:
        options["known"] = tuple(str(file.parent / name) for name in options["known"])
    return options


def default_subjects(directory: str | Path | None = None) -> tuple[str, ...]:
    """The subjects where none is named: of the environment variable, else of the table, else none.

    Raises
    ------
    ValueError
        As :func:`read_table`, which is not asked where the variable names a subject.
    """
    named = tuple(dict.fromkeys(re.split(r"[,\s]+", os.environ.get(VARIABLE, "").strip(", \t\n"))))
    if named != ("",):
        return named
    subjects: tuple[str, ...] = read_table(Path.cwd() if directory is None else directory).get("subject", ())
    return subjects


def named(words: str, name: str, table: Mapping[str, T]) -> T:
    """The entry of a table by its name.

    Raises
    ------
    ValueError
        With the words that asked for it, the nearest name and every legal one.
    """
    if name not in table:
        raise ValueError(f"{words} is unknown; {legal_words(name, table)}")
    return table[name]


def _checked(table: object) -> dict[str, Any]:
    """The table's values; what is wrong is a ``ValueError``."""
    if not isinstance(table, dict):
        raise ValueError(f"{table!r} must be a table")  # noqa: TRY004  # an error in a file, like the others
    for key in table:
        if key not in KEYS:
            raise ValueError(f"unknown key '{key}'; {legal_words(key, KEYS)}")
    return {key: KEYS[key](key, value) for key, value in table.items()}


def names(key: str, value: object) -> tuple[str, ...]:
    """One name, or those of a list, each once; ``ValueError`` with the key otherwise."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(name, str) and name for name in values):
        raise ValueError(f"{key}={value!r} must be a string or a list of strings, none of them empty")
    return tuple(dict.fromkeys(values))


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key}={value!r} must be a string that is not empty")
    return value


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{key}={value!r} must be true or false")  # noqa: TRY004  # an error in a file, like the others
    return value


def _whole(least: int) -> Callable[[str, object], int]:
    def check(key: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{key}={value!r} must be a whole number >= {least}")
        return value

    return check


def _seconds(most: float) -> Callable[[str, object], float]:
    def check(key: str, value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not LEAST_SECONDS <= value <= most:
            raise ValueError(f"{key}={value!r} must be a number from {LEAST_SECONDS:g} to {most:g}")
        return float(value)

    return check


# Below this many seconds, what is measured is the machine and not the call.
LEAST_SECONDS = 0.1
# Of one call, and of a run: so many can be waited for on every platform.
MOST_TIMEOUT, MOST_TIME = 1e6, 1e9

# What each key may be. An option that another run of the same project would want otherwise (what is written, and where;
# a sweep instead of a search) has none.
KEYS: Mapping[str, Callable[[str, object], Any]] = {
    "subject": names,
    "law": names,
    "profile": _text,
    "examples": _whole(1),
    "seed": _whole(0),
    "device": names,
    "dtype": names,
    "time": _seconds(MOST_TIME),
    "jobs": _whole(0),
    "timeout": _seconds(MOST_TIMEOUT),
    "known": names,
    "fail-fast": _flag,
    "fail-stale": _flag,
    "inline": _flag,
}
