"""The functions of the original notebook keep their signatures and meaning: columns run over the padded input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # torch's custom
from hypothesis import given

from tests.helpers.operands import DTYPES, distinct, integers, operands, parameters, seeds, small_geometries
from toeplitz_core import (
    ConvGeometry,
    toeplitz_matrix,
    toeplitz_multichannel,
    toeplitz_multiply,
    toeplitz_perchannel,
    toeplitz_perfilter,
)


def padded(x: torch.Tensor, padding: tuple[int, ...]) -> torch.Tensor:
    """The input in the form that the notebook's functions expect: padded, each channel flattened."""
    return F.pad(x, (padding[1], padding[1], padding[0], padding[0])).flatten(-2)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize(("N", "K"), [(7, 3), (5, 1), (6, 2)])
def test_perfilter_slides_a_row_along_a_row(N: int, K: int, stride: int, dilation: int) -> None:  # noqa: N803  # as there
    """Each row of ``toeplitz_perfilter`` has the kernel row's elements at one position of the input row."""
    row = distinct((K,))
    outputs = range(0, N - dilation * (K - 1), stride)
    expected = torch.zeros(len(outputs), N, dtype=torch.float64)
    for output, start in enumerate(outputs):
        for tap in range(K):
            expected[output, start + tap * dilation] = row[tap]
    assert torch.equal(toeplitz_perfilter(row, N, K, stride, dilation=dilation), expected)


@pytest.mark.parametrize(("N", "K"), [(7, 3), (5, 1), (4, 4)])
def test_perfilter_at_stride_one_is_the_toeplitz_matrix_of_scipy(N: int, K: int) -> None:  # noqa: N803  # as there
    """At stride 1 the matrix is ``scipy.linalg.toeplitz`` of the zero-padded row and its first column."""
    linalg = pytest.importorskip("scipy.linalg")
    row = integers((K,), seed=1)
    first_row = F.pad(row, (0, N - K)).numpy()
    first_column = F.pad(row[:1], (0, N - K)).numpy()
    assert torch.equal(toeplitz_perfilter(row, N, K, 1), torch.from_numpy(linalg.toeplitz(first_column, first_row)))


@given(g=small_geometries(), seed=seeds())
def test_perchannel_is_the_convolution_of_one_channel(g: ConvGeometry, seed: int) -> None:
    """``toeplitz_perchannel`` times the flattened padded image is the convolution, for any size and dilation."""
    kernel, image = integers(g.kernel_size, seed=seed), integers(g.padded_size, seed=seed + 1)
    T = toeplitz_perchannel(kernel, g.padded_size, g.stride, dilation=g.dilation)
    assert T.shape == (g.positions, image.numel())
    expected = F.conv2d(image[None, None], kernel[None, None], stride=g.stride, dilation=g.dilation)
    assert torch.equal(T @ image.flatten(), expected.flatten())


def test_perchannel_is_made_of_perfilter_blocks() -> None:
    """Block ``(oh, h)`` is ``toeplitz_perfilter`` of the kernel's row ``h - oh``, or zero if there is no such row."""
    kernel = distinct((2, 3))
    blocks = toeplitz_perchannel(kernel, (4, 5)).view(3, 3, 4, 5)
    for oh in range(3):
        for h in range(4):
            rows = toeplitz_perfilter(kernel[h - oh], 5, 3, 1) if h - oh in (0, 1) else torch.zeros(3, 5)
            assert torch.equal(blocks[oh, :, h], rows.to(kernel.dtype))


