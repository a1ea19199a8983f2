"""The registered subjects: what they support, and that they compute as they declare."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import torch

from toeplitz_core.bound import BFLOAT16, FLOAT32, Arithmetic
from toeplitz_core.operator import conv2d
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.families.forward import forward_verdict
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.oracle.algorithms import MatrixUnits, Winograd
from toeplitz_core.testing.oracle.arithmetics import BFLOAT16_ROUNDING, TF32_ROUNDING
from toeplitz_core.testing.run.execution.subject_pool import why_not_run
from toeplitz_core.testing.subjects import SUBJECTS, Subject, TorchSubject
from toeplitz_core.testing.subjects.libraries.naive import conv2d as by_loops

# Features that are easily forgotten: both named paddings with an odd zero, no batch axis, an empty batch, groups.
LINES = (
    "input=2x4x7x6 weight=6x2x3x2 stride=2x1 padding=1x2 dilation=2x1 groups=2 bias",
    "input=3x5x6 weight=4x3x2x4 padding=same bias",
    "input=1x2x9x9 weight=2x1x3x3 padding=valid dilation=4x3 groups=2",
    "input=0x2x3x3 weight=2x2x1x1 stride=4 padding=3 bias",
    "input=2x1x1x4 weight=3x1x2x3 padding=2x4 dilation=3x5 bias layout.input=permuted layout.bias=expanded",
)
# The dtypes for which a library has no convolution.
REFUSED = {"numpy": ("bfloat16",), "scipy": ("float16", "bfloat16")}


def subject(name: str) -> Subject:
    """The registered subject in this process."""
    return SUBJECTS[name].make()


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("dtype", CASE_DTYPES)
@pytest.mark.parametrize("name", ["naive", "numpy", "scipy"])
def test_plain_convolutions(name: str, dtype: str, line: str) -> None:
    """Every parameter works in every supported dtype; other dtypes are refused with a reason."""
    case = Case.parse(f"{line} dtype={dtype}")
    outcome = subject(name).run(case, draw(case))
    if dtype in REFUSED.get(name, ()):
        assert outcome.status == "unsupported"
        assert outcome.message.startswith("supports only ")
        assert dtype not in outcome.message.replace(",", "").split()
        return
    assert outcome.status == "returned", outcome.message
    operands = draw(case)
    wanted = conv2d(
        operands.input, operands.weight, operands.bias, case.stride, case.padding, case.dilation, case.groups
    )
    assert outcome.output is not None
    assert outcome.output.dtype == case.torch_dtype
    assert torch.equal(outcome.output, wanted)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, "float32") for name in ("naive", "numpy", "scipy")] + [("naive", "bfloat16"), ("numpy", "float16")],
)
def test_unread_pixels_are_not_read(name: str, dtype: str) -> None:
    """NaN in pixels between the taps of a dilated kernel, or between strides, does not reach the result."""
    case = Case.parse(f"input=1x1x1x9 weight=1x1x1x2 stride=1x4 dilation=1x4 dtype={dtype} data=nonfinite")
    x = torch.full(case.input, torch.nan, dtype=case.torch_dtype)
    x[..., ::4] = 1
    operands = Operands(x, torch.ones(case.weight, dtype=case.torch_dtype), None, 0.0)
    assert forward_verdict(subject(name), case, operands).status is Status.PASS
    assert subject(name).forward(case, operands).flatten().tolist() == [2.0, 2.0]


def test_loops_add_in_plain_order() -> None:
    """The loops start with the bias and add by channel, row and column; ``numpy.sum`` gives another result."""
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(shape, generator=generator) for shape in ((1, 5, 7, 9), (1, 5, 7, 9), (1,)))
    total = bias
    for product in (x * weight).flatten():
        total = total + product
    assert by_loops(x, weight, bias).item() == total.item()
    assert (x * weight).numpy().sum() + bias.item() != total.item()


def test_numpy_adds_float16_in_float32_and_its_bias_in_float16() -> None:
    """5000 ones add up to 5000, so sums are float32; 2049 is rounded to 2048 before a bias of 1 is added."""
    case = Case((1, 1, 1, 5000), (1, 1, 1, 5000), dtype="float16")
    ones = torch.ones(1, 1, 1, 5000).half()
    numpy = subject("numpy")
    assert numpy.forward(case, Operands(ones, ones, None, 0.0)).item() == 5000
    assert numpy.arithmetic(case) == Arithmetic.of_dtype(torch.float16)
    case = Case((1, 1, 1, 2049), (1, 1, 1, 2049), dtype="float16", bias=True)
    ones = ones[..., :2049]
    assert numpy.forward(case, Operands(ones, ones, ones[0, 0, 0, :1], 0.0)).item() == 2048
    assert numpy.arithmetic(case).bias_after_rounding


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (MemoryError(), "raised", "raised MemoryError"),
        (MemoryError("8 bytes"), "raised", "raised MemoryError: 8 bytes"),
        (NotImplementedError(), "unsupported", "NotImplementedError"),
        (NotImplementedError("some day"), "unsupported", "NotImplementedError: some day"),
    ],
    ids=repr,
)
def test_an_error_is_told_with_its_message_if_it_has_one(error: Exception, status: str, said: str) -> None:
    """An exception without a message is reported by its type alone, without a colon."""

    def raises(*_: Any) -> torch.Tensor:
        raise error

    case = Case.parse("input=1x1x1x1 weight=1x1x1x1")
    outcome = TorchSubject("raises", raises).run(case, draw(case))
    assert (outcome.status, outcome.message) == (status, said)


@pytest.mark.parametrize("name", ["torch-cuda", "torch-cuda-fp32"])
def test_gpu_subjects_are_for_the_gpu(name: str) -> None:
    """GPU subjects do not run on a CPU, or if torch sees no GPU."""
    assert why_not_run(subject(name), "cpu") == "computes on cuda, not on cpu"
    if not torch.cuda.is_available():
        assert why_not_run(subject(name), "cuda") == "torch sees no CUDA device"


def gpu_arithmetic(name: str, dtype: str, *, bias: bool = False) -> Arithmetic:
    """The arithmetic that a subject declares for a GPU, which needs no GPU."""
    return subject(name).arithmetic(Case((1, 1, 3, 3), (1, 1, 2, 2), dtype=dtype, device="cuda", bias=bias))


def test_float32_on_a_gpu_is_rounded_to_tf32_or_not() -> None:
    """By default operands are rounded to TF32 for matrix units; without TF32 they may be transformed instead."""
    for dtype in ("float32", "complex64"):
        as_it_comes, without = (gpu_arithmetic(name, dtype) for name in ("torch-cuda", "torch-cuda-fp32"))
        assert as_it_comes.input_rounding == TF32_ROUNDING
        assert as_it_comes.algorithms == (MatrixUnits(),)
        assert without.input_rounding == 0
        assert Winograd(6) in without.algorithms
        assert MatrixUnits() not in without.algorithms


@pytest.mark.parametrize("name", ["torch-cuda", "torch-cuda-fp32"])
def test_other_dtypes_on_a_gpu(name: str) -> None:
    """Half precision uses matrix units and may add the bias last; float64 has the strictest arithmetic."""
    for dtype in ("float16", "bfloat16"):
        for bias in (False, True):
            declared = gpu_arithmetic(name, dtype, bias=bias)
            assert declared.algorithms == (MatrixUnits(),)
            assert declared.input_rounding == 0
            assert declared.bias_after_rounding is bias
    assert gpu_arithmetic(name, "float64") == Arithmetic.of_dtype(torch.float64)


def precisions() -> tuple[str, str, bool]:
    """The switches for TF32, also by their older name, which raises if they disagree."""
    backends = torch.backends
    return backends.cudnn.conv.fp32_precision, backends.cuda.matmul.fp32_precision, backends.cudnn.allow_tf32


def test_tf32_is_switched_for_the_call_alone() -> None:
    """The switches are off during the call and restored after it, even after an error."""
    found = []

    def look(*_: object) -> torch.Tensor:
        found.append((torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision))
        raise RuntimeError

    before = precisions()
    without = subject("torch-cuda-fp32")
    without.function = look  # type: ignore[attr-defined]  # of a TorchSubject
    case = Case((1, 1, 1, 1), (1, 1, 1, 1))
    with pytest.raises(RuntimeError):
        without.forward(case, draw(case))
    assert found == [("ieee", "ieee")]
    assert precisions() == before


@pytest.fixture
def switches() -> Iterator[tuple[Any, Any]]:
    """The switches of cuDNN's convolutions and of matrix products, restored after the test."""
    both = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = [switch.fp32_precision for switch in both]
    yield both
    for switch, precision in zip(both, before, strict=True):
        switch.fp32_precision = precision


