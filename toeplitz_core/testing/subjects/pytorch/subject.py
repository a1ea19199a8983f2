"""A callable with the signature of ``torch.nn.functional.conv2d`` on torch tensors: torch itself, anyone's kernel."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch

from toeplitz_core.bound import Arithmetic
from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Operands, in_bytes
from toeplitz_core.testing.oracle.arithmetics import strictest
from toeplitz_core.testing.subjects.interface import Claims, MemoryFormat, Procedure, Subject
from toeplitz_core.testing.subjects.outcome import BrokenContract, NotClaimed, described
from toeplitz_core.testing.subjects.placing import place, placed
from toeplitz_core.testing.subjects.pytorch.contract import Convolution, check_unchanged, contents, contract
from toeplitz_core.testing.subjects.pytorch.derivatives import (
    DERIVATIVES,
    DetachedError,
    transposed,
    why_not_differentiable,
)


class TorchSubject(Subject):
    """A callable with ``F.conv2d``'s signature.

    Parameters
    ----------
    name : str
    function : callable
    layout : str
        The layout of input and weight where a case names none; contiguous where the operand cannot have it.
    context : callable
        Makes the context manager in which the function is called: torch's switches.
    arithmetic : callable
        From a case to how the function computes; called in the context too.
    gradient_arithmetic : callable, optional
        From a case and the name of an operand to how the gradient in it is computed; like the result, if not given.
    devices, dtypes, repeatable
        As of :class:`Claims`. Who is repeatable gives the same bits for the same backward pass too.
    transposed : callable, optional
        The function of the same library with ``F.conv_transpose2d``'s signature.
    differentiable : bool, optional
        Whether derivatives must exist. If not given, those of a kind must if an ordinary convolution has them; where
        its result is detached from autograd, or the derivative raises, the function does not support them. But a
        backward pass that autograd has recorded must work. In any case ``NotImplementedError`` means that something is
        not supported, and derivatives that are there must be right.
    checks_arguments : bool
        Whether it claims to accept the calls that ``F.conv2d`` documents as valid, in any spelling, and to refuse all
        others.
    memory_format : callable, optional
        From a case to the memory format of the result, ``"contiguous"`` or ``"channels_last"``, or to None where any
        may come; nothing is declared if not given.
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
    ) -> None:
        self.name = name
        procedures: tuple[Procedure, ...] = ("forward", "contract")
        if differentiable is not False:
            procedures += tuple(DERIVATIVES)
        if transposed is not None:
            procedures += ("transposed",)
        if checks_arguments:
            procedures += ("argument_checks",)
        self.claims = Claims(devices, dtypes, procedures, repeatable=repeatable)
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

    def perform(self, procedure: Procedure, case: Case, operands: Operands) -> Mapping[str, torch.Tensor]:
        if procedure == "forward":
            return super().perform(procedure, case, operands)
        if procedure not in self.claims.procedures:
            raise NotImplementedError(f"has no {procedure.replace('_', ' ')}")
        x, weight, bias = placed(case, operands, self.layout)
        given = {"input": x, "weight": weight} | ({} if bias is None else {"bias": bias})
        for name, values in operands.more.items():
            given[name] = place(case, name.partition(" ")[0], values, self.layout)

        def call(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            return self.function(x, weight, bias, case.stride, case.padding, case.dilation, case.groups)

        if procedure == "transposed" and self.transposed is not None:
            with self._called():
                return {"input": transposed(self.transposed, case.geometry, given["grad"], weight)}
        if procedure == "contract":
            with self._called():
                return contract(call, given, self.memory_format(case))
        with self._called(grad=True):
            return self._derivatives(procedure, case, call, given)

    def _derivatives(
        self, procedure: Procedure, case: Case, call: Convolution, given: dict[str, torch.Tensor]
    ) -> Mapping[str, torch.Tensor]:
        before = contents(given)
        try:
            found = DERIVATIVES[procedure](call, given)
        except DetachedError as error:
            if reason := self._why_unclaimed(procedure, case):
                raise NotImplementedError(reason) from error
            if 0 not in case.output_shape:
                raise BrokenContract(str(error)) from error
            return {}  # of an empty result nothing depends on anything, and autograd may know that
        except (BrokenContract, NotImplementedError):
            raise
        except Exception as error:
            if self.differentiable is None and _lacks_memory(error):
                # A graph of second derivatives may be larger than what a worker may have.
                raise NotImplementedError(f"it needs more memory than there is: {described(error)}") from error
            if reason := self._why_unclaimed(procedure, case):
                raise NotImplementedError(reason) from error
            raise
        check_unchanged(given, before)
        if reason := self._why_unclaimed(procedure, case):
            raise NotClaimed(reason, found)
        return found

    def _why_unclaimed(self, procedure: Procedure, case: Case) -> str:
        """Why it has no derivatives of a kind: no ordinary convolution has them, and it says nothing about them.

        The answer, empty if it has them, depends on the subject alone, and not on which cases came before.
        """
        if self.differentiable is not None:
            return "" if self.differentiable else "has no derivatives"
        key = procedure, case.dtype, case.device
        if key not in self._missing:
            self._missing[key] = why_not_differentiable(procedure, self.function, case.torch_dtype, case.device)
        reason, kind = self._missing[key], procedure.replace("_", " ")
        return f"no ordinary convolution of it has {kind}: {reason}" if reason else ""

    @contextlib.contextmanager
    def _called(self, *, grad: bool = False) -> Iterator[None]:
        # What a library warns of is not what is judged, and a warning turned into an error would be blamed on it.
        with warnings.catch_warnings(), torch.set_grad_enabled(grad):
            warnings.simplefilter("ignore")
            try:
                with self.context():
                    yield
            finally:  # whatever else came of that
                if torch.is_grad_enabled() is not grad:
                    raise BrokenContract(f"left torch.set_grad_enabled({not grad}) behind")


def _lacks_memory(error: Exception) -> bool:
    exhausted = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return exhausted or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def _content(tensor: Any) -> tuple[object, ...]:
    """What a call may not change of a tensor: shape, strides, dtype and bytes, of which one on meta has none."""
    form = tuple(tensor.shape), tensor.stride(), tensor.dtype
    if tensor.is_meta:
        return form
    return *form, in_bytes(tensor.detach().cpu()).numpy().tobytes()
