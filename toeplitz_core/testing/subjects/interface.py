"""The interface of an implementation under test."""

from __future__ import annotations

import bdb
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

import torch

from toeplitz_core.bound import Arithmetic
from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.conditions import Condition
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.oracle.arithmetics import chosen_arithmetic
from toeplitz_core.testing.oracle.strictest import strictest
from toeplitz_core.testing.subjects.declared import Declared
from toeplitz_core.testing.subjects.frames import traceback_of
from toeplitz_core.testing.subjects.outcome import (
    OUTPUT,
    Answer,
    BrokenContract,
    ForwardOnly,
    NotClaimed,
    Outcome,
    Results,
    described,
)
from toeplitz_core.testing.subjects.symptom import Symptom
from toeplitz_core.testing.support.spelling import listed

# The procedures that a subject can be asked to run: the convolution and related computations (see folder pytorch).
Procedure = Literal[
    "forward",
    "contract",
    "gradients",
    "double_backward",
    "forward_mode",
    "functional_gradients",
    "vmap",
    "transposed",
    "argument_checks",
]

# Operands of up to this many bytes are copied for a subject in this process.
_COPIED_BYTES = 2**24

# The memory formats that a subject can declare for its results.
MemoryFormat = Literal["contiguous", "channels_last"]


@dataclass(frozen=True, slots=True)
class Claims:
    """What an implementation claims to do. Nothing else is tested.

    Parameters
    ----------
    devices : tuple of str, optional
        The types of devices that it computes on, such as ``("cpu",)``; None means all that torch has.
    dtypes : tuple of str, optional
        The dtypes that it computes in, such as ``("float32",)``; None means all.
    procedures : tuple of str
        The procedures that it supports; see :meth:`Subject.perform`.
    draws : int
        How often data is drawn for one geometry. More than once pays off if each geometry must be compiled, because
        compiling takes longer than running.
    repeatable : bool
        Whether the same call always returns the same bits.
    absent : str
        Why it cannot run here, such as a missing package; empty if it can.
    calls_torch : bool, optional
        Whether it computes with ``torch.nn.functional.conv2d``, so that a failure may be torch's own. None: each call
        that fails is run again to see. The subjects that are torch itself say False: they share failures with nobody.
    chosen : tuple of str
        The values of ``--arithmetic`` by which it is judged; empty if there are none.
    where : str
        A condition that holds for every case that it is for, such as ``"kernel_size == (3, 3) and groups == 1"``; see
        :class:`Condition`. Other cases are not tried; empty for all.
    """

    devices: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    procedures: tuple[Procedure, ...] = ("forward",)
    draws: int = 1
    repeatable: bool = False
    absent: str = ""
    calls_torch: bool | None = None
    chosen: tuple[str, ...] = ()
    where: str = ""

    def __post_init__(self) -> None:
        if self.where:
            Condition(self.where)
        if self.draws < 1:
            raise ValueError(f"draws={self.draws} must be >= 1")

    def not_on(self, device: str) -> str:
        """Why it does not run on a device, even if the device is present; empty if it does."""
        kind = torch.device(device).type
        if self.absent or self.devices is None or kind in self.devices:
            return self.absent
        return f"computes on {listed(self.devices)}, not on {kind}"

    def not_asked(self, dtype: str, procedure: Procedure) -> str:
        """Why it does not support a procedure in a dtype; empty if it does."""
        if self.dtypes is not None and dtype not in self.dtypes:
            return f"supports only {listed(self.dtypes)}"
        return "" if procedure in self.procedures else f"has no {procedure.replace('_', ' ')}"


@dataclass(frozen=True, slots=True)
class Environment:
    """Environment variables that a subject's process must start with, such as ``ONEDNN_MAX_CPU_ISA``.

    Parameters
    ----------
    variables : tuple of (name, value)
        The settings to add; empty for none.
    """

    variables: tuple[tuple[str, str], ...] = ()


class Implementation(Protocol):
    """An implementation that can be called, in this process (every :class:`Subject`) or in another process."""

    @property
    def name(self) -> str: ...

    @property
    def claims(self) -> Claims: ...

    @property
    def isolated(self) -> bool:
        """Whether it runs in another process, so that this one survives its crash."""
        ...

    def run(self, case: Case, operands: Operands, procedure: Procedure = "forward") -> Outcome:
        """Call the implementation. Everything that can happen becomes an outcome."""
        ...

    def answer(self, call: Call) -> Answer:
        """Call the implementation with arguments that may be invalid."""
        ...

    def restart(self) -> None:
        """Discard state that earlier calls left behind, if possible."""
        ...

    def poisoned(self) -> Sequence[Implementation]:
        """The same implementation in processes that fill new memory, each with another byte; empty if impossible."""
        ...


