"""What a script calls: the imports, the switches and the function of a subject."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from toeplitz_core.testing.findings.reproducer.libraries import CALLS
from toeplitz_core.testing.subjects import SUBJECTS, resolve
from toeplitz_core.testing.subjects.arrays import ArraySubject, to_numpy
from toeplitz_core.testing.subjects.interface import Subject
from toeplitz_core.testing.subjects.pytorch.subject import TorchSubject
from toeplitz_core.testing.support.importable import importable_name, needed_path

_NATIVE = ("torch.backends.mkldnn.flags(enabled=False)", "torch.backends.nnpack.flags(enabled=False)")
_TORCH = "conv2d = torch.nn.functional.conv2d"
_AUTOCAST = """
def conv2d(x, *rest):
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        y = torch.nn.functional.conv2d(x, *rest)
    return y.to(x.dtype)
"""
_NO_TF32 = """
for switch in (torch.backends.cudnn.conv, torch.backends.cuda.matmul):
    switch.fp32_precision = "ieee"
"""
# Takes arrays instead of tensors: the tensors share their memory with the arrays.
_ARRAYS = '''
def conv2d(x, weight, bias, *rest):
    """The function on arrays, with tensors as operands and result."""
    arrays = [None if t is None else t.numpy() for t in (x, weight, bias)]
    return torch.from_numpy(numpy.ascontiguousarray(function(*arrays, *rest)))
'''


class NotExportable(ValueError):  # noqa: N818  # its message is the answer
    """No script can show the failure without this package. The message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a script calls.

    Parameters
    ----------
    subject : Subject
        The subject in this process.
    imports : tuple of str
        Statements that may raise ``ImportError``.
    definition : str
        Statements after them that define ``conv2d``.
    contexts : tuple of str
        Expressions of the context managers around each call.
    variables : tuple of (name, value)
        Environment variables that are read at the imports.
    layout : str
        The layout of input, weight and gradient if the case names none.
    """

    subject: Subject
    imports: tuple[str, ...]
    definition: str
    contexts: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    layout: str = "contiguous"


def target(name: str) -> Target:
    """How a script calls a subject.

    Raises
    ------
    NotExportable
        If the script would need this package.
    ValueError
        If there is no such subject.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what its module imports
        subject = resolve(name)
    if name in SUBJECTS:
        return _registered(name, subject)
    if isinstance(subject, TorchSubject):
        found, definition, layout = subject.function, "", subject.layout
    elif isinstance(subject, ArraySubject) and subject.to_array is to_numpy:
        found, definition, layout = subject.function, _ARRAYS, "contiguous"
    else:
        raise NotExportable(
            f"subject '{name}' is a {type(subject).__name__}, a class of the suite, and not a function that a script "
            "could call"
        )
    path = name if ":" in name and not definition and not _is_subject(name, found) else importable_name(found)
    if path is None or path.startswith("toeplitz_core"):
        raise NotExportable(f"subject '{name}': its function has no name by which a script can import it")
    module, _, attribute = path.partition(":")
    first, *rest = attribute.split(".")
    called = "function" if definition else "conv2d"
    bound = f"\n{called} = {'.'.join([first, *rest])}\n" if rest or first != called else ""
    where = needed_path(path)
    imports = ["sys.path.insert(0, os.getcwd())", *([f"sys.path.insert(0, {where!r})"] if where else [])]
    imports += ["import torch", *(["import numpy"] if definition else []), f"from {module} import {first}"]
    return Target(subject, tuple(imports), bound + definition, layout=layout)


def _is_subject(name: str, function: object) -> bool:
    """Whether a name stands for a subject that holds the function, and not for the function itself."""
    return importable_name(function) not in (None, name)


def _registered(name: str, subject: Subject) -> Target:
    """How a script calls a registered subject."""
    contexts: dict[str, tuple[str, ...]] = {
        "torch-native": _NATIVE,
        "torch-nnpack": _NATIVE[:1],
        "torch-inference": ("torch.inference_mode()",),
    }
    definitions = {
        "torch-autocast": _AUTOCAST,
        "torch-compile": "conv2d = torch.compile(torch.nn.functional.conv2d, dynamic=False)\n",
        "torch-deterministic": f"torch.use_deterministic_algorithms(True)\n{_TORCH}\n",
        "torch-cuda-fp32": f"{_NO_TF32}{_TORCH}\n",
    }
    if name in CALLS:
        imports, definition = CALLS[name]
        return Target(subject, imports, definition, variables=SUBJECTS[name].environment.variables)
    if not isinstance(subject, TorchSubject) or not name.startswith("torch"):
        raise NotExportable(
            f"subject '{name}' is code of the suite; torch, {', '.join(CALLS)} and functions of your own are exported"
        )
    return Target(
        subject,
        ("import torch",),
        definitions.get(name, f"{_TORCH}\n"),
        contexts.get(name, ()),
        SUBJECTS[name].environment.variables,
        subject.layout,
    )
