"""``conv2d`` is a drop-in for torch's: it returns the same values and accepts the same arguments."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # torch's custom
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.operands import DTYPES, distinct, integers, operands, parameters, seeds, small_geometries
from toeplitz_core import ConvGeometry, conv2d, matrix, operator, products
from toeplitz_core.testing.strategies.geometries import geometries

GEOMETRIES = {
    "grouped": ConvGeometry(4, 2, (3, 2), (2, 1), stride=(2, 1), padding=(1, 0), groups=2),
    "dilated": ConvGeometry(2, 1, (3, 3), 2, padding=1, dilation=(1, 2)),
    "same": ConvGeometry(1, 2, (2, 3), 2, padding="same"),
    "strided beyond the kernel": ConvGeometry(1, 1, (4, 5), 1, stride=3),
}
DATA = (torch.float64, torch.complex128)


def by_torch(x: torch.Tensor, *others: torch.Tensor | None, **arguments: Any) -> torch.Tensor:
    """Torch's conv2d without its warning that ``padding="same"`` with an even kernel needs a copy.

    Whole numbers are convolved in float64 or complex128 and converted back, because a float16 convolution of torch ends
    the process on some processors.
    """
    wide = torch.complex128 if x.is_complex() else torch.float64
    widened = [None if tensor is None else tensor.to(wide) for tensor in (x, *others)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using padding='same' with even kernel lengths", UserWarning)
        return F.conv2d(*widened, **arguments).to(x.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@given(g=geometries(), batch=st.sampled_from([None, 0, 1, 2]), biased=st.booleans(), seed=seeds())
def test_conv2d_is_the_convolution(
    dtype: torch.dtype, g: ConvGeometry, batch: int | None, biased: bool, seed: int
) -> None:
    """On whole numbers the result is torch's, for any geometry and dtype, with or without a batch and a bias."""
    x, weight, b = operands(g, dtype, batch=1 if batch is None else batch, seed=seed)
    x = x[0] if batch is None else x
    bias = b if biased else None
    found = conv2d(x, weight, bias, **parameters(g))
    assert torch.equal(found, by_torch(x, weight, bias, **parameters(g)))
    assert (found.dtype, found.device) == (dtype, weight.device)
    assert found.is_contiguous()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"stride": 2, "padding": 1, "dilation": 2},
        {"stride": (2,), "padding": (1,), "dilation": (2,)},
        {"stride": [2, 1], "padding": [0, 1], "dilation": [1, 2]},
        {"stride": (1, 3), "padding": (2, 0), "dilation": (2, 1)},
        {"padding": "same"},
        {"padding": "same", "dilation": (2, 3)},
        {"padding": "valid", "stride": 2},
        {"groups": 2, "padding": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("kernel_size", [(3, 3), (2, 4), (1, 1)])
def test_arguments_have_every_form_that_torch_takes(arguments: dict[str, Any], kernel_size: tuple[int, int]) -> None:
    """Ints, tuples, lists, tuples of one entry and both strings have the same meaning as in torch."""
    groups = arguments.get("groups", 1)
    x, weight, bias = integers((2, 4, 9, 10), seed=1), integers((6, 4 // groups, *kernel_size), seed=2), distinct((6,))
    assert torch.equal(conv2d(x, weight, bias, **arguments), by_torch(x, weight, bias, **arguments))
    assert torch.equal(conv2d(x[0], weight, **arguments), by_torch(x[0], weight, **arguments))


CORNERS = {
    "depthwise with multiplier": ConvGeometry(3, 6, (5, 6), 3, padding=1, groups=3),
    "kernel larger than the input": ConvGeometry(2, 3, (2, 1), (5, 4), padding=(2, 2)),
    "padding beyond the kernel": ConvGeometry(2, 3, (3, 4), 2, padding=(5, 3)),
    "stride beyond the kernel": ConvGeometry(2, 3, (9, 11), (2, 1), stride=(4, 5)),
    "dilation beyond the input": ConvGeometry(1, 1, (2, 2), 2, padding=4, dilation=(3, 7)),
    "one output": ConvGeometry(3, 2, (4, 5), (4, 5)),
    "one pixel": ConvGeometry(1, 1, 1, 1),
    "even kernel, same": ConvGeometry(1, 1, (4, 5), (2, 4), padding="same", dilation=(3, 1)),
}


@pytest.mark.parametrize("g", CORNERS.values(), ids=CORNERS)
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_corners_are_the_convolution(g: ConvGeometry, batch: int) -> None:
    """The result is torch's if kernel, padding, stride or dilation are unusually large."""
    x, weight, bias = operands(g, batch=batch, seed=3)
    assert torch.equal(conv2d(x, weight, bias, **parameters(g)), by_torch(x, weight, bias, **parameters(g)))


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 3, 4), (0, 0, 3, 4)])
def test_zero_input_channels_give_the_bias(shape: tuple[int, ...]) -> None:
    """An empty sum is zero: without input channels the result is the bias everywhere (torch drops the bias)."""
    bias = distinct((4,))
    y = conv2d(torch.ones(shape, dtype=torch.float64), torch.ones(4, 0, 2, 2, dtype=torch.float64), bias, groups=2)
    assert torch.equal(y, bias[:, None, None].expand(*shape[:-3], 4, 2, 3))
    assert not conv2d(torch.ones(shape), torch.ones(4, 0, 2, 2)).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@given(g=small_geometries(), seed=seeds())
