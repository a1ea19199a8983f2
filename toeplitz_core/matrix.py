"""The matrix of a convolution, built by index arithmetic: dense, CSR or COO, in full or only some rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from toeplitz_core.geometry import ConvGeometry, IntOrInts, Padding, as_int, index_dtype, layout_nbytes
from toeplitz_core.memory import MatrixTooLargeError, available_bytes
from toeplitz_core.pattern import pattern_of, values_of

Rows = slice | Sequence[int] | torch.Tensor | np.ndarray[Any, np.dtype[Any]]

# The dtypes that convolutions are computed in.
SUPPORTED_DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.complex128,
    torch.complex64,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
)

# A matrix may take this share of the free memory: the caller needs the rest to work with the matrix.
_MEMORY_SHARE = 0.5
# For matrices up to this size, free memory is not queried: the query would take longer than the matrix.
_SMALL_BYTES = 2**20
# Peak bytes per entry while its position is computed: a dozen int64 (measured).
_PATTERN_BYTES = 96


class Entries(NamedTuple):
    """The stored elements of chosen rows of ``T``, in CSR order: ascending columns within a row."""

    crow: torch.Tensor  # (rows + 1,) int32 if the indices fit, else int64: the index of each row's first entry
    columns: torch.Tensor  # (nnz,) of the same dtype
    values: torch.Tensor  # (nnz,)


def toeplitz_matrix(
    weight: torch.Tensor,
    input_size: IntOrInts,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
    layout: torch.layout = torch.strided,
    rows: Rows | None = None,
    *,
    memory_budget: int | None = None,
) -> torch.Tensor:
    """The doubly blocked Toeplitz matrix ``T`` with ``vec(conv(x)) = T @ vec(x)``.

    The entry in row ``(out_channel, oh, ow)`` and column ``(in_channel, h, w)`` is ``weight[out_channel, c, kh, kw]``
    if ``h = oh * stride + kh * dilation - padding``, ``w`` satisfies the same equation on its axis, and ``c`` is the
    index of ``in_channel`` within the group of ``out_channel``. All other entries are zero. Rows and columns are
    row-major; the columns do not include padding.

    Parameters
    ----------
    weight : tensor of shape (out_channels, in_channels / groups, *kernel_size)
        The kernel. It decides the dtype, the device and the number of axes.
    input_size : int or tuple of int
        Pixels per axis, without padding.
    stride, padding, dilation, groups
        As for :func:`torch.nn.functional.conv2d`; ``"same"`` and ``"valid"`` are supported.
    layout : torch.strided, torch.sparse_csr or torch.sparse_coo
        CSR is canonical: columns ascend, there are no duplicates and no stored structural zeros, and indices are int32
        if they fit.
    rows : slice, sequence of int, 1-D integer tensor or array, or boolean mask, optional
        Return only these rows, in this order, with duplicates. Other rows are never formed.
    memory_budget : int, optional
        Bytes that the matrix may take; half of the free memory of the weight's device if not given.

    Returns
    -------
    tensor of shape (rows, in_channels * prod(input_size))
        The dense matrix is differentiable twice in the weight. torch's sparse tensors are not: a second backward pass
        raises for a CSR product, and is silently cut for a COO product. Use :func:`toeplitz_values` there.

    Raises
    ------
    TypeError, ValueError, IndexError
        If a parameter is invalid. The message names the parameter, its value and the broken rule.
    MatrixTooLargeError
        If the matrix would take more than ``memory_budget``; raised before anything is allocated.

    Examples
    --------
    >>> toeplitz_matrix(torch.tensor([[[[1.0, 2.0]]]]), input_size=(1, 4))
    tensor([[1., 2., 0., 0.],
            [0., 1., 2., 0.],
            [0., 0., 1., 2.]])
    >>> toeplitz_matrix(torch.ones(8, 4, 3, 3), input_size=(64, 64), padding=1, rows=[0, -1]).shape
    torch.Size([2, 16384])
    """
    geometry = _geometry(weight, input_size, stride, padding, dilation, groups)
    chosen = None if rows is None else _row_indices(rows, geometry.matrix_shape[0], weight.device)
    count = geometry.matrix_shape[0] if chosen is None else len(chosen)
    _check_budget(geometry, weight, layout, chosen, memory_budget)
    entries = _entries(geometry, weight, chosen)
    shape = (count, geometry.matrix_shape[1])
    if layout == torch.strided:
        dense = weight.new_zeros(math.prod(shape))
        flat = _row_of_each(entries).mul_(shape[1]).add_(entries.columns)
        return dense.scatter_(0, flat, entries.values).view(shape)
    # The invariants hold by construction, and the tests check them; a check here would cost another pass. torch 2.11
    # warns if only the constructor turns the check off, so the context manager does.
    with torch.sparse.check_sparse_tensor_invariants(enable=False):
        if layout == torch.sparse_csr:
            return torch.sparse_csr_tensor(*entries, shape)
        indices = torch.stack((_row_of_each(entries), entries.columns))
        return torch.sparse_coo_tensor(indices, entries.values, shape, is_coalesced=True)


def toeplitz_values(
    weight: torch.Tensor,
    input_size: IntOrInts,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
    rows: Rows | None = None,
) -> torch.Tensor:
    """The stored values of the CSR (and COO) form of :func:`toeplitz_matrix`, differentiable twice in the weight.

    Returns
    -------
    tensor of shape (nnz,)
        In the order of ``toeplitz_matrix(..., layout=torch.sparse_csr).values()``.

    Examples
    --------
    >>> toeplitz_values(torch.tensor([[[[1.0, 2.0]]]]), input_size=(1, 3))
    tensor([1., 2., 1., 2.])
    """
    geometry = _geometry(weight, input_size, stride, padding, dilation, groups)
    chosen = None if rows is None else _row_indices(rows, geometry.matrix_shape[0], weight.device)
    _check_budget(geometry, weight, torch.sparse_csr, chosen, None)
    return values_of(geometry, weight) if _by_runs(weight, chosen) else _entries(geometry, weight, chosen).values


def _entries(geometry: ConvGeometry, weight: torch.Tensor, rows: range | torch.Tensor | None) -> Entries:
    """The entries of ``T``, or only of the rows with these indices (int64, non-negative).

    All output channels have the same pattern, shifted by the offset of their group. For the whole matrix the pattern
    is computed once and broadcast.
    """
    outputs = geometry.out_channels // geometry.groups
    group_columns = geometry.group_channels * geometry.pixels
    if _by_runs(weight, rows):
        return _whole(geometry, weight)
    if rows is None:
        lengths, columns, taps = _channel_pattern(geometry, torch.arange(geometry.positions, device=weight.device))
        index = index_dtype(len(columns) * geometry.out_channels, geometry.matrix_shape[1])
        channel = torch.arange(geometry.out_channels, device=weight.device)
        lengths = lengths.expand(geometry.out_channels, -1).reshape(-1)
        columns = (columns.to(index) + (channel // outputs * group_columns).to(index)[:, None]).view(-1)
        values = weight.reshape(geometry.out_channels, -1).index_select(1, taps).view(-1)
    else:
        if isinstance(rows, range):
            rows = torch.arange(len(rows), device=weight.device) * rows.step + rows.start
        lengths, columns, taps = _channel_pattern(geometry, rows % geometry.positions)
        channel = torch.repeat_interleave(rows // geometry.positions, lengths, output_size=len(columns))
        columns = columns + channel // outputs * group_columns
        columns = columns.to(index_dtype(len(columns), geometry.matrix_shape[1]))
        values = weight.reshape(-1).index_select(0, taps + channel * math.prod(geometry.weight_shape[1:]))
    return Entries(_offsets(lengths).to(columns.dtype), columns, values)


def _by_runs(weight: torch.Tensor, rows: object) -> bool:
    """Whether the matrix can be written by runs: all of it, to memory that NumPy can write."""
    plain = type(weight) in (torch.Tensor, torch.nn.Parameter) and weight.device.type == "cpu"
    return rows is None and plain and not torch.compiler.is_compiling()


def _whole(geometry: ConvGeometry, weight: torch.Tensor) -> Entries:
    """All entries of ``T`` on the CPU, from the pattern by runs, which is kept for the next call."""
    pattern = pattern_of(geometry)
    channels, per_channel = geometry.out_channels, len(pattern.columns)
    channel = np.arange(channels, dtype=pattern.columns.dtype)[:, None]
    crow = np.empty(geometry.matrix_shape[0] + 1, channel.dtype)
    np.add(pattern.crow[:-1], channel * per_channel, out=crow[:-1].reshape(channels, -1))
    crow[-1] = channels * per_channel
    first = channel // (channels // geometry.groups) * (geometry.group_channels * geometry.pixels)
    columns = pattern.columns + first
    return Entries(torch.from_numpy(crow), torch.from_numpy(columns.ravel()), values_of(geometry, weight))


def _channel_pattern(
    geometry: ConvGeometry, positions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Entries in the rows of the first output channel at these positions: the number per row, the columns, the taps.

    The entries of a row are the Cartesian product of its input channels and one contiguous range of live taps per
    axis. The index of an entry within its row is therefore a mixed-radix number; its digits are the channel and the
    taps.
    """
    outputs = unravel(positions, geometry.output_size)
    live = [geometry.live_taps(axis, output) for axis, output in enumerate(outputs)]
    lengths = torch.full_like(positions, geometry.group_channels)
    for _, count in live:
        lengths = lengths * count
    offsets = _offsets(lengths)
    entries = int(offsets[-1])
    row = torch.repeat_interleave(lengths, output_size=entries)
    digits = torch.arange(entries, device=positions.device) - offsets[row]
    columns, taps = torch.zeros_like(digits), torch.zeros_like(digits)
    pixel_step, tap_step = 1, 1
    for axis in reversed(range(geometry.rank)):
        first, count = live[axis]
        radix = count[row]
        tap = digits % radix + first[row]
        digits //= radix
        start = outputs[axis] * geometry.stride[axis] - geometry.pads[axis][0]
        columns += (start[row] + tap * geometry.dilation[axis]) * pixel_step
        taps += tap * tap_step
        pixel_step *= geometry.input_size[axis]
        tap_step *= geometry.kernel_size[axis]
    columns += digits * pixel_step
    taps += digits * tap_step
    return lengths, columns, taps


