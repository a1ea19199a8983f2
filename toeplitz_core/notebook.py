"""The four functions of the notebook that this project began as. Their columns run over the *padded* input."""

from __future__ import annotations

import torch

from toeplitz_core.geometry import ConvGeometry, IntOrInts, as_int
from toeplitz_core.matrix import check_tensor, toeplitz_matrix


def toeplitz_perfilter(row: torch.Tensor, N: int, K: int, stride: int, *, dilation: int = 1) -> torch.Tensor:  # noqa: N803  # the notebook's names
    """The Toeplitz matrix of one row of a kernel, sliding along one row of the (padded) input.

    Parameters
    ----------
    row : tensor of shape (K,)
        One row of the kernel.
    N : int
        Length of the padded input row.
    K : int
        Length of ``row``.
    stride, dilation : int
        Distance in pixels between outputs, and between taps.

    Returns
    -------
    tensor of shape (O, N), dtype and device of ``row``
        ``O = (N - dilation * (K - 1) - 1) // stride + 1``.

    Examples
    --------
    >>> toeplitz_perfilter(torch.tensor([1, 2]), N=4, K=2, stride=2)
    tensor([[1, 2, 0, 0],
            [0, 0, 1, 2]])
    """
    check_tensor("row", row)
    as_int("N", N, minimum=1)
    if row.shape != (K,):
        raise ValueError(f"row has shape {tuple(row.shape)}, but must be (K,) with K={K}")
    return toeplitz_matrix(row[None, None], (N,), stride, dilation=(dilation,))


def toeplitz_perchannel(
    kernel: torch.Tensor, input_size: IntOrInts, stride: IntOrInts = 1, *, dilation: IntOrInts = 1
) -> torch.Tensor:
    """The doubly blocked Toeplitz matrix of a kernel with one channel, for an input that is already padded.

    Parameters
    ----------
    kernel : tensor of shape (kH, kW)
    input_size : int or (H, W)
        Size of the padded input.
    stride, dilation : int or pair of int

    Returns
    -------
    tensor of shape (OH * OW, H * W), dtype and device of ``kernel``

    Examples
    --------
    >>> toeplitz_perchannel(torch.tensor([[1, 2]]), (2, 2))
    tensor([[1, 2, 0, 0],
            [0, 0, 1, 2]])
    """
    check_tensor("kernel", kernel)
    if kernel.ndim != 2:
        raise ValueError(f"kernel has shape {tuple(kernel.shape)}, but must be 2-D: (kH, kW)")
    return toeplitz_matrix(kernel[None, None], input_size, stride, dilation=dilation)


def toeplitz_multichannel(
    kernel: torch.Tensor,
    input_size: tuple[int, int, int],
    padding: IntOrInts = 0,
    stride: IntOrInts = 1,
    *,
    dilation: IntOrInts = 1,
) -> torch.Tensor:
    """One doubly blocked Toeplitz matrix per pair of an output and an input channel, for the padded input.

    Parameters
    ----------
    kernel : tensor of shape (out_ch, in_ch / groups, kH, kW)
        The number of groups follows from its second axis and ``input_size``.
    input_size : (in_ch, H, W)
        Size of the input, without padding.
    padding, stride, dilation : int or pair of int

    Returns
    -------
    tensor of shape (out_ch, in_ch / groups, OH * OW, Hp * Wp), dtype and device of ``kernel``
        ``(Hp, Wp)`` is the padded size. The second axis counts channels within the group.

    Examples
    --------
    >>> toeplitz_multichannel(torch.ones(16, 3, 2, 2), (3, 3, 3), padding=1, stride=2).shape
    torch.Size([16, 3, 4, 25])
    """
    check_tensor("kernel", kernel)
    if kernel.ndim != 4:
        raise ValueError(f"kernel has shape {tuple(kernel.shape)}, but must be 4-D: (out_ch, in_ch / groups, kH, kW)")
    if not isinstance(input_size, tuple | list) or len(input_size) != 3:
        raise ValueError(f"input_size={input_size} must be (in_ch, H, W)")
    in_channels, *size = input_size
    _groups(as_int("input_size[0]", in_channels, minimum=0), kernel)
    outputs, channels, *kernel_size = kernel.shape
    geometry = ConvGeometry(channels, outputs, tuple(size), tuple(kernel_size), stride, padding, dilation)
    # Every pair of channels becomes an output channel that reads one input channel: the rows of T are then the blocks.
    blocks = toeplitz_matrix(kernel.reshape(-1, 1, *kernel_size), geometry.padded_size, stride, dilation=dilation)
    return blocks.view(outputs, channels, geometry.positions, -1)