@pytest.mark.parametrize(
    ("conv", "matmul", "tf32"), [("tf32", "ieee", True), ("ieee", "ieee", False), ("ieee", "tf32", True)]
)
def test_tf32_follows_the_switches(switches: tuple[Any, Any], conv: str, matmul: str, tf32: bool) -> None:
    """The declared arithmetic follows the current switches, and reading them does not raise."""
    switches[0].fp32_precision, switches[1].fp32_precision = conv, matmul
    assert (gpu_arithmetic("torch-cuda", "float32").input_rounding > 0) is tf32


def test_autocast_rounds_to_the_nearest_bfloat16() -> None:
    """Rounding float32 to bfloat16 changes it by at most 1/257 of itself, and 1 + 2^-8 by exactly that."""
    assert Fraction(BFLOAT16_ROUNDING) == Fraction(1 / 257)
    half_way = torch.tensor(1 + 2.0**-8, dtype=torch.float32)
    assert abs(Fraction(half_way.bfloat16().item()) / Fraction(half_way.item()) - 1) == Fraction(1, 257)
    x = torch.randn(10000, generator=torch.Generator().manual_seed(0)).abs()
    assert ((x.bfloat16().double() - x.double()).abs() <= BFLOAT16_ROUNDING * x.double()).all()


def test_autocast_computes_in_bfloat16() -> None:
    """Operands, bias and result are rounded to bfloat16, and the result is float32; a GPU uses matrix units."""
    case = Case((2, 3, 5, 5), (4, 3, 3, 3), bias=True, data="normal")
    operands = draw(case)
    autocast = subject("torch-autocast")
    rounded = (t.bfloat16() for t in (operands.input, operands.weight, operands.bias) if t is not None)
    y = autocast.forward(case, operands)
    assert y.dtype == torch.float32
    assert torch.equal(y, torch.nn.functional.conv2d(*rounded).float())
    declared = autocast.arithmetic(case)
    assert (declared.accumulator, declared.output) == (FLOAT32, BFLOAT16)
    assert declared.input_rounding == declared.bias_rounding == BFLOAT16_ROUNDING
    on_gpu = autocast.arithmetic(case.replace(device="cuda"))
    assert on_gpu.algorithms == (MatrixUnits(),)
    assert on_gpu.input_rounding == BFLOAT16_ROUNDING


