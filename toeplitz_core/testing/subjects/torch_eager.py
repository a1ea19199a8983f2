"""Callables with the signature of ``torch.nn.functional.conv2d`` on torch tensors: torch itself, anyone's kernel."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

import torch

from toeplitz_core.testing.arithmetics import strictest, torch_now
from toeplitz_core.testing.subjects.base import Subject, placed

if TYPE_CHECKING:
    from toeplitz_core.bound import Arithmetic
    from toeplitz_core.testing.case import Case
    from toeplitz_core.testing.data import Operands


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
    devices : tuple of str, optional
        The types of devices that it computes on; all that torch has if not given.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., torch.Tensor],
        *,
        layout: str = "contiguous",
        context: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
        arithmetic: Callable[[Case], Arithmetic] = strictest,
        devices: tuple[str, ...] | None = None,
    ) -> None:
        self.name = name
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

    def forward(self, case: Case, operands: Operands) -> torch.Tensor:
        x, weight, bias = placed(case, operands, self.layout)
        with self._called():
            return self.function(x, weight, bias, case.stride, case.padding, case.dilation, case.groups)

    @contextlib.contextmanager
    def _called(self) -> Iterator[None]:
        # What a library warns of is not what is judged, and a warning turned into an error would be blamed on it.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            with self.context():
                yield


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


def torch_subject(
    name: str,
    *,
    function: Callable[..., torch.Tensor] = torch.nn.functional.conv2d,
    layout: str = "contiguous",
    context: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    devices: tuple[str, ...] | None = None,
) -> TorchSubject:
    """The convolution of torch itself, with the arithmetic that follows from its switches."""
    return TorchSubject(name, function, layout=layout, context=context, arithmetic=torch_now, devices=devices)


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
    return torch_subject("torch-deterministic", context=_deterministic)


def torch_inference() -> Subject:
    """In inference mode."""
    return torch_subject("torch-inference", context=torch.inference_mode)


def torch_compile() -> Subject:
    """Compiled, for each geometry anew."""
    return torch_subject("torch-compile", function=torch.compile(torch.nn.functional.conv2d, dynamic=False))
