"""The name by which another process can import an object, and what it needs for that."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

from toeplitz_core.testing.support.modules import find_spec


def importable_name(found: object) -> str | None:
    """``package.module:qualname`` that means the object itself in a new process too; None if there is none.

    A lambda, a local function and whatever else no module holds under a name have none.
    """
    module, qualname = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    if isinstance(module, str) and isinstance(qualname, str):
        there = sys.modules.get(module)
        if there is not None and _attribute(there, qualname) is found and _is_found_again(there):
            return f"{module}:{qualname}"
    # An object that does not know its name, such as a Subject or a function of C: whoever holds it does.
    holders = [
        (name, attribute, holder)
        for name, holder in list(sys.modules.items())
        if isinstance(holder, ModuleType)
        for attribute, value in list(vars(holder).items())
        if value is found
    ]
    # A module that is being imported only borrows it: most likely it is the test file.
    holders.sort(key=lambda h: (getattr(h[2].__spec__, "_initializing", False), len(h[0]) + len(h[1])))
    return next((f"{name}:{attribute}" for name, attribute, holder in holders if _is_found_again(holder)), None)


def needed_path(name: str) -> str | None:
    """The directory that a new interpreter here lacks in order to import ``package.module:qualname``; None if none.

    It is a test runner's own, such as the folder of the tests. Relative to the working directory, if it is in there.
    """
    module, colon, _ = name.partition(":")
    spec = find_spec(module.partition(".")[0]) if colon else None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None
    path = Path(spec.origin).resolve()
    root = path.parents[1] if path.stem == "__init__" else path.parent
    here = Path.cwd().resolve()
    variable = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    own = [sysconfig.get_path("stdlib"), *site.getsitepackages(), site.getusersitepackages()]
    if root in (here, *(Path(entry).resolve() for entry in variable)):
        return None
    if any(root.is_relative_to(Path(entry).resolve()) for entry in own):
        return None
    return root.relative_to(here).as_posix() if root.is_relative_to(here) else str(root)


def _attribute(module: ModuleType, qualname: str) -> object:
    found: object = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _is_found_again(module: ModuleType) -> bool:
    """Whether the path leads to this very module. One that a test runner has put in its place is not on it."""
    file, name = getattr(module, "__file__", None), module.__name__
    if name == "__main__" or file is None:
        return name in sys.builtin_module_names
    spec = find_spec(name)
    return (
        spec is not None
        and spec.origin is not None
        and Path(spec.origin).is_file()
        and Path(spec.origin).samefile(file)
    )
