"""A call of conv2d as a value, in which a planted fault changes one thing before, during or after the computation.

Nothing here calls a convolution of torch. The right part of a planted fault is computed with the matrix, in a wide
format and on operands in canonical strides, so that a fault never contains one of torch's faults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from toeplitz_core import ConvGeometry, conv2d

Pads = tuple[tuple[int, int], ...]

_ACCUMULATORS = {torch.float16: torch.float32, torch.bfloat16: torch.float32}


@dataclass(frozen=True, slots=True)
class Convolution:
    """The arguments of a call: contiguous operands with a batch axis, in the widest format of their kind.

    ``given`` holds input, weight and bias as given, in their own strides and dtype. ``pads`` may be any numbers of
    zeros before and after each axis.
    """

    input: Tensor
    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...]
    pads: Pads
    dilation: tuple[int, ...]
    groups: int
    given: tuple[Tensor, Tensor, Tensor | None]
    geometry: ConvGeometry

    def replace(self, **changes: Any) -> Convolution:
        """A copy with some values changed; ``geometry`` stays that of the call."""
        return replace(self, **changes)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the given operands and of the result."""
        return self.given[1].dtype

    @property
    def accumulator(self) -> torch.dtype:
        """The dtype that a correct implementation sums in: float32 for half precision, else the dtype itself."""
        return _ACCUMULATORS.get(self.dtype, self.dtype)

    @property
    def extent(self) -> tuple[int, ...]:
        """The number of pixels that the dilated kernel spans, per axis."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.weight.shape[2:], self.dilation, strict=True))

    def value(self) -> Tensor:
        """The right result, computed with the matrix in the format of the operands."""
        padding = tuple(min(pads) for pads in self.pads)
        rest = tuple((before - p, behind - p) for (before, behind), p in zip(self.pads, padding, strict=True))
        x = self.input if not any(map(any, rest)) else padded(self.input, rest)
        return conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def result(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The results of the windows that begin at these rows and columns of the padded input.

        A window that would leave the padded input is moved back inside.
        """
        dense = self.replace(stride=(1, 1)).value()
        rows, columns = rows.clamp(max=dense.shape[2] - 1), columns.clamp(max=dense.shape[3] - 1)
        return dense[:, :, rows][:, :, :, columns]

    def terms(
        self, dtype: torch.dtype, order: Callable[[int], list[int]] = lambda n: list(range(n))
    ) -> Iterator[Tensor]:
        """The terms of the sums: the products of one tap of one channel with all pixels that it meets.

        Each has the shape ``(batch, groups, out_channels / groups, oH, oW)`` and is computed in ``dtype``. ``order``
        takes the number of terms and returns their indices in the wanted order.
        """
        x = padded(self.input.to(dtype), self.pads).unflatten(1, (self.groups, -1))
        w = self.weight.to(dtype).unflatten(0, (self.groups, -1))
        for axis in (0, 1):
            x = x.unfold(3 + axis, self.extent[axis], self.stride[axis])[..., :: self.dilation[axis]]
        x, w = x.permute(2, 5, 6, 0, 1, 3, 4), w.permute(2, 3, 4, 0, 1)
        products = (x[:, :, :, :, :, None] * w[:, :, :, None, :, :, None, None]).flatten(0, 2).unbind()
        return (products[index] for index in order(len(products)))

    def zeros(self, dtype: torch.dtype) -> Tensor:
        """The sum of no terms."""
        outputs = self.weight.shape[0] // self.groups
        shape = (self.input.shape[0], self.groups, outputs, *self.geometry.output_size)
        return self.input.new_zeros(shape, dtype=dtype)

    def with_bias(self, sums: Tensor) -> Tensor:
        """The sums plus the bias, in the format of the sums, with one axis of channels."""
        y = sums.flatten(1, 2)
        return y if self.bias is None else y + self.bias.to(y.dtype)[:, None, None]


def padded(x: Tensor, pads: Pads, value: float = 0) -> Tensor:
    """A copy of an image with a constant value around it."""
    (top, bottom), (left, right) = pads
    height, width = x.shape[-2:]
    y = x.new_full((*x.shape[:-2], top + height + bottom, left + width + right), value)
    y[..., top : top + height, left : left + width] = x
    return y


def implementation(compute: Callable[[Convolution], Tensor]) -> Callable[..., Tensor]:
    """Give a function of a :class:`Convolution` the signature of ``F.conv2d``; round its result once."""

    def function(
        input: Tensor,  # noqa: A002  # the name that F.conv2d gives it
        weight: Tensor,
        bias: Tensor | None = None,
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
    ) -> Tensor:
        geometry = ConvGeometry.from_weight(weight.shape, tuple(input.shape[-2:]), stride, padding, dilation, groups)
        x = input if input.ndim == 4 else input[None]
        wide = _wide(weight.dtype)
        call = Convolution(
            input=_canonical(x, wide),
            weight=_canonical(weight, wide),
            bias=None if bias is None else _canonical(bias, wide),
            stride=geometry.stride,
            pads=geometry.pads,
            dilation=geometry.dilation,
            groups=geometry.groups,
            given=(input, weight, bias),
            geometry=geometry,
        )
        y = compute(call).to(weight.dtype)
        return y if input.ndim == 4 else y[0]

    function.__name__ = function.__qualname__ = compute.__name__
    function.__doc__, function.__module__ = compute.__doc__, compute.__module__
    return function


def _wide(dtype: torch.dtype) -> torch.dtype:
    if dtype.is_complex:
        return torch.complex128
    return torch.float64 if dtype.is_floating_point else torch.int64


def _canonical(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype, copy=True, memory_format=torch.contiguous_format)
