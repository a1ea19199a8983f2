"""The matrix of a convolution as a linear operator that is applied without being formed."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from toeplitz_core.contraction import contract
from toeplitz_core.geometry import ConvGeometry, IntOrInts, Padding
from toeplitz_core.matrix import check_tensor, toeplitz_matrix, unravel
from toeplitz_core.memory import available_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    _Array = np.ndarray[Any, np.dtype[Any]]

# Receptive fields are gathered in blocks of about this size, which a processor's cache holds; a GPU takes larger ones.
# Each is freed after its block, unless autograd keeps it.
_BLOCK_BYTES, _BLOCK_BYTES_OF_GPU = 2**21, 2**25
# Receptive fields of up to this many taps of all positions are kept for the next call with the same geometry, because
# small convolutions take longer to index than to multiply; and of this many geometries.
_KEPT_TAPS, _KEPT_GEOMETRIES = 2**15, 16
# For results up to this size, free memory is not queried: the query would take longer than the convolution.
_SMALL_BYTES = 2**26


class ToeplitzOperator:
    """``T`` of :func:`toeplitz_matrix` as an operator: ``A @ x`` and ``A.mT @ y``, differentiable twice.

    The operator applies rows block by block: it gathers by index the pixels that a block of outputs reads, and
    multiplies them by the weight. Structural zeros of ``T`` are never multiplied by data, so a NaN or an infinity
    affects only the outputs whose receptive field contains it.

    Parameters
    ----------
    weight : tensor of shape (out_channels, in_channels / groups, *kernel_size)
        The kernel. It decides dtype and device.
    input_size, stride, padding, dilation, groups
        As for :func:`toeplitz_matrix`.

    Examples
    --------
    >>> A = ToeplitzOperator(torch.tensor([[[[1.0, 2.0]]]]), input_size=(1, 3))
    >>> A.shape, A @ torch.tensor([1.0, 10.0, 100.0])
    ((2, 3), tensor([ 21., 210.]))
    >>> A.mT @ torch.tensor([1.0, 10.0])
    tensor([ 1., 12., 20.])
    """

    def __init__(
        self,
        weight: torch.Tensor,
        input_size: IntOrInts,
        stride: IntOrInts = 1,
        padding: Padding = 0,
        dilation: IntOrInts = 1,
        groups: int = 1,
    ) -> None:
        check_tensor("weight", weight)
        self.weight = weight
        self.geometry = ConvGeometry.from_weight(weight.shape, input_size, stride, padding, dilation, groups)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of ``T``."""
        return self.geometry.matrix_shape

    @property
    def dtype(self) -> torch.dtype:
        return self.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.weight.device

    @property
    def mT(self) -> TransposedOperator:  # noqa: N802  # torch's name
        """The transpose. For real weights it is the adjoint: ``A.mT @ y`` is the gradient of ``y . (A @ x)``."""
        return TransposedOperator(self)

    @property
    def mH(self) -> TransposedOperator:  # noqa: N802  # torch's name
        """The conjugate transpose: the adjoint for real and complex weights."""
        return ToeplitzOperator(self.weight.conj(), *self._parameters()).mT

    def __matmul__(self, x: torch.Tensor) -> torch.Tensor:
        """``T @ x`` for x of shape (columns,) or (columns, k)."""
        _check_operand("x", x, self, self.shape[1])
        g = self.geometry
        y = forward(g, self.weight, _as_batch(x, g.in_channels, g.pixels))
        return _from_batch(y.to(self.dtype), x)

    def to_dense(self) -> torch.Tensor:
        """``T`` as a dense tensor; see :func:`toeplitz_matrix`."""
        return toeplitz_matrix(self.weight, *self._parameters())

    def to_sparse_csr(self) -> torch.Tensor:
        """``T`` as a CSR tensor; see :func:`toeplitz_matrix`."""
        return toeplitz_matrix(self.weight, *self._parameters(), layout=torch.sparse_csr)

    def to_scipy(self) -> Any:  # scipy is optional and has no types
        """``T`` as a ``scipy.sparse.csr_array``, without gradient. Needs scipy and a dtype that scipy supports."""
        from scipy.sparse import csr_array  # noqa: PLC0415  # optional

        if self.dtype == torch.bfloat16:
            raise TypeError("weight has dtype torch.bfloat16, which NumPy and scipy do not have")
        csr = toeplitz_matrix(self.weight.detach().cpu(), *self._parameters(), layout=torch.sparse_csr)
        return csr_array(
            (csr.values().resolve_conj().numpy(), csr.col_indices().numpy(), csr.crow_indices().numpy()),
            shape=self.shape,
        )

    def __repr__(self) -> str:
        return f"ToeplitzOperator({self.shape[0]}x{self.shape[1]}, {self.dtype}, {self.geometry})"

    def _parameters(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...] | str, tuple[int, ...], int]:
        g = self.geometry
        return g.input_size, g.stride, g.padding, g.dilation, g.groups