def test_half_precision_accumulates_in_float32_and_rounds_once(dtype: torch.dtype, g: ConvGeometry, seed: int) -> None:
    """The result is the exact sum, bias included, rounded once to the format."""
    # Whole numbers of the format whose products and sums are exact only in float32.
    x = integers((1, g.in_channels, *g.input_size), dtype, seed=seed, limit=200)
    weight = integers(g.weight_shape, dtype, seed=seed + 1, limit=100)
    bias = integers((g.out_channels,), dtype, seed=seed + 2, limit=200)
    exact = by_torch(x.double(), weight.double(), bias.double(), **parameters(g))
    assert torch.equal(conv2d(x, weight, bias, **parameters(g)), exact.to(dtype))


@pytest.mark.parametrize(("dtype", "full"), [(torch.float16, 2**11), (torch.bfloat16, 2**8)])
def test_the_bias_is_added_before_rounding(dtype: torch.dtype, full: int) -> None:
    """The bias is added before rounding: the format holds ``full + 1 + bias`` but not ``full + 1``."""
    x, ones = torch.tensor([full, 1], dtype=dtype).view(1, 1, 2), torch.ones(1, 1, 1, 2, dtype=dtype)
    assert conv2d(x, ones, torch.ones(1, dtype=dtype)).item() == full + 2


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8, torch.uint8])
def test_integers_wrap_around(dtype: torch.dtype) -> None:
    """Integer dtypes compute modulo the range of the dtype."""
    largest = torch.iinfo(dtype).max
    x = torch.full((1, 1, 1, 2), largest, dtype=dtype)
    y = conv2d(x, torch.ones(1, 1, 1, 2, dtype=dtype), torch.ones(1, dtype=dtype))
    assert y.dtype == dtype
    assert y.item() == torch.tensor(2 * largest + 1, dtype=torch.int64).to(dtype).item()


