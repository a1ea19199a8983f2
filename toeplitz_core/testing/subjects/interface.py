"""What the suite needs of an implementation under test, and what it makes of a call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, Protocol, Self

import torch

from toeplitz_core.testing.case.layouts import apply_layout, check_layout
from toeplitz_core.testing.oracle.arithmetics import strictest

if TYPE_CHECKING:
    from toeplitz_core.bound import Arithmetic
    from toeplitz_core.testing.case.call import Call
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.data.operands import Operands

# What a subject can be asked for: the convolution, and what belongs to it. See torch_procedures.py.
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

# What strides a result may be declared to have.
MemoryFormat = Literal["contiguous", "channels_last"]

# Operands of up to this many numbers are copied for the subject.
_COPIED_NUMBERS = 2**24


class BrokenContract(Exception):  # noqa: N818  # its message is what is reported
    """An implementation did what none may do, whatever its result."""


class NotClaimed(NotImplementedError):  # noqa: N818  # nothing is wrong
    """Results that an implementation gave though it claims none of their kind: they may be wrong, but prove nothing."""

    def __init__(self, reason: str, results: Mapping[str, torch.Tensor]) -> None:
        super().__init__(reason)
        self.results = results


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call.

    ``results`` are there by name if it ``returned`` (a convolution's is ``output``); otherwise ``message`` says why
    not, or why it claims no results of their kind, although they are there. ``arithmetic`` is what it declares for the
    case, ``gradients`` what it does for the gradient in each operand, ``printed`` what it wrote to its standard
    streams, where that was caught; ``kernel`` is what computed it, if known.
    """

    status: Literal["returned", "unsupported", "raised", "spoiled", "crashed", "timed out"]
    arithmetic: Arithmetic
    results: Mapping[str, torch.Tensor] = field(default_factory=dict)
    message: str = ""
    printed: str = ""
    gradients: Mapping[str, Arithmetic] = field(default_factory=dict)
    kernel: str = ""

    @property
    def output(self) -> torch.Tensor | None:
        """The result of a convolution, if there is one."""
        return self.results.get("output")

    def spoiled(self, message: str, printed: str) -> Self:
        """The outcome of a call that has changed the state of its process, which is what counts then."""
        return replace(self, status="spoiled", results={}, message=message, printed=printed)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a call that may be invalid: a result, or a message that says why there is none."""

    status: Literal["returned", "refused", "unimplemented", "unsupported", "raised", "spoiled", "crashed", "timed out"]
    result: torch.Tensor | None = None
    message: str = ""
    printed: str = ""

    def spoiled(self, message: str, printed: str) -> Self:
        """As of an :class:`Outcome`."""
        return replace(self, status="spoiled", result=None, message=message, printed=printed)


class Runner(Protocol):
    """An implementation that can be called: in this process (every :class:`Subject`) or in another.

    ``devices``, ``dtypes`` and the like are explained at :class:`Subject`.
    """

    @property
    def name(self) -> str: ...

    @property
    def devices(self) -> tuple[str, ...] | None: ...

    @property
    def dtypes(self) -> tuple[str, ...] | None: ...

    @property
    def procedures(self) -> tuple[Procedure, ...]: ...

    @property
    def draws(self) -> int: ...

    @property
    def absent(self) -> str: ...

    @property
    def repeatable(self) -> bool: ...

    def run(self, case: Case, operands: Operands, procedure: Procedure = "forward") -> Outcome:
        """Call it. Whatever it does becomes an outcome."""
        ...

    def answer(self, call: Call) -> Answer:
        """Call it with arguments that may be invalid."""
        ...

    def restart(self) -> None:
        """Forget what earlier calls left behind, as far as that is possible."""
        ...

    def poisoned(self) -> Sequence[Runner]:
        """The same in processes whose allocator fills what it gives out, each with another byte; none if impossible."""
        ...


@dataclass(frozen=True, slots=True)
class Absent:
    """A subject that cannot be run here: ``absent`` says why. No case reaches it."""

    name: str
    absent: str
    devices: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    procedures: tuple[Procedure, ...] = ("forward",)
    draws: int = 1
    repeatable: bool = False

    def run(self, case: Case, operands: Operands, procedure: Procedure = "forward") -> Outcome:  # noqa: ARG002  # as every runner
        """Say why not."""
        return Outcome("unsupported", strictest(case), message=self.absent)

    def answer(self, call: Call) -> Answer:  # noqa: ARG002  # likewise
        """Say why not."""
        return Answer("unsupported", message=self.absent)

    def restart(self) -> None:
        """Nothing is there."""

    def poisoned(self) -> Sequence[Runner]:
        """None."""
        return ()


class Subject(ABC):
    """An implementation of conv2d. Subclasses say what they support, how they compute, and compute.

    Attributes
    ----------
    name : str
    devices : tuple of str, or None
        The types of devices that it computes on, such as ``("cpu",)``; None for all that torch has.
    dtypes : tuple of str, or None
        Those that it has, such as ``("float32",)``; None for all.
    procedures : tuple of str
        What it can be asked for besides the result: see ``perform``.
    draws : int
        How often data is drawn for one geometry: more than once where each geometry has to be compiled, which takes
        longer than all that follows.
    absent : str
        Why it cannot be run here, such as a package that is not installed; empty if it can.
    repeatable : bool
        Whether it claims that the same call always gives the same bits.

    Examples
    --------
    A subject on NumPy arrays, which does nothing but pointwise convolutions:

    >>> import numpy as np
    >>> class Pointwise(Subject):
    ...     name = "pointwise"
    ...     devices = ("cpu",)
    ...
    ...     def supports(self, case):
    ...         return set(case.geometry.kernel_size) == {1} and case.dtype == "float64" and case.groups == 1
    ...
    ...     def forward(self, case, operands):
    ...         x, weight, bias = (None if t is None else t.numpy() for t in placed(case, operands))
    ...         ...
    >>> from toeplitz_core.testing.case.case import Case
    >>> Pointwise().supports(Case.parse("input=1x2x3x3 weight=4x2x3x3 dtype=float64"))
    False
    """

    name: str
    devices: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    procedures: tuple[Procedure, ...] = ("forward",)
    draws: int = 1
    absent: str = ""
    repeatable: bool = False

    def supports(self, case: Case) -> bool:  # noqa: ARG002  # for subclasses
        """Whether the implementation claims to handle a case; it is not called if not.

        ``NotImplementedError``, raised instead of returning False, gives a reason.
        """
        return True

    def arithmetic(self, case: Case) -> Arithmetic:
        """How it computes: what its error is judged by. The strictest for the dtype unless it declares otherwise."""
        return strictest(case)

    def gradient_arithmetic(self, case: Case, operand: str) -> Arithmetic:  # noqa: ARG002  # for subclasses
        """How it computes the gradient in ``input``, ``weight`` or ``bias``: like the result, unless it says so."""
        return self.arithmetic(case)

    def memory_format(self, case: Case) -> MemoryFormat | None:  # noqa: ARG002  # for subclasses
        """The memory format that its result has, which is then held to; None for any."""
        return None

    @abstractmethod
    def forward(self, case: Case, operands: Operands) -> torch.Tensor:
        """The result for a case. ``NotImplementedError`` means unsupported; any other exception is a failure."""

    def perform(self, procedure: Procedure, case: Case, operands: Operands) -> Mapping[str, torch.Tensor]:
        """The results, by name, of what laws other than those of the result itself ask for."""
        if procedure != "forward":
            raise NotImplementedError(f"{self.name} has no {procedure}")
        return {"output": self.forward(case, operands)}

    def invoke(self, call: Call) -> torch.Tensor:
        """What it returns for the arguments of a call, which may be invalid: ``argument_checks`` of ``procedures``."""
        raise NotImplementedError

    def kernel(self, case: Case, operands: Operands) -> str:  # noqa: ARG002  # for subclasses
        """The name of the kernel that computes the convolution, if it is known: for statistics."""
        return ""

    def restart(self) -> None:  # noqa: B027  # there is nothing that a subject must do
        """Nothing: this process goes on."""

    def poisoned(self) -> Sequence[Runner]:
        """None: the allocator reads its settings when a process starts."""
        return ()

    def run(self, case: Case, operands: Operands, procedure: Procedure = "forward") -> Outcome:
        """Call it in this process."""
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
        except NotImplementedError as error:
            return Outcome("unsupported", arithmetic, message=described(error))
        except BrokenContract as error:
            return Outcome("raised", arithmetic, message=str(error))
        except KeyboardInterrupt:
            raise
        # Let through, sys.exit(0) in an implementation would end the run as a success.
        except BaseException as error:  # noqa: BLE001  # whatever it raises on a valid call is a finding
            return Outcome("raised", arithmetic, message=f"raised {described(error)}")
        for name, result in results.items():
            if (reason := _unreadable(case, result)) is not None:
                return Outcome("raised", arithmetic, message=reason if name == "output" else f"{name}: {reason}")
        results = {name: _materialised(result) for name, result in results.items()}
        kernel = self.kernel(case, operands) if procedure != "transposed" else ""
        return Outcome("returned", arithmetic, results, unclaimed, gradients=of_gradients, kernel=kernel)

    def answer(self, call: Call) -> Answer:
        """Call it in this process with arguments that may be invalid."""
        if type(self).invoke is Subject.invoke:
            return Answer("unsupported", message=f"{self.name} has no argument checks to be held to")
        try:
            result = self.invoke(call)
        except KeyboardInterrupt:
            raise
        except NotImplementedError as error:  # a refusal, or a valid call that it does without
            return Answer("unimplemented", message=described(error))
        except BrokenContract as error:
            return Answer("raised", message=str(error))
        except Exception as error:  # noqa: BLE001  # any exception can be a refusal
            return Answer("refused", message=described(error))
        except BaseException as error:  # noqa: BLE001  # SystemExit, say: it would end the program that called
            return Answer("raised", message=f"raised {described(error)}")
        if (reason := _unreadable(None, result)) is not None:
            return Answer("raised", message=reason)
        return Answer("returned", _materialised(result))

    def _refusal(self, case: Case) -> str | None:
        """Why it does not claim to support a case; None if it does."""
        if self.dtypes is not None and case.dtype not in self.dtypes:
            return f"it has {', '.join(self.dtypes)} only"
        try:
            return None if self.supports(case) else f"{self.name} does not claim to support it"
        except NotImplementedError as error:
            return str(error)


def described(error: BaseException) -> str:
    """The exception's type, and its message if it has one."""
    try:
        message = str(error)
    except Exception:  # noqa: BLE001  # a subject's own exception can do anything
        message = "its message cannot be read"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _unreadable(case: Case | None, output: object) -> str | None:
    """Why a result cannot be looked at: not a dense tensor on the device of the case, if there is one."""
    if not isinstance(output, torch.Tensor):
        return f"returned {type(output).__name__}, not a torch.Tensor"
    if output.layout != torch.strided:
        return f"returned layout {output.layout}, not torch.strided"
    if case is not None and output.device.type != torch.device(case.device).type:
        return f"returned a result on device {output.device}, not {case.device}"
    return None


