"""Which implementation a name means."""

from __future__ import annotations

import difflib
import functools
import importlib
import os
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import torch

from toeplitz_core.testing.subjects.base import Environment, Subject
from toeplitz_core.testing.subjects.registered import SUBJECTS
from toeplitz_core.testing.subjects.torch_eager import TorchSubject, torch_subject

# The group of entry points with which an installed package gives its subjects a name.
ENTRY_POINTS = "toeplitz_core.subjects"


def environment(name: str) -> Environment:
    """What a subject's process must start with."""
    return SUBJECTS[name].environment if name in SUBJECTS else Environment()


def absent(name: str) -> str:
    """Why a subject cannot run here, with the command that would change it; empty if nothing is known against it."""
    return SUBJECTS[name].absent if name in SUBJECTS else ""


@functools.cache
def plugged_in() -> dict[str, EntryPoint]:
    """The subjects that installed packages bring, by name. A name of ours stays ours."""
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS) if entry.name not in SUBJECTS}


def check_name(name: str) -> str:
    """The name, if it can mean a subject; whether it does is seen when it is imported.

    Raises
    ------
    ValueError
        With every legal spelling, the nearest one first.
    """
    names = [*SUBJECTS, *plugged_in()]
    if name not in names and ":" not in name:
        # A dotted name is most likely an import path without its colon.
        close = difflib.get_close_matches(name, names, n=1) or [":".join(name.rsplit(".", 1))] * ("." in name)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ValueError(f"no subject '{name}'; {hint}Legal: {', '.join(names)}, or package.module:callable")
    return name


def resolve(name: str) -> Subject:
    """The subject of a name: a registered one, an entry point, or ``package.module:callable``.

    The last is looked for in the working directory too.

    Raises
    ------
    ValueError
        With every legal spelling, the nearest one first.
    """
    if check_name(name) in SUBJECTS:
        return SUBJECTS[name].make()
    if name in plugged_in():
        entry = plugged_in()[name]
        return _imported(name, entry.module, entry.attr)
    module, _, attribute = name.partition(":")
    return _imported(name, module, attribute)


def _imported(name: str, module: str, attribute: str) -> Subject:
    if os.getcwd() not in sys.path:  # noqa: PTH109  # sys.path holds strings; a console script leaves the directory out
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever a module raises when it is imported
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"subject '{name}': cannot import {module}: {reason}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            close = difflib.get_close_matches(part, dir(found), n=3)
            raise ValueError(f"subject '{name}': {module} has no '{part}'; nearest: {', '.join(close) or 'none'}")
        found = getattr(found, part)
    return as_subject(found, name)


def as_subject(found: Any, name: str) -> Subject:
    """A subject of whatever can be one: a Subject, a class of them that takes no arguments, or a callable.

    A callable has ``F.conv2d``'s signature, takes tensors, and claims to support everything.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if isinstance(found, type) and issubclass(found, Subject):
        try:
            found = found()
        except TypeError as error:
            raise ValueError(f"subject '{name}': cannot make a {found.__name__} without arguments: {error}") from error
    if isinstance(found, Subject):
        # What is printed and replayed is the name that was asked for.
        found.name = name
        return found
    if not callable(found):
        raise ValueError(f"subject '{name}' must be a callable or a Subject, not {type(found).__name__}")  # noqa: TRY004  # a usage error like the others
    if found in (torch.nn.functional.conv2d, torch.conv2d):
        return torch_subject(name, function=found)
    return TorchSubject(name, found)