@dataclass(frozen=True, slots=True)
class Absent:
    """An implementation that cannot run here. It is never called.

    Parameters
    ----------
    name : str
        What reports call the implementation.
    claims : Claims
        ``claims.absent`` gives the reason.
    """

    name: str
    claims: Claims
    isolated: ClassVar[bool] = False

    def run(self, case: Case, operands: Operands, procedure: Procedure = "forward") -> Outcome:  # noqa: ARG002  # as every implementation
        """Return the reason why it cannot run."""
        return Outcome("unsupported", strictest(case), message=self.claims.absent)

    def answer(self, call: Call) -> Answer:  # noqa: ARG002  # as every implementation
        """Return the reason why it cannot run."""
        return Answer("unsupported", message=self.claims.absent)

    def restart(self) -> None:
        """Do nothing: no process runs."""

    def poisoned(self) -> Sequence[Implementation]:
        """Return nothing: it cannot run."""
        return ()


class Subject(ABC):
    """An implementation of conv2d. Subclasses declare what they support and how they compute, and compute.

    Attributes
    ----------
    name : str
    claims : Claims
    declared : Declared
        What the options of the run declare about it.

    Examples
    --------
    A subject on NumPy arrays that supports only pointwise convolutions:

    >>> import numpy as np
    >>> class Pointwise(Subject):
    ...     name = "pointwise"
    ...     claims = Claims(devices=("cpu",), dtypes=("float64",))
    ...
    ...     def supports(self, case):
    ...         return set(case.geometry.kernel_size) == {1} and case.groups == 1
    ...
    ...     def forward(self, case, operands):
    ...         x, weight, bias = (None if t is None else t.numpy() for t in placed(case, operands))
    ...         ...
    >>> from toeplitz_core.testing.subjects.placement import placed
    >>> Pointwise().supports(Case.parse("input=1x2x3x3 weight=4x2x3x3 dtype=float64"))
    False
    """

    name: str
    claims: Claims = Claims()
    isolated: ClassVar[bool] = False
    declared: Declared = Declared()

    def supports(self, case: Case) -> bool:  # noqa: ARG002  # for subclasses
        """Whether the implementation claims to support a case. If not, it is not called.

        Raise ``NotImplementedError`` instead of returning False to give a reason.
        """
        return True

    def arithmetic(self, case: Case) -> Arithmetic:
        """How it computes, which sets its error bound. The default is the strictest arithmetic of the dtype."""
        return chosen_arithmetic(self.declared.arithmetic, case)

    @property
    def declares_arithmetic(self) -> bool:
        """Whether it declares how it computes, so that ``--arithmetic`` cannot choose it."""
        return type(self).arithmetic is not Subject.arithmetic

    def declare(self, declared: Declared) -> None:
        """Take what the options of a run declare.

        Raises
        ------
        ValueError
            If they choose an arithmetic, and the subject declares its own.
        """
        if declared.arithmetic and self.declares_arithmetic:
            said = f"arithmetic={', '.join(declared.arithmetic)} is for subjects that declare none"
            raise ValueError(f"{said}, but '{self.name}' declares its own")
        self.declared = declared
        if self.claims.chosen != declared.arithmetic:
            self.claims = replace(self.claims, chosen=declared.arithmetic)

    def gradient_arithmetic(self, case: Case, operand: str) -> Arithmetic:  # noqa: ARG002  # for subclasses
        """How it computes the gradient in ``input``, ``weight`` or ``bias``. By default, like the result."""
        return self.arithmetic(case)

    def memory_format(self, case: Case) -> MemoryFormat | None:  # noqa: ARG002  # for subclasses
        """The memory format that its result must have; None for any."""
        return None

    @abstractmethod
    def forward(self, case: Case, operands: Operands) -> torch.Tensor:
        """The result for a case. ``NotImplementedError`` means unsupported; any other exception is a failure."""

    def perform(self, procedure: Procedure, case: Case, operands: Operands) -> Results:
        """Run a procedure that a law asks for, and return its results by name."""
        if procedure != "forward":
            raise NotImplementedError(f"has no {procedure.replace('_', ' ')}")
        return {OUTPUT: self.forward(case, operands)}

    def invoke(self, call: Call) -> torch.Tensor:
        """The result for arguments that may be invalid; needed only for the procedure ``argument_checks``."""
        raise NotImplementedError

    def kernel(self, case: Case, operands: Operands) -> str:  # noqa: ARG002  # for subclasses
        """The name of the kernel that computes the convolution, for statistics; empty if unknown."""
        return ""

    def restart(self) -> None:  # noqa: B027  # there is nothing that a subject must do
        """Do nothing: this process cannot be restarted."""

    def poisoned(self) -> Sequence[Implementation]:
        """Return nothing: the allocator reads its settings only when a process starts."""
        return ()

    def run(self, case: Case, operands: Operands, procedure: Procedure = "forward") -> Outcome:
        """Call the implementation in this process. It gets operands of its own, which it may change."""
        operands = operands.copied() if operands.nbytes <= _COPIED_BYTES else operands
        arithmetic = strictest(case)
        try:
            if (reason := self._refusal(case)) is not None:
                return Outcome("unsupported", arithmetic, message=reason)
            arithmetic = self.arithmetic(case)
            of_gradients = {}
            if procedure not in ("forward", "contract"):
                of_gradients = {name: self.gradient_arithmetic(case, name) for name in ("input", "weight", "bias")}
            unclaimed, results = "", self.perform(procedure, case, operands)
        except NotClaimed as error:
            unclaimed, results = str(error), error.results
        except ForwardOnly as error:
            return Outcome("unsupported", arithmetic, message=str(error))
        except NotImplementedError as error:
            return Outcome("unsupported", arithmetic, message=described(error))
        except BrokenContract as error:
            return Outcome("raised", arithmetic, message=str(error), symptom=error.symptom)
        except KeyboardInterrupt:
            raise
        # If sys.exit(0) in an implementation passed through, it would end the run as a success.
        except BaseException as error:  # noqa: BLE001  # any exception on a valid call is a finding
            _pass_on_a_quit(error)
            message, where = f"raised {described(error)}", traceback_of(error)
            return Outcome("raised", arithmetic, message=message, traceback=where, symptom=_of_exception(error))
        for name, result in results.items():
            if (reason := _unreadable(case, result)) is not None:
                return Outcome("raised", arithmetic, message=reason if name == OUTPUT else f"{name}: {reason}")
        results = {name: _materialised(result) for name, result in results.items()}
        kernel = self.kernel(case, operands) if procedure != "transposed" else ""
        return Outcome("returned", arithmetic, results, unclaimed, gradients=of_gradients, kernel=kernel)

    def answer(self, call: Call) -> Answer:
        """Call the implementation in this process with arguments that may be invalid."""
        if type(self).invoke is Subject.invoke:
            return Answer("unsupported", message="does not claim to check its arguments")
        try:
            result = self.invoke(call)
        except KeyboardInterrupt:
            raise
        except NotImplementedError as error:  # a refusal, or a valid call that it does not support
            return Answer("unimplemented", message=described(error))
        except BrokenContract as error:
            return Answer("raised", message=str(error), symptom=error.symptom)
        except Exception as error:  # noqa: BLE001  # any exception can be a refusal
            _pass_on_a_quit(error)
            return Answer("refused", message=described(error), traceback=traceback_of(error))
        except BaseException as error:  # noqa: BLE001  # such as SystemExit, which would end the caller's program
            message, where = f"raised {described(error)}", traceback_of(error)
            return Answer("raised", message=message, traceback=where, symptom=_of_exception(error))
        if (reason := _unreadable(None, result)) is not None:
            return Answer("raised", message=reason)
        return Answer("returned", _materialised(result))

    def _refusal(self, case: Case) -> str | None:
        """Why it does not claim to support a case; None if it does."""
        if reason := self.claims.not_asked(case.dtype, "forward"):
            return reason
        try:
            return None if self.supports(case) else "does not claim to support the case"
        except NotImplementedError as error:
            return str(error)


def _pass_on_a_quit(error: BaseException) -> None:
    """Raise ``KeyboardInterrupt`` if a user has left a debugger in this process, such as pdb or that of pytest."""
    of_pytest = (type(error).__module__, type(error).__name__) == ("_pytest.outcomes", "Exit")
    if isinstance(error, bdb.BdbQuit) or of_pytest:
        raise KeyboardInterrupt from None


def _of_exception(error: BaseException) -> Symptom:
    return Symptom.REFUSED if isinstance(error, Exception) else Symptom.EXIT


def _unreadable(case: Case | None, output: object) -> str | None:
    """Why a result cannot be judged: it is not a dense tensor, or not on the device of the case (if given)."""
    if not isinstance(output, torch.Tensor):
        return f"returned {type(output).__name__}, not a torch.Tensor"
    if output.layout != torch.strided:
        return f"returned layout {output.layout}, not torch.strided"
    if case is not None and output.device.type != torch.device(case.device).type:
        return f"returned a result on device {output.device}, not {case.device}"
    return None


def _materialised(result: torch.Tensor) -> torch.Tensor:
    """A result as plain values: detached from its graph, with any lazy conjugation or negation applied."""
    return result.detach().resolve_conj().resolve_neg()
