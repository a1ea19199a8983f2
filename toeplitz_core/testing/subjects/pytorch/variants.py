"""The registered variants of torch: switches, layouts and instruction sets."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch

from toeplitz_core.testing.subjects.interface import Subject
from toeplitz_core.testing.subjects.pytorch.arithmetic import torch_autocast, torch_gradient, torch_now
from toeplitz_core.testing.subjects.pytorch.subject import TorchSubject


@contextlib.contextmanager
def _without_onednn() -> Iterator[None]:
    """Switch off oneDNN, and NNPACK, which replaces it for larger batches: torch's own kernels compute."""
    with torch.backends.mkldnn.flags(enabled=False), torch.backends.nnpack.flags(enabled=False):
        yield


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    # torch.use_deterministic_algorithms would also import torch.compile, which takes seconds in each process.
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    """Switch off TF32 in cuDNN's convolutions and in the matrix products that may replace them."""
    # torch.backends.cudnn.flags would also switch off cuDNN's benchmark mode, and raises if a program has set these
    # switches itself.
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
    """A subject for torch's own convolution, with the arithmetic that follows from torch's switches."""
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
        calls_torch=False,
    )


def torch_channels_last() -> Subject:
    """Make torch with operands in channels_last."""
    return torch_subject("torch-channels-last", layout="channels_last")


def torch_native() -> Subject:
    """Make torch with its own kernels, without oneDNN and NNPACK."""
    return torch_subject("torch-native", context=_without_onednn, devices=("cpu",))


def torch_nnpack() -> Subject:
    """Make torch with NNPACK instead of oneDNN: Winograd or FFT for batches of 16 or more."""
    context = partial(torch.backends.mkldnn.flags, enabled=False)
    return torch_subject("torch-nnpack", context=context, devices=("cpu",))


def torch_deterministic() -> Subject:
    """Make torch with deterministic algorithms only."""
    return torch_subject("torch-deterministic", context=_deterministic, repeatable=True)


def torch_inference() -> Subject:
    """Make torch in inference mode."""
    return torch_subject("torch-inference", context=torch.inference_mode, differentiable=False)


class TorchAutocast(TorchSubject):
    """float32 under ``torch.autocast``, which rounds all operands, including the bias, to bfloat16.

    The result is bfloat16 too. It is widened to float32, which is exact.
    """

    def __init__(self) -> None:
        # Autocast leaves other dtypes as they are, or narrows them.
        super().__init__(
            "torch-autocast", self._conv2d, arithmetic=torch_autocast, dtypes=("float32",), calls_torch=False
        )

    @staticmethod
    def _conv2d(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            y = torch.nn.functional.conv2d(x, *rest)
        return y.to(x.dtype)


def torch_cuda_fp32() -> Subject:
    """Make torch on a GPU without TF32."""
    return torch_subject("torch-cuda-fp32", context=_without_tf32, devices=("cuda",))


def torch_compile() -> Subject:
    """Make torch.compile, which compiles again for each geometry."""
    function = torch.compile(torch.nn.functional.conv2d, dynamic=False)
    # torch's own functions check the arguments during compilation.
    return torch_subject("torch-compile", function=function, checks_arguments=False)
