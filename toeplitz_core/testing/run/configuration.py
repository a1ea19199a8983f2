"""Options that stand in a project instead of on a command line: ``[tool.toeplitz_core]`` of ``pyproject.toml``.

.. code-block:: toml

    [tool.toeplitz_core]
    subject = "mypkg.kernels:conv2d"  # or a list
    profile = "gate"
    dtype = ["float32", "bfloat16"]
    known = "tests/known.toml"        # relative to this file; or a list
    jobs = 4

The keys are the names of the options. An option on the command line, or in Python, wins over its key.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from toeplitz_core.testing.run.options import OPTIONS
from toeplitz_core.testing.support.spelling import legal_words

# Subjects, by names that are separated with commas or blanks.
VARIABLE = "TOEPLITZ_SUBJECT"
TABLE = "tool.toeplitz_core"


def read_table(directory: str | Path | None = None) -> dict[str, Any]:
    """The table of the nearest ``pyproject.toml``, in a directory or above it; empty if that file has none.

    Parameters
    ----------
    directory : path, optional
        The working directory if not given.

    Returns
    -------
    dict
        The options by their keys. Paths of ``known`` are absolute.

    Raises
    ------
    ValueError
        With the file, the key, its value and the rule.
    """
    start = Path(directory or Path.cwd()).resolve()
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


def project(directory: str | Path | None = None) -> dict[str, Any]:
    """What the environment and the table say, by the keys of the options: the environment wins.

    Raises
    ------
    ValueError
        As :func:`read_table`.
    """
    named = [name for name in re.split(r"[,\s]+", os.environ.get(VARIABLE, "")) if name]
    return read_table(directory) | ({"subject": OPTIONS["subject"].checked(named)} if named else {})


def _checked(table: object) -> dict[str, Any]:
    """The table's values; what is wrong is a ``ValueError``."""
    if not isinstance(table, dict):
        raise ValueError(f"{table!r} must be a table")  # noqa: TRY004  # an error in a file, like the others
    legal = [option.name for option in OPTIONS.values() if option.in_table]
    for key in table:
        if key not in legal:
            raise ValueError(f"unknown key '{key}'; {legal_words(key, legal)}")
    return {OPTIONS[key].key: OPTIONS[key].checked(value) for key, value in table.items()}
