"""``assert_conv2d``: right results pass, wrong ones fail with their element, wrong arguments are refused."""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from toeplitz_core.bound import FLOAT32, Arithmetic
from toeplitz_core.testing import assert_conv2d
from toeplitz_core.testing.case.dtypes import CASE_DTYPES, DTYPES, ROUNDED_DTYPES
from toeplitz_core.testing.laws import given_result

ARGUMENTS: tuple[Any, ...] = ((2, 1), (1, 0), (1, 2), 2)
# How torch computes on a CPU, beyond the strictest arithmetic: gradients of half precision store their partial sums.
HALF = {"float16": "float16-accumulator", "bfloat16": "bfloat16-accumulator"}


def operands(dtype: str, *, whole: bool, requires_grad: bool = False) -> list[torch.Tensor]:
    """Input, weight and bias."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for shape in ((2, 4, 9, 8), (6, 2, 3, 2), (6,)):
        if whole:
            values = torch.randint(-3, 4, shape, generator=generator)
        else:
            values = torch.randn(shape, generator=generator, dtype=torch.float64)
        if dtype.startswith("complex"):
            values = torch.complex(values.double(), values.roll(1, -1).double())
        found.append(values.to(DTYPES[dtype].torch).requires_grad_(requires_grad))
    return found


def message(*args: Any, **kwargs: Any) -> str:
    """The message of a failing assertion."""
    with pytest.raises(AssertionError) as failure:
        assert_conv2d(*args, **kwargs)
    return str(failure.value)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("dtype", CASE_DTYPES)
def test_a_right_result_passes_and_a_wrong_element_fails(dtype: str, whole: bool, device: str):
    """Each dtype: torch's result passes; with one element off by 1, that element is named."""
    given = [t.to(device) for t in operands(dtype, whole=whole or dtype == "int64")]
    if device == "cuda" and (dtype == "int64" or not whole):
        pytest.skip("cuDNN rounds in its own way, which a name may not describe")
    y = conv2d(*given, *ARGUMENTS)
    assert_conv2d(y, *given, *ARGUMENTS)
    y[1, 3, 2, 1] += 1
    said = message(y, *given, *ARGUMENTS)
    part = r"\.real" if y.is_complex() else ""
    assert re.match(rf"out\[1, 3, 2, 1\]{part}=\S+, but should be \S+", said), said
    assert f"(1 of {y.numel() * (1 + y.is_complex())} elements wrong)" in said
    assert ("times the bound" in said) == (not whole and dtype != "int64")
    assert "\n  conv2d: input=2x4x9x8 weight=6x2x3x2 stride=2x1 padding=1x0 dilation=1x2 groups=2 bias" in said
    assert said.splitlines()[-1].startswith("  judged: by ")


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("dtype", ROUNDED_DTYPES)
def test_gradients_are_judged(dtype: str, whole: bool):
    """Each dtype: torch's gradients pass; a wrong element of each is named, all of them in one message."""
    x, weight, bias = operands(dtype, whole=whole, requires_grad=True)
    y = conv2d(x, weight, bias, *ARGUMENTS)
    grad = (torch.arange(y.numel()).view(y.shape) % 5 - 2).to(y.dtype)
    if not whole:
        grad = grad / 3
    names = ("input", "weight", "bias")
    given = dict(zip(names, torch.autograd.grad(y, (x, weight, bias), grad), strict=True))
    more: dict[str, Any] = {"arithmetic": HALF.get(dtype)}
    assert_conv2d(y, x, weight, bias, *ARGUMENTS, gradients={"grad_output": grad, **given}, **more)
    wrong = {name: values.clone() for name, values in given.items()}
    wrong["input"][1, 2, 3, 4] += 64
    wrong["weight"][5, 1, 2, 1] *= 3
    said = message(y, x, weight, bias, *ARGUMENTS, gradients={"grad_output": grad, **wrong}, **more)
    lines = [line for line in said.splitlines() if not line.startswith("  where: ")]  # of both parts of a number
    assert lines[0].startswith("input gradient[1, 2, 3, 4")
    assert lines[1].startswith("weight gradient[5, 1, 2, 1")
    assert any(line.startswith("  conv2d: ") for line in lines)
    wrong = {"weight": given["weight"][:-1], "bias": None}
    said = message(y, x, weight, bias, *ARGUMENTS, gradients={"grad_output": grad, **wrong}, **more)
    assert "weight gradient has shape (5, 2, 3, 2) and dtype" in said
    assert "\nthe bias gradient is None: no gradient has reached the bias\n" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda y: y[:, :, 1:], "returned shape (2, 6, 4, 6), not (2, 6, 5, 6)"),
        (lambda y: y[0], "returned shape (6, 5, 6), not (2, 6, 5, 6)"),
        (lambda y: y.double(), "returned dtype torch.float64, not torch.float32"),
        (lambda y: y.index_fill(0, torch.tensor([1]), torch.nan), "out[1, 0, 0, 0]=nan, but should be "),
        (lambda y: y.float().index_fill(2, torch.tensor([4]), torch.inf), "out[0, 0, 4, 0]=inf, but should be "),
        (lambda y: y.roll(1, 3), "out["),
    ],
)
def test_what_is_wrong_is_said(change: Callable[[torch.Tensor], torch.Tensor], said: str):
    """A wrong shape or dtype, and values that are not finite, fail with a message of their own."""
    given = operands("float32", whole=False)
    assert message(change(conv2d(*given, *ARGUMENTS)), *given, *ARGUMENTS).startswith(said)


