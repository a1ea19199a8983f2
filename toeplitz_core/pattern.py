"""The nonzeros of a whole matrix, by runs: neighbouring outputs along an axis that have the same live taps.

Zero padding leaves the live taps of an output contiguous, and all outputs whose windows lie inside the image have all
taps. So an axis has few runs: three for a kernel of three taps with padding 1. Within a run, the rows of ``T`` have the
same values, and their columns move by the stride: one row of each run is made, and then copied. All output channels of
a group have the same columns.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import torch

from toeplitz_core.geometry import ConvGeometry, index_dtype

Array = np.ndarray[Any, np.dtype[Any]]

# How many patterns are kept, and the entries of the largest one that is.
_KEPT_GEOMETRIES = 32
_KEPT_ENTRIES = 2**21
# Integers of the size of an element: values are only moved, and NumPy lacks bfloat16.
_WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.complex128}


class Run(NamedTuple):
    """Neighbouring outputs along an axis with the same live taps."""

    output: int  # the first one
    outputs: int
    tap: int  # the first live one
    taps: int


class Part(NamedTuple):
    """The entries of a run of an axis: equal blocks, one for each of its outputs."""

    blocks: int
    entries: int  # in each block
    inner: tuple[Part, ...] | Array  # of the first block: its parts, or the taps of its entries, as weight[0].flatten()


class Pattern(NamedTuple):
    """The entries in the rows of the first output channel, in CSR order. Nobody may change the arrays."""

    crow: Array  # (positions + 1,), in the index dtype of ``T``
    columns: Array  # (entries,), as well
    parts: tuple[Part, ...]


def runs(geometry: ConvGeometry, axis: int) -> list[Run]:
    """The runs of an axis, in order.

    Examples
    --------
    >>> for run in runs(ConvGeometry(1, 1, (5, 5), 3, padding=1), axis=0):
    ...     print(run)
    Run(output=0, outputs=1, tap=1, taps=2)
    Run(output=1, outputs=3, tap=0, taps=3)
    Run(output=4, outputs=1, tap=0, taps=2)
    """
    first, count = geometry.live_taps(axis, np.arange(geometry.output_size[axis]))
    first = np.where(count > 0, first, 0)
    changes = np.flatnonzero((first[1:] != first[:-1]) | (count[1:] != count[:-1])) + 1
    begins = [0, *changes.tolist()]
    ends = [*begins[1:], geometry.output_size[axis]]
    return [Run(b, e - b, int(first[b]), int(count[b])) for b, e in zip(begins, ends, strict=True)]


def pattern_of(geometry: ConvGeometry) -> Pattern:
    """The pattern of a geometry; that of an ordinary size is kept for the next call."""
    return (_kept if geometry.nnz // geometry.out_channels <= _KEPT_ENTRIES else _computed)(geometry)


def _computed(geometry: ConvGeometry) -> Pattern:
    axes = [runs(geometry, axis) for axis in range(geometry.rank)]
    lengths = np.array([geometry.group_channels])
    for axis in axes:
        lengths = np.outer(lengths, np.repeat([run.taps for run in axis], [run.outputs for run in axis])).ravel()
    wide = index_dtype(geometry.nnz, geometry.matrix_shape[1]) == torch.int64
    crow = np.zeros(geometry.positions + 1, np.int64 if wide else np.int32)
    np.cumsum(lengths, out=crow[1:])
    columns = np.empty(crow[-1], crow.dtype)
    channels = np.arange(geometry.group_channels)[:, None]
    of_channel = channels.astype(crow.dtype) * geometry.pixels, channels * math.prod(geometry.kernel_size)
    return Pattern(crow, columns, _parts(geometry, axes, columns, *of_channel))


_kept = functools.lru_cache(_KEPT_GEOMETRIES)(_computed)


def _parts(
    geometry: ConvGeometry, axes: list[list[Run]], columns: Array, of_columns: Array, of_taps: Array
) -> tuple[Part, ...]:
    """Write the columns along the last axes, and return the parts.

    Parameters
    ----------
    axes : list of list of Run
        The runs of these axes.
    of_columns, of_taps : arrays of shape (channels, taps)
        What the channel and the taps of earlier axes add to a column, and to the index of a tap.
    """
    (now, *later), axis = axes, geometry.rank - len(axes)
    step, tap_step = math.prod(geometry.input_size[axis + 1 :]), math.prod(geometry.kernel_size[axis + 1 :])
    pairs = math.prod(sum(run.outputs * run.taps for run in one) for one in later)
    begin, parts, lines = 0, [], []
    for run in now:
        if not run.taps:  # there is nothing to write, and its numbers may be too large for an index
            continue
        live = np.arange(run.tap, run.tap + run.taps)
        start = run.output * geometry.stride[axis] - geometry.pads[axis][0]
        pixels = ((start + live * geometry.dilation[axis]) * step).astype(columns.dtype)
        shape = len(of_taps), of_taps.shape[1] * run.taps
        line = (of_columns[:, :, None] + pixels).reshape(shape)
        taps = (of_taps[:, :, None] + live * tap_step).reshape(shape)
        entries = line.size * pairs
        end = begin + run.outputs * entries
        block = columns[begin:end].reshape(run.outputs, entries)
        if later:
            parts.append(Part(run.outputs, entries, _parts(geometry, later, block[0], line, taps)))
        else:
            block[0] = line.ravel()
            lines.append(np.tile(taps.ravel(), run.outputs))
        if run.outputs > 1:
            moves = np.arange(1, run.outputs, dtype=columns.dtype) * (geometry.stride[axis] * step)
            np.add(block[:1], moves[:, None], out=block[1:])
        begin = end
    return tuple(parts) if later else (Part(1, begin, np.concatenate([np.empty(0, np.int64), *lines])),)


def values_of(geometry: ConvGeometry, weight: torch.Tensor) -> torch.Tensor:
    """The values of all rows, in CSR order: (nnz,), differentiable any number of times in the weight."""
    return _applied(weight.reshape(geometry.out_channels, -1), geometry).view(-1)


def _applied(rows: torch.Tensor, geometry: ConvGeometry) -> torch.Tensor:
    function: Any = _Spread
    found: torch.Tensor = function.apply(rows, geometry)
    return found


class _Spread(torch.autograd.Function):
    """Weights to values, both with one row per output channel."""

    @staticmethod
    def forward(rows: torch.Tensor, geometry: ConvGeometry) -> torch.Tensor:
        pattern = pattern_of(geometry)
        found = rows.new_empty(len(rows), len(pattern.columns))
        _spread(pattern.parts, _array(rows.contiguous()), _array(found))
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:  # noqa: ARG004  # torch's names
        ctx.geometry = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        # Sums of no values, which autograd may differentiate even if no tap is live; a new tensor of zeros it may not.
        nothing = grads[0].narrow(1, 0, 0).sum(1, keepdim=True, dtype=grads[0].dtype)
        nothing = nothing.expand(-1, math.prod(ctx.geometry.weight_shape[1:]))
        return _summed(pattern_of(ctx.geometry).parts, grads[0], nothing), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _applied(tangents[0], ctx.geometry)

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], rows: torch.Tensor, geometry: ConvGeometry) -> Any:
        batch = rows.movedim(dims[0], 0) if dims[0] is not None else rows.expand(info.batch_size, *rows.shape)
        return _applied(batch.flatten(0, 1), geometry).unflatten(0, batch.shape[:2]), 0


def _array(tensor: torch.Tensor) -> Array:
    """The memory of a contiguous tensor, as numbers that NumPy can move."""
    array: Array = tensor.detach().resolve_conj().resolve_neg().view(_WORDS[tensor.dtype.itemsize]).numpy()
    return array


def _spread(parts: tuple[Part, ...], weights: Array, out: Array) -> None:
    """Write the values of parts: ``weights`` is (rows, taps), ``out`` is (rows, entries)."""
    begin = 0
    for part in parts:
        end = begin + part.blocks * part.entries
        block = out[:, begin:end].reshape(len(out), part.blocks, part.entries)
        if isinstance(part.inner, tuple):
            _spread(part.inner, weights, block[:, 0])
        else:
            np.take(weights, part.inner, axis=1, out=block[:, 0], mode="clip")
        block[:, 1:] = block[:, :1]
        begin = end


def _summed(parts: tuple[Part, ...], values: torch.Tensor, sums: torch.Tensor) -> torch.Tensor:
    """Add the values of parts to the sums of their weights: the adjoint of ``_spread``."""
    begin = 0
    for part in parts:
        size = part.blocks * part.entries
        # In batches of gradients, torch's old vmap supports narrow, and not every slice.
        block = values.narrow(1, begin, size).reshape(len(values), part.blocks, part.entries)
        block = block.sum(1, dtype=values.dtype)
        if isinstance(part.inner, tuple):
            sums = _summed(part.inner, block, sums)
        else:
            sums = sums.index_add(1, torch.from_numpy(part.inner), block)
        begin += size
    return sums
