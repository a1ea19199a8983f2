"""The outcome of a call of an implementation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Self

import torch

from toeplitz_core.bound import Arithmetic
from toeplitz_core.testing.subjects.symptom import Symptom

# How the message of an unsupported derivative begins if the implementation has no gradients at all.
FORWARD_ONLY = "forward only: "


class BrokenContract(Exception):  # noqa: N818  # its message is the report
    """An implementation did something that is forbidden, even if its result is right.

    Parameters
    ----------
    message : str
    symptom : Symptom
        What kind of thing it is.
    """

    def __init__(self, message: str, symptom: Symptom = Symptom.OTHER) -> None:
        super().__init__(message)
        self.symptom = symptom


class ForwardOnly(NotImplementedError):  # noqa: N818  # it is not an error
    """An implementation has no gradients at all, and does not claim to have any."""

    def __str__(self) -> str:
        return f"{FORWARD_ONLY}{super().__str__()}"


class ResultName(NamedTuple):
    """The name of one result of a call.

    Parameters
    ----------
    of : str
        The quantity: ``output``, or the operand whose gradient it is. Results of the same quantity must be equal.
    when : str
        In which of several calls; empty for the plain one.
    """

    of: str
    when: str = ""

    def __str__(self) -> str:
        return f"{self.of} {self.when}".rstrip()


OUTPUT = ResultName("output")
Results = Mapping[ResultName, torch.Tensor]


class NotClaimed(NotImplementedError):  # noqa: N818  # it is not an error
    """Results that the implementation does not claim to support. If they are right, they prove nothing.

    Parameters
    ----------
    reason : str
    results : mapping of ResultName to tensor
    """

    def __init__(self, reason: str, results: Results) -> None:
        super().__init__(reason)
        self.results = results


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one call with a case.

    Parameters
    ----------
    status : str
        ``returned``, or the kind of reason why there is no result.
    arithmetic : Arithmetic
        The arithmetic that the implementation declares for the case.
    results : mapping of ResultName to tensor
        The results by name, if the call returned. The result of the convolution itself is ``output``.
    message : str
        Why there is no result, or why the implementation does not claim results of this kind.
    printed : str
        Text written to the standard streams, if it was captured.
    gradients : mapping of str to Arithmetic
        The arithmetic that the implementation declares for the gradient in each operand.
    kernel : str
        The kernel that computed the result, if known.
    traceback : str
        The frames of the implementation in which it raised or crashed, as Python prints them; empty if there are none.
    symptom : Symptom
        What went wrong, if something did.
    """

    status: Literal["returned", "unsupported", "raised", "spoiled", "crashed", "timed out"]
    arithmetic: Arithmetic
    results: Results = field(default_factory=dict)
    message: str = ""
    printed: str = ""
    gradients: Mapping[str, Arithmetic] = field(default_factory=dict)
    kernel: str = ""
    traceback: str = ""
    symptom: Symptom = Symptom.OTHER

    @property
    def output(self) -> torch.Tensor | None:
        """The result of the convolution, if there is one."""
        return self.results.get(OUTPUT)

    def spoiled(self, message: str, printed: str) -> Self:
        """The outcome if the call changed the state of its process, which overrides its result."""
        spoiled = replace(self, status="spoiled", results={}, message=message, printed=printed)
        return replace(spoiled, traceback="", symptom=Symptom.STATE)


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a call whose arguments may be invalid.

    Parameters
    ----------
    status : str
        ``returned``, ``refused`` by an exception, ``unimplemented`` by ``NotImplementedError``, or as in
        :class:`Outcome`.
    result : tensor, optional
        The value that the call returned, or None without one.
    message : str
        Why there is no result.
    printed : str
        Text written to the standard streams, if it was captured.
    traceback, symptom
        As in :class:`Outcome`.
    """

    status: Literal["returned", "refused", "unimplemented", "unsupported", "raised", "spoiled", "crashed", "timed out"]
    result: torch.Tensor | None = None
    message: str = ""
    printed: str = ""
    traceback: str = ""
    symptom: Symptom = Symptom.OTHER

    def spoiled(self, message: str, printed: str) -> Self:
        """The answer if the call changed the state of its process, which overrides its result."""
        spoiled = replace(self, status="spoiled", result=None, message=message, printed=printed)
        return replace(spoiled, traceback="", symptom=Symptom.STATE)


def described(error: BaseException) -> str:
    """The exception's type, and its message if it has one."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001  # a subject's own exception can do anything
        message = "its message cannot be read"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