def test_operands_of_any_kind():
    """Unbatched inputs, other strides, graphs, padding by name, and no bias are taken as ``F.conv2d`` takes them."""
    x, weight, bias = operands("float32", whole=False, requires_grad=True)
    assert_conv2d(conv2d(x[0], weight, bias, *ARGUMENTS), x[0], weight, bias, *ARGUMENTS)
    last = x.detach().to(memory_format=torch.channels_last)
    odd = weight[..., :1]
    assert_conv2d(conv2d(last, odd, None, 1, "same", 1, 2), last, odd, padding="same", groups=2)
    turned = x.detach().flip(3)[..., ::2]
    assert_conv2d(conv2d(turned, weight, groups=2).mT.contiguous().mT, turned, weight, groups=2)
    assert_conv2d(conv2d(x, weight, groups=2).detach().to_sparse(), x, weight, groups=2)
    real, imag = operands("complex64", whole=False), operands("complex64", whole=True)
    assert_conv2d(conv2d(real[0].conj(), imag[1].conj(), groups=2), real[0].conj(), imag[1].conj(), groups=2)
    empty = x.detach()[:0]
    assert_conv2d(conv2d(empty, weight, groups=2), empty, weight, groups=2)


def test_arrays_of_numpy():
    """NumPy arrays are operands and results too, of any strides and byte order, and may be mixed with tensors."""
    x, weight, bias = operands("float32", whole=False)
    y = conv2d(x, weight, bias, *ARGUMENTS).numpy()
    assert_conv2d(y, x.numpy(), weight.numpy(), bias.numpy(), *ARGUMENTS)
    assert_conv2d(y.astype(">f4"), x.numpy()[::-1][::-1], weight, np.asfortranarray(bias.numpy()), *ARGUMENTS)
    y.flags.writeable = False
    assert_conv2d(y, x, weight, bias, *ARGUMENTS)
    wrong = y.copy()
    wrong[0, 1, 2, 3] = 100
    assert message(wrong, x.numpy(), weight, bias, *ARGUMENTS).startswith("out[0, 1, 2, 3]=100, but should be ")


def test_the_arithmetic_decides():
    """A result of rounded operands fails, and passes with the arithmetic of its name, or with an ``Arithmetic``."""
    x, weight, bias = operands("float32", whole=False)
    y = conv2d(x.bfloat16().float(), weight.bfloat16().float(), bias, *ARGUMENTS)
    assert "times the bound" in message(y, x, weight, bias, *ARGUMENTS)
    for arithmetic in ("bfloat16-operands", Arithmetic(FLOAT32, FLOAT32, input_rounding=2**-8)):
        assert_conv2d(y, x, weight, bias, *ARGUMENTS, arithmetic=arithmetic)
    said = message(y + 1, x, weight, bias, *ARGUMENTS, arithmetic="bfloat16-operands")
    assert said.endswith("\n  judged: by sums in float32; operands rounded by up to 0.0039")


