"""Convolutions that keep something of one call for the next, and forget a part of what it depends on.

That is how caches of packed weights, of plans and of results go wrong in real libraries. A single call of most of them
is right, so that no law finds these faults but those that compare several calls; each is planted for one of them.
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
# Smaller operands are alike by chance.
_MANY = 8


def forget() -> None:
    """Begin anew, as in a new process."""
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
    # Of the input as it was given: what is kept is a copy.
    is_contiguous: bool = True

    def result(self, **changes: Any) -> Tensor:
        """The right result, for other arguments if some are given."""
        c = replace(self, **changes)
        return right(c.x, c.weight, c.bias, c.stride, c.padding, c.dilation, c.groups)

    def fitted(self, y: Tensor) -> Tensor:
        """A result in this call's shape: cut, and with zeros where there is nothing."""
        fitted = torch.zeros_like(self.result())
        inside = tuple(slice(min(a, b)) for a, b in zip(y.shape, fitted.shape, strict=True))
        fitted[inside] = y[inside]
        return fitted

    @property
    def parameters(self) -> tuple[Hashable, ...]:
        """All but the operands."""
        return self.stride, self.padding, self.dilation, self.groups

    @property
    def kernel_extent(self) -> tuple[int, ...]:
        """Pixels that the dilated kernel spans, per axis."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.weight.shape[2:], strict=True))

    @property
    def padded_size(self) -> tuple[int, ...]:
        """Of the image; with padding as a string, which cannot be told from its size, the string."""
        if isinstance(self.padding, str):
            return (self.padding,)
        return tuple(size + 2 * pad for size, pad in zip(self.x.shape[-2:], self.padding, strict=True))


def _numbers(*tensors: Tensor | None) -> tuple[Hashable, ...]:
    return tuple(None if t is None else (tuple(t.shape), t.contiguous().numpy().tobytes()) for t in tensors)


def _inference(compute: Callable[[Call], Tensor]) -> TorchSubject:
    """A kernel without derivatives that computes float32 so, and all else right."""

    def function(x: Tensor, weight: Tensor, bias: Tensor | None, *parameters: Any) -> Tensor:
        call = Call(x, weight, bias, *parameters, is_contiguous=x.is_contiguous())
        return compute(call) if x.dtype == torch.float32 else call.result()

    return TorchSubject(compute.__name__, function, differentiable=False)


def _keeping(key: Callable[[Call], Hashable]) -> Callable[[Callable[[Call, Call], Tensor]], TorchSubject]:
    """For a function of the first call that had the same key and of this one."""

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
    """Scales operands to magnitudes of at most 1, and forgets by how much where it keeps the result."""
    return kept.result() if min(c.x.numel(), c.weight.numel()) >= _MANY else c.result()


@_keeping(lambda c: (_numbers(c.weight), c.x.shape[:-2], c.parameters))
def keeps_the_size_of_the_image(kept: Call, c: Call) -> Tensor:
    """Computes as much of a larger image as there was of the first one with this weight."""
    height, width = kept.x.shape[-2:]
    larger = c.x.shape[-2] >= height and c.x.shape[-1] >= width
    return c.fitted(c.result(x=c.x[..., :height, :width])) if larger else c.result()


@_keeping(lambda c: (_numbers(c.weight, c.x if c.x.ndim == 3 else c.x[:1]), c.x.ndim, c.parameters))
def keeps_the_size_of_the_batch(kept: Call, c: Call) -> Tensor:
    """Writes no last image where the batch is smaller than the first one that began with the same image."""
    y = c.result()
    if c.x.ndim == 4 and len(c.x) < len(kept.x):
        y[-1] = 0
    return y


def _sums(values: Tensor) -> tuple[Hashable, ...]:
    return tuple(values.double().sum(-1).flatten().tolist() + values.double().square().sum(-1).flatten().tolist())


@_keeping(lambda c: (c.weight.shape, _sums(c.weight.flatten())))
def packs_weights_of_the_same_sum_once(kept: Call, c: Call) -> Tensor:
    """Takes a packed weight for that of another whose elements, and their squares, have the same sum."""
    return c.result(weight=kept.weight) if c.weight.numel() >= _MANY else c.result()


@_keeping(lambda c: (c.weight.shape, _sums(c.weight.flatten(1))))
def packs_filters_of_the_same_sums_once(kept: Call, c: Call) -> Tensor:
    """Takes a packed weight for that of another whose filters have the same sums, each in its place."""
    return c.result(weight=kept.weight) if c.weight.numel() >= _MANY else c.result()


@_keeping(lambda c: (_numbers(c.x), len(c.weight), c.weight.shape[2:], c.parameters[:3]))
def keeps_the_groups(kept: Call, c: Call) -> Tensor:
    """Divides an image into as many groups as in the first call with it, of as many channels as the weight has."""
    if kept.groups >= c.groups:
        return c.result()
    channels = kept.groups * c.weight.shape[1]
    return c.result(x=c.x.narrow(-3, 0, channels), groups=kept.groups)


@_keeping(lambda c: (_numbers(c.x), len(c.weight), c.kernel_extent, c.stride, c.padding, c.groups))
def keeps_the_dilation(kept: Call, c: Call) -> Tensor:
    """Dilates a kernel as in the first call with this image whose kernel spanned as many pixels."""
    return c.result() if kept.dilation == c.dilation else c.fitted(c.result(dilation=kept.dilation))


@_keeping(lambda c: (_numbers(c.x, c.weight), c.padding, c.dilation, c.groups))
def keeps_the_stride(kept: Call, c: Call) -> Tensor:
    """Strides as in the first call with these operands."""
    return c.result() if kept.stride == c.stride else c.fitted(c.result(stride=kept.stride))


@_keeping(lambda c: (_numbers(c.weight), c.padded_size, c.x.shape[:-2], c.stride, c.dilation, c.groups))
def keeps_the_padding(kept: Call, c: Call) -> Tensor:
    """Pads as in the first call with this weight whose image was, with its padding, as large."""
    return c.result() if kept.padding == c.padding else c.fitted(c.result(padding=kept.padding))


@_keeping(lambda c: (_numbers(c.x.narrow(-3, 0, min(1, c.x.shape[-3])), c.weight[:, :1]), c.parameters))
def keeps_the_channels(kept: Call, c: Call) -> Tensor:
    """Sums as many channels as in the first call that began with the same one."""
    channels = kept.weight.shape[1]
    if c.groups > 1 or channels >= c.weight.shape[1]:
        return c.result()
    return c.result(x=c.x.narrow(-3, 0, channels), weight=c.weight[:, :channels])


@_keeping(lambda c: (_numbers(c.x, c.weight, c.bias), c.parameters))
def keeps_the_strides_of_the_input(kept: Call, c: Call) -> Tensor:
    """Reads an input by the strides of the first one with the same numbers, which were contiguous."""
    planned = kept.is_contiguous and not c.is_contiguous
    return c.result(x=without_strides(c.x, c.x.dtype)) if planned else c.result()


@_inference
def forgets_the_bias_of_sparse_images(c: Call) -> Tensor:
    """Leaves out the bias where half of the input is zero, as after a ReLU."""
    zeros = int((c.x == 0).sum())
    sparse = c.x.numel() >= 2 * _MANY and c.x.numel() / 3 < zeros < 2 * c.x.numel() / 3
    return c.result(bias=None) if sparse else c.result()


@_keeping(lambda c: (_numbers(c.x.flatten(-2)), c.weight.shape))
def keeps_the_width_of_pointwise(kept: Call, c: Call) -> Tensor:
    """Writes as many columns of a 1x1 convolution as in the first call with the same pixels, in any arrangement."""
    width = kept.x.shape[-1]
    wider = max(c.weight.shape[2:]) == 1 and c.x.shape[-1] > width and c.x[..., 0, :].numel() >= _MANY
    return c.fitted(c.result(x=c.x[..., :width])) if wider else c.result()


@_inference
def copies_the_wrong_tap_of_a_selecting_kernel(c: Call) -> Tensor:
    """Copies pixels where each filter is 1 at one tap, and those of the tap on the other side of the kernel."""
    filters, (height, width) = c.weight.flatten(1), c.weight.shape[2:]
    ones = ((filters != 0).sum(1) == 1) & (filters.sum(1) == 1)
    selecting = height * width >= _MANY // 2 and bool(ones.all())
    return c.result(weight=c.weight.flip(-2, -1)) if selecting else c.result()


@_inference
def takes_its_last_result_for_a_scratch_pad(c: Call) -> Tensor:
    """Clears the first number of an input that is its own last result, before it reads that."""
    same = bool(_last) and c.x.numel() >= _MANY and torch.equal(c.x, _last[0])
    x = c.x.clone()
    if same:
        x.view(-1)[0] = 0
    y = c.result(x=x)
    _last[:] = [y.clone()]
    return y
