"""Faults of caches: convolutions that reuse something from an earlier call under an incomplete key.

Caches of packed weights, plans and results fail like this in real libraries. For most of these faults a single call is
right, so only laws that compare several calls can find them. Each fault is planted for one such law.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tests.faults.gradients import right
from tests.faults.memory import without_strides
from toeplitz_core.testing.subjects import TorchSubject

_kept: list[dict[Hashable, Call]] = []
_last: list[Tensor] = []
# Smaller operands may be equal by chance.
_MANY = 8


def forget() -> None:
    """Clear all caches, as in a new process."""
    for kept in _kept:
        kept.clear()
    _last.clear()


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments of a call of conv2d."""

    x: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: Any
    padding: Any
    dilation: Any
    groups: int
    # Whether the given input was contiguous; the kept input is a copy.
    is_contiguous: bool = True

    def result(self, **changes: Any) -> Tensor:
        """The right result, with some arguments replaced."""
        c = replace(self, **changes)
        return right(c.x, c.weight, c.bias, c.stride, c.padding, c.dilation, c.groups)

    def fitted(self, y: Tensor) -> Tensor:
        """A result cut or filled with zeros to the shape of this call's result."""
        fitted = torch.zeros_like(self.result())
        inside = tuple(slice(min(a, b)) for a, b in zip(y.shape, fitted.shape, strict=True))
        fitted[inside] = y[inside]
        return fitted

    @property
    def parameters(self) -> tuple[Hashable, ...]:
        """All arguments except the operands."""
        return self.stride, self.padding, self.dilation, self.groups

    @property
    def kernel_extent(self) -> tuple[int, ...]:
        """The number of pixels that the dilated kernel spans, per axis."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.weight.shape[2:], strict=True))

    @property
    def padded_size(self) -> tuple[int, ...]:
        """The size of the padded image; for padding as a string, the string itself."""
        if isinstance(self.padding, str):
            return (self.padding,)
        return tuple(size + 2 * pad for size, pad in zip(self.x.shape[-2:], self.padding, strict=True))


def _numbers(*tensors: Tensor | None) -> tuple[Hashable, ...]:
    return tuple(None if t is None else (tuple(t.shape), t.contiguous().numpy().tobytes()) for t in tensors)


def _inference(compute: Callable[[Call], Tensor]) -> TorchSubject:
    """A subject without derivatives that has the fault in float32 only."""

    def function(x: Tensor, weight: Tensor, bias: Tensor | None, *parameters: Any) -> Tensor:
        call = Call(x, weight, bias, *parameters, is_contiguous=x.is_contiguous())
        return compute(call) if x.dtype == torch.float32 else call.result()

    return TorchSubject(compute.__name__, function, differentiable=False)


def _keeping(key: Callable[[Call], Hashable]) -> Callable[[Callable[[Call, Call], Tensor]], TorchSubject]:
    """A decorator for a function of two calls: the first call with the same key, and the current call."""

    def decorate(compute: Callable[[Call, Call], Tensor]) -> TorchSubject:
        kept: dict[Hashable, Call] = {}
        _kept.append(kept)

        def with_kept(call: Call) -> Tensor:
            bias = None if call.bias is None else call.bias.clone()
            first = kept.setdefault(key(call), replace(call, x=call.x.clone(), weight=call.weight.clone(), bias=bias))
            return compute(first, call)

        with_kept.__name__ = compute.__name__
        return _inference(with_kept)

    return decorate


@_keeping(lambda c: (c.x.shape, _numbers(c.weight, c.bias), c.parameters))
def keeps_results_by_weight(kept: Call, c: Call) -> Tensor:  # noqa: ARG001
    """Returns the result of the first input of these sizes for the same weight."""
    return kept.result()


@_keeping(lambda c: (c.weight.shape, _numbers(c.x, c.bias), c.parameters))
def keeps_results_by_input(kept: Call, c: Call) -> Tensor:  # noqa: ARG001
    """Returns the result of the first weight of these sizes for the same input."""
    return kept.result()


def _scaled(values: Tensor) -> Tensor:
    return values.abs() / values.abs().max() if values.numel() else values


@_keeping(lambda c: (_numbers(_scaled(c.x), _scaled(c.weight)), c.bias is None, c.parameters))
def keeps_results_without_their_scale(kept: Call, c: Call) -> Tensor:
    """Caches results of scaled operands, with magnitudes of at most 1, and ignores the scale."""
    return kept.result() if min(c.x.numel(), c.weight.numel()) >= _MANY else c.result()


@_keeping(lambda c: (_numbers(c.weight), c.x.shape[:-2], c.parameters))
def keeps_the_size_of_the_image(kept: Call, c: Call) -> Tensor:
    """Computes only as much of an image as the first image with this weight had."""
    height, width = kept.x.shape[-2:]
    larger = c.x.shape[-2] >= height and c.x.shape[-1] >= width
    return c.fitted(c.result(x=c.x[..., :height, :width])) if larger else c.result()


@_keeping(lambda c: (_numbers(c.weight, c.x if c.x.ndim == 3 else c.x[:1]), c.x.ndim, c.parameters))
def keeps_the_size_of_the_batch(kept: Call, c: Call) -> Tensor:
    """Leaves the last image zero if the batch is smaller than the first batch with the same first image."""
    y = c.result()
    if c.x.ndim == 4 and len(c.x) < len(kept.x):
        y[-1] = 0
    return y


def _sums(values: Tensor) -> tuple[Hashable, ...]:
    return tuple(values.double().sum(-1).flatten().tolist() + values.double().square().sum(-1).flatten().tolist())


@_keeping(lambda c: (c.weight.shape, _sums(c.weight.flatten())))
def packs_weights_of_the_same_sum_once(kept: Call, c: Call) -> Tensor:
    """Reuses a packed weight for another whose elements and squares have the same sums."""
    return c.result(weight=kept.weight) if c.weight.numel() >= _MANY else c.result()


@_keeping(lambda c: (c.weight.shape, _sums(c.weight.flatten(1))))
def packs_filters_of_the_same_sums_once(kept: Call, c: Call) -> Tensor:
    """Reuses a packed weight for another whose filters have the same sums, each in its place."""
    return c.result(weight=kept.weight) if c.weight.numel() >= _MANY else c.result()


@_keeping(lambda c: (_numbers(c.x), len(c.weight), c.weight.shape[2:], c.parameters[:3]))
def keeps_the_groups(kept: Call, c: Call) -> Tensor:
    """Uses the number of groups of the first call with this image."""
    if kept.groups >= c.groups:
        return c.result()
    channels = kept.groups * c.weight.shape[1]
    return c.result(x=c.x.narrow(-3, 0, channels), groups=kept.groups)


@_keeping(lambda c: (_numbers(c.x), len(c.weight), c.kernel_extent, c.stride, c.padding, c.groups))
def keeps_the_dilation(kept: Call, c: Call) -> Tensor:
    """Uses the dilation of the first call with this image and the same kernel extent."""
    return c.result() if kept.dilation == c.dilation else c.fitted(c.result(dilation=kept.dilation))


@_keeping(lambda c: (_numbers(c.x, c.weight), c.padding, c.dilation, c.groups))
def keeps_the_stride(kept: Call, c: Call) -> Tensor:
    """Uses the stride of the first call with these operands."""
    return c.result() if kept.stride == c.stride else c.fitted(c.result(stride=kept.stride))


@_keeping(lambda c: (_numbers(c.weight), c.padded_size, c.x.shape[:-2], c.stride, c.dilation, c.groups))
def keeps_the_padding(kept: Call, c: Call) -> Tensor:
    """Uses the padding of the first call with this weight and the same padded size."""
    return c.result() if kept.padding == c.padding else c.fitted(c.result(padding=kept.padding))


@_keeping(lambda c: (_numbers(c.x.narrow(-3, 0, min(1, c.x.shape[-3])), c.weight[:, :1]), c.parameters))
def keeps_the_channels(kept: Call, c: Call) -> Tensor:
    """Sums only as many channels as the first call with the same first channel had."""
    channels = kept.weight.shape[1]
    if c.groups > 1 or channels >= c.weight.shape[1]:
        return c.result()
    return c.result(x=c.x.narrow(-3, 0, channels), weight=c.weight[:, :channels])


@_keeping(lambda c: (_numbers(c.x, c.weight, c.bias), c.parameters))
def keeps_the_strides_of_the_input(kept: Call, c: Call) -> Tensor:
    """Reads an input as contiguous if the first input with the same values was."""
    planned = kept.is_contiguous and not c.is_contiguous
    return c.result(x=without_strides(c.x, c.x.dtype)) if planned else c.result()


@_inference
def forgets_the_bias_of_sparse_images(c: Call) -> Tensor:
    """Leaves out the bias if about half of the input is zero, as after a ReLU."""
    zeros = int((c.x == 0).sum())
    sparse = c.x.numel() >= 2 * _MANY and c.x.numel() / 3 < zeros < 2 * c.x.numel() / 3
    return c.result(bias=None) if sparse else c.result()


@_keeping(lambda c: (_numbers(c.x.flatten(-2)), c.weight.shape))
def keeps_the_width_of_pointwise(kept: Call, c: Call) -> Tensor:
    """Writes only as many columns of a 1x1 convolution as the first call with the same pixels had."""
    width = kept.x.shape[-1]
    wider = max(c.weight.shape[2:]) == 1 and c.x.shape[-1] > width and c.x[..., 0, :].numel() >= _MANY
    return c.fitted(c.result(x=c.x[..., :width])) if wider else c.result()


@_inference
def copies_the_wrong_tap_of_a_selecting_kernel(c: Call) -> Tensor:
    """Copies the pixels of the opposite tap if each filter is 1 at one tap and 0 elsewhere."""
    filters, (height, width) = c.weight.flatten(1), c.weight.shape[2:]
    ones = ((filters != 0).sum(1) == 1) & (filters.sum(1) == 1)
    selecting = height * width >= _MANY // 2 and bool(ones.all())
    return c.result(weight=c.weight.flip(-2, -1)) if selecting else c.result()


@_inference
def takes_its_last_result_for_a_scratch_pad(c: Call) -> Tensor:
    """Sets the first element of the input to zero if the input equals the last result."""
    same = bool(_last) and c.x.numel() >= _MANY and torch.equal(c.x, _last[0])
    x = c.x.clone()
    if same:
        x.view(-1)[0] = 0
    y = c.result(x=x)
    _last[:] = [y.clone()]
    return y
