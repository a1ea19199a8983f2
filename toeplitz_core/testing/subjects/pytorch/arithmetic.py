"""How torch computes: its ``Arithmetic`` on each device, from its documentation and from measurements."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from toeplitz_core.bound import BFLOAT16, FLOAT16, FLOAT32, Arithmetic
from toeplitz_core.testing.oracle.algorithms import Fft, MatrixUnits, Winograd, is_plain
from toeplitz_core.testing.oracle.arithmetics import BFLOAT16_ROUNDING, TF32_ROUNDING
from toeplitz_core.testing.oracle.strictest import strictest

if TYPE_CHECKING:
    from toeplitz_core.testing.case.case import Case

# torch uses NNPACK only from this batch size on (aten/src/ATen/native/Convolution.cpp, use_nnpack).
NNPACK_BATCH = 16
NNPACK_KERNEL = 16
# The larger bound of the two counts: which one NNPACK takes depends on shapes and caches.
NNPACK = (Winograd(6), Fft(16))


def torch_now(case: Case) -> Arithmetic:
    """How torch computes with its current switches."""
    if case.dtype == "int64":
        return strictest(case)
    if torch.device(case.device).type == "cuda":
        return torch_cuda(case, tf32=allows_tf32())
    onednn: bool = torch.backends.mkldnn.enabled  # type: ignore[assignment]  # a bool at run time
    return torch_cpu(case, onednn=onednn, nnpack=torch._C._get_nnpack_enabled())  # it has no other name


def allows_tf32() -> bool:
    """Whether torch's current switches let a float32 convolution on a GPU round its operands to TF32.

    True if the switch of cuDNN's convolutions is on, or that of the matrix products that may replace them.
    (``torch.backends.cudnn.allow_tf32`` cannot be used: it raises if convolutions and recurrent networks have
    different switches.)
    """
    switches = torch.backends.cudnn.conv, torch.backends.cuda.matmul  # type: ignore[attr-defined]  # torch's stubs leave it out
    return any(switch.fp32_precision == "tf32" for switch in switches)


def torch_cpu(case: Case, *, onednn: bool = True, nnpack: bool = True) -> Arithmetic:
    """How torch computes on a CPU.

    It sums directly in the dtype itself, half precision in float32. oneDNN's bfloat16 kernels flush subnormals
    (measured). NNPACK flushes them too; without oneDNN, it computes float32 batches of 16 and more.

    Parameters
    ----------
    onednn, nnpack : bool
        The values of ``torch.backends.mkldnn.enabled`` and ``torch.backends.nnpack``.
    """
    declared = Arithmetic.of_dtype(case.torch_dtype)
    if case.torch_dtype == torch.bfloat16 and onednn:
        return declared.flushing()
    large = (case.batch or 0) >= NNPACK_BATCH and max(case.geometry.kernel_size) <= NNPACK_KERNEL
    if declared.output == FLOAT32 and nnpack and not onednn and large:
        # NNPACK multiplies matrices if there is a stride; torch never gives it a dilated convolution.
        return replace(declared, algorithms=NNPACK if is_plain(case.geometry) else (), flushes=True)
    return declared


def torch_cuda(case: Case, *, tf32: bool = True) -> Arithmetic:
    """How torch computes on any GPU.

    Half precision runs on matrix units and may add the bias to a rounded result. By default
    (``torch.backends.cudnn.allow_tf32``) float32 also runs on matrix units, with inputs truncated to TF32. Subnormals
    may be flushed.
    """
    declared = Arithmetic.of_dtype(case.torch_dtype)
    if declared.accumulator != FLOAT32:
        return declared
    if declared.output != FLOAT32:
        return replace(declared, algorithms=(MatrixUnits(),), bias_after_rounding=case.bias, flushes=True)
    if tf32:
        return replace(declared, algorithms=(MatrixUnits(),), input_rounding=TF32_ROUNDING, flushes=True)
    # Without TF32, cuDNN's heuristics may still choose Winograd or FFT, but neither for a stride or a dilation.
    algorithms = (Winograd(2), Winograd(4), Winograd(6), Fft(16), Fft(32)) if is_plain(case.geometry) else ()
    return replace(declared, algorithms=algorithms, flushes=True)


def torch_autocast(case: Case) -> Arithmetic:
    """How torch computes float32 under bfloat16 ``torch.autocast``: operands are rounded to bfloat16 first."""
    half = case.replace(dtype="bfloat16")
    declared = torch_cuda(half) if torch.device(case.device).type == "cuda" else torch_cpu(half)
    return replace(declared, input_rounding=BFLOAT16_ROUNDING, bias_rounding=BFLOAT16_ROUNDING)


def torch_gradient(case: Case, operand: str) -> Arithmetic:
    """How torch computes the gradient in ``input``, ``weight`` or ``bias`` with its current switches.

    In float32 and float64 it computes as the convolution does. Half precision without oneDNN stores partial sums in
    half precision (aten/src/ATen/native/ConvolutionMM2d.cpp, NaiveDilatedConvolution.cpp). For the input there is one
    column of ``T'g`` per tap; col2im adds them up. For the weight there is one matrix product per image. For the bias
    there is one sum per row of the images, because a sum over axes that cannot be merged is stored after each axis.
    """
    declared = torch_now(case)
    on_cpu = torch.device(case.device).type == "cpu"
    # NNPACK does not compute gradients.
    declared = replace(declared, algorithms=()) if on_cpu else declared
    if not on_cpu or declared.output not in (BFLOAT16, FLOAT16) or _onednn_takes(case):
        return declared
    images = case.batch or 1
    stored = {
        "input": 2 * math.prod(case.geometry.kernel_size),
        "weight": 2 * images,
        "bias": 2 * images * case.geometry.output_size[0],
    }
    return replace(declared, partial_format=declared.output, partial_sums=stored[operand])


def _onednn_takes(case: Case) -> bool:
    """Whether oneDNN is enabled and has kernels for the dtype on this machine."""
    enabled: bool = torch.backends.mkldnn.enabled  # type: ignore[assignment]  # a bool at run time
    supported = {
        "bfloat16": torch.ops.mkldnn._is_mkldnn_bf16_supported,
        "float16": torch.ops.mkldnn._is_mkldnn_fp16_supported,
    }
    return enabled and bool(supported[case.dtype]())
