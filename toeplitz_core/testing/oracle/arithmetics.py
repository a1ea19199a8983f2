"""How known implementations compute: an ``Arithmetic`` for each, as their documents and measurements have it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from toeplitz_core.bound import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Arithmetic
from toeplitz_core.testing.oracle.algorithms import Fft, MatrixUnits, Winograd, is_plain

if TYPE_CHECKING:
    from toeplitz_core.testing.case.case import Case

# torch leaves smaller batches to other kernels (aten/src/ATen/native/Convolution.cpp, use_nnpack).
NNPACK_BATCH = 16
NNPACK_KERNEL = 16
# "The first 10 bits of the mantissa are read" (torch's CUDA notes): TF32 inputs are truncated.
TF32_ROUNDING = 2.0**-10

# float32 rounded to the nearest bfloat16, 2^-8 / (1 + 2^-8) = 1/257: of 1 + 2^-8, half way between two of its numbers.
BFLOAT16_ROUNDING = BFLOAT16.unit_roundoff / (1 + BFLOAT16.unit_roundoff)

# The larger bound of the two: it depends on shapes and caches which of them NNPACK takes.
NNPACK = (Winograd(6), Fft(16))


def strictest(case: Case) -> Arithmetic:
    """The arithmetic of an implementation that declares nothing: the strictest that dtype and device allow.

    On a GPU half precision may run on matrix units, which cut what they add. Whole numbers are exact.
    """
    if case.dtype == "int64":
        return Arithmetic(FLOAT64, FLOAT64)
    declared = Arithmetic.strictest(case.torch_dtype)
    if torch.device(case.device).type == "cuda" and declared.output != declared.accumulator:
        return replace(declared, algorithms=(MatrixUnits(),))
    return declared


def torch_now(case: Case) -> Arithmetic:
    """How torch computes with its switches as they are now."""
    if case.dtype == "int64":
        return strictest(case)
    if torch.device(case.device).type == "cuda":
        return torch_cuda(case, tf32=allows_tf32())
    onednn: bool = torch.backends.mkldnn.enabled  # type: ignore[assignment]  # a bool at run time
    return torch_cpu(case, onednn=onednn, nnpack=torch._C._get_nnpack_enabled())  # it has no other name


def allows_tf32() -> bool:
    """Whether torch's switches, as they are now, let a convolution of float32 on a GPU round its operands to TF32.

    That of cuDNN, or that of the matrix products which take its place. (``torch.backends.cudnn.allow_tf32`` raises
    where its convolutions and its recurrent networks have different switches.)
    """
    switches = torch.backends.cudnn.conv, torch.backends.cuda.matmul  # type: ignore[attr-defined]  # torch's stubs leave it out
    return any(switch.fp32_precision == "tf32" for switch in switches)


def torch_cpu(case: Case, *, onednn: bool = True, nnpack: bool = True) -> Arithmetic:
    """How torch computes on a CPU.

    Direct sums in the dtype itself, or for half precision in float32. oneDNN's bfloat16 kernels flush subnormals
    (measured), and so does NNPACK, which float32 batches of 16 and more go to without oneDNN.

    Parameters
    ----------
    onednn, nnpack : bool
        As ``torch.backends.mkldnn.enabled`` and ``torch.backends.nnpack``.
    """
    declared = Arithmetic.strictest(case.torch_dtype)
    if case.torch_dtype == torch.bfloat16 and onednn:
        return declared.flushing()
    large = (case.batch or 0) >= NNPACK_BATCH and max(case.geometry.kernel_size) <= NNPACK_KERNEL
    if declared.output == FLOAT32 and nnpack and not onednn and large:
        # Strided, it multiplies matrices; torch gives it nothing that is dilated.
        return replace(declared, algorithms=NNPACK if is_plain(case.geometry) else (), flushes=True)
    return declared


def torch_cuda(case: Case, *, tf32: bool = True) -> Arithmetic:
    """How torch computes on a GPU, whichever it is.

    Half precision runs on matrix units, and may add the bias to a rounded result; so does float32 as torch comes
    (``torch.backends.cudnn.allow_tf32``), with inputs cut to TF32. Subnormals may be flushed.
    """
    declared = Arithmetic.strictest(case.torch_dtype)
    if declared.accumulator != FLOAT32:
        return declared
    if declared.output != FLOAT32:
        return replace(declared, algorithms=(MatrixUnits(),), bias_after_rounding=case.bias, flushes=True)
    if tf32:
        return replace(declared, algorithms=(MatrixUnits(),), input_rounding=TF32_ROUNDING, flushes=True)
    # cuDNN's heuristics may take Winograd or FFT all the same, but neither for a stride or a dilation.
    algorithms = (Winograd(2), Winograd(4), Winograd(6), Fft(16), Fft(32)) if is_plain(case.geometry) else ()
    return replace(declared, algorithms=algorithms, flushes=True)


def torch_autocast(case: Case) -> Arithmetic:
    """How torch computes float32 within ``torch.autocast`` for bfloat16: as bfloat16, its operands rounded before."""
    half = case.replace(dtype="bfloat16")
    declared = torch_cuda(half) if torch.device(case.device).type == "cuda" else torch_cpu(half)
    return replace(declared, input_rounding=BFLOAT16_ROUNDING, bias_rounding=BFLOAT16_ROUNDING)


def torch_gradient(case: Case, operand: str) -> Arithmetic:
    """How torch computes the gradient in ``input``, ``weight`` or ``bias``, with its switches as they are now.

    In float32 and float64 like the convolution. Half precision that oneDNN does not take goes through stored partial
    sums in half precision (aten/src/ATen/native/ConvolutionMM2d.cpp, NaiveDilatedConvolution.cpp): a column of ``T'g``
    for each tap, added up by col2im; a product of matrices for each image, added to the gradient in the weight; and for
    the bias the sum over each row of the images, since a sum over axes that cannot be merged is stored after each.
    """
    declared = torch_now(case)
    on_cpu = torch.device(case.device).type == "cpu"
    # NNPACK computes no gradients.
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
    """Whether oneDNN has kernels for the dtype here, and is not switched off."""
    enabled: bool = torch.backends.mkldnn.enabled  # type: ignore[assignment]  # a bool at run time
    supported = {
        "bfloat16": torch.ops.mkldnn._is_mkldnn_bf16_supported,
        "float16": torch.ops.mkldnn._is_mkldnn_fp16_supported,
    }
    return enabled and bool(supported[case.dtype]())
