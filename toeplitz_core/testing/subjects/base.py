"""What the suite needs of an implementation under test, and what it makes of a call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch

from toeplitz_core.bound import FLOAT64, Arithmetic

if TYPE_CHECKING:
    from toeplitz_core.testing.case import Case
    from toeplitz_core.testing.data import Operands


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call.

    ``output`` is there if it ``returned``; otherwise ``message`` says why not. ``arithmetic`` is what it declares for
    the case, ``printed`` what it wrote to its standard streams, where that was caught.
    """

    status: Literal["returned", "unsupported", "raised", "spoiled", "crashed", "timed out"]
    arithmetic: Arithmetic
    output: torch.Tensor | None = None
    message: str = ""
    printed: str = ""


class Runner(Protocol):
    """An implementation that can be called: in this process (every :class:`Subject`) or in another."""

    name: str

    def run(self, case: Case, operands: Operands) -> Outcome:
        """Call it. Whatever it does becomes an outcome."""
        ...

    def restart(self) -> None:
        """Forget what earlier calls left behind, as far as that is possible."""
        ...


class Subject(ABC):
    """An implementation of conv2d. Subclasses say what they support, how they compute, and compute."""

    name: str

    def unsupported(self, case: Case) -> str | None:  # noqa: ARG002  # for subclasses
        """Why the implementation does not claim to handle a case; None if it does. It is then not called."""
        return None

    def arithmetic(self, case: Case) -> Arithmetic:
        """How it computes: what its error is judged by. The strictest for the dtype unless it declares otherwise."""
        return strictest(case)

    @abstractmethod
    def forward(self, case: Case, operands: Operands) -> torch.Tensor:
        """The result for a case. ``NotImplementedError`` means unsupported; any other exception is a failure."""

    def restart(self) -> None:  # noqa: B027  # there is nothing that a subject must do
        """Nothing: this process goes on."""

    def run(self, case: Case, operands: Operands) -> Outcome:
        """Call it in this process."""
        if (reason := self.unsupported(case)) is not None:
            return Outcome("unsupported", strictest(case), message=reason)
        arithmetic = self.arithmetic(case)
        try:
            output = self.forward(case, operands)
        except NotImplementedError as error:
            return Outcome("unsupported", arithmetic, message=f"NotImplementedError: {error}")
        except KeyboardInterrupt:
            raise
        # Let through, sys.exit(0) in an implementation would end the run as a success.
        except BaseException as error:  # noqa: BLE001  # whatever it raises on a valid call is a finding
            return Outcome("raised", arithmetic, message=f"raised {type(error).__name__}: {error}")
        if (reason := _unreadable(case, output)) is not None:
            return Outcome("raised", arithmetic, message=reason)
        return Outcome("returned", arithmetic, output)


def _unreadable(case: Case, output: object) -> str | None:
    """Why a result cannot be looked at: not a dense tensor on the device of the case."""
    if not isinstance(output, torch.Tensor):
        return f"returned {type(output).__name__}, not a torch.Tensor"
    if output.layout != torch.strided:
        return f"returned layout {output.layout}, not torch.strided"
    if output.device.type != torch.device(case.device).type:
        return f"returned a result on device {output.device}, not {case.device}"
    return None


def strictest(case: Case) -> Arithmetic:
    """The arithmetic of an implementation that declares nothing."""
    if case.dtype == "int64":
        return Arithmetic(FLOAT64, FLOAT64)
    return Arithmetic.strictest(case.torch_dtype)


@dataclass(frozen=True, slots=True)
class Environment:
    """Environment variables that a subject needs before its process starts, such as ``ONEDNN_MAX_CPU_ISA``."""

    variables: tuple[tuple[str, str], ...] = ()
