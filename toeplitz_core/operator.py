"""The matrix of a convolution as a linear operator that is applied without being formed."""

from __future__ import annotations

from typing import Any

import torch

from toeplitz_core.geometry import ConvGeometry, IntOrInts, Padding
from toeplitz_core.matrix import check_tensor, toeplitz_matrix
from toeplitz_core.memory import available_bytes
from toeplitz_core.products import adjoint, by_image, forward

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
