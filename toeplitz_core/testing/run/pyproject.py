"""Options of a project: the table ``[tool.toeplitz_core]`` of its ``pyproject.toml``.

.. code-block:: toml

    [tool.toeplitz_core]
    subject = "mypkg.kernels:conv2d"  # or a list
    profile = "gate"
    dtype = ["float32", "bfloat16"]
    known = "tests/known.toml"        # relative to this file; or a list
    jobs = 4

The keys are the names of the options. An option on the command line or in Python overrides its key.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from toeplitz_core.testing.run.options import OPTIONS
from toeplitz_core.testing.support.places import resolved
from toeplitz_core.testing.support.spelling import legal_words

# The environment variable with the names of subjects, separated by commas or blanks.
VARIABLE = "TOEPLITZ_SUBJECT"
TABLE = "tool.toeplitz_core"


def read_table(directory: str | Path | None = None) -> dict[str, Any]:
    """The table of the nearest ``pyproject.toml`` in this directory or above; empty if that file has no table.

    Parameters
    ----------
    directory : path, optional
        The default is the working directory.

    Returns
    -------
    dict
        The options by their keys. The paths of ``known`` and ``baseline`` are absolute.

    Raises
    ------
    ValueError
        If the file cannot be read or an option is wrong; the message has the file, the key, its value and the rule.
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
    tool = tool if isinstance(tool, dict) else {}
    if "toeplitz-core" in tool:
        raise ValueError(f"{file}: [tool.toeplitz-core] must be spelt [{TABLE}], with an underscore")
    table = tool.get("toeplitz_core", {})
    try:
        options = _checked(table)
    except ValueError as error:
        raise ValueError(f"{file}: [{TABLE}]: {error}") from None
    if "known" in options:
        options["known"] = tuple(str(file.parent / name) for name in options["known"])
    if "memory" in options:
        options["memory"] = tuple(resolved(place, file.parent) for place in options["memory"])
    if "baseline" in options:
        options["baseline"] = str(file.parent / options["baseline"])
    return options


def project(directory: str | Path | None = None) -> dict[str, Any]:
    """The options of the environment and of the table, by their keys. The environment overrides the table.

    Raises
    ------
    ValueError
        As in :func:`read_table`.
    """
    named = [name for name in re.split(r"[,\s]+", os.environ.get(VARIABLE, "")) if name]
    return read_table(directory) | ({"subject": OPTIONS["subject"].checked(named)} if named else {})


def _checked(table: object) -> dict[str, Any]:
    """Check the table and return its options; raise ``ValueError`` if something is wrong."""
    if not isinstance(table, dict):
        raise ValueError(f"{table!r} must be a table")  # noqa: TRY004  # an error in a file, like all others here
    legal = [option.name for option in OPTIONS.values() if option.in_table]
    for key in table:
        if key not in legal:
            raise ValueError(f"unknown key '{key}'; {legal_words(key, legal)}")
    return {OPTIONS[key].key: OPTIONS[key].checked(value) for key, value in table.items()}