class TransposedOperator:
    """The transpose of a :class:`ToeplitzOperator`: ``A.mT @ y`` for y of shape (rows of A,) or (rows of A, k)."""

    def __init__(self, operator: ToeplitzOperator) -> None:
        self._operator = operator

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self._operator.shape
        return columns, rows

    @property
    def mT(self) -> ToeplitzOperator:  # noqa: N802  # torch's name
        """The original operator."""
        return self._operator

    def __matmul__(self, y: torch.Tensor) -> torch.Tensor:
        _check_operand("y", y, self._operator, self.shape[1])
        g = self._operator.geometry
        x = adjoint(g, self._operator.weight, _as_batch(y, g.out_channels, g.positions))
        return _from_batch(x.to(self._operator.dtype), y)


def conv2d(
    input: torch.Tensor,  # noqa: A002  # the name that F.conv2d gives it
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    dilation: IntOrInts = 1,
    groups: int = 1,
) -> torch.Tensor:
    """2-D convolution by the rows of its matrix: a drop-in for :func:`torch.nn.functional.conv2d`.

    Parameters
    ----------
    input : tensor of shape (batch, in_channels, H, W) or (in_channels, H, W)
    weight : tensor of shape (out_channels, in_channels / groups, kH, kW)
    bias : tensor of shape (out_channels,), optional
    stride, padding, dilation, groups
        As for F.conv2d. ``padding`` may be ``"same"`` (needs stride 1) or ``"valid"``.

    Returns
    -------
    tensor of shape (batch, out_channels, oH, oW) or (out_channels, oH, oW)
        Contiguous, on the weight's device, differentiable twice in every tensor argument. float16 and bfloat16 are
        accumulated in float32, bias included, and rounded once. Integers wrap around.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid. The message names the parameter, its value and the broken rule.
    MemoryError
        If the result would not fit in memory; raised before anything is allocated.

    Examples
    --------
    >>> conv2d(torch.arange(4.0).view(1, 2, 2), torch.ones(1, 1, 2, 2), torch.tensor([0.5]))
    tensor([[[6.5000]]])
    """
    check_tensor("input", input)
    check_tensor("weight", weight)
    if weight.ndim != 4:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}, but must be 4-D: (out_channels, in_channels / groups, kH, kW)"
        )
    if input.ndim not in (3, 4):
        raise ValueError(f"input has shape {tuple(input.shape)}, but must be 4-D, or 3-D without a batch")
    geometry = ConvGeometry.from_weight(weight.shape, tuple(input.shape[-2:]), stride, padding, dilation, groups)
    if input.shape[-3] != geometry.in_channels:
        raise ValueError(
            f"input has {input.shape[-3]} channels, but weight of shape {tuple(weight.shape)} with groups={groups} "
            f"needs {geometry.in_channels}"
        )
    if input.numel() == 0 and geometry.pixels == 0 and geometry.in_channels and (input.ndim == 3 or len(input)):
        raise ValueError(f"input has shape {tuple(input.shape)}, but only the batch and the channels may be empty")
    if bias is not None:
        check_tensor("bias", bias)
        if bias.shape != (geometry.out_channels,):
            raise ValueError(
                f"bias has shape {tuple(bias.shape)}, but must be (out_channels,) = ({geometry.out_channels},)"
            )
    for name, operand in (("input", input), ("bias", bias)):
        if operand is not None and operand.dtype != weight.dtype:
            raise TypeError(f"{name} has dtype {operand.dtype}, but must have weight's dtype, {weight.dtype}")
        if operand is not None and operand.device != weight.device:
            raise ValueError(f"{name} is on device {operand.device}, but must be on weight's device, {weight.device}")
    _check_result(geometry, len(input) if input.ndim == 4 else 1, weight)
    y = forward(geometry, weight, by_image(geometry, input))
    if bias is not None:
        y = y + bias.to(y.dtype)[:, None]
    return y.to(weight.dtype).view(*input.shape[:-3], geometry.out_channels, *geometry.output_size)


def by_image(geometry: ConvGeometry, x: torch.Tensor) -> torch.Tensor:
    """An input as (batch, in_channels, pixels); it may be unbatched or empty."""
    return (x if x.ndim == geometry.rank + 2 else x[None]).flatten(2)


