"""Tensors travel between processes bit for bit, and a damaged file is an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.isolation.transport import SharedFile
from toeplitz_core.testing.subjects import resolve


@pytest.mark.parametrize("dtype", CASE_DTYPES)
def test_results_travel_bit_for_bit(isolation: Sandbox, dtype: str) -> None:
    """Small and large tensors of every dtype return from a worker bit for bit."""
    isolated = IsolatedSubject(isolation, "tests.helpers.hostile:correct")
    for line in (
        "input=2x3x8x8 weight=4x3x3x3 bias",
        "input=1x8x64x64 weight=16x8x1x1",
        "input=0x1x3x3 weight=1x1x3x3",
    ):
        case = Case.parse(f"{line} dtype={dtype}")
        operands = draw(case)
        there, here = isolated.run(case, operands), resolve("torch").run(case, operands)
        assert there.output is not None
        assert here.output is not None
        assert there.output.dtype == here.output.dtype
        assert torch.equal(there.output, here.output)


def test_a_truncated_file_is_an_error_and_not_a_result(tmp_path: Path) -> None:
    """Reading a tensor from a truncated file raises an error instead of returning arbitrary memory."""
    (tmp_path / "shared").touch()
    shared = SharedFile(str(tmp_path / "shared"))
    packed = shared.pack(torch.zeros(2**20))
    os.truncate(shared.path, 100)
    with pytest.raises(EOFError, match="ends before the tensor"):
        shared.unpack(packed)
    shared.close()