def toeplitz_multiply(
    W: torch.Tensor,  # noqa: N803  # the notebook's names
    B: torch.Tensor | None,  # noqa: N803
    X: torch.Tensor,  # noqa: N803
    output_dim: int | tuple[int, int],
) -> torch.Tensor:
    """Apply the matrices of :func:`toeplitz_multichannel` to an input: the convolution.

    Parameters
    ----------
    W : tensor of shape (out_ch, in_ch / groups, OH * OW, Hp * Wp)
    B : tensor of shape (out_ch,), or None
    X : tensor of shape (in_ch, Hp * Wp) or (batch, in_ch, Hp * Wp)
        The padded input, each channel flattened.
    output_dim : int or (OH, OW)

    Returns
    -------
    tensor of shape (out_ch, OH, OW) or (batch, out_ch, OH, OW)

    Examples
    --------
    >>> W = toeplitz_multichannel(torch.ones(1, 1, 2, 2), (1, 2, 2))
    >>> toeplitz_multiply(W, torch.tensor([0.5]), torch.arange(4.0)[None], 1)
    tensor([[[6.5000]]])
    """
    for name, operand in (("W", W), ("X", X), *((("B", B),) if B is not None else ())):
        check_tensor(name, operand)
        if operand.dtype != W.dtype:
            raise TypeError(f"{name} has dtype {operand.dtype}, but must have W's dtype, {W.dtype}")
    if W.ndim != 4:
        raise ValueError(f"W has shape {tuple(W.shape)}, but must be 4-D: (out_ch, in_ch / groups, OH * OW, Hp * Wp)")
    if X.ndim not in (2, 3):
        raise ValueError(f"X has shape {tuple(X.shape)}, but must be (in_ch, Hp * Wp) or (batch, in_ch, Hp * Wp)")
    pair = output_dim if isinstance(output_dim, tuple | list) else (output_dim, output_dim)
    size = tuple(as_int(f"output_dim[{i}]", n, minimum=1) for i, n in enumerate(pair))
    if len(size) != 2 or size[0] * size[1] != W.shape[2]:
        raise ValueError(f"output_dim={output_dim} must multiply to the rows per channel of W, {W.shape[2]}")
    if X.shape[-1] != W.shape[3]:
        raise ValueError(f"X has {X.shape[-1]} pixels per channel, but W has {W.shape[3]} columns")
    groups = _groups(X.shape[-2], W)
    Y = torch.einsum("gocpi,...gci->...gop", W.unflatten(0, (groups, -1)), X.unflatten(-2, (groups, -1)))
    Y = Y.flatten(-3, -2)
    if B is not None:
        if B.shape != W.shape[:1]:
            raise ValueError(f"B has shape {tuple(B.shape)}, but must be (out_ch,) = ({W.shape[0]},)")
        Y = Y + B[:, None]
    result: torch.Tensor = Y.unflatten(-1, size)
    return result


def _groups(in_channels: int, kernel: torch.Tensor) -> int:
    """The number of groups that ``(out_ch, in_ch / groups, ...)`` implies."""
    outputs, channels = kernel.shape[:2]
    groups, rest = divmod(in_channels, channels) if channels else (1, in_channels)
    if rest or groups < 1 or outputs % groups:
        raise ValueError(
            f"in_ch={in_channels} must be a multiple of the kernel's {channels} channels, and that multiple (the "
            f"groups) must divide out_ch={outputs}"
        )
    return groups
