"""The geometry of a convolution: all sizes that follow from its parameters, computed before anything is allocated."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch

IntOrInts = int | Sequence[int]
Padding = IntOrInts | str
# Integers, as a tensor or as an array.
Indices = TypeVar("Indices", torch.Tensor, "np.ndarray[Any, np.dtype[np.int64]]")

_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True, init=False)
class ConvGeometry:
    """Parameters of an n-dimensional convolution (cross-correlation, as in deep learning), validated.

    A size per axis is an int (for every axis) or a tuple with one entry per axis. ``stride``, ``padding`` and
    ``dilation`` may also be a tuple of one entry. ``padding`` may be ``"same"`` or ``"valid"``. The number of axes is
    the length of ``input_size`` if that is a tuple, else the length of ``kernel_size`` if that is a tuple, else 2.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of input and output. ``in_channels`` may be 0: the convolution is then the bias alone.
    input_size, kernel_size : int or tuple of int
        Pixels per axis, without padding; kernel taps per axis. ``input_size`` may be 0 if the padding is large enough
        for the kernel.
    stride, dilation : int or tuple of int
        Distance in input pixels between neighbouring outputs, and between neighbouring kernel taps.
    padding : int, tuple of int, "same" or "valid"
        Zeros on both sides of each axis. ``"same"`` makes the output as large as the input; if the total is odd, the
        extra zero is added after the pixels.
    groups : int
        Number of blocks of channels that are convolved separately.

    Raises
    ------
    TypeError, ValueError
        If a parameter is invalid. The message names the parameter, its value and the broken rule.

    Examples
    --------
    >>> g = ConvGeometry(in_channels=3, out_channels=16, input_size=(32, 32), kernel_size=(3, 3), padding=1)
    >>> g.output_size, g.matrix_shape, g.nnz
    ((32, 32), (16384, 3072), 424128)
    >>> ConvGeometry(1, 1, (5, 5), 3, stride=(1, 0))
    Traceback (most recent call last):
        ...
    ValueError: stride[1]=0 must be >= 1
    """

    in_channels: int
    out_channels: int
    input_size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]
    groups: int
    # Kept, because it is asked for a dozen times for each convolution.
    _output_size: tuple[int, ...] = field(repr=False, compare=False)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        input_size: IntOrInts,
        kernel_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: Padding = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
    ) -> None:
        rank = max(1, next((len(s) for s in (input_size, kernel_size) if isinstance(s, tuple | list)), 2))
        assign = object.__setattr__
        assign(self, "in_channels", as_int("in_channels", in_channels, minimum=0))
        assign(self, "out_channels", as_int("out_channels", out_channels, minimum=1))
        assign(self, "input_size", _per_axis("input_size", input_size, rank, minimum=0, broadcast=False))
        assign(self, "kernel_size", _per_axis("kernel_size", kernel_size, rank, minimum=1, broadcast=False))
        assign(self, "stride", _per_axis("stride", stride, rank, minimum=1))
        assign(self, "padding", _padding(padding, rank))
        assign(self, "dilation", _per_axis("dilation", dilation, rank, minimum=1))
        assign(self, "groups", as_int("groups", groups, minimum=1))
        self._check_relations()
        sizes = zip(self.padded_size, self.kernel_extent, self.stride, strict=True)
        assign(self, "_output_size", tuple((n - e) // s + 1 for n, e, s in sizes))

    def _check_relations(self) -> None:
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise ValueError(f"groups={self.groups} must divide {name}={channels}")
        if self.padding == "same" and any(s != 1 for s in self.stride):
            raise ValueError(f"padding='same' needs stride=1 on every axis, but stride={self.stride}")
        for axis, (padded, extent) in enumerate(zip(self.padded_size, self.kernel_extent, strict=True)):
            if padded > _INT64_MAX:
                raise ValueError(
                    f"padding[{axis}] makes the padded input {padded} pixels long, which must fit in int64"
                )
            if extent > padded:
                raise ValueError(
                    f"kernel_size[{axis}]={self.kernel_size[axis]} with dilation[{axis}]={self.dilation[axis]} spans "
                    f"{extent} pixels and must not be larger than the padded input, which has {padded}"
                )

    @classmethod
    def from_weight(
        cls,
        weight_shape: Sequence[int],
        input_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: Padding = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
    ) -> ConvGeometry:
        """The geometry of a weight of shape ``(out_channels, in_channels / groups, *kernel_size)``.

        Examples
        --------
        >>> ConvGeometry.from_weight((6, 2, 3, 3), (8, 8), groups=3).in_channels
        6
        """
        if len(weight_shape) < 3:
            raise ValueError(
                f"weight has shape {tuple(weight_shape)}, but must have at least 3 axes: (out_channels, "
                "in_channels / groups, *kernel_size)"
            )
        out_channels, group_channels, *kernel_size = weight_shape
        groups = as_int("groups", groups, minimum=1)
        size = _per_axis("input_size", input_size, len(kernel_size), minimum=0, broadcast=False)
        return cls(group_channels * groups, out_channels, size, tuple(kernel_size), stride, padding, dilation, groups)

    @property
    def rank(self) -> int:
        """Number of axes: 2 for images."""
        return len(self.input_size)

    @property
    def kernel_extent(self) -> tuple[int, ...]:
        """Input pixels that the dilated kernel spans, per axis."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))

    @property
    def pads(self) -> tuple[tuple[int, int], ...]:
        """Zeros (before, after) on each axis, with ``"same"`` and ``"valid"`` as numbers."""
        if self.padding == "same":
            return tuple(((e - 1) // 2, e - 1 - (e - 1) // 2) for e in self.kernel_extent)
        if isinstance(self.padding, str):
            return ((0, 0),) * self.rank
        return tuple((p, p) for p in self.padding)

    @property
    def padded_size(self) -> tuple[int, ...]:
        """Pixels per axis, padding included."""
        return tuple(n + before + after for n, (before, after) in zip(self.input_size, self.pads, strict=True))

    @property
    def output_size(self) -> tuple[int, ...]:
        """Outputs per axis: ``floor((padded - extent) / stride) + 1``."""
        return self._output_size

    @property
    def group_channels(self) -> int:
        """Number of input channels that one output channel reads: ``in_channels / groups``."""
        return self.in_channels // self.groups

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the weight: ``(out_channels, in_channels / groups, *kernel_size)``."""
        return (self.out_channels, self.group_channels, *self.kernel_size)

    @property
    def pixels(self) -> int:
        """Input pixels per channel, without padding."""
        return math.prod(self.input_size)

    @property
    def positions(self) -> int:
        """Output pixels per channel."""
        return math.prod(self.output_size)

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Rows and columns of ``T``: one row per output element, one column per input element without padding."""
        return self.out_channels * self.positions, self.in_channels * self.pixels

    @property
    def nnz(self) -> int:
        """Number of structural nonzeros of ``T``: pairs of an output and a tap that reads a pixel, not padding.

        Per axis, this is the number of pairs of an output ``o`` and a tap ``k`` with
        ``0 <= o * stride + k * dilation - before < size``: the pairs below ``size + before`` minus the pairs below
        ``before``. The counts of the axes multiply.
        """
        live = 1
        for size, kernel, stride, (before, _), dilation, outputs in self._axes():
            pairs = outputs, stride, kernel, dilation
            live *= _pairs_below(size + before, *pairs) - _pairs_below(before, *pairs)
        return self.out_channels * self.group_channels * live

    @property
    def index_dtype(self) -> torch.dtype:
        """Index dtype of the CSR form: int32 if every index and ``nnz`` fit, else int64."""
        return index_dtype(self.nnz, self.matrix_shape[1])

    def nbytes(self, layout: torch.layout = torch.strided, dtype: torch.dtype = torch.float32) -> int:
        """Bytes that ``T`` takes in ``torch.strided``, ``torch.sparse_csr`` or ``torch.sparse_coo`` layout.

        Examples
        --------
        >>> g = ConvGeometry(3, 16, (32, 32), 3, padding=1)
        >>> g.nbytes(), g.nbytes(torch.sparse_csr), g.nbytes(torch.sparse_coo)
        (201326592, 3458564, 8482560)
        """
        rows, columns = self.matrix_shape
        return layout_nbytes(layout, dtype, rows, columns, self.nnz)

    def live_taps(self, axis: int, outputs: Indices) -> tuple[Indices, Indices]:
        """The live taps of outputs along an axis: those that read a pixel rather than padding.

        The live taps of an output are contiguous: they satisfy
        ``0 <= output * stride + tap * dilation - before < size``.

        Parameters
        ----------
        axis : int
        outputs : integer tensor or array of any shape
            Output indices along the axis.

        Returns
        -------
        first, count : tensors or arrays of the shape of ``outputs``
            The first live tap of each output, and the number of its live taps.
        """
        size, kernel, stride, (before, _), dilation, _ = self._axes()[axis]
        start = outputs * stride - before
        first = (-(start // dilation)).clip(0, kernel)
        end = ((size - 1 - start) // dilation + 1).clip(0, kernel)
        return first, (end - first).clip(0)

    def _axes(self) -> list[tuple[int, int, int, tuple[int, int], int, int]]:
        """Per axis: input size, kernel size, stride, pads, dilation, output size."""
        return list(
            zip(
                self.input_size,
                self.kernel_size,
                self.stride,
                self.pads,
                self.dilation,
                self.output_size,
                strict=True,
            )
        )


def index_dtype(nnz: int, columns: int) -> torch.dtype:
    """The dtype of CSR indices: int32 if column indices and row pointers (up to ``nnz``) fit, else int64."""
    return torch.int32 if max(nnz, columns) < 2**31 else torch.int64


def layout_nbytes(layout: torch.layout, dtype: torch.dtype, rows: int, columns: int, nnz: int) -> int:
    """Bytes of a matrix in a layout: values and, for a sparse layout with ``nnz`` stored elements, indices."""
    if layout == torch.strided:
        return rows * columns * dtype.itemsize
    if layout == torch.sparse_csr:
        index = index_dtype(nnz, columns).itemsize
        return nnz * (dtype.itemsize + index) + (rows + 1) * index
    if layout == torch.sparse_coo:
        return nnz * (dtype.itemsize + 2 * torch.int64.itemsize)
    raise ValueError(f"layout={layout} must be torch.strided, torch.sparse_csr or torch.sparse_coo")


def as_int(name: str, value: object, *, minimum: int) -> int:
    """``value`` as an int: it must be an integer, not a bool, of at least ``minimum``, and fit in int64."""
    # A bool tensor would pass as an index.
    if isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) == torch.bool:
        raise TypeError(f"{name}={value!r} must be an int, not {type(value).__name__}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # raises TypeError unless it is an index
    except (TypeError, RuntimeError):  # RuntimeError: a tensor without data
        raise TypeError(f"{name}={value!r} must be an int, not {type(value).__name__}") from None
    if number < minimum:
        raise ValueError(f"{name}={number} must be >= {minimum}")
    if number > _INT64_MAX:
        raise ValueError(f"{name}={number} must fit in int64")
    return number


def _per_axis(name: str, value: object, rank: int, *, minimum: int, broadcast: bool = True) -> tuple[int, ...]:
    if not isinstance(value, tuple | list):
        return (as_int(name, value, minimum=minimum),) * rank
    if len(value) == rank and all(type(v) is int and minimum <= v <= _INT64_MAX for v in value):
        return tuple(value)  # the usual case: nothing to convert, and no names for messages to make
    values = tuple(as_int(f"{name}[{axis}]", v, minimum=minimum) for axis, v in enumerate(value))
    if len(values) == 1 and broadcast:
        return values * rank
    if len(values) != rank:
        raise ValueError(f"{name}={values} must be an int or have {rank} entries, one per axis, not {len(values)}")
    return values


def _padding(value: object, rank: int) -> tuple[int, ...] | str:
    if isinstance(value, str):
        if value not in ("same", "valid"):
            raise ValueError(f"padding={value!r} must be an int, a tuple of ints, 'same' or 'valid'")
        return value
    return _per_axis("padding", value, rank, minimum=0)


def _pairs_below(limit: int, outputs: int, stride: int, taps: int, dilation: int) -> int:
    """Number of pairs ``(o, k)``, ``o < outputs``, ``k < taps``, with ``o * stride + k * dilation < limit``."""
    # Tap k is in min(outputs, (limit - 1 - k * dilation) // stride + 1) pairs: the first taps with every output, the
    # last with none.
    complete = min(taps, max(0, (limit - 1 - (outputs - 1) * stride) // dilation + 1))
    some = min(taps, max(0, (limit - 1) // dilation + 1))
    partial = some - complete
    return complete * outputs + partial + _floor_sum(partial, stride, dilation, limit - 1 - (some - 1) * dilation)


def _floor_sum(terms: int, divisor: int, slope: int, start: int) -> int:
    """``sum((slope * i + start) // divisor for i in range(terms))`` in logarithmic time, by Euclid's algorithm.

    Graham, Knuth, Patashnik, *Concrete Mathematics* (1994), section 3.5.
    """
    total = 0
    while terms:
        total += terms * (terms - 1) // 2 * (slope // divisor) + terms * (start // divisor)
        slope, start = slope % divisor, start % divisor
        terms, start = divmod(slope * terms + start, divisor)
        divisor, slope = slope, divisor
    return total
