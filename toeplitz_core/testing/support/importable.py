"""The name by which another process can import an object, and the path that it needs."""

from __future__ import annotations

import contextlib
import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from toeplitz_core.testing.support.modules import find_spec


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Hide the script of this process from a process that is spawned: ``multiprocessing`` would run it again there."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def importable_name(found: object) -> str | None:
    """``package.module:qualname`` that imports the same object in a new process; None if there is no such name.

    Lambdas, local functions and other objects that are not attributes of a module have no such name.
    """
    module, qualname = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    if isinstance(module, str) and isinstance(qualname, str):
        there = sys.modules.get(module)
        if there is not None and _attribute(there, qualname) is found and _is_found_again(there):
            return f"{module}:{qualname}"
    # An object without a name of its own, such as a Subject or a C function: look for a module that has it.
    holders = [
        (name, attribute, holder)
        for name, holder in list(sys.modules.items())
        if isinstance(holder, ModuleType)
        for attribute, value in list(vars(holder).items())
        if value is found
    ]
    # A module that is still being imported comes last: most likely it is the test file, which imports the object.
    holders.sort(key=lambda h: (getattr(h[2].__spec__, "_initializing", False), len(h[0]) + len(h[1])))
    return next((f"{name}:{attribute}" for name, attribute, holder in holders if _is_found_again(holder)), None)


def needed_path(name: str) -> str | None:
    """The directory that a new interpreter must add to its path to import ``package.module:qualname``, or None.

    A test runner adds such a directory to its own path, for example the folder of the tests. The result is relative if
    the directory is inside the working directory.
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
    """Whether the import path leads to this module. It does not if a test runner put the module in its place."""
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