def _materialised(result: torch.Tensor) -> torch.Tensor:
    """A result as numbers in memory: no graph is kept, and what torch conjugates or negates later is done."""
    return result.detach().resolve_conj().resolve_neg()


def placed(
    case: Case, operands: Operands, layout: str = "contiguous"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Input, weight and bias on the device and in the strides of a case; ``layout`` where it names none."""
    bias = None if operands.bias is None else place(case, "bias", operands.bias)
    return place(case, "input", operands.input, layout), place(case, "weight", operands.weight, layout), bias


def place(case: Case, operand: str, values: torch.Tensor, layout: str = "contiguous") -> torch.Tensor:
    """An operand on the device and in the strides of a case; ``layout`` where it names none and the shape allows it.

    It is a copy: a kernel that writes to its operands must not write to those that it is judged by. Of a layer's
    weight that is hundreds of megabytes there is only one.
    """
    copied = values.to(case.device, copy=values.numel() <= _COPIED_NUMBERS)
    return apply_layout(copied, case.layout(operand) or _possible(layout, operand, copied))


def _possible(layout: str, operand: str, values: torch.Tensor) -> str:
    """The layout, if a tensor of this shape can have it."""
    try:
        check_layout(operand, layout, tuple(values.shape))
    except ValueError:
        return "contiguous"
    return layout


@dataclass(frozen=True, slots=True)
class Environment:
    """Environment variables that a subject needs before its process starts, such as ``ONEDNN_MAX_CPU_ISA``."""

    variables: tuple[tuple[str, str], ...] = ()
