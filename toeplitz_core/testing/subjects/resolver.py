"""Which implementation a name means."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable

import torch

from toeplitz_core.operator import conv2d
from toeplitz_core.testing.subjects.base import Subject
from toeplitz_core.testing.subjects.torch_eager import TorchSubject

SUBJECTS: dict[str, Callable[[], Subject]] = {
    "torch": lambda: TorchSubject("torch", torch.nn.functional.conv2d),
    "toeplitz": lambda: TorchSubject("toeplitz", conv2d),
}


def resolve(name: str) -> Subject:
    """The subject of a registered name, or of ``package.module:callable`` (also from the working directory).

    Raises
    ------
    ValueError
        With every legal spelling, the nearest one first.
    """
    if name in SUBJECTS:
        return SUBJECTS[name]()
    module, colon, attribute = name.partition(":")
    if not colon:
        # A dotted name is most likely an import path without its colon.
        close = difflib.get_close_matches(name, SUBJECTS, n=1) or [":".join(name.rsplit(".", 1))] * ("." in name)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ValueError(f"no subject '{name}'; {hint}Legal: {', '.join(SUBJECTS)}, or package.module:callable")
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
    if isinstance(found, Subject):
        return found
    if not callable(found):
        raise ValueError(f"subject '{name}' must be a callable or a Subject, not {type(found).__name__}")  # noqa: TRY004  # a usage error like the others
    return TorchSubject(name, found)
