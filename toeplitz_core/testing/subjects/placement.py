"""Put operands on the device and in the strides that a case names."""

from __future__ import annotations

import torch

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.layouts import apply_layout, check_layout
from toeplitz_core.testing.data.operands import Guard, Operands
from toeplitz_core.testing.subjects.guard_pages import guarded

# Operands of up to this many elements are copied for the subject.
_COPIED_NUMBERS = 2**24


def placed(
    case: Case, operands: Operands, layout: str = "contiguous"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Input, weight and bias on the device and in the strides of a case; ``layout`` is the default."""
    guard = operands.guard
    bias = None if operands.bias is None else place(case, "bias", operands.bias, guard=guard)
    x, weight = (place(case, name, getattr(operands, name), layout, guard) for name in ("input", "weight"))
    return x, weight, bias


def place(
    case: Case, operand: str, values: torch.Tensor, layout: str = "contiguous", guard: Guard | None = None
) -> torch.Tensor:
    """An operand on the device and in the strides of a case.

    The operand is copied, so that a kernel that writes to its operands cannot change those that it is judged by. Only
    very large operands, such as a weight of hundreds of megabytes, are not copied.

    Parameters
    ----------
    layout : str
        The layout to use if the case names none and the shape allows it.
    guard : Guard, optional
        The pages to put the operand against, if it is one of those that the guard names.
    """
    copied = values.to(case.device, copy=values.numel() <= _COPIED_NUMBERS)
    laid_out = apply_layout(copied, case.layout(operand) or _possible(layout, operand, copied))
    return laid_out if guard is None or operand not in guard.operands else guarded(laid_out, guard)


def _possible(layout: str, operand: str, values: torch.Tensor) -> str:
    """The layout if a tensor of this shape can have it, else contiguous."""
    try:
        check_layout(operand, layout, tuple(values.shape))
    except ValueError:
        return "contiguous"
    return layout