def test_whole_numbers_are_exact_only_if_their_sums_are():
    """Whole numbers are compared with ``==``, but not if a sum of magnitudes exceeds what the accumulator holds."""
    x, weight = torch.full((1, 2, 1, 1), 4095.0), torch.full((1, 2, 1, 1), 2047.0)
    y = conv2d(x, weight)
    assert "times the bound" not in message(y + 2, x, weight)
    x = torch.full((1, 4, 1, 1), 2.0**24 - 1)
    weight = torch.tensor([1.0, 1.0, 1.0, -1.0]).view(1, 4, 1, 1)
    assert_conv2d(conv2d(x, weight), x, weight)
    assert "times the bound" in message(conv2d(x, weight) + 64, x, weight)
    # A sum that fits in the accumulator is rounded once in half precision.
    x, weight = torch.full((1, 3, 1, 1), 101.0).bfloat16(), torch.full((1, 3, 1, 1), 11.0).bfloat16()
    right = (x.double() * weight.double()).sum().bfloat16().view(1, 1, 1, 1)
    assert_conv2d(right, x, weight)
    assert "times the bound" not in message(right + 16, x, weight)
    # It is not exact if sums are kept in half precision.
    x, weight = torch.tensor([907.0, 909, 913, 915]).half().view(1, 4, 1, 1), torch.full((1, 4, 1, 1), 11.0).half()
    products = (x * weight)[0]
    narrow = (products[0] + products[1] + products[2] + products[3]).view(1, 1, 1, 1)
    assert "times the bound" not in message(narrow, x, weight)
    assert_conv2d(narrow, x, weight, arithmetic="float16-accumulator")


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_special_values_are_judged(dtype: str, whole: bool, monkeypatch: pytest.MonkeyPatch):
    """NaN and infinities reach the results that depend on them, and no other, whether all or only some are judged."""
    x, weight, bias = operands(dtype, whole=whole)
    x[0, 0, 4, 4], x[1, 3, 0, 7], bias[4] = torch.nan, -torch.inf, torch.inf
    y = conv2d(x, weight, bias, *ARGUMENTS)
    assert not y.isfinite().all()
    for _ in range(2):
        assert_conv2d(y, x, weight, bias, *ARGUMENTS)
        clean = torch.where(y.isfinite(), y, 0)
        assert re.search(r"\]=0, but should be (nan|-?inf)", message(clean, x, weight, bias, *ARGUMENTS))
        wrong = y.clone()
        wrong[0, 0, 0, 0] = torch.nan
        assert re.match(r"out\[0, 0, 0, 0\]=nan, but should be -?\d", message(wrong, x, weight, bias, *ARGUMENTS))
        wrong[0, 0, 0, 0] = y[0, 0, 0, 0] + 1
        assert message(wrong, x, weight, bias, *ARGUMENTS).startswith("out[0, 0, 0, 0]=")
        # The second time, not all elements are judged.
        monkeypatch.setattr(given_result, "MOST_PRODUCTS", 0)
        monkeypatch.setattr(given_result, "CHOSEN", 300)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("dtype", ROUNDED_DTYPES)