def forward(geometry: ConvGeometry, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """``T @ x`` in the accumulator's dtype: (batch, in_channels, pixels) to (batch, out_channels, positions)."""
    return joined([product(w, pixels) for w, pixels in factors(geometry, weight, x)])


def factors(
    geometry: ConvGeometry, weight: torch.Tensor, x: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The weights and the pixels whose products ``T @ x`` sums, in blocks of output positions.

    Each block is (groups, out_channels / groups, in_channels / groups, taps) and (batch, groups, in_channels / groups,
    taps, positions), in the accumulator's dtype. A tap in the padding reads a zero.
    """
    w = _by_group(geometry, weight)
    x = _with_zero(geometry, _accumulable(x).unflatten(1, (geometry.groups, geometry.group_channels)))
    for index in _receptive_fields(geometry, x):
        yield w, _gathered(x, index)


def joined(blocks: Sequence[torch.Tensor]) -> torch.Tensor:
    """Blocks (batch, groups, out_channels / groups, positions) as (batch, out_channels, all positions)."""
    result: torch.Tensor = blocks[0].contiguous() if len(blocks) == 1 else torch.cat(list(blocks), dim=-1)
    return result.flatten(1, 2)


def adjoint(geometry: ConvGeometry, weight: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``T.mT @ y`` in the accumulator's dtype: (batch, out_channels, positions) to (batch, in_channels, pixels)."""
    w = _by_group(geometry, weight)
    y = _accumulable(y).unflatten(1, (geometry.groups, geometry.out_channels // geometry.groups))
    x = y.new_zeros(len(y), geometry.groups, geometry.group_channels, geometry.pixels + _is_padded(geometry))
    begin = 0
    for index in _receptive_fields(geometry, x):
        block = y[..., begin : begin + index.shape[1]]
        begin += index.shape[1]
        x = x.index_add(-1, index.flatten(), contract("gock,ngop->ngckp", w, block).flatten(-2))
    return x[..., : geometry.pixels].flatten(1, 2)


def weight_adjoint(geometry: ConvGeometry, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The gradient of ``y . (T @ x)`` in the weight, in the accumulator's dtype.

    Parameters
    ----------
    x : tensor of shape (batch, in_channels, pixels)
    y : tensor of shape (batch, out_channels, positions)

    Returns
    -------
    tensor of shape (out_channels, in_channels / groups, *kernel_size)
    """
    x = _with_zero(geometry, _accumulable(x).unflatten(1, (geometry.groups, geometry.group_channels)))
    outputs = geometry.out_channels // geometry.groups
    y = _accumulable(y).unflatten(1, (geometry.groups, outputs))
    taps = math.prod(geometry.kernel_size)
    weight = x.new_zeros(geometry.groups, outputs, geometry.group_channels, taps)
    begin = 0
    for index in _receptive_fields(geometry, x):
        block = y[..., begin : begin + index.shape[1]]
        begin += index.shape[1]
        if len(index):  # without pixels, no tap reads anything
            weight = weight + contract("ngop,ngckp->gock", block, _gathered(x, index))
    return weight.view(geometry.weight_shape)


def _is_padded(geometry: ConvGeometry) -> bool:
    """Whether there is padding that a tap may read."""
    return geometry.pixels > 0 and any(before or after for before, after in geometry.pads)


def _with_zero(geometry: ConvGeometry, x: torch.Tensor) -> torch.Tensor:
    """Add a zero after the pixels, where there is padding: every tap in the padding reads this zero."""
    return torch.cat((x, x.new_zeros(*x.shape[:-1], 1)), dim=-1) if _is_padded(geometry) else x


def _gathered(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The pixels that taps read: (batch, groups, channels, pixels) to (batch, groups, channels, taps, positions)."""
    # Several times as fast on the last axis as index_select.
    pixels: torch.Tensor = torch.gather(x, -1, index.flatten().expand(*x.shape[:-1], -1)).unflatten(-1, index.shape)
    return pixels


def product(w: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """The sums of products of a block of ``factors``: (batch, groups, out_channels / groups, positions)."""
    if pixels.device.type == "cpu" and (len(pixels) == 1 or w.shape[1] <= pixels.shape[-1]):
        # A matrix product repeats the weight for each image, where einsum would copy the pixels.
        return w.flatten(2) @ pixels.flatten(2, 3)
    return contract("gock,ngckp->ngop", w, pixels)


def receptive_field(geometry: ConvGeometry, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The pixel that each tap reads at these output positions, and whether it is a pixel rather than padding.

    Parameters
    ----------
    positions : int64 tensor of shape (p,)
        Row-major indices into ``output_size``.

    Returns
    -------
    index : int64 tensor of shape (p, taps per channel)
        Row-major indices into ``input_size``; 0 where the tap reads padding.
    live : bool tensor of the same shape
        False where the tap reads padding.
    """
    index = torch.zeros(len(positions), 1, dtype=torch.int64, device=positions.device)
    live = torch.ones_like(index, dtype=torch.bool)
    for axis, output in enumerate(unravel(positions, geometry.output_size)):
        size = geometry.input_size[axis]
        start = output * geometry.stride[axis] - geometry.pads[axis][0]
        taps = torch.arange(geometry.kernel_size[axis], device=positions.device) * geometry.dilation[axis]
        pixel = start[:, None] + taps
        index = (index[:, :, None] * size + pixel[:, None, :]).flatten(1)
        live = (live[:, :, None] & ((pixel >= 0) & (pixel < size))[:, None, :]).flatten(1)
    return torch.where(live, index, 0), live


def _receptive_fields(geometry: ConvGeometry, x: torch.Tensor) -> Iterator[torch.Tensor]:
    """The pixel that each tap reads at all positions, in blocks of positions: int64 of shape (taps, positions).

    It is ``geometry.pixels``, the place of a zero, where the tap reads padding. There are no taps if there are no
    pixels. The pixels gathered from ``x`` take at most as many bytes as a block.
    """
    taps = math.prod(geometry.kernel_size)
    per_position = math.prod(x.shape[:-1]) * x.dtype.itemsize + torch.int64.itemsize
    size = _BLOCK_BYTES if x.device.type == "cpu" else _BLOCK_BYTES_OF_GPU
    block = max(1, size // (per_position * taps))
    read = slice(None if geometry.pixels else 0)  # nothing to gather from: every tap is padding
    is_small = geometry.positions * taps <= _KEPT_TAPS
    if is_small and x.device.type == "cpu" and not torch.compiler.is_compiling():  # torch.compile warns of caches
        fields = torch.from_numpy(_kept_receptive_fields(geometry))[read]
        yield from (fields,) if block >= geometry.positions else fields.split(block, dim=1)
        return
    for positions in torch.arange(geometry.positions, device=x.device).split(block):
        index, live = receptive_field(geometry, positions)
        yield torch.where(live, index, geometry.pixels).mT[read]


@functools.lru_cache(_KEPT_GEOMETRIES)
def _kept_receptive_fields(geometry: ConvGeometry) -> _Array:
    """``_receptive_fields`` as one array, because a tensor keeps the mode that it was made in."""
    index, live = np.zeros((1, 1), dtype=np.int64), np.ones((1, 1), dtype=np.bool_)
    for axis, size in enumerate(geometry.input_size):
        start = np.arange(geometry.output_size[axis]) * geometry.stride[axis] - geometry.pads[axis][0]
        pixel = np.arange(geometry.kernel_size[axis])[:, None] * geometry.dilation[axis] + start
        shape = (len(index) * len(pixel), index.shape[1] * pixel.shape[1])
        index = (index[:, None, :, None] * size + pixel[None, :, None, :]).reshape(shape)
        live = (live[:, None, :, None] & ((pixel >= 0) & (pixel < size))[None, :, None, :]).reshape(shape)
    return np.where(live, index, geometry.pixels)


def _by_group(geometry: ConvGeometry, weight: torch.Tensor) -> torch.Tensor:
    """The weight as (groups, out_channels / groups, in_channels / groups, taps), accumulable; no taps if no pixels."""
    taps = math.prod(geometry.kernel_size) if geometry.pixels else 0
    outputs = geometry.out_channels // geometry.groups
    w = _accumulable(weight).flatten(2)[..., :taps]
    return w.reshape(geometry.groups, outputs, geometry.group_channels, taps)


def _accumulable(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _as_batch(x: torch.Tensor, channels: int, pixels: int) -> torch.Tensor:
    batch: torch.Tensor = (x[:, None] if x.ndim == 1 else x).mT.unflatten(1, (channels, pixels))
    return batch


def _from_batch(y: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    columns = y.flatten(1).mT
    return columns[:, 0] if like.ndim == 1 else columns


def _check_result(geometry: ConvGeometry, batch: int, weight: torch.Tensor) -> None:
    # The convolution also lists all positions in int64.
    nbytes = batch * geometry.matrix_shape[0] * weight.dtype.itemsize + geometry.positions * torch.int64.itemsize
    if nbytes > _SMALL_BYTES and nbytes > (free := available_bytes(weight.device)):
        raise MemoryError(
            f"padding={geometry.padding} makes an output of {geometry.output_size} pixels per channel, which takes "
            f"{nbytes} bytes, but only {free} are free"
        )


def _check_operand(name: str, x: torch.Tensor, operator: ToeplitzOperator, length: int) -> None:
    check_tensor(name, x)
    if x.ndim not in (1, 2) or x.shape[0] != length:
        raise ValueError(f"{name} has shape {tuple(x.shape)}, but must be ({length},) or ({length}, k)")
    if x.dtype != operator.dtype:
        raise TypeError(f"{name} has dtype {x.dtype}, but must have weight's dtype, {operator.dtype}")
    if x.device != operator.device:
        raise ValueError(f"{name} is on device {x.device}, but must be on weight's device, {operator.device}")
