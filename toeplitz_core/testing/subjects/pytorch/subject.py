"""Callables on torch tensors with the signature of ``torch.nn.functional.conv2d``: torch itself, or a kernel."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch

from toeplitz_core.bound import Arithmetic
from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import DTYPES, ROUNDED_DTYPES
from toeplitz_core.testing.data.operands import Operands, in_bytes
from toeplitz_core.testing.subjects.interface import Claims, MemoryFormat, Procedure, Subject
from toeplitz_core.testing.subjects.outcome import (
    BrokenContract,
    ForwardOnly,
    NotClaimed,
    ResultName,
    Results,
    described,
)
from toeplitz_core.testing.subjects.placement import place, placed
from toeplitz_core.testing.subjects.pytorch.derivatives import (
    DERIVATIVES,
    DetachedError,
    PartlyDetachedError,
    direction,
    transposed,
)
from toeplitz_core.testing.subjects.pytorch.memory_contract import ConvFunction, check_unchanged, contents, contract
from toeplitz_core.testing.subjects.pytorch.ordinary import Missing, has_result, missing
from toeplitz_core.testing.subjects.symptom import Symptom


class TorchSubject(Subject):
    """A callable with ``F.conv2d``'s signature.

    Parameters
    ----------
    name : str
    function : callable
    layout : str
        The layout of input and weight if the case names none. An operand that cannot have it is contiguous.
    context : callable
        Makes the context manager in which the function is called, such as one that sets torch's switches.
    arithmetic : callable, optional
        Takes a case and returns how the function computes. It is called in the context too. The default is what
        ``--arithmetic`` chooses, or else the strictest arithmetic of the dtype.
    gradient_arithmetic : callable, optional
        Takes a case and the name of an operand, and returns how its gradient is computed. By default, like the result.
    devices, dtypes, repeatable
        As in :class:`Claims`. A repeatable subject also returns the same bits for the same backward pass.
    transposed : callable, optional
        The function of the same library with ``F.conv_transpose2d``'s signature.
    differentiable : bool, optional
        Whether derivatives must exist. By default, each kind of derivative must exist if the function has it for an
        ordinary convolution. If the result is detached from autograd or the derivative raises there, the function does
        not support that kind: without gradients, it is forward only. A result that is detached in some dtypes only is
        a failure. A backward pass that autograd has recorded must work. ``NotImplementedError`` means that something
        is not supported, unless derivatives must exist and it is raised whenever an operand requires a gradient.
        Existing derivatives must be right.
    checks_arguments : bool
        Whether it claims to accept all calls that ``F.conv2d`` documents as valid, in any spelling, and to refuse all
        others.
    memory_format : callable, optional
        Takes a case and returns the memory format of the result: ``"contiguous"``, ``"channels_last"``, or None for
        any. By default, nothing is declared.
    calls_torch : bool, optional
        As in :class:`Claims`.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., torch.Tensor],
        *,
        layout: str = "contiguous",
        context: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
        arithmetic: Callable[[Case], Arithmetic] | None = None,
        gradient_arithmetic: Callable[[Case, str], Arithmetic] | None = None,
        devices: tuple[str, ...] | None = None,
        dtypes: tuple[str, ...] | None = None,
        transposed: Callable[..., torch.Tensor] | None = None,
        differentiable: bool | None = None,
        checks_arguments: bool = False,
        memory_format: Callable[[Case], MemoryFormat | None] | None = None,
        repeatable: bool = False,
        calls_torch: bool | None = None,
    ) -> None:
        self.name = name
        procedures: tuple[Procedure, ...] = ("forward", "contract")
        if differentiable is not False:
            procedures += tuple(DERIVATIVES)
        if transposed is not None:
            procedures += ("transposed",)
        if checks_arguments:
            procedures += ("argument_checks",)
        self.claims = Claims(devices, dtypes, procedures, repeatable=repeatable, calls_torch=calls_torch)
        self._memory_format = memory_format
        self.transposed = transposed
        self.differentiable = differentiable
        # The operands of the call before and where they lay, for the name of its kernel.
        self._called_with: tuple[Operands, tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]] | None = None
        self._probed: dict[tuple[Procedure, str, str], Missing | None] = {}
        self._gradient_arithmetic = gradient_arithmetic
        self._arithmetic = arithmetic
        self.function = function
        self.layout = layout
        self.context = context

    def supports(self, case: Case) -> bool:
        if case.geometry.rank != 2:
            raise NotImplementedError(f"conv2d takes 2 axes, not {case.geometry.rank}")
        return True

    @property
    def declares_arithmetic(self) -> bool:
        return self._arithmetic is not None

    def arithmetic(self, case: Case) -> Arithmetic:
        if self._arithmetic is None:
            return super().arithmetic(case)
        with self._called():
            return self._arithmetic(case)

    def gradient_arithmetic(self, case: Case, operand: str) -> Arithmetic:
        if self._gradient_arithmetic is None:
            return self.arithmetic(case)
        with self._called():
            return self._gradient_arithmetic(case, operand)

    def memory_format(self, case: Case) -> MemoryFormat | None:
        return None if self._memory_format is None else self._memory_format(case)

    def forward(self, case: Case, operands: Operands) -> torch.Tensor:
        x, weight, bias = placed(case, operands, self.layout)
        self._called_with = operands, (x, weight, bias)
        with self._called():
            return self.function(x, weight, bias, case.stride, case.padding, case.dilation, case.groups)

    def invoke(self, call: Call) -> torch.Tensor:
        args, kwargs = call.arguments()
        given = {"input": args[0], "weight": args[1], **kwargs}
        before = {name: _content(value) for name, value in given.items() if isinstance(value, torch.Tensor)}
        try:
            with self._called():
                return self.function(*args, **kwargs)
        except Exception as error:
            changed = [f"its {name}" for name, content in before.items() if _content(given[name]) != content]
            if changed:
                refused = f"though it refused the call: {described(error)}"
                raise BrokenContract(f"changed {' and '.join(changed)}, {refused}", Symptom.OPERAND) from error
            raise

    def kernel(self, case: Case, operands: Operands) -> str:
        if self.function is not torch.nn.functional.conv2d or any(low != high for low, high in case.geometry.pads):
            return ""
        before, self._called_with = self._called_with, None
        is_same = before is not None and before[0] is operands
        x, weight, bias = before[1] if before is not None and is_same else placed(case, operands, self.layout)
        x, pads = x if case.batch is not None else x[None], [low for low, _ in case.geometry.pads]
        rest = (False, [0] * case.geometry.rank, case.groups)  # not transposed
        with self._called():
            backend = torch._C._select_conv_backend(x, weight, bias, case.stride, pads, case.dilation, *rest)
        return str(backend.name)

    def perform(self, procedure: Procedure, case: Case, operands: Operands) -> Results:
        if procedure == "forward":
            return super().perform(procedure, case, operands)
        if procedure not in self.claims.procedures:
            raise NotImplementedError(f"has no {procedure.replace('_', ' ')}")
        x, weight, bias = placed(case, operands, self.layout)
        given = {"input": x, "weight": weight} | ({} if bias is None else {"bias": bias})
        if operands.grad is not None:
            given["grad"] = place(case, "grad", operands.grad, self.layout, operands.guard)
        for name, values in operands.directions.items():
            given[direction(name)] = place(case, name, values, self.layout)

        def call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            return self.function(x, weight, bias, case.stride, case.padding, case.dilation, case.groups)

        if procedure == "transposed" and self.transposed is not None:
            with self._called():
                return {ResultName("input"): transposed(self.transposed, case.geometry, given["grad"], weight)}
        if procedure == "contract":
            with self._called():
                return contract(call, given, self.memory_format(case))
        with self._called(grad=True):
            return self._derivatives(procedure, case, call, given)

    def _derivatives(
        self, procedure: Procedure, case: Case, call: ConvFunction, given: dict[str, torch.Tensor]
    ) -> Results:
        before = contents(given)
        try:
            found = DERIVATIVES[procedure](call, given)
        except (DetachedError, PartlyDetachedError) as error:
            absent = self._absence(procedure, case)
            if 0 in case.output_shape and not isinstance(absent, NotImplementedError):
                return {}  # an empty result depends on nothing, so it may be detached
            raise absent or BrokenContract(str(error), Symptom.DETACHED) from error
        except BrokenContract:
            raise
        except NotImplementedError as error:
            if (gradients := self._without_gradients(case)) is not None:
                forward_only = self._forward_only(gradients)
                if isinstance(forward_only, ForwardOnly) or has_result(call, given):
                    raise forward_only from error
            raise
        except Exception as error:
            if self.differentiable is None and _lacks_memory(error):
                # A graph of second derivatives may exceed the memory limit of a worker.
                raise NotImplementedError(f"it needs more memory than there is: {described(error)}") from error
            absent = None if self.differentiable else self._absence(procedure, case)
            if isinstance(absent, NotImplementedError):
                raise absent from error
            raise
        check_unchanged(given, before)
        absent = None if self.differentiable else self._absence(procedure, case)
        if isinstance(absent, NotImplementedError):
            raise NotClaimed(str(absent), found)
        return found

    def _absence(self, procedure: Procedure, case: Case) -> NotImplementedError | BrokenContract | None:
        """Why no ordinary convolution has a kind of derivative: it is unclaimed, or it must exist. None if one has it.

        The answer depends on the subject alone, and not on earlier cases.
        """
        absent = self._missing(procedure, case.dtype, case.device)
        if absent is None:
            return None
        if other := self._attached_elsewhere(procedure, case, absent):
            return BrokenContract(f"{absent.reason}, unlike with dtype={other}", Symptom.DETACHED)
        if (gradients := self._without_gradients(case)) is not None:
            return self._forward_only(gradients)
        if self.differentiable:
            return None
        kind = procedure.replace("_", " ")
        return NotImplementedError(f"has no {kind}, not even for an ordinary convolution: {absent.reason}")

    def _without_gradients(self, case: Case) -> Missing | None:
        """Why no ordinary convolution has gradients, in any dtype, although there are results."""
        found = self._missing("gradients", case.dtype, case.device)
        if found is None or not found.has_result or self._attached_elsewhere("gradients", case, found):
            return None
        return found

    def _attached_elsewhere(self, procedure: Procedure, case: Case, absent: Missing) -> str:
        """Another dtype that has a kind of derivative, if results are detached in the dtype of the case; or empty."""
        named = [names for names in (self.claims.dtypes, self.declared.dtypes) if names]
        others = [dtype for dtype in ROUNDED_DTYPES if dtype != case.dtype and all(dtype in names for names in named)]
        has = (dtype for dtype in others if self._missing(procedure, dtype, case.device) is None)
        return next(has, "") if absent.detached else ""

    def _missing(self, procedure: Procedure, dtype: str, device: str) -> Missing | None:
        key = procedure, dtype, device
        if key not in self._probed:
            self._probed[key] = missing(procedure, self.function, DTYPES[dtype].torch, device)
        return self._probed[key]

    def _forward_only(self, gradients: Missing) -> ForwardOnly | BrokenContract:
        reason = gradients.reason
        if not gradients.detached:
            reason = f"if an operand requires a gradient, it raises {reason}"
        if self.differentiable:
            return BrokenContract(reason, Symptom.DETACHED)
        if self.declared.differentiable:
            return BrokenContract(f"{reason}. It was declared differentiable", Symptom.DETACHED)
        return ForwardOnly(reason)

    @contextlib.contextmanager
    def _called(self, *, grad: bool = False) -> Iterator[None]:
        # Warnings are not judged, and a warning turned into an error would count as a failure of the library.
        with warnings.catch_warnings(), torch.set_grad_enabled(grad):
            warnings.simplefilter("ignore")
            try:
                with self.context():
                    yield
            finally:  # even if the call raised
                if torch.is_grad_enabled() is not grad:
                    raise BrokenContract(f"left torch.set_grad_enabled({not grad}) behind", Symptom.STATE)


def _lacks_memory(error: Exception) -> bool:
    exhausted = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return exhausted or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def _content(tensor: Any) -> tuple[object, ...]:
    """Everything about a tensor that a call must not change: shape, strides, dtype and, unless on meta, bytes."""
    form = tuple(tensor.shape), tensor.stride(), tensor.dtype
    if tensor.is_meta:
        return form
    return *form, in_bytes(tensor.detach().cpu()).numpy().tobytes()
