"""Put operands on the device and in the strides that a case names."""

from __future__ import annotations

import torch

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.layouts import apply_layout, check_layout
from toeplitz_core.testing.data.operands import Operands

# Operands of up to this many elements are copied for the subject.
_COPIED_NUMBERS = 2**24


def placed(
    case: Case, operands: Operands, layout: str = "contiguous"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Input, weight and bias on the device and in the strides of a case; ``layout`` is the default."""
    bias = None if operands.bias is None else place(case, "bias", operands.bias)
    return place(case, "input", operands.input, layout), place(case, "weight", operands.weight, layout), bias


def place(case: Case, operand: str, values: torch.Tensor, layout: str = "contiguous") -> torch.Tensor:
    """An operand on the device and in the strides of a case.

    The operand is copied, so that a kernel that writes to its operands cannot change those that it is judged by. Only
    very large operands, such as a weight of hundreds of megabytes, are not copied.

    Parameters
    ----------
    layout : str
        The layout to use if the case names none and the shape allows it.
    """
    copied = values.to(case.device, copy=values.numel() <= _COPIED_NUMBERS)
    return apply_layout(copied, case.layout(operand) or _possible(layout, operand, copied))


def _possible(layout: str, operand: str, values: torch.Tensor) -> str:
    """The layout if a tensor of this shape can have it, else contiguous."""
    try:
        check_layout(operand, layout, tuple(values.shape))
    except ValueError:
        return "contiguous"
    return layout
