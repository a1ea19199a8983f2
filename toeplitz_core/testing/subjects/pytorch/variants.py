"""Callables with the signature of ``torch.nn.functional.conv2d`` on torch tensors: torch itself, anyone's kernel."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from toeplitz_core.testing.data.operands import in_bytes
from toeplitz_core.testing.oracle.arithmetics import strictest, torch_autocast, torch_now
from toeplitz_core.testing.oracle.gradient_arithmetics import torch_gradient
from toeplitz_core.testing.subjects.interface import BrokenContract, NotClaimed, Subject, described, place, placed
from toeplitz_core.testing.subjects.pytorch.procedures import (
    DERIVATIVES,
    Convolution,
    DetachedError,
    check_unchanged,
    contents,
    contract,
    transposed,
    why_not_differentiable,
)

if TYPE_CHECKING:
    from toeplitz_core.bound import Arithmetic
    from toeplitz_core.testing.case.call import Call
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.data.operands import Operands
    from toeplitz_core.testing.subjects.interface import MemoryFormat, Procedure


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
    devices : tuple of str, optional
        The types of devices that it computes on; all that torch has if not given.
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
    repeatable : bool
        Whether it claims that the same call, and the same backward pass, always gives the same bits.
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
        transposed: Callable[..., torch.Tensor] | None = None,
        differentiable: bool | None = None,
        checks_arguments: bool = False,
        memory_format: Callable[[Case], MemoryFormat | None] | None = None,
        repeatable: bool = False,
    ) -> None:
        self.name = name
        self._memory_format = memory_format
        self.transposed = transposed
        self.procedures = ("forward", "contract")
        if differentiable is not False:
            self.procedures += tuple(DERIVATIVES)
        if transposed is not None:
            self.procedures += ("transposed",)
        if checks_arguments:
            self.procedures += ("argument_checks",)
        self.differentiable = differentiable
        self._missing: dict[tuple[Procedure, str, str], str] = {}
        self.repeatable = repeatable
        self._gradient_arithmetic = gradient_arithmetic
        self._arithmetic = arithmetic
        self.devices = devices
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
        if procedure not in self.procedures:
            raise NotImplementedError(f"{self.name} has no {procedure}")
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
            return "" if self.differentiable else f"{self.name} has no derivatives"
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


@contextlib.contextmanager
def _without_onednn() -> Iterator[None]:
    """Neither oneDNN nor NNPACK, which takes its place for larger batches: torch's own kernels."""
    with torch.backends.mkldnn.flags(enabled=False), torch.backends.nnpack.flags(enabled=False):
        yield


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    # torch.use_deterministic_algorithms would tell torch.compile too, which takes seconds to import in each process.
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    """float32 as such, in cuDNN's convolutions and in the matrix products that may take their place."""
    # torch.backends.cudnn.flags would switch its benchmark off besides, and cannot be entered where a program has set
    # these switches itself.
    switches = torch.backends.cudnn.conv, torch.backends.cuda.matmul  # type: ignore[attr-defined]  # torch's stubs leave it out
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "ieee"
    try:
        yield
    finally:
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision


def torch_subject(
    name: str,
    *,
    function: Callable[..., torch.Tensor] = torch.nn.functional.conv2d,
    layout: str = "contiguous",
    context: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    devices: tuple[str, ...] | None = None,
    differentiable: bool = True,
    checks_arguments: bool = True,
    repeatable: bool = False,
) -> TorchSubject:
    """The convolution of torch itself, with the arithmetic that follows from its switches."""
    return TorchSubject(
        name,
        function,
        layout=layout,
        context=context,
        arithmetic=torch_now,
        gradient_arithmetic=torch_gradient,
        devices=devices,
        transposed=torch.nn.functional.conv_transpose2d if function is torch.nn.functional.conv2d else None,
        differentiable=differentiable,
        checks_arguments=checks_arguments,
        repeatable=repeatable,
    )


def torch_channels_last() -> Subject:
    """Operands in channels_last."""
    return torch_subject("torch-channels-last", layout="channels_last")


def torch_native() -> Subject:
    """Neither oneDNN nor NNPACK."""
    return torch_subject("torch-native", context=_without_onednn, devices=("cpu",))


def torch_nnpack() -> Subject:
    """NNPACK in oneDNN's place: Winograd or FFT for batches of 16 and more."""
    context = partial(torch.backends.mkldnn.flags, enabled=False)
    return torch_subject("torch-nnpack", context=context, devices=("cpu",))


def torch_deterministic() -> Subject:
    """Deterministic algorithms only."""
    return torch_subject("torch-deterministic", context=_deterministic, repeatable=True)


def torch_inference() -> Subject:
    """In inference mode."""
    return torch_subject("torch-inference", context=torch.inference_mode, differentiable=False)


class TorchAutocast(TorchSubject):
    """float32 within ``torch.autocast``, which rounds the operands, bias included, to bfloat16.

    The result is bfloat16 too; it is widened to float32, which changes nothing.
    """

    def __init__(self) -> None:
        super().__init__("torch-autocast", self._conv2d, arithmetic=torch_autocast)

    # Autocast leaves others as they are, or narrows them.
    dtypes = ("float32",)

    @staticmethod
    def _conv2d(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            y = torch.nn.functional.conv2d(x, *rest)
        return y.to(x.dtype)


def torch_cuda() -> Subject:
    """On a GPU, as torch comes: float32 is rounded to TF32."""
    return torch_subject("torch-cuda", devices=("cuda",))


def torch_cuda_fp32() -> Subject:
    """On a GPU, without TF32."""
    return torch_subject("torch-cuda-fp32", context=_without_tf32, devices=("cuda",))


def torch_compile() -> Subject:
    """Compiled, for each geometry anew."""
    function = torch.compile(torch.nn.functional.conv2d, dynamic=False)
    # The arguments are checked while it compiles, by torch's own functions.
    return torch_subject("torch-compile", function=function, checks_arguments=False)
