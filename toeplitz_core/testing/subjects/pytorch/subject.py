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
from toeplitz_core.testing.data.operands import Operands, in_bytes
from toeplitz_core.testing.oracle.strictest import strictest
from toeplitz_core.testing.subjects.interface import Claims, MemoryFormat, Procedure, Subject
from toeplitz_core.testing.subjects.outcome import BrokenContract, NotClaimed, ResultName, Results, described
from toeplitz_core.testing.subjects.placement import place, placed
from toeplitz_core.testing.subjects.pytorch.derivatives import (
    DERIVATIVES,
    DetachedError,
    direction,
    transposed,
    why_not_differentiable,
)
from toeplitz_core.testing.subjects.pytorch.memory_contract import ConvFunction, check_unchanged, contents, contract


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
    arithmetic : callable
        Takes a case and returns how the function computes. It is called in the context too.
    gradient_arithmetic : callable, optional
        Takes a case and the name of an operand, and returns how its gradient is computed. By default, like the result.
    devices, dtypes, repeatable
        As in :class:`Claims`. A repeatable subject also returns the same bits for the same backward pass.
    transposed : callable, optional
        The function of the same library with ``F.conv_transpose2d``'s signature.
    differentiable : bool, optional
        Whether derivatives must exist. By default, each kind of derivative must exist if the function has it for an
        ordinary convolution. If the result is detached from autograd or the derivative raises there, the function does
        not support that kind. A backward pass that autograd has recorded must work. In all cases
        ``NotImplementedError`` means that something is not supported, and existing derivatives must be right.
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
        arithmetic: Callable[[Case], Arithmetic] = strictest,
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
        self._missing: dict[tuple[Procedure, str, str], str] = {}
        self._gradient_arithmetic = gradient_arithmetic
        self._arithmetic = arithmetic
        self.function = function
        self.layout = layout
        self.context = context

    def supports(self, case: Case) -> bool:
        if case.geometry.rank != 2:
            raise NotImplementedError(f"conv2d takes 2 axes, not {case.geometry.rank}")
        return True

    def arithmetic(self, case: Case) -> Arithmetic:
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
                raise BrokenContract(f"changed {' and '.join(changed)}, {refused}") from error
            raise

    def kernel(self, case: Case, operands: Operands) -> str:
        if self.function is not torch.nn.functional.conv2d or any(low != high for low, high in case.geometry.pads):
            return ""
        x, weight, bias = placed(case, operands, self.layout)
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
            given["grad"] = place(case, "grad", operands.grad, self.layout)
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
        except DetachedError as error:
            if reason := self._why_unclaimed(procedure, case):
                raise NotImplementedError(reason) from error
            if 0 not in case.output_shape:
                raise BrokenContract(str(error)) from error
            return {}  # an empty result depends on nothing, so it may be detached
        except (BrokenContract, NotImplementedError):
            raise
        except Exception as error:
            if self.differentiable is None and _lacks_memory(error):
                # A graph of second derivatives may exceed the memory limit of a worker.
                raise NotImplementedError(f"it needs more memory than there is: {described(error)}") from error
            if reason := self._why_unclaimed(procedure, case):
                raise NotImplementedError(reason) from error
            raise
        check_unchanged(given, before)
        if reason := self._why_unclaimed(procedure, case):
            raise NotClaimed(reason, found)
        return found

    def _why_unclaimed(self, procedure: Procedure, case: Case) -> str:
        """Why a kind of derivative is not claimed: the subject declares nothing, and no ordinary convolution has it.

        Empty if it is claimed. The answer depends on the subject alone, and not on earlier cases.
        """
        if self.differentiable is not None:
            return "" if self.differentiable else "has no derivatives"
        key = procedure, case.dtype, case.device
        if key not in self._missing:
            self._missing[key] = why_not_differentiable(procedure, self.function, case.torch_dtype, case.device)
        reason, kind = self._missing[key], procedure.replace("_", " ")
        return f"has no {kind}, not even for an ordinary convolution: {reason}" if reason else ""

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
                    raise BrokenContract(f"left torch.set_grad_enabled({not grad}) behind")


def _lacks_memory(error: Exception) -> bool:
    exhausted = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return exhausted or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def _content(tensor: Any) -> tuple[object, ...]:
    """Everything about a tensor that a call must not change: shape, strides, dtype and, unless on meta, bytes."""
    form = tuple(tensor.shape), tensor.stride(), tensor.dtype
    if tensor.is_meta:
        return form
    return *form, in_bytes(tensor.detach().cpu()).numpy().tobytes()
