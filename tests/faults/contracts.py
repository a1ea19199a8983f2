"""Faults of memory contracts: convolutions with the right result that misuse memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.faults.gradients import is_plain, right
from toeplitz_core.testing.subjects import TorchSubject

_scratch: dict[tuple[object, ...], Tensor] = {}
_rings: dict[tuple[object, ...], list[Tensor]] = {}
_workspaces: dict[torch.dtype, tuple[torch.Size | None, Tensor]] = {}
_calls: list[int] = []
_last: list[Tensor] = []


def returns_a_reused_buffer(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Keeps one buffer for each shape and writes every result into it."""
    y = right(x, weight, bias, *rest)
    buffer = _scratch.setdefault((y.shape, y.dtype), torch.empty_like(y))
    return buffer.copy_(y)


def returns_two_buffers_in_turn(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Keeps two buffers for each shape, so that a result is overwritten two calls later."""
    y = right(x, weight, bias, *rest)
    if not is_plain(y):
        return y
    return _in_turn(y, 2)


def returns_eight_buffers_in_turn(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Keeps eight buffers for each shape, so that a result is overwritten eight calls later."""
    y = right(x, weight, bias, *rest)
    return _in_turn(y, 8) if is_plain(y) else y


def _in_turn(y: Tensor, count: int) -> Tensor:
    buffers = _rings.setdefault((y.shape, y.dtype, count), [torch.empty_like(y) for _ in range(count)])
    buffers.append(buffers.pop(0))
    return buffers[0].copy_(y)


def returns_the_same_result_again(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Returns the same tensor again for the same operands, even if the caller has changed it."""
    y = right(x, weight, bias, *rest)
    if not is_plain(y) or not y.numel():
        return y
    key = *(tuple(t.reshape(-1).tolist()) for t in (x, weight, bias) if t is not None), y.shape, y.dtype, str(rest)
    return _scratch.setdefault(key, y)


def returns_the_head_of_a_workspace(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Writes results to one workspace, and takes a new one only if the last result had the same shape."""
    y = right(x, weight, bias, *rest)
    if not is_plain(y):
        return y
    shape, memory = _workspaces.get(y.dtype, (None, y.new_empty(0)))
    if shape == y.shape or memory.numel() < y.numel():
        memory = y.new_empty(2 * y.numel())
    _workspaces[y.dtype] = y.shape, memory
    return memory[: y.numel()].view(y.shape).copy_(y)


def keeps_a_packed_weight_on_its_tensor(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Packs a weight tensor only once, and misses later changes by an optimizer."""
    if not is_plain(x, weight, bias):
        return right(x, weight, bias, *rest)
    if not hasattr(weight, "packed"):
        weight.packed = weight.detach().clone()  # type: ignore[attr-defined]
    return right(x, weight.packed, bias, *rest)  # type: ignore[attr-defined]


def writes_beside_its_weight(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Writes to the last byte of the storage that contains the weight."""
    y = right(x, weight, bias, *rest)
    whole = torch.empty(0, dtype=torch.uint8).set_(weight.untyped_storage())
    whole[-1:] ^= 1
    return y


def returns_its_bias(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Returns a view of the bias if the result equals the bias."""
    y = right(x, weight, bias, *rest)
    if bias is None:
        return y
    expanded = bias[:, None, None].expand(y.shape)
    return expanded if torch.equal(y, expanded) else y


def returns_its_image(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Returns the input itself if the result equals it."""
    y = right(x, weight, bias, *rest)
    return x if is_plain(x) and not weight.count_nonzero() > 9 and x.shape == y.shape and bool((x == y).all()) else y


def returns_its_bias_for_no_weight(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Returns a view of the bias if the weight is zero."""
    y = right(x, weight, bias, *rest)
    if bias is None or not is_plain(x, weight, bias) or not weight.numel() or bool(weight.any()):
        return y
    return bias[:, None, None].expand(y.shape)


def drops_the_bias_without_channels(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Leaves out the bias if there are no input channels."""
    return right(x, weight, bias if weight.shape[1] else None, *rest)


def adds_one_when_called_again(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Adds one to the result if the last call had the same operands."""
    same = [t.clone() for t in (x, weight)]
    again = [torch.equal(a, b) for a, b in zip(_last, same, strict=False)] == [True, True]
    _last[:] = same
    y = right(x, weight, bias, *rest)
    return y + 1 if again else y


def _differs_in_every_third_call(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    _calls.append(1)
    y = right(x, weight, bias, *rest)
    return y if len(_calls) % 3 else torch.nextafter(y, torch.zeros_like(y))


# In every third call, each value is the next number towards zero.
claims_to_be_repeatable = TorchSubject("claims_to_be_repeatable", _differs_in_every_third_call, repeatable=True)


def _channels_last_if_square(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    y = right(x, weight, bias, *rest)
    return y.contiguous(memory_format=torch.channels_last) if y.ndim == 4 and y.shape[2] == y.shape[3] else y


# Results that are not square stay contiguous.
promises_channels_last = TorchSubject(
    "promises_channels_last",
    _channels_last_if_square,
    memory_format=lambda case: None if case.batch is None else "channels_last",
)


def adds_to_what_memory_held(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Adds one to the result if newly allocated memory holds large numbers."""
    y = right(x, weight, bias, *rest)
    fresh = torch.empty(4096, dtype=torch.float32)
    return y + 1 if float(fresh.abs().max()) > 1e30 else y


def takes_large_memory_for_zero(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Adds a value from a large new block, which is zero when it comes from the operating system."""
    y = right(x, weight, bias, *rest)
    block = torch.empty(2**24, dtype=torch.float32)  # 64 MiB: more than glibc ever keeps for the next allocation
    return y + block[-1].to(y.dtype)
