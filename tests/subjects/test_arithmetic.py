"""The declared arithmetic of torch, and NNPACK within its bound."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from tests.helpers.convolutions import SINGLE
from toeplitz_core.bound import Arithmetic
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws.verdict import compare_bound
from toeplitz_core.testing.oracle.algorithms import Winograd
from toeplitz_core.testing.oracle.arithmetics import TF32_ROUNDING
from toeplitz_core.testing.oracle.results import expected
from toeplitz_core.testing.subjects.pytorch.arithmetic import NNPACK, torch_cpu, torch_cuda


@contextmanager
def without_onednn(*, nnpack: bool) -> Iterator[None]:
    """Let torch compute without oneDNN, with or without NNPACK."""
    with warnings.catch_warnings():
        # Setting oneDNN's flags warns that this hardware has no TF32.
        warnings.simplefilter("ignore")
        with torch.backends.mkldnn.flags(enabled=False), torch.backends.nnpack.flags(enabled=nnpack):
            yield


@pytest.mark.skipif(not torch.backends.nnpack.is_available(), reason="this torch has no NNPACK")
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (8, 3), (16, 16)])
@pytest.mark.parametrize("data_name", ["normal", "wide", "constant", "alternating", "subnormal"])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_nnpack_is_within_its_bound(kernel: tuple[int, int], data_name: str, dtype: str) -> None:
    """With NNPACK, torch stays within the bound of its algorithms; without it, within the direct bound."""
    case = Case((16, 3, 19, 18), (2, 3, *kernel), padding=1, bias=True, dtype=dtype, data=data_name, seed=1)
    operands = draw(case)
    for enabled in (True, False):
        with without_onednn(nnpack=enabled):
            y = torch.nn.functional.conv2d(operands.input, operands.weight, operands.bias, padding=1)
        arithmetic = torch_cpu(case, onednn=False, nnpack=enabled)
        assert bool(arithmetic.algorithms) is enabled
        reference = expected(
            case.geometry, operands.input, operands.weight, operands.bias, algorithms=arithmetic.algorithms
        )
        values = torch.view_as_real(y) if y.is_complex() else y
        comparison = compare_bound(
            (values.double() - reference.value).abs(), reference.bound(arithmetic, has_bias=True)
        )
        assert comparison is not None
        assert comparison.ratio <= 1


@pytest.mark.skipif(not torch.backends.nnpack.is_available(), reason="this torch has no NNPACK")
def test_nnpack_is_beyond_the_direct_bound() -> None:
    """The error of NNPACK's Winograd exceeds the direct bound."""
    case = Case((16, 3, 19, 18), (2, 3, 3, 3), data="normal", seed=1)
    operands = draw(case)
    with without_onednn(nnpack=True):
        y = torch.nn.functional.conv2d(operands.input, operands.weight)
    reference = expected(case.geometry, operands.input, operands.weight, None)
    bound = reference.bound(SINGLE, has_bias=False)
    comparison = compare_bound((y.double() - reference.value).abs(), bound)
    assert comparison is not None
    assert comparison.ratio > 2


def test_known_implementations_have_their_arithmetic() -> None:
    """The arithmetics of torch have the documented formats, algorithms, rounded inputs and flushes."""

    def case(dtype: str, batch: int = 16) -> Case:
        return Case((batch, 1, 5, 5), (1, 1, 3, 3), dtype=dtype)

    for dtype in ("float64", "float32", "float16", "complex64", "complex128"):
        assert torch_cpu(case(dtype)) == Arithmetic.of_dtype(case(dtype).torch_dtype)
    assert torch_cpu(case("bfloat16")).flushes
    assert not torch_cpu(case("bfloat16"), onednn=False).flushes
    assert torch_cpu(case("float32"), onednn=False).algorithms == NNPACK
    assert torch_cpu(case("float32"), onednn=False).flushes
    assert not torch_cpu(case("float32", batch=15), onednn=False).algorithms
    for changes in ({"stride": 2}, {"dilation": 2}):
        other = case("float32").replace(**changes)
        assert torch_cpu(other, onednn=False) == torch_cuda(other, tf32=False) == replace(SINGLE, flushes=True)
    assert not torch_cpu(case("float64"), onednn=False).algorithms
    assert torch_cuda(case("float32")).input_rounding == TF32_ROUNDING
    assert torch_cuda(case("float32"), tf32=False).input_rounding == 0
    assert Winograd(6) in torch_cuda(case("float32"), tf32=False).algorithms
    assert torch_cuda(case("float16").replace(bias=True)).bias_after_rounding
    assert not torch_cuda(case("float16")).bias_after_rounding
    assert torch_cuda(case("float64")) == Arithmetic.of_dtype(torch.float64)
