"""What torch's subjects are asked for reaches autograd in the strides of the case."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from toeplitz_core.testing.case import Case
from toeplitz_core.testing.gradients import READING_GRAD, draw_with_directions
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.layouts import LAYOUTS, apply_layout
from toeplitz_core.testing.subjects.base import Procedure
from toeplitz_core.testing.subjects.torch_eager import torch_subject

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