def test_chosen_elements_are_judged_like_all(dtype: str, whole: bool, monkeypatch: pytest.MonkeyPatch):
    """If only some elements are judged, right results and gradients pass, and a message has the whole index."""
    x, weight, bias = operands(dtype, whole=whole, requires_grad=True)
    y = conv2d(x, weight, bias, *ARGUMENTS)
    grad = torch.ones_like(y) if whole else y.detach().cos() if not y.is_complex() else y.detach()
    names = ("input", "weight", "bias")
    given = dict(zip(names, torch.autograd.grad(y, (x, weight, bias), grad), strict=True))
    more: dict[str, Any] = {"arithmetic": HALF.get(dtype)}
    monkeypatch.setattr(given_result, "MOST_PRODUCTS", 0)
    for count in (16, 10**6):
        monkeypatch.setattr(given_result, "CHOSEN", count)
        assert_conv2d(y, x, weight, bias, *ARGUMENTS, gradients={"grad_output": grad, **given}, **more)
    monkeypatch.setattr(given_result, "CHOSEN", 16)
    y = y.detach().clone()
    y[1, 5, 4, 5] += 9  # the last element
    wrong = given | {"weight": given["weight"].clone()}
    wrong["weight"][5, 1, 2, 1] *= 3
    said = message(y, x, weight, bias, *ARGUMENTS, gradients={"grad_output": grad, **wrong}, **more).splitlines()
    assert said[0].startswith("out[1, 5, 4, 5")
    assert said[0].endswith("; judged in 16 of 360 elements")
    assert said[1].startswith("weight gradient[5, 1, 2, 1")
    assert said[1].endswith("; judged in 16 of 72 elements")
    said = message(
        y, x, weight, bias, *ARGUMENTS, gradients={"grad_output": grad, "weight": given["weight"].mT}, **more
    )
    assert "weight gradient has shape (6, 2, 2, 3)" in said