@given(g=small_geometries(), seed=seeds())
def test_multichannel_times_the_padded_input_is_the_convolution(g: ConvGeometry, seed: int) -> None:
    """``toeplitz_multiply`` by ``toeplitz_multichannel`` is torch's convolution, with groups, dilation and batch."""
    x, weight, bias = operands(g, seed=seed)
    assert isinstance(g.padding, tuple)
    W = toeplitz_multichannel(weight, (g.in_channels, *g.input_size), g.padding, g.stride, dilation=g.dilation)
    X = padded(x, g.padding)
    assert W.shape == (g.out_channels, g.in_channels // g.groups, g.positions, X.shape[-1])
    expected = F.conv2d(x, weight, bias, **parameters(g))
    assert torch.equal(toeplitz_multiply(W, bias, X, g.output_size), expected)
    assert torch.equal(toeplitz_multiply(W, bias, X[0], g.output_size), expected[0])
    assert torch.equal(toeplitz_multiply(W, None, X[:0], g.output_size), expected[:0])


def test_multichannel_is_made_of_perchannel_blocks() -> None:
    """The block of a pair of channels is ``toeplitz_perchannel`` of their kernel over the padded size."""
    kernel = distinct((3, 2, 2, 3))
    W = toeplitz_multichannel(kernel, (2, 4, 3), (1, 2), (2, 1), dilation=(1, 2))
    for output in range(3):
        for channel in range(2):
            block = toeplitz_perchannel(kernel[output, channel], (6, 7), (2, 1), dilation=(1, 2))
            assert torch.equal(W[output, channel], block)


def test_without_padding_the_blocks_make_up_the_matrix() -> None:
    """With padding 0, the blocks together form ``toeplitz_matrix``, which then has the same columns."""
    kernel = distinct((3, 2, 2, 3))
    W = toeplitz_multichannel(kernel, (2, 4, 5))
    assert torch.equal(W.transpose(1, 2).flatten(2).flatten(0, 1), toeplitz_matrix(kernel, (4, 5)))


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "stride", "padding", "output_dim"), [(3, 16, 2, 1, 2), (1, 1, 1, 0, 2)]
)
def test_demonstrations_of_the_notebook_silently_give_the_convolution(
    in_channels: int,
    out_channels: int,
    stride: int,
    padding: int,
    output_dim: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The notebook's two examples (3x3 input, 2x2 kernel) give torch's convolution and print nothing."""
    x, kernel = integers((in_channels, 3, 3), seed=2), integers((out_channels, in_channels, 2, 2), seed=3)
    bias = distinct((out_channels,))
    W = toeplitz_multichannel(kernel, (in_channels, 3, 3), padding, stride)
    y = toeplitz_multiply(W, bias, padded(x, (padding, padding)), output_dim)
    assert torch.equal(y, F.conv2d(x, kernel, bias, stride, padding))
    assert y.shape == (out_channels, output_dim, output_dim)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_dtype_is_that_of_the_kernel(dtype: torch.dtype) -> None:
    """Matrices and products have the kernel's dtype and device."""
    kernel = integers((2, 1, 2, 2), dtype, seed=4, limit=1)
    W = toeplitz_multichannel(kernel, (1, 3, 3))
    results = [
        toeplitz_perfilter(kernel[0, 0, 0], 3, 2, 1),
        toeplitz_perchannel(kernel[0, 0], 3),
        W,
        toeplitz_multiply(W, torch.ones(2, dtype=dtype), torch.ones(1, 9, dtype=dtype), 2),
    ]
    assert {(result.dtype, result.device) for result in results} == {(dtype, kernel.device)}


def test_products_are_differentiable() -> None:
    """The product is differentiable in kernel, bias and input."""
    kernel, bias, x = (integers(shape, seed=5).requires_grad_() for shape in ((2, 1, 2, 2), (2,), (2, 9)))
    assert torch.autograd.gradcheck(
        lambda k, b, v: toeplitz_multiply(toeplitz_multichannel(k, (2, 3, 3)), b, v, (2, 2)), (kernel, bias, x)
    )


ONES = torch.ones


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: toeplitz_perfilter(ONES(2), 5, 3, 1), "row has shape (2,), but must be (K,) with K=3"),
        (lambda: toeplitz_perchannel(ONES(2), 5), "kernel has shape (2,), but must be 2-D: (kH, kW)"),
        (
            lambda: toeplitz_multichannel(ONES(2, 2), (1, 3, 3)),
            "kernel has shape (2, 2), but must be 4-D: (out_ch, in_ch / groups, kH, kW)",
        ),
        (lambda: toeplitz_multichannel(ONES(1, 1, 2, 2), (3, 3)), "input_size=(3, 3) must be (in_ch, H, W)"),  # type: ignore[arg-type]
        (lambda: toeplitz_multichannel(ONES(1, 1, 2, 2), 3), "input_size=3 must be (in_ch, H, W)"),  # type: ignore[arg-type]
        (lambda: toeplitz_multichannel(ONES(1, 1, 2, 2), (-1, 3, 3)), "input_size[0]=-1 must be >= 0"),
        (
            lambda: toeplitz_multichannel(ONES(2, 2, 2, 2), (3, 3, 3)),
            (
                "in_ch=3 must be a multiple of the kernel's 2 channels, and that multiple (the groups) "
                "must divide out_ch=2"
            ),
        ),
        (
            lambda: toeplitz_multichannel(ONES(2, 1, 2, 2), (3, 3, 3)),
            (
                "in_ch=3 must be a multiple of the kernel's 1 channels, and that multiple (the groups) "
                "must divide out_ch=2"
            ),
        ),
        (
            lambda: toeplitz_multichannel(ONES(2, 0, 2, 2), (3, 3, 3)),
            (
                "in_ch=3 must be a multiple of the kernel's 0 channels, and that multiple (the groups) "
                "must divide out_ch=2"
            ),
        ),
        (
            lambda: toeplitz_multiply(ONES(1, 4, 9), None, ONES(1, 9), 2),
            "W has shape (1, 4, 9), but must be 4-D: (out_ch, in_ch / groups, OH * OW, Hp * Wp)",
        ),
        (
            lambda: toeplitz_multiply(ONES(1, 1, 4, 9), None, ONES(9), 2),
            "X has shape (9,), but must be (in_ch, Hp * Wp) or (batch, in_ch, Hp * Wp)",
        ),
        (
            lambda: toeplitz_multiply(ONES(1, 1, 4, 9), None, ONES(1, 9), 3),
            "output_dim=3 must multiply to the rows per channel of W, 4",
        ),
        (
            lambda: toeplitz_multiply(ONES(1, 1, 4, 9), None, ONES(1, 9), (-2, -2)),
            "output_dim[0]=-2 must be >= 1",
        ),
        (
            lambda: toeplitz_multiply(ONES(1, 1, 4, 9), ONES(1).double(), ONES(1, 9), 2),
            "B has dtype torch.float64, but must have W's dtype, torch.float32",
        ),
        (
            lambda: toeplitz_multiply(ONES(1, 1, 4, 9), None, ONES(1, 8), 2),
            "X has 8 pixels per channel, but W has 9 columns",
        ),
        (
            lambda: toeplitz_multiply(ONES(1, 2, 4, 9), None, ONES(3, 9), 2),
            (
                "in_ch=3 must be a multiple of the kernel's 2 channels, and that multiple (the groups) "
                "must divide out_ch=1"
            ),
        ),
        (
            lambda: toeplitz_multiply(ONES(1, 1, 4, 9), ONES(2), ONES(1, 9), 2),
            "B has shape (2,), but must be (out_ch,) = (1,)",
        ),
    ],
)
def test_a_broken_rule_is_named_with_parameter_and_value(call: Callable[[], Any], message: str) -> None:
    """Each invalid argument is refused with a message that names the parameter, its value and the rule."""
    with pytest.raises((TypeError, ValueError)) as caught:  # the whole text is compared
        call()
    assert str(caught.value) == message
