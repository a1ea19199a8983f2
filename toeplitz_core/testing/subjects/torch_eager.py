"""Callables with the signature of ``torch.nn.functional.conv2d`` on torch tensors: torch itself, anyone's kernel."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch

from toeplitz_core.bound import Arithmetic
from toeplitz_core.testing.arithmetics import torch_cpu, torch_cuda
from toeplitz_core.testing.layouts import apply_layout, check_layout
from toeplitz_core.testing.subjects.base import Subject

if TYPE_CHECKING:
    from toeplitz_core.testing.case import Case
    from toeplitz_core.testing.data import Operands

# Operands of up to this many numbers are copied for the subject.
_COPIED_NUMBERS = 2**24


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
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., torch.Tensor] = torch.nn.functional.conv2d,
        *,
        layout: str = "contiguous",
        context: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        self.name = name
        self.function = function
        self.layout = layout
        self.context = context

    def unsupported(self, case: Case) -> str | None:
        return None if case.geometry.rank == 2 else f"conv2d takes 2 axes, not {case.geometry.rank}"

    def arithmetic(self, case: Case) -> Arithmetic:
        if case.dtype == "int64":
            return super().arithmetic(case)
        with self._called():
            if torch.device(case.device).type == "cuda":
                return torch_cuda(case, tf32=torch.backends.cudnn.allow_tf32)
            onednn: bool = torch.backends.mkldnn.enabled  # type: ignore[assignment]  # a bool at run time
            return torch_cpu(case, onednn=onednn, nnpack=torch._C._get_nnpack_enabled())  # it has no other name

    def forward(self, case: Case, operands: Operands) -> torch.Tensor:
        def place(name: str, values: torch.Tensor, default: str) -> torch.Tensor:
            # A copy: a kernel that writes to its operands must not write to those it is judged by. Of a layer's weight
            # that is hundreds of megabytes there is only one.
            copied = values.to(case.device, copy=values.numel() <= _COPIED_NUMBERS)
            return apply_layout(copied, case.layout(name) or _possible(default, name, copied))

        x = place("input", operands.input, self.layout)
        weight = place("weight", operands.weight, self.layout)
        bias = None if operands.bias is None else place("bias", operands.bias, "contiguous")
        with self._called():
            return self.function(x, weight, bias, case.stride, case.padding, case.dilation, case.groups)

    @contextlib.contextmanager
    def _called(self) -> Iterator[None]:
        # What a library warns of is not what is judged, and a warning turned into an error would be blamed on it.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            with self.context():
                yield


def _possible(layout: str, operand: str, values: torch.Tensor) -> str:
    """The layout, if a tensor of this shape can have it."""
    try:
        check_layout(operand, layout, tuple(values.shape))
    except ValueError:
        return "contiguous"
    return layout


@contextlib.contextmanager
def _without_onednn() -> Iterator[None]:
    """Neither oneDNN nor NNPACK, which takes its place for larger batches: torch's own kernels."""
    with torch.backends.mkldnn.flags(enabled=False), torch.backends.nnpack.flags(enabled=False):
        yield


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=before)


def torch_channels_last() -> Subject:
    """Operands in channels_last."""
    return TorchSubject("torch-channels-last", layout="channels_last")


def torch_native() -> Subject:
    """Neither oneDNN nor NNPACK."""
    return TorchSubject("torch-native", context=_without_onednn)


def torch_nnpack() -> Subject:
    """NNPACK in oneDNN's place: Winograd or FFT for batches of 16 and more."""
    return TorchSubject("torch-nnpack", context=lambda: torch.backends.mkldnn.flags(enabled=False))


def torch_deterministic() -> Subject:
    """Deterministic algorithms only."""
    return TorchSubject("torch-deterministic", context=_deterministic)


def torch_inference() -> Subject:
    """In inference mode."""
    return TorchSubject("torch-inference", context=torch.inference_mode)


def torch_compile() -> Subject:
    """Compiled, for each geometry anew."""
    return TorchSubject("torch-compile", torch.compile(torch.nn.functional.conv2d, dynamic=False))
