"""The contract of a torch subject: which results break it, and what the message says."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.subjects.interface import MemoryFormat
from toeplitz_core.testing.subjects.outcome import OUTPUT, BrokenContract
from toeplitz_core.testing.subjects.pytorch.memory_contract import contract
from toeplitz_core.testing.subjects.pytorch.subject import TorchSubject


@pytest.mark.parametrize(
    ("shape", "strides", "declared", "kept"),
    [
        ((2, 3, 4, 5), (60, 20, 5, 1), "contiguous", True),
        ((2, 3, 4, 5), (60, 20, 5, 1), "channels_last", False),
        ((2, 3, 4, 5), (60, 1, 15, 3), "channels_last", True),
        ((2, 3, 4, 5), (60, 1, 15, 3), "contiguous", False),
        ((2, 3, 4, 5), (120, 40, 10, 2), "contiguous", False),
        ((3, 4, 5), (1, 15, 3), "channels_last", True),  # no batch
        ((3, 4, 5), (20, 5, 1), "channels_last", False),
        ((2, 1, 4, 5), (20, 20, 5, 1), "channels_last", True),  # one channel: both formats at once
        ((0, 3, 4, 5), (60, 20, 5, 1), "channels_last", True),  # nothing is stored
        ((2, 3, 4, 5), (60, 1, 15, 3), None, True),
    ],
)
def test_declared_memory_format(
    shape: tuple[int, ...], strides: tuple[int, ...], declared: MemoryFormat | None, *, kept: bool
) -> None:
    """A result in a format other than the declared one is reported with its strides; axes of length 1 do not count."""
    given = {"input": torch.ones(1), "weight": torch.ones(1, 1, 1, 1)}

    def call(*_: object) -> torch.Tensor:
        return torch.empty_strided(shape, strides).fill_(1)

    with contextlib.nullcontext() if kept else pytest.raises(BrokenContract, match=f"not the .*, {declared}") as raised:
        assert contract(call, given, declared)[OUTPUT].shape == shape
    if not kept:
        assert f"shape {shape} and strides {strides}" in str(raised.value)


def test_the_contract_says_that_a_result_has_no_numbers() -> None:
    """A result on meta is a failure, not an unsupported case."""

    def on_meta(*args: Any) -> torch.Tensor:
        return torch.nn.functional.conv2d(*args).to("meta")

    verdict = LAWS["contract"](TorchSubject("own", on_meta), Case.parse("input=2x3x5x6 weight=4x3x2x3"))
    assert (verdict.status, verdict.message) == (Status.FAIL, "returned a result on device meta, not cpu")


def test_the_contract_writes_to_no_inference_tensor() -> None:
    """A result from inference mode, which cannot be overwritten outside of it, passes."""
    inference = torch.inference_mode()(torch.nn.functional.conv2d)
    verdict = LAWS["contract"](TorchSubject("own", inference), Case.parse("input=2x3x5x6 weight=4x3x2x3"))
    assert verdict.status is Status.PASS, verdict.message


def test_the_contract_says_that_a_result_is_sparse() -> None:
    """A result that is not strided is a failure with a message that says so."""

    def sparse(*args: Any) -> torch.Tensor:
        return torch.nn.functional.conv2d(*args).to_sparse()

    verdict = LAWS["contract"](TorchSubject("own", sparse), Case.parse("input=2x3x5x6 weight=4x3x2x3"))
    assert (verdict.status, verdict.message) == (Status.FAIL, "returned layout torch.sparse_coo, not torch.strided")


def test_memory_can_be_shared_from_its_middle() -> None:
    """Shared memory is detected even if the result's storage begins inside that of the input."""
    x = torch.arange(12.0).view(1, 1, 3, 4)
    middle = torch.from_numpy(x.numpy()[:, :, 1:2])
    assert middle.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
    with pytest.raises(BrokenContract, match="shares memory with its input"):
        contract(lambda *_: middle, {"input": x, "weight": torch.ones(1, 1, 1, 1)})
