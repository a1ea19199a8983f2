"""Find the implementation that a name stands for."""

from __future__ import annotations

import difflib
import importlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any

import torch

from toeplitz_core.testing.subjects.entry_points import described_entry, passed_over, plugged_in, target
from toeplitz_core.testing.subjects.interface import Environment, Subject
from toeplitz_core.testing.subjects.outcome import described
from toeplitz_core.testing.subjects.pytorch.subject import TorchSubject
from toeplitz_core.testing.subjects.pytorch.variants import torch_subject
from toeplitz_core.testing.subjects.registry import SUBJECTS
from toeplitz_core.testing.support.importable import importable_name
from toeplitz_core.testing.support.modules import convolution_names, is_file, look_here, nearest


def environment(name: str) -> Environment:
    """The environment that a subject's process must start with."""
    return SUBJECTS[name].environment if name in SUBJECTS else Environment()


def absent(name: str) -> str:
    """Why a subject cannot run here, with the command that installs what is missing; empty if nothing is."""
    return SUBJECTS[name].absent if name in SUBJECTS else ""


def check_name(name: str) -> str:
    """Return a name that may stand for a subject; only an import shows whether it does.

    Raises
    ------
    ValueError
        With every legal spelling, the nearest one first.
    """
    names = [*SUBJECTS, *plugged_in()]
    if name not in names and (error := _of_a_file(name)):
        raise ValueError(f"subject '{name}' must be module:callable, not a file: {error}")
    if name in names or ":" in name:
        return name
    if name in passed_over():
        raise ValueError(f"subject '{name}' is {passed_over()[name]}")
    raise ValueError(f"no subject '{name}'; {_hint(name, names)}legal: {', '.join(names)}, or package.module:callable")


def _of_a_file(name: str) -> str:
    """What to write in place of ``path/file.py:callable``; empty if a name has no path."""
    file, colon, attribute = name.rpartition(":")
    separators = [os.sep, os.altsep] if os.altsep else [os.sep]
    if not colon or not (file.endswith(".py") or any(separator in file for separator in separators)):
        return ""
    path = Path(file if file.endswith(".py") else f"{file}.py").absolute()
    if not path.is_file():
        return f"there is no {path}" if Path(file).is_absolute() else ""
    here = Path.cwd()
    if ".." not in path.parts and path.is_relative_to(here):
        parts = path.relative_to(here).with_suffix("").parts
        if all(part.isidentifier() for part in parts):
            return f"write '{'.'.join(parts)}:{attribute}'"
    return f"in the directory {path.resolve().parent}, write '{path.stem}:{attribute}'"


def _hint(name: str, names: Sequence[str]) -> str:
    """A suggestion for a misspelt name without a colon, or an empty string."""
    look_here()
    module = _without_suffix(name)
    if is_file(module):
        spelled = " or ".join(f"'{module}:{one}'" for one in convolution_names(module))
        asked = f"; did you mean {spelled}?" if spelled else ";"
        return f"'{module}' is a module, and a subject is module:callable{asked} "
    close = difflib.get_close_matches(name, names, n=1) or [":".join(name.rsplit(".", 1))] * ("." in name)
    close = close or [f"{other}:{one}" for other in nearest(name)[:1] for one in convolution_names(other)[:1]]
    return f"did you mean '{close[0]}'? " if close else ""


def _without_suffix(module: str) -> str:
    """The name of a module, also if its file name was given."""
    if not module.endswith(".py"):
        return module
    return ".".join(part for part in PurePath(module.removesuffix(".py")).parts if part not in (".", "/"))


def check_undeclared(name: str, chosen: tuple[str, ...]) -> None:
    """Check that ``--arithmetic`` is for the subject, as far as its name tells.

    Raises
    ------
    ValueError
        If a registered subject is named: it declares how it computes.
    """
    if chosen and name in SUBJECTS:
        said = f"arithmetic={', '.join(chosen)} is for subjects that declare none"
        raise ValueError(f"{said}, but '{name}' is registered and declares its own")


