"""The core on every device computes the same results as the definition, or as torch on the CPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import toeplitz_core as tc
from tests.helpers.definition import matrix_by_definition
from tests.helpers.operands import DTYPES, LAYOUTS, integers, operands, small_geometries

GEOMETRY = tc.ConvGeometry(4, 6, (7, 5), (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2)
PARAMETERS = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_conv2d_is_the_one_on_the_cpu(dtype: torch.dtype, device: str) -> None:
    """Whole numbers give torch's CPU result on each device and in each dtype, with the weight's dtype and device."""
    x, weight, bias = operands(GEOMETRY, dtype, seed=1)
    found = tc.conv2d(x.to(device), weight.to(device), bias.to(device), **PARAMETERS)
    assert (found.dtype, found.device.type) == (dtype, device)
    wanted = torch.nn.functional.conv2d(x, weight, bias, **PARAMETERS)
    assert torch.equal(found.cpu(), wanted)


@given(g=small_geometries(), seed=st.integers(0, 99))
def test_the_matrix_is_the_definition(g: tc.ConvGeometry, seed: int, device: str) -> None:
    """Dense, CSR and COO matrices, whole or in part, are built on the weight's device and equal the definition."""
    weight = integers(g.weight_shape, seed=seed)
    parameters = {"stride": g.stride, "padding": g.padding, "dilation": g.dilation, "groups": g.groups}
    wanted = matrix_by_definition(weight, g.input_size, **parameters)
    for layout in LAYOUTS:
        for rows in (None, slice(None, None, -2), [0, -1, 0], torch.arange(len(wanted)) % 2 == 0):
            T = tc.toeplitz_matrix(weight.to(device), g.input_size, layout=layout, rows=rows, **parameters)
            assert T.device.type == device
            reversed_rows = list(range(len(wanted)))[rows] if isinstance(rows, slice) else rows
            assert torch.equal(T.to_dense().cpu(), wanted if rows is None else wanted[reversed_rows])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_operator_and_adjoint(dtype: torch.dtype, device: str) -> None:
    """``A @ x`` and ``A.mT @ y`` equal the products with the dense matrix on the CPU."""
    x, weight, _ = operands(GEOMETRY, dtype, batch=1, seed=2)
    A = tc.ToeplitzOperator(weight.to(device), GEOMETRY.input_size, **PARAMETERS)
    wide = dtype if dtype.is_complex or dtype == torch.int64 else torch.float64
    T = tc.toeplitz_matrix(weight, GEOMETRY.input_size, **PARAMETERS).to(wide)
    y = integers((A.shape[0],), dtype, seed=3, limit=1)
    assert torch.equal((A @ x.flatten().to(device)).cpu(), (T @ x.flatten().to(wide)).to(dtype))
    assert torch.equal((A.mT @ y.to(device)).cpu(), (T.mT @ y.to(wide)).to(dtype))


def test_gradients(device: str) -> None:
    """Gradients of whole numbers equal those of ``F.conv2d`` on the CPU in every bit."""
    ours = [t.to(device).requires_grad_() for t in operands(GEOMETRY, seed=4)]
    theirs = [t.detach().cpu().requires_grad_() for t in ours]
    y = tc.conv2d(*ours, **PARAMETERS)
    grad = integers(tuple(y.shape), seed=5)
    found = torch.autograd.grad(y, ours, grad.to(device))
    wanted = torch.autograd.grad(torch.nn.functional.conv2d(*theirs, **PARAMETERS), theirs, grad)
    assert all(torch.equal(a.cpu(), b) for a, b in zip(found, wanted, strict=True))
