"""Tensors as text: the text gives the same numbers, dtype and strides."""

from __future__ import annotations

import base64
import zlib
from math import inf, nan
from typing import Any

import pytest
import torch

from toeplitz_core.testing.case.layouts import ALL_LAYOUTS, apply_layout
from toeplitz_core.testing.data.operands import in_bytes
from toeplitz_core.testing.findings.reproducer.literals import PACKED, laid_out, values

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex128, torch.complex64, torch.int64)


def executed(lines: str, **names: Any) -> dict[str, Any]:
    """The variables after some lines of a script."""
    found = {"torch": torch, "nan": nan, "inf": inf, "base64": base64, "zlib": zlib, **names}
    exec(PACKED + lines, found)  # it is our own text
    return found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(0, 3), (1,), (2, 3, 4), (30, 40)], ids=str)
def test_the_text_of_a_tensor_has_its_numbers(dtype: torch.dtype, shape: tuple[int, ...]):
    """The text evaluates to the same bytes, whether the numbers are written out, packed or all the same."""
    drawn = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1000
    for tensor in (drawn.to(dtype), torch.full_like(drawn.to(dtype), 7)):
        found = executed(f"x = {values(tensor)}")["x"]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(in_bytes(found), in_bytes(tensor))


def test_the_text_of_a_tensor_has_numbers_that_are_not_finite():
    """NaN and the infinities are written as the names of the module math."""
    tensor = torch.tensor([nan, inf, -inf, 0.0, 1e-45])
    assert torch.equal(in_bytes(executed(f"x = {values(tensor)}")["x"]), in_bytes(tensor))


@pytest.mark.parametrize("layout", ALL_LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 2, 1, 3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64], ids=str)
def test_the_lines_of_a_layout_give_its_strides(layout: str, shape: tuple[int, ...], dtype: torch.dtype):
    """The lines give the strides, the offset, the numbers and the gaps that the case has."""
    plain = torch.arange(1, 1 + torch.Size(shape).numel()).reshape(shape).to(dtype)
    wanted = apply_layout(plain.clone(), layout)
    found = executed("\n".join(laid_out("x", layout, plain)), x=plain.clone())["x"]
    assert (found.stride(), found.storage_offset()) == (wanted.stride(), wanted.storage_offset())
    assert torch.equal(found, wanted)
    whole = [torch.empty(0, dtype=dtype).set_(t.untyped_storage()) for t in (found, wanted)]
    assert torch.equal(in_bytes(whole[0]), in_bytes(whole[1]))