def test_a_large_layer_takes_seconds():
    """A layer of 8 images of 224 x 224 pixels is judged within seconds, with less memory than its tensors take."""
    x, weight = torch.randn(8, 64, 224, 224), torch.randn(64, 64, 3, 3)
    y = conv2d(x, weight, padding=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.monotonic()
    assert_conv2d(y, x, weight, padding=1)
    assert time.monotonic() - begin < 20
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < x.nbytes + y.nbytes
    y[:, 40] *= 1.001
    said = message(y, x, weight, padding=1)
    assert re.match(r"out\[\d, 40, \d+, \d+\]=", said)
    assert "; judged in 512 of 25690112 elements\n" in said
    assert message(y, x, weight, padding=1) == said


X, W, Y = torch.zeros(1, 2, 4, 4), torch.zeros(3, 2, 3, 3), torch.zeros(1, 3, 2, 2)


@pytest.mark.parametrize(
    ("args", "more", "error", "said"),
    [
        (([1.0], X, W), {}, TypeError, "actual=[1.0] must be a torch.Tensor or a NumPy array"),
        ((None, X, W), {}, TypeError, "actual=None must be a torch.Tensor or a NumPy array"),
        ((Y, X.to("meta"), W), {}, ValueError, "input is on device meta, which has no values"),
        ((Y, np.array(["a"]), W), {}, TypeError, "input has dtype <U1, which torch does not have"),
        ((Y, X.int(), W.int()), {}, ValueError, "input has dtype torch.int32, but must have one of float64, "),
        (
            (Y, X, W.double()),
            {},
            ValueError,
            "weight has dtype torch.float64, but must have that of the input, tor",
        ),
        (
            (Y, X, W, W[:, 0, 0, 0].half()),
            {},
            ValueError,
            "bias has dtype torch.float16, but must have that of the in",
        ),
        ((Y, X, W[0]), {}, ValueError, "weight has shape (2, 3, 3), but must have 4 axes: (out_channels, "),
        ((Y, X[:, :1], W), {}, ValueError, "input=1x1x4x4 has 1 channels, but weight=3x2x3x3 with groups=1 needs 2"),
        ((Y, X[0, 0], W), {}, ValueError, "input=4x4 must have as many axes as weight=3x2x3x3, or one fewer"),
        ((Y, X, W, W[:2, 0, 0, 0]), {}, ValueError, "bias has shape (2,), but must have (3,): one number per channel"),
        ((Y, X, W), {"stride": 0}, ValueError, "stride=0 must be >= 1"),
        ((Y, X, W), {"padding": "some"}, ValueError, "padding='some'"),
        ((Y, X, W), {"groups": 2}, ValueError, "groups=2"),
        ((Y, X, W), {"arithmetic": "tf23"}, ValueError, "arithmetic='tf23' is unknown; did you mean 'tf32'?"),
        ((Y, X, W), {"arithmetic": "bfloat16-accumulator"}, ValueError, "is for bfloat16, not for float32"),
        ((Y, X, W), {"arithmetic": 1e-3}, TypeError, "arithmetic=0.001 must be a name, an Arithmetic or None"),
        ((Y, X, W), {"gradients": [Y]}, TypeError, "must be a mapping from names to tensors"),
        ((Y, X, W), {"gradients": {"grad_output": Y, "inputs": X}}, ValueError, "'inputs'; did you mean 'input'?"),
        ((Y, X, W), {"gradients": {"input": X}}, ValueError, "gradients=['input'] must have 'grad_output'"),
        ((Y, X, W), {"gradients": {"grad_output": Y}}, ValueError, "and a gradient to judge: input, weight and bias"),
        ((Y, X, W), {"gradients": {"grad_output": Y, "bias": Y}}, ValueError, "has the key 'bias', but bias=None"),
        (
            (Y, X, W),
            {"gradients": {"grad_output": Y[0], "input": X}},
            ValueError,
            "gradients['grad_output'] has shape (3, 2, 2), but must have that of the result, (1, 3, 2, 2)",
        ),
        ((Y, X, W), {"gradients": {"grad_output": Y.half(), "input": X}}, ValueError, "has dtype torch.float16, but"),
        ((Y, X, W), {"gradients": {"grad_output": Y / 0, "input": X}}, ValueError, "grad_output has NaN or infinities"),
        (
            (Y.long(), X.long(), W.long()),
            {"gradients": {"grad_output": Y, "input": X}},
            ValueError,
            "gradients: there are none of int64 operands",
        ),
        (
            (Y, X, W),
            {"gradients": {"grad_output": Y, "input": X}, "arithmetic": "winograd-2x2"},
            ValueError,
            "arithmetic='winograd-2x2': no error bound for input gradient is derived for ",
        ),
        ((Y.cfloat(), X.cfloat() / 0, W.cfloat()), {}, ValueError, "complex operands must be finite"),
    ],
)
def test_a_wrong_argument_is_refused(args: tuple[Any, ...], more: dict[str, Any], error: type[Exception], said: str):
    """Wrong arguments raise an error that names the parameter, its value and the rule, and is no finding."""
    with pytest.raises(error, match=re.escape(said)):
        assert_conv2d(*args, **more)


@pytest.mark.parametrize("whole", [False, True])
def test_the_result_of_a_common_layer_names_its_cause(whole: bool):
    """A layer of 32 channels is small enough to be told from one result; so is a result of another shape."""
    generator = torch.Generator().manual_seed(0)
    x, w, b = (torch.randn(shape, generator=generator) for shape in ((1, 16, 12, 12), (32, 16, 3, 3), (32,)))
    if whole:
        x, w, b = (4 * t for t in (x, w, b))
        x, w, b = x.round(), w.round(), b.round()
    zeros = torch.nn.functional.pad(x, (3, 1, 3, 1))  # padding=2
    for wrong, cause, (stride, padding) in (
        (conv2d(x, w, b, (1, 2), 1), "stride-swapped", ((2, 1), 1)),
        (conv2d(zeros, w, b, 2), "padding-shifted", (2, 2)),
        (conv2d(x, w, b[torch.arange(32) % 8]), "bias-permuted", (1, 0)),
    ):
        with pytest.raises(AssertionError, match=rf"\n  cause:  {cause}"):
            assert_conv2d(wrong, x, w, b, stride, padding)


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_a_wrong_result_names_its_cause(scale: float):
    """If one mistake explains all numbers of a result, exact or rounded, the message names it."""
    x, w = torch.arange(96.0).view(1, 3, 4, 8) * scale, torch.arange(54.0).view(2, 3, 3, 3) * scale
    with pytest.raises(AssertionError, match=r"\n  cause:  kernel-flipped, which explains all 24 numbers"):
        assert_conv2d(conv2d(x, w.flip(2, 3)), x, w)
    with pytest.raises(AssertionError) as raised:
        assert_conv2d(torch.zeros(1, 2, 2, 6).index_fill(3, torch.tensor([3]), 1.0) + conv2d(x, w), x, w)
    assert "kernel" not in str(raised.value)