def resolve(name: str) -> Subject:
    """The subject that a name stands for: a registered one, an entry point, or ``package.module:callable``.

    Modules in the working directory are found too.

    Raises
    ------
    ValueError
        With every legal spelling, the nearest one first.
    """
    if check_name(name) in SUBJECTS:
        return SUBJECTS[name].make()
    if name in plugged_in():
        entry = plugged_in()[name]
        return _imported(name, *target(entry), said=f"subject '{name}' ({described_entry(entry)})")
    module, _, attribute = name.partition(":")
    return _imported(name, module, attribute, said=f"subject '{name}'")


def _imported(name: str, module: str, attribute: str, *, said: str) -> Subject:
    if not module or not attribute:
        raise ValueError(f"{said} must be module:callable, but has no {'callable' if module else 'module'}")
    look_here()
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # a module can raise anything when it is imported
        reason = f"{described(error)}{_not_found(module, error)}"
        raise ValueError(f"{said}: cannot import {module}: {reason}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            close = difflib.get_close_matches(part, dir(found), n=3)
            raise ValueError(f"{said}: {module} has no '{part}'{_nearest(close)}")
        found = getattr(found, part)
    return as_subject(found, name)


def _not_found(module: str, error: BaseException) -> str:
    """The nearest module names, if the module itself is missing and not one that it imports."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is None or not f"{module}.".startswith(f"{missing}."):
        return ""
    plain = _without_suffix(module)
    close = [plain] if plain != module and is_file(plain) else nearest(missing)
    return _nearest(close)


def _nearest(close: Sequence[str]) -> str:
    """The end of a message that lists the nearest names; empty if no name is near."""
    return f"; nearest: {', '.join(close)}" if close else ""


def as_subject(found: Any, name: str) -> Subject:
    """Make a subject from a Subject, from a subclass of it that takes no arguments, or from a callable.

    A callable must have ``F.conv2d``'s signature and take tensors. It is taken to support everything.

    Raises
    ------
    ValueError
        If the object has another type.
    """
    if isinstance(found, type) and issubclass(found, Subject):
        try:
            found = found()
        except TypeError as error:
            raise ValueError(f"subject '{name}': cannot make a {found.__name__} without arguments: {error}") from error
    if isinstance(found, Subject):
        # Reports and replay lines must use the name that the user gave.
        found.name = name
        return found
    if not callable(found):
        raise ValueError(f"subject '{name}' must be a callable or a Subject, not {type(found).__name__}")  # noqa: TRY004  # a usage error like the others
    if found in (torch.nn.functional.conv2d, torch.conv2d):
        return torch_subject(name, function=found)
    return TorchSubject(name, found)


def named_subjects(
    subjects: Callable[..., Any] | Subject | str | Sequence[Callable[..., Any] | Subject | str],
) -> dict[str, Subject | None]:
    """Subjects by name; the value is None if another process can import the subject by that name.

    Parameters
    ----------
    subjects : callable, Subject, str, or a sequence of them

    Raises
    ------
    ValueError
        If a subject has another type.
    """
    if not (callable(subjects) or isinstance(subjects, str | Subject | Iterable)):
        said = "must be a callable, a Subject, a name, or a sequence of them"
        raise ValueError(f"subject={subjects!r} {said}")  # noqa: TRY004  # a usage error like the others
    listed = [subjects] if callable(subjects) or isinstance(subjects, str | Subject) else list(subjects)
    found: dict[str, Subject | None] = {}
    for one in listed:
        name = one if isinstance(one, str) else importable_name(one)
        if name is not None:
            found[name] = None
        else:
            name = _free_name(_own_name(one), found)
            found[name] = as_subject(one, name)
    return found


def _own_name(subject: object) -> str:
    name = getattr(subject, "__qualname__", None) or getattr(subject, "name", None) or type(subject).__qualname__
    return str(name).rpartition("<locals>.")[2]


def _free_name(name: str, taken: dict[str, Subject | None]) -> str:
    numbered = (f"{name}-{n}" for n in range(2, len(taken) + 3))
    return name if name not in taken else next(other for other in numbered if other not in taken)
