"""Which implementation a name means."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

from toeplitz_core.operator import conv2d
from toeplitz_core.testing.subjects import torch_eager
from toeplitz_core.testing.subjects.base import Environment, Subject
from toeplitz_core.testing.subjects.torch_eager import TorchSubject

_PLAIN = Environment()


@dataclass(frozen=True, slots=True)
class Registered:
    """A subject with a name: how it is made, what it is, and what its process must start with."""

    make: Callable[[], Subject]
    statement: str
    environment: Environment = _PLAIN


def _isa(name: str) -> Registered:
    """Limits the instructions that oneDNN may use; it reads that when the process starts."""
    return Registered(
        lambda: TorchSubject(f"torch-{name.lower().replace('_', '-')}"),
        f"torch, oneDNN limited to {name}",
        Environment((("ONEDNN_MAX_CPU_ISA", name),)),
    )


def _threads(count: int) -> Registered:
    return Registered(
        lambda: TorchSubject(f"torch-{count}-threads"),
        f"torch with {count} thread{'s' if count > 1 else ''}",
        Environment((("OMP_NUM_THREADS", str(count)),)),
    )


SUBJECTS: dict[str, Registered] = {
    "torch": Registered(lambda: TorchSubject("torch"), "torch.nn.functional.conv2d as it comes"),
    "torch-channels-last": Registered(torch_eager.torch_channels_last, "torch, input and weight in channels_last"),
    "torch-native": Registered(torch_eager.torch_native, "torch, oneDNN and NNPACK switched off"),
    "torch-nnpack": Registered(torch_eager.torch_nnpack, "torch, oneDNN off: NNPACK takes batches of 16 and more"),
    "torch-deterministic": Registered(torch_eager.torch_deterministic, "torch, deterministic algorithms only"),
    "torch-inference": Registered(torch_eager.torch_inference, "torch in inference mode"),
    "torch-compile": Registered(torch_eager.torch_compile, "torch.compile, one compilation a geometry"),
    "torch-1-threads": _threads(1),
    "torch-2-threads": _threads(2),
    "torch-sse41": _isa("SSE41"),
    "torch-avx2": _isa("AVX2"),
    "torch-avx512-core": _isa("AVX512_CORE"),
    "toeplitz": Registered(lambda: TorchSubject("toeplitz", conv2d), "this package's own conv2d"),
}


def environment(name: str) -> Environment:
    """What a subject's process must start with."""
    return SUBJECTS[name].environment if name in SUBJECTS else Environment()


def check_name(name: str) -> str:
    """The name, if it can mean a subject; whether it does is seen when it is imported.

    Raises
    ------
    ValueError
        With every legal spelling, the nearest one first.
    """
    if name not in SUBJECTS and ":" not in name:
        # A dotted name is most likely an import path without its colon.
        close = difflib.get_close_matches(name, SUBJECTS, n=1) or [":".join(name.rsplit(".", 1))] * ("." in name)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ValueError(f"no subject '{name}'; {hint}Legal: {', '.join(SUBJECTS)}, or package.module:callable")
    return name


def resolve(name: str) -> Subject:
    """The subject of a registered name, or of ``package.module:callable`` (also from the working directory).

    Raises
    ------
    ValueError
        With every legal spelling, the nearest one first.
    """
    if check_name(name) in SUBJECTS:
        return SUBJECTS[name].make()
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
    if isinstance(found, Subject):
        return found
    if not callable(found):
        raise ValueError(f"subject '{name}' must be a callable or a Subject, not {type(found).__name__}")  # noqa: TRY004  # a usage error like the others
    return TorchSubject(name, found)
