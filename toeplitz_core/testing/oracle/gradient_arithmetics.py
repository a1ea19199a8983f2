"""How torch computes gradients, which is not everywhere how it computes convolutions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from toeplitz_core.bound import BFLOAT16, FLOAT16
from toeplitz_core.testing.oracle.arithmetics import torch_now

if TYPE_CHECKING:
    from toeplitz_core.bound import Arithmetic
    from toeplitz_core.testing.case.case import Case


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
