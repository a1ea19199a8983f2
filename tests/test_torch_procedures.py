"""What torch's subjects are asked for reaches autograd in the strides of the case."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from toeplitz_core.testing.case import Case
from toeplitz_core.testing.gradients import READING_GRAD, draw_with_directions
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.layouts import LAYOUTS, apply_layout
from toeplitz_core.testing.subjects.base import BrokenContract, MemoryFormat, Procedure
from toeplitz_core.testing.subjects.torch_eager import torch_subject
from toeplitz_core.testing.subjects.torch_procedures import contract

LAYOUTS_OF_IMAGES = [name for name, (_, _, axes) in LAYOUTS.items() if 4 in axes]


class _Seen(TorchDispatchMode):
    """The strides of the gradients of a result that convolutions are given, forward ones included."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.strides: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "convolution" in str(func) and tuple(args[0].shape) == self.shape:
            self.strides.append(args[0].stride())
        return func(*args, **(kwargs or {}))


def seen(case: Case, procedure: Procedure, shape: tuple[int, ...] | None = None) -> list[tuple[int, ...]]:
    """The strides of the gradients that torch's convolutions are given."""
    mode = _Seen(case.output_shape if shape is None else shape)
    with mode:
        outcome = torch_subject("torch").run(case, draw_with_directions(case), procedure)
    assert outcome.status == "returned", outcome.message
    return mode.strides


@pytest.mark.parametrize("layout", LAYOUTS_OF_IMAGES)
@pytest.mark.parametrize("procedure", [name for name in READING_GRAD if name != "vmap"])
def test_gradient_has_the_strides_of_the_case(procedure: Procedure, layout: str) -> None:
    """The gradient of the result comes to torch's backward convolution in the strides that the case names."""
    case = Case.parse(f"input=2x3x5x6 weight=4x3x2x3 layout.grad={layout}")
    assert apply_layout(torch.zeros(case.output_shape), layout).stride() in seen(case, procedure)


def test_gradients_of_images_have_the_strides_of_the_case() -> None:
    """Mapped over a batch, the gradient of each image keeps its strides: here every second number of a row."""
    case = Case.parse("input=5x3x5x6 weight=4x3x2x3 layout.grad=sliced")
    # The rule for batches makes channels of images.
    assert [strides[-1] for strides in seen(case, "vmap", shape=(1, 20, 4, 4))] == [2]


def test_every_law_that_reads_a_gradient_is_known() -> None:
    """The laws whose data has a gradient are those whose procedure reads it, and forward mode, which does not."""
    reading = {law.name for law in LAWS.values() if law.procedure in READING_GRAD}
    assert reading == {
        "gradients-exact",
        "gradients-bound",
        "double-backward",
        "functional-gradients",
        "vmap",
        "adjoint",
        "transposed",
    }


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
        ((2, 1, 4, 5), (20, 20, 5, 1), "channels_last", True),  # one channel: it is both
        ((0, 3, 4, 5), (60, 20, 5, 1), "channels_last", True),  # nothing is stored
        ((2, 3, 4, 5), (60, 1, 15, 3), None, True),
    ],
)
def test_declared_memory_format(
    shape: tuple[int, ...], strides: tuple[int, ...], declared: MemoryFormat | None, *, kept: bool
) -> None:
    """A result in another memory format than the declared one is told, strides and all; axes of length 1 have none."""
    given = {"input": torch.ones(1), "weight": torch.ones(1)}

    def call(*_: object) -> torch.Tensor:
        return torch.empty_strided(shape, strides).fill_(1)

    with contextlib.nullcontext() if kept else pytest.raises(BrokenContract, match=f"not the .*, {declared}") as raised:
        assert contract(call, given, declared)["output"].shape == shape
    if not kept:
        assert f"shape {shape} and strides {strides}" in str(raised.value)
