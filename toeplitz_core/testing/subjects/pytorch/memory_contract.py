"""The contract on memory: a call must not change its operands, earlier results or memory that is not its own.

A procedure takes the function as :data:`ConvFunction`, with operands that already have the case's strides and device.
It returns named tensors; tensors whose names begin with the same word must be equal. ``BrokenContract`` reports a
finding that no returned tensor could show.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from toeplitz_core.testing.case.case import OPERANDS
from toeplitz_core.testing.data.operands import in_bytes
from toeplitz_core.testing.subjects.interface import MemoryFormat
from toeplitz_core.testing.subjects.outcome import OUTPUT, BrokenContract, ResultName, Results
from toeplitz_core.testing.subjects.symptom import Symptom

Tensors = Mapping[str, torch.Tensor]
# From input, weight and bias to the result.
ConvFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]
_FORMATS: dict[MemoryFormat, torch.memory_format] = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}


def contract(call: ConvFunction, given: Tensors, memory_format: MemoryFormat | None = None) -> Results:
    """The results of several calls with the same operands, with checks of memory between them.

    Raises
    ------
    BrokenContract
        If an operand, or its storage around it, has changed; if the result shares memory with an operand; if the
        result is not in the declared memory format; if a later call changes an earlier result.
    """
    names = [name for name in OPERANDS if name in given]
    before = contents({name: given[name] for name in names})
    result = call(*arguments(given))
    if not isinstance(result, torch.Tensor) or result.is_meta or result.layout is not torch.strided:
        return {OUTPUT: result}  # nothing else can be checked
    check_unchanged(given, before)
    _check_owned(result, given)
    if memory_format is not None and not _is_in(result, memory_format):
        strides = f"shape {tuple(result.shape)} and strides {result.stride()}"
        raise BrokenContract(f"returned {strides}, which is not the memory format that it declares, {memory_format}")
    kept, others = result.clone(), {name: -given[name] for name in names}
    call(*arguments({**given, "input": _twice(given["input"], given["weight"].ndim)}))
    call(*arguments(others))
    again = call(*arguments(given))
    found = {OUTPUT: kept, ResultName("output", "after other calls"): again.clone()}
    time = "after the same call"
    if not (_overlaps_itself(again) or (again.is_inference() and not torch.is_inference_mode_enabled())):
        again.neg_()  # the caller may write to a result
        time = "after an earlier result was overwritten"
    found[ResultName("output", time)] = call(*arguments(given)).clone()
    for weight in _trivial(given["weight"]):
        _check_owned(call(given["input"], weight, given.get("bias")), {**given, "weight": weight})
    for operand in ("input", "weight"):
        # The same tensors with other values, as after an optimizer step. Negation keeps the rounding errors the same.
        negated = [given[name] for name in (operand, "bias") if name in given]
        if not any(map(_overlaps_itself, negated)):
            with _negated(negated):
                found[ResultName(f"output of another {operand}")] = -call(*arguments(given))
    call(*arguments(others))  # with up to eight buffers in rotation, the first one has been reused by now
    if not torch.equal(in_bytes(result), in_bytes(kept)):
        raise BrokenContract("changed the result of an earlier call during a later one", Symptom.BUFFER)
    return found


def arguments(values: Tensors) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Input, weight and bias, as a convolution takes them."""
    return values["input"], values["weight"], values.get("bias")


def contents(given: Tensors) -> dict[str, torch.Tensor]:
    """A copy of the whole storage of each operand, for :func:`check_unchanged`."""
    return {name: _storage(tensor).clone() for name, tensor in given.items()}


def check_unchanged(given: Tensors, before: Tensors) -> None:
    """Check that a call left its operands unchanged.

    Raises
    ------
    BrokenContract
        If an operand or its storage has changed, or if its ``requires_grad`` was set.
    """
    for name, content in before.items():
        if not torch.equal(_storage(given[name]), content):
            raise BrokenContract(f"changed its {name}, or memory next to it", Symptom.OPERAND)
        if given[name].requires_grad:
            raise BrokenContract(f"changed requires_grad of its {name}", Symptom.OPERAND)


def _check_owned(result: torch.Tensor, given: Tensors) -> None:
    """Check that a result shares no memory with the operands."""
    for name in OPERANDS:
        if name in given and result.numel() and _overlap(result, given[name]):
            raise BrokenContract(f"returned a result that shares memory with its {name}", Symptom.BUFFER)


def _trivial(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two weights for which a kernel might skip the work: the result is the bias, or the image itself."""
    zeros = torch.zeros_like(weight, memory_format=torch.contiguous_format)
    one = zeros.clone().flatten(2)
    if one.numel():
        channels = torch.arange(len(one), device=one.device)
        one[channels, channels % one.shape[1], one.shape[2] // 2] = 1
    return zeros, one.reshape(weight.shape)


def _twice(x: torch.Tensor, rank: int) -> torch.Tensor:
    """A batch that holds the image, or the images, twice."""
    return torch.cat((x, x)) if x.ndim == rank else torch.stack((x, x))


@contextlib.contextmanager
def _negated(tensors: Sequence[torch.Tensor]) -> Iterator[None]:
    """Negate tensors in place within the context."""
    for tensor in tensors:
        tensor.neg_()
    try:
        yield
    finally:
        for tensor in tensors:
            tensor.neg_()


def _overlaps_itself(tensor: torch.Tensor) -> bool:
    """Whether several elements share one memory location, so that the tensor cannot be written in place."""
    return any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))


def _storage(tensor: torch.Tensor) -> torch.Tensor:
    """All bytes of a tensor's storage, including those between its elements."""
    return torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())


def _is_in(tensor: torch.Tensor, memory_format: MemoryFormat) -> bool:
    """Whether a tensor is in a memory format; an image without a batch axis counts as a batch of one."""
    batched = tensor if tensor.ndim == 4 else tensor[None]  # batch, channels and two axes
    return not tensor.numel() or batched.is_contiguous(memory_format=_FORMATS[memory_format])


def _overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether the memory of two tensors overlaps, even if they have different storages."""
    first, second = a.untyped_storage(), b.untyped_storage()
    begin = max(first.data_ptr(), second.data_ptr())
    return begin < min(first.data_ptr() + first.nbytes(), second.data_ptr() + second.nbytes())