def _geometry(
    weight: torch.Tensor, input_size: IntOrInts, stride: IntOrInts, padding: Padding, dilation: IntOrInts, groups: int
) -> ConvGeometry:
    check_tensor("weight", weight)
    if weight.is_meta:
        raise ValueError("weight is on device meta, but must have data")
    geometry = ConvGeometry.from_weight(weight.shape, input_size, stride, padding, dilation, groups)
    if max(geometry.matrix_shape) > 2**63 - 1:
        raise ValueError(f"T of shape {geometry.matrix_shape} has more rows or columns than int64 can count")
    return geometry


def check_tensor(name: str, value: object) -> None:
    """Raise ``TypeError`` unless a value is a dense tensor of a supported dtype (``SUPPORTED_DTYPES``)."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, not {type(value).__name__}")
    if value.dtype not in SUPPORTED_DTYPES:
        raise TypeError(f"{name} has dtype {value.dtype}, but must have one of {', '.join(map(str, SUPPORTED_DTYPES))}")
    if value.layout != torch.strided:
        raise TypeError(f"{name} has layout {value.layout}, but must have layout torch.strided")


def _row_indices(rows: Rows, count: int, device: torch.device) -> range | torch.Tensor:
    """``rows`` as indices in ``[0, count)``: a range for a slice, which may be long, else a 1-D int64 tensor."""
    if isinstance(rows, slice):
        return range(count)[rows]
    if isinstance(rows, np.ndarray):
        rows = rows.tolist()  # numbers of any width and byte order
    if isinstance(rows, torch.Tensor):
        if rows.ndim != 1:
            raise ValueError(f"rows has shape {tuple(rows.shape)}, but must be 1-D")
        if rows.dtype == torch.bool:
            if len(rows) != count:
                raise ValueError(f"rows is a mask of {len(rows)} entries, but T has {count} rows")
            return rows.nonzero().squeeze(1).to(device)
        if rows.is_floating_point() or rows.is_complex():
            raise TypeError(f"rows has dtype {rows.dtype}, but must be an integer or boolean tensor")
        indices = rows.to(device=device, dtype=torch.int64)
    elif isinstance(rows, Sequence) and not isinstance(rows, str):
        if rows and all(isinstance(row, bool) for row in rows):
            return _row_indices(torch.tensor(rows), count, device)
        indices = torch.tensor(
            [as_int(f"rows[{i}]", row, minimum=-(2**63)) for i, row in enumerate(rows)],
            dtype=torch.int64,
            device=device,
        )
    else:
        raise TypeError(f"rows={rows!r} must be a slice, a sequence of ints or a 1-D tensor, not {type(rows).__name__}")
    outside = (indices < -count) | (indices >= count)
    if outside.any():
        i = int(outside.nonzero()[0])
        raise IndexError(f"rows[{i}]={int(indices[i])} must be in [-{count}, {count}), the rows of T")
    return torch.where(indices < 0, indices + count, indices)


def _check_budget(
    geometry: ConvGeometry,
    weight: torch.Tensor,
    layout: torch.layout,
    rows: range | torch.Tensor | None,
    budget: int | None,
) -> None:
    """Raise MatrixTooLargeError if the matrix would exceed the budget or, without a budget, the free memory."""
    count, columns = geometry.matrix_shape if rows is None else (len(rows), geometry.matrix_shape[1])
    # An upper limit, every tap of every row, because counting the entries of chosen rows would itself take memory.
    nnz = geometry.nnz if rows is None else count * min(columns, math.prod(geometry.weight_shape[1:]))
    sizes = {one: layout_nbytes(one, weight.dtype, count, columns, nnz) for one in (layout, torch.sparse_csr)}
    if budget is not None:
        if sizes[layout] <= as_int("memory_budget", budget, minimum=0):
            return
        limit = f"over memory_budget={budget:,}"
    else:
        # Intermediate tensors hold the entries of one channel (or of the chosen rows) and, except for CSR, all entries.
        pattern = nnz // geometry.out_channels if rows is None else nnz
        index = index_dtype(nnz, columns)
        entry = weight.dtype.itemsize + index.itemsize + torch.int64.itemsize
        if layout == torch.strided and index != torch.int64:
            entry += torch.int64.itemsize  # torch widens the columns before it adds them
        passing = pattern * _PATTERN_BYTES + 3 * count * torch.int64.itemsize
        passing += 0 if layout == torch.sparse_csr else nnz * entry
        if sizes[layout] + passing <= _SMALL_BYTES:
            return
        free = available_bytes(weight.device)
        if sizes[layout] <= free * _MEMORY_SHARE and sizes[layout] + passing <= free:
            return
        limit = f"plus {passing:,} for intermediate tensors, but {free:,} are free, of which T may take half"
    csr = "" if layout == torch.sparse_csr else f"layout=torch.sparse_csr ({sizes[torch.sparse_csr]:,} bytes), "
    raise MatrixTooLargeError(
        f"T of shape ({count}, {columns}) in {weight.dtype} and layout {layout} would take {sizes[layout]:,} bytes, "
        f"{limit}. Use {csr}rows= for some rows at a time, or ToeplitzOperator, which never forms T"
    )


def unravel(index: torch.Tensor, shape: tuple[int, ...]) -> list[torch.Tensor]:
    """Coordinates of row-major indices, per axis."""
    coordinates = []
    for size in reversed(shape):
        coordinates.append(index % size)
        index = index // size
    return coordinates[::-1]


def _row_of_each(entries: Entries) -> torch.Tensor:
    """The row of each entry, int64."""
    return torch.repeat_interleave(entries.crow.diff().long(), output_size=len(entries.columns))


def _offsets(lengths: torch.Tensor) -> torch.Tensor:
    """Row pointers of rows of these lengths: the exclusive running sum, then the total."""
    return torch.cat((lengths.new_zeros(1), lengths.cumsum(0)))