@pytest.mark.parametrize("dtype", [dtype for dtype in CASE_DTYPES if dtype != "float32"])
def test_autocast_is_for_float32(dtype: str) -> None:
    """The autocast subject supports only float32."""
    case = Case((1, 1, 1, 1), (1, 1, 1, 1), dtype=dtype)
    outcome = subject("torch-autocast").run(case, draw(case))
    assert outcome.status == "unsupported"
    assert outcome.message == "supports only float32"


@pytest.mark.parametrize(("x", "bias"), [(3.4e38, 0.0), (0.5, -3.4e38)])
def test_autocast_may_round_an_operand_to_infinity(x: float, bias: float) -> None:
    """A float32 above the largest bfloat16 makes the result infinite, which only autocast's arithmetic allows."""
    case = Case((1, 1, 1, 2), (1, 1, 1, 1), bias=True, data="overflow")
    operands = Operands(
        torch.tensor([x, 1.0]).view(1, 1, 1, 2), torch.full((1, 1, 1, 1), 2.0**-10), torch.tensor([bias]), 0.0
    )
    autocast = subject("torch-autocast")
    assert autocast.forward(case, operands).flatten()[0].isinf()
    assert forward_verdict(autocast, case, operands).status in (Status.PASS, Status.MISTRUSTED)
    autocast._arithmetic = lambda case: Arithmetic.of_dtype(case.torch_dtype)  # type: ignore[attr-defined]  # of a TorchSubject
    assert forward_verdict(autocast, case, operands).status is Status.FAIL


def test_float32_is_not_autocast() -> None:
    """Judged by the arithmetic of float32, the result of autocast fails."""
    case = Case((2, 3, 5, 5), (4, 3, 3, 3), data="normal")
    autocast = subject("torch-autocast")
    assert LAWS["forward-bound"](autocast, case).status is Status.PASS
    autocast._arithmetic = lambda case: Arithmetic.of_dtype(case.torch_dtype)  # type: ignore[attr-defined]  # of a TorchSubject
    assert LAWS["forward-bound"](autocast, case).status is Status.FAIL
