"""Which modules exist and what they define, found without importing them: for suggestions about misspelt names."""

from __future__ import annotations

import ast
import difflib
import os
import pkgutil
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

# More suggestions than this do not help.
_SHOWN = 3


def look_here() -> None:
    """Put the working directory on the import path, as ``python -m`` does and a console script does not."""
    if os.getcwd() not in sys.path:  # noqa: PTH109  # sys.path holds strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109


def find_spec(name: str) -> ModuleSpec | None:
    """The spec that a fresh import of a module would find; ``importlib.util.find_spec`` uses loaded modules instead."""
    path: list[str] | None = None
    spec = None
    parts = name.split(".")
    if not all(parts):  # some finders raise
        return None
    for length in range(1, len(parts) + 1):
        prefix = ".".join(parts[:length])
        finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
        spec = next((spec for finder in finders if (spec := finder.find_spec(prefix, path)) is not None), None)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    return spec


def is_file(name: str) -> bool:
    """Whether a module exists and has a file: a folder without ``__init__.py`` is most likely not a package."""
    spec = find_spec(name)
    return spec is not None and spec.origin is not None and Path(spec.origin).is_file()


def nearest(name: str) -> list[str]:
    """The existing modules whose names are closest to a missing one, within its package if the package exists.

    Modules in the working directory come first: users most likely misspelt a module of their own. The standard library
    is left out, because it has no convolutions.
    """
    parent, _, last = name.rpartition(".")
    places = [os.getcwd()], sys.path  # noqa: PTH109  # as above
    if parent:
        spec = find_spec(parent)
        places = (list((spec and spec.submodule_search_locations) or []),) * 2
    found: dict[str, None] = {}
    for place in places:
        there = {module.name for module in pkgutil.iter_modules(list(place))}
        there -= set() if parent else sys.stdlib_module_names
        found |= dict.fromkeys(difflib.get_close_matches(last, there, n=_SHOWN))
    return [f"{parent}.{one}" if parent else one for one in found][:_SHOWN]


def convolution_names(name: str) -> list[str]:
    """Top-level names with "conv" that a module's source defines or imports from another module."""
    spec = find_spec(name)
    try:
        tree = ast.parse(Path((spec and spec.origin) or "").read_bytes())
    except (OSError, SyntaxError, ValueError):  # no readable source
        return []
    defined: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.append(node.name)
        elif isinstance(node, ast.Assign):
            defined += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.ImportFrom):
            defined += [alias.asname or alias.name for alias in node.names]
    return [one for one in dict.fromkeys(defined) if "conv" in one.lower()][:_SHOWN]


def without(error: ModuleNotFoundError) -> str:
    """What the command line prints without a package that it needs. Raises the error if a module of ours is missing."""
    if (error.name or "").startswith("toeplitz_core"):
        raise error
    return f"The command line needs {error.name}: python -m pip install 'toeplitz-core[testing]'"