@given(g=small_geometries(), seed=seeds())
def test_gradients_are_those_of_torch(g: ConvGeometry, seed: int) -> None:
    """On whole numbers the gradients in input, weight and bias are torch's."""
    tensors = [tensor.requires_grad_() for tensor in operands(g, seed=seed)]
    found, expected = conv2d(*tensors, **parameters(g)), by_torch(*tensors, **parameters(g))
    cotangent = integers(tuple(found.shape), seed=seed + 4)
    for ours, theirs in zip(
        torch.autograd.grad(found, tensors, cotangent), torch.autograd.grad(expected, tensors, cotangent), strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("g", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize("dtype", DATA)
def test_conv2d_is_differentiable_twice(g: ConvGeometry, dtype: torch.dtype) -> None:
    """First and second derivatives in input, weight and bias are right."""
    tensors = tuple(tensor.requires_grad_() for tensor in operands(g, dtype, batch=1, seed=5))

    def convolution(*tensors: torch.Tensor) -> torch.Tensor:
        return conv2d(*tensors, **parameters(g))

    assert torch.autograd.gradcheck(convolution, tensors)
    assert torch.autograd.gradgradcheck(convolution, tensors)


@given(g=small_geometries(), seed=seeds())
def test_blocks_do_not_show(g: ConvGeometry, seed: int) -> None:
    """Outputs computed one by one equal outputs computed all at once."""
    x, weight, bias = operands(g, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_BLOCK_BYTES", 1)
        one_by_one = conv2d(x, weight, bias, **parameters(g))
    assert torch.equal(one_by_one, conv2d(x, weight, bias, **parameters(g)))


def test_operands_of_any_strides_give_the_same_result() -> None:
    """Transposed, expanded, sliced and channels-last operands give the result of their contiguous copies."""
    x, weight, bias = integers((4, 4, 6, 6), seed=6), integers((4, 4, 3, 3), seed=7), distinct((8,))[::2]
    expected = conv2d(x, weight, bias.contiguous())
    strided = [
        (x.transpose(0, 1).contiguous().transpose(0, 1), weight.mT.contiguous().mT),
        (x.to(memory_format=torch.channels_last), weight.to(memory_format=torch.channels_last)),
        (torch.stack((x, x), -1)[..., 0], torch.cat((weight, weight), 1)[:, :4]),
    ]
    for other_x, other_weight in strided:
        assert not other_x.is_contiguous()
        y = conv2d(other_x, other_weight, bias)
        assert torch.equal(y, expected)
        assert y.is_contiguous()
    wide, tall = x[:1, :1].expand(2, 4, -1, -1), weight[:1, :, :1].expand(4, -1, 2, -1)
    assert torch.equal(conv2d(wide, tall), conv2d(wide.contiguous(), tall.contiguous()))


def test_a_nan_stays_in_its_receptive_field() -> None:
    """A NaN in the input affects only the outputs whose window contains it."""
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 0, 0] = float("nan")
    y = conv2d(x, torch.ones(1, 1, 3, 3), padding=1)
    assert y[0, 0].isnan().nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_a_result_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large result that exceeds the free memory raises before it is computed; a small result is not checked."""
    monkeypatch.setattr(operator, "available_bytes", lambda device: {"cpu": 1000}[device.type])
    ones = torch.ones(1, 1, 1, 1)
    assert conv2d(ones, ones, padding=10).numel() == 441
    with pytest.raises(MemoryError) as caught:
        conv2d(ones, ones, padding=2**40)
    assert str(caught.value) == (
        f"padding={(2**40, 2**40)} makes an output of {(2**41 + 1, 2**41 + 1)} pixels per channel, which takes "
        f"{(2**41 + 1) ** 2 * 12} bytes, but only 1000 are free"
    )
    monkeypatch.setattr(operator, "available_bytes", lambda _: 2**40)
    assert conv2d(ones, ones, padding=1200).shape == (1, 1, 2401, 2401)


X, W, B = torch.ones(2, 4, 5, 6), torch.ones(6, 2, 3, 2), torch.ones(6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"input": [1.0]}, TypeError, "input must be a torch.Tensor, not list"),
        ({"weight": None}, TypeError, "weight must be a torch.Tensor, not NoneType"),
        ({"bias": 1.0}, TypeError, "bias must be a torch.Tensor, not float"),
        ({"input": X[0, 0]}, ValueError, "input has shape (5, 6), but must be 4-D, or 3-D without a batch"),
        ({"input": X[None]}, ValueError, "input has shape (1, 2, 4, 5, 6), but must be 4-D, or 3-D without a batch"),
        (
            {"weight": W[0]},
            ValueError,
            "weight has shape (2, 3, 2), but must be 4-D: (out_channels, in_channels / groups, kH, kW)",
        ),
        (
            {"input": X[:, :3]},
            ValueError,
            "input has 3 channels, but weight of shape (6, 2, 3, 2) with groups=2 needs 4",
        ),
        ({"groups": 4}, ValueError, "groups=4 must divide out_channels=6"),
        ({"groups": 0}, ValueError, "groups=0 must be >= 1"),
        ({"bias": B[:5]}, ValueError, "bias has shape (5,), but must be (out_channels,) = (6,)"),
        ({"bias": B[None]}, ValueError, "bias has shape (1, 6), but must be (out_channels,) = (6,)"),
        (
            {"input": X.double()},
            TypeError,
            "input has dtype torch.float64, but must have weight's dtype, torch.float32",
        ),
        ({"bias": B.half()}, TypeError, "bias has dtype torch.float16, but must have weight's dtype, torch.float32"),
        ({"input": X.to("meta")}, ValueError, "input is on device meta, but must be on weight's device, cpu"),
        ({"bias": B.to("meta")}, ValueError, "bias is on device meta, but must be on weight's device, cpu"),
        ({"input": X.to_sparse()}, TypeError, "input has layout torch.sparse_coo, but must have layout torch.strided"),
        (
            {"input": X.bool()},
            TypeError,
            "input has dtype torch.bool, but must have one of " + ", ".join(map(str, matrix.SUPPORTED_DTYPES)),
        ),
        ({"weight": W[:0]}, ValueError, "out_channels=0 must be >= 1"),
        ({"weight": W[..., :0]}, ValueError, "kernel_size[1]=0 must be >= 1"),
        ({"stride": (1, 0)}, ValueError, "stride[1]=0 must be >= 1"),
        (
            {"padding": "same", "stride": 2},
            ValueError,
            "padding='same' needs stride=1 on every axis, but stride=(2, 2)",
        ),
        (
            {"dilation": (1, 2, 3)},
            ValueError,
            "dilation=(1, 2, 3) must be an int or have 2 entries, one per axis, not 3",
        ),
        (
            {"dilation": (3, 1)},
            ValueError,
            (
                "kernel_size[0]=3 with dilation[0]=3 spans 7 pixels and must not be larger than the padded input, "
                "which has 5"
            ),
        ),
        (
            {"input": X[:, :, :0], "padding": 2},
            ValueError,
            "input has shape (2, 4, 0, 6), but only the batch and the channels may be empty",
        ),
        (
            {"input": X[0, :, :0], "padding": 2},
            ValueError,
            "input has shape (4, 0, 6), but only the batch and the channels may be empty",
        ),
    ],
)
def test_a_broken_rule_is_named_with_parameter_and_value(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Each invalid argument is refused with a message that names the parameter, its value and the rule."""
    valid = {"input": X, "weight": W, "bias": B, "groups": 2}
    conv2d(**valid)
    with pytest.raises(error) as caught:
        conv2d(**valid | change)
    assert type(caught.value) is error
    assert str(caught.value) == message
