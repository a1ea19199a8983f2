"""Memory layouts of operands: the same values with other strides; gaps between them are filled with NaN."""

from __future__ import annotations

from collections.abc import Callable

import torch

Shape = tuple[int, ...]


def _contiguous(values: torch.Tensor) -> torch.Tensor:
    return values.contiguous()


def _channels_last(values: torch.Tensor) -> torch.Tensor:
    return values.contiguous(memory_format=torch.channels_last)


def _transposed(values: torch.Tensor) -> torch.Tensor:
    return values.mT.contiguous().mT


def _permuted(values: torch.Tensor) -> torch.Tensor:
    axes = tuple(reversed(range(values.ndim)))
    return values.permute(axes).contiguous().permute(axes)


def _offset(values: torch.Tensor) -> torch.Tensor:
    buffer = _poisoned((values.numel() + 8,), values)
    view = buffer[3 : 3 + values.numel()].view(values.shape)
    view.copy_(values)
    return view


def _sliced(values: torch.Tensor) -> torch.Tensor:
    buffer = _poisoned((*values.shape[:-1], 2 * values.shape[-1] + 1), values)
    view = buffer[..., 1 : 1 + 2 * values.shape[-1] : 2]
    view.copy_(values)
    return view


def _cropped(values: torch.Tensor) -> torch.Tensor:
    front = min(2, values.ndim - 1)  # batch and channels
    view = _poisoned((*values.shape[:front], *(n + 3 for n in values.shape[front:])), values)
    for axis in range(front, values.ndim):
        view = view.narrow(axis, 1, values.shape[axis])
    view.copy_(values)
    return view


def _channel_slice(values: torch.Tensor) -> torch.Tensor:
    n, c, h, w = values.shape
    view = _poisoned((n, h, w, c + 3), values).permute(0, 3, 1, 2)[:, 1 : 1 + c]
    view.copy_(values)
    return view


def _expanded(values: torch.Tensor) -> torch.Tensor:
    return values[:1].contiguous().expand(values.shape)


def _repeated(values: torch.Tensor) -> torch.Tensor:
    one = values[(slice(1),) * values.ndim]
    return one.clone().expand(values.shape)


def _odd_strides(values: torch.Tensor) -> torch.Tensor:
    base = values.contiguous()
    strides = [7 if n == 1 else s for n, s in zip(base.shape, base.stride(), strict=True)]
    return base.as_strided(base.shape, strides)


# Each layout's function, its description, and the numbers of axes for which it exists.
LAYOUTS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str, range]] = {
    "contiguous": (_contiguous, "row-major", range(1, 9)),
    "channels_last": (_channels_last, "torch.channels_last: channels innermost", range(4, 5)),
    "transposed": (_transposed, "the last two axes swapped in memory", range(2, 9)),
    "permuted": (_permuted, "all axes reversed in memory", range(2, 9)),
    "offset": (_offset, "row-major, beginning inside a larger buffer", range(1, 9)),
    "sliced": (_sliced, "every second element of the last axis of a larger buffer", range(1, 9)),
    "cropped": (_cropped, "a window of a larger image", range(3, 9)),
    "channel_slice": (_channel_slice, "some channels of a larger channels_last tensor", range(4, 5)),
    "expanded": (_expanded, "the first axis repeated with stride 0", range(1, 9)),
    "odd_strides": (_odd_strides, "row-major, with an arbitrary stride on axes of size 1", range(1, 9)),
}


# More layouts, for the gradient of a result only: an operand that repeats one number would reveal few faults.
OF_GRADIENTS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str, range]] = {
    "repeated": (_repeated, "one number, with stride 0 on all axes, as the gradient of a sum is", range(1, 9)),
}


ALL_LAYOUTS = (*LAYOUTS, *OF_GRADIENTS)


def layouts_of(operand: str) -> dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str, range]]:
    """The layouts that an operand, or the gradient of the result (``grad``), may have."""
    return LAYOUTS | (OF_GRADIENTS if operand == "grad" else {})


def check_layout(operand: str, layout: str, shape: Shape) -> None:
    """Raise ``ValueError`` if an operand of this shape cannot have the layout."""
    legal = layouts_of(operand)
    if layout not in legal:
        raise ValueError(f"layout.{operand}={layout} must be one of {', '.join(legal)}")
    axes = legal[layout][2]
    if len(shape) not in axes:
        needed = f"{axes.start}" if len(axes) == 1 else f"at least {axes.start}"
        raise ValueError(f"layout.{operand}={layout} needs {needed} axes, but {operand} has {len(shape)}: {shape}")


def apply_layout(values: torch.Tensor, layout: str) -> torch.Tensor:
    """The values in a layout; ``expanded`` repeats the first slice and ``repeated`` the first number."""
    return (LAYOUTS | OF_GRADIENTS)[layout][0](values)


def _poisoned(shape: Shape, like: torch.Tensor) -> torch.Tensor:
    """A buffer filled with a conspicuous value, so that reading a gap shows in the result."""
    poison = float("nan") if like.is_floating_point() or like.is_complex() else torch.iinfo(like.dtype).max // 3
    return torch.full(shape, poison, dtype=like.dtype, device=like.device)
