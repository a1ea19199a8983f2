"""Comparisons, and the verdicts of the forward laws that follow from them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, nan

import pytest
import torch

from tests.helpers.convolutions import SINGLE
from toeplitz_core.bound import BFLOAT16, Arithmetic
from toeplitz_core.operator import conv2d
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.families.forward import forward_verdict
from toeplitz_core.testing.laws.judging import failure
from toeplitz_core.testing.laws.verdict import Comparison, Status, Verdict, compare_bound, compare_exact
from toeplitz_core.testing.oracle.algorithms import Fft, MatrixUnits, Winograd
from toeplitz_core.testing.oracle.arithmetics import TF32_ROUNDING
from toeplitz_core.testing.oracle.results import expected
from toeplitz_core.testing.subjects.interface import Subject


def test_equal_tensors_compare_equal() -> None:
    """Equal tensors and empty tensors have no first difference; zeros of either sign are equal."""
    assert compare_exact(torch.tensor([1.0, -0.0, inf]), torch.tensor([1.0, 0.0, inf])) is None
    assert compare_exact(torch.empty(2, 0), torch.empty(2, 0)) is None


@pytest.mark.parametrize("wrong", [2.0, nan, inf])
def test_the_first_difference_is_found(wrong: float) -> None:
    """The first differing element is named, with the number of them; NaN differs from everything, even itself."""
    actual, wanted = torch.ones(2, 3), torch.ones(2, 3)
    actual[1, 0] = actual[1, 2] = wrong
    assert compare_exact(actual, wanted) == Comparison(inf, (1, 0), 2, 6)
    assert compare_exact(torch.tensor([nan]), torch.tensor([nan])) == Comparison(inf, (0,), 1, 1)


@pytest.mark.parametrize(
    ("error", "bound", "comparison"),
    [
        ([[0.5, 1.0], [3.0, 0.0]], [[1.0, 1.0], [2.0, 0.0]], Comparison(1.5, (1, 0), 1, 4)),
        ([1.0, 2.0], [1.0, 2.0], Comparison(1.0, (0,), 0, 2)),
        ([0.0, 0.0], [0.0, 0.0], Comparison(0.0, (0,), 0, 2)),
        ([0.0, 5e-324], [0.0, 0.0], Comparison(inf, (1,), 1, 2)),
        ([0.1, nan], [1.0, 1.0], Comparison(inf, (1,), 1, 2)),
        ([0.1, inf], [1.0, 1.0], Comparison(inf, (1,), 1, 2)),
        ([0.1, inf], [1.0, inf], Comparison(inf, (1,), 1, 2)),
        ([0.1, 0.2], [1.0, nan], Comparison(inf, (1,), 1, 2)),
    ],
)
def test_errors_are_measured_in_units_of_their_bounds(error: list, bound: list, comparison: Comparison) -> None:
    """The largest ratio counts. NaN and infinity exceed every bound, and an error of 0 exceeds none."""
    assert (
        compare_bound(torch.tensor(error, dtype=torch.float64), torch.tensor(bound, dtype=torch.float64)) == comparison
    )


def test_no_elements_have_no_largest_error() -> None:
    """A tensor without elements gives no comparison."""
    assert compare_bound(torch.empty(0, 3), torch.empty(0, 3)) is None


@dataclass
class Planted(Subject):
    """A subject that computes its result with a given function of the case and its operands."""

    compute: Callable[[Case, Operands], object]
    assumed: Arithmetic | None = None
    name: str = "planted"

    def arithmetic(self, case: Case) -> Arithmetic:
        return self.assumed or super().arithmetic(case)

    def forward(self, case: Case, operands: Operands) -> torch.Tensor:
        return self.compute(case, operands)  # type: ignore[return-value]  # some return wrong types on purpose


def correct(case: Case, operands: Operands) -> torch.Tensor:
    """The result of the package's own convolution."""
    g = case.geometry
    return conv2d(operands.input, operands.weight, operands.bias, g.stride, g.padding, g.dilation, g.groups)


def raising(error: Exception) -> Callable[[Case, Operands], object]:
    """A convolution that raises."""

    def compute(_case: Case, _operands: Operands) -> object:
        raise error

    return compute


CASE = Case((2, 3, 5, 4), (4, 3, 2, 2), bias=True)
BROKEN: dict[str, tuple[Callable[[Case, Operands], object], str]] = {
    "shape": (lambda c, o: correct(c, o)[:1], r"returned shape \(1, 4, 4, 3\), not \(2, 4, 4, 3\)"),
    "dtype": (lambda c, o: correct(c, o).double(), r"returned dtype torch.float64, not torch.float32"),
    "type": (lambda c, o: correct(c, o).numpy(), r"returned ndarray, not a torch.Tensor"),
    "nothing": (lambda _c, _o: None, r"returned NoneType, not a torch.Tensor"),
    "raises": (raising(RuntimeError("no such kernel")), r"raised RuntimeError: no such kernel"),
    "NaN": (lambda c, o: correct(c, o) * nan, r"out\[0, 0, 0, 0\]=nan, but should be .*96 of 96 elements wrong"),
}


@pytest.mark.parametrize("data", ["integers", "normal"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_result_fails(name: str, data: str) -> None:
    """A wrong shape, dtype or type, NaN, or an exception fails with a message that says so."""
    compute, message = BROKEN[name]
    verdict = forward_verdict(Planted(compute), CASE.replace(data=data))
    assert verdict.status is Status.FAIL
    assert re.search(message, verdict.message)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "complex64", "complex128", "int64"])
@pytest.mark.parametrize("data", ["integers", "normal"])
def test_a_correct_result_passes(dtype: str, data: str) -> None:
    """The package's own convolution passes, and the verdict has the sharpness of the test."""
    if data == "normal" and dtype == "int64":
        return
    verdict = forward_verdict(Planted(correct), CASE.replace(dtype=dtype, data=data))
    assert verdict.status is Status.PASS
    sharp = verdict.miss_probability if data == "integers" else verdict.sharpness
    assert sharp is not None
    assert 0 < sharp < 0.5


@pytest.mark.parametrize("data", ["integers", "normal"])
def test_one_wrong_element_fails(data: str) -> None:
    """An element that is off by 1 is named, with its actual and its expected value."""

    def off(case: Case, operands: Operands) -> torch.Tensor:
        y = correct(case, operands)
        y[1, 2, 3, 0] += 1
        return y

    verdict = forward_verdict(Planted(off), CASE.replace(data=data))
    assert (verdict.status, verdict.index) == (Status.FAIL, (1, 2, 3, 0))
    assert verdict.actual != verdict.expected
    assert (verdict.ratio is None) == (data == "integers")
    outputs = torch.tensor([0, 96 - 12 + 9 - 12])
    chosen = forward_verdict(Planted(off), CASE.replace(data=data), outputs=outputs)
    assert (chosen.status, chosen.index, chosen.expected) == (Status.FAIL, (1, 2, 3, 0), verdict.expected)


def test_what_is_not_implemented_is_unsupported() -> None:
    """``NotImplementedError`` and a dtype that the law does not apply to are unsupported, not failures."""
    subject = Planted(raising(NotImplementedError("no groups")))
    verdict = LAWS["forward-exact"](subject, CASE)
    assert (verdict.status, verdict.message) == (Status.UNSUPPORTED, "NotImplementedError: no groups")
    assert LAWS["forward-bound"](subject, CASE.replace(dtype="int64", data="normal")).status is Status.UNSUPPORTED


def judged(miss: float) -> Verdict:
    """The verdict on a correct result if the operands miss a wrong row with this probability."""
    return forward_verdict(Planted(correct), CASE, replace(draw(CASE), miss_probability=miss))


def test_poor_data_is_mistrusted() -> None:
    """Exact data proves something only if it misses a wrong row with probability of at most one half."""
    assert judged(0.5).status is Status.PASS
    verdict = judged(0.51)
    assert (verdict.status, verdict.miss_probability) == (Status.MISTRUSTED, 0.51)
    assert "probability up to 0.51" in verdict.message


def test_input_of_zeros_is_mistrusted() -> None:
    """If every product is zero, a result equal to the bias proves nothing."""
    operands = draw(CASE)
    empty = replace(operands, input=torch.zeros_like(operands.input))
    assert forward_verdict(Planted(correct), CASE, empty).status is Status.MISTRUSTED


def test_a_wide_bound_is_mistrusted() -> None:
    """Passing a bound above half the sum of magnitudes proves nothing; exceeding it still fails."""
    # (1 + r)^2 - 1 is 0.44 and 0.56.
    for rounding, status in ((0.2, Status.PASS), (0.25, Status.MISTRUSTED)):
        arithmetic = replace(Arithmetic.of_dtype(torch.float32), input_rounding=rounding)
        case = CASE.replace(data="normal", bias=False)
        assert forward_verdict(Planted(correct, arithmetic), case).status is status
        negative = Planted(lambda c, o: -2 * correct(c, o), arithmetic)
        assert forward_verdict(negative, case).status is Status.FAIL


def test_a_bias_after_rounding_may_be_rounded_twice() -> None:
    """Only an arithmetic that declares a bias after rounding may round twice."""
    case = Case((1, 2, 1, 1), (1, 2, 1, 1), bias=True, dtype="float16", data="accumulator")
    x, weight, bias = torch.tensor([2047.0, 2.0]), torch.tensor([1.0, 1.0]), torch.tensor([1.0])
    operands = Operands(x.half().view(1, 2, 1, 1), weight.half().view(1, 2, 1, 1), bias.half(), miss_probability=0.1)
    # 2049 is a tie, rounded to 2048, and so is 2048 + 1; once rounded, 2050 is exact.
    twice = Planted(lambda _c, _o: torch.full((1, 1, 1, 1), 2048.0).half())
    assert forward_verdict(twice, case, operands).status is Status.FAIL
    twice.assumed = replace(Arithmetic.of_dtype(torch.float16), bias_after_rounding=True)
    assert forward_verdict(twice, case, operands).status is Status.PASS
    once = Planted(correct, twice.assumed)
    assert forward_verdict(once, case, operands).status is Status.PASS
    neither = Planted(lambda _c, _o: torch.full((1, 1, 1, 1), 2052.0).half(), twice.assumed)
    assert forward_verdict(neither, case, operands).status is Status.FAIL


def test_an_empty_batch_passes() -> None:
    """The result of an empty batch is judged by its shape alone."""
    empty = CASE.replace(input=(0, 3, 5, 4))
    for data in ("integers", "normal"):
        assert forward_verdict(Planted(correct), empty.replace(data=data)).status is Status.PASS


@pytest.mark.parametrize(
    ("got", "should", "said"),
    [
        (1.0, 2.0, "out[0]=1, but should be 2 (1 of 1 elements wrong)"),
        (6564164.25, 6564164.0, "out[0]=6564164.25, but should be 6564164 (1 of 1 elements wrong)"),
        (1 + 2.0**-40, 1.0, "out[0]=1.0000000000009095, but should be 1 (1 of 1 elements wrong)"),
    ],
)
def test_a_failure_has_the_digits_that_tell_the_two_apart(got: float, should: float, said: str) -> None:
    """The actual and the expected value are printed with enough digits to differ."""
    actual, wanted = (torch.tensor([value], dtype=torch.float64) for value in (got, should))
    found = compare_exact(actual, wanted)
    assert found is not None
    assert failure(Case.parse("input=1x1x1x1 weight=1x1x1x1"), found, actual, wanted).message == said


def test_a_failure_has_all_digits_of_an_integer() -> None:
    """Integers above 2^53 are printed with all digits."""
    actual, wanted = torch.tensor([2**58]), torch.tensor([2**58 + 1])
    found = compare_exact(actual, wanted)
    assert found is not None
    said = failure(CASE.replace(dtype="int64"), found, actual, wanted).message
    assert said == f"out[0]={2**58}, but should be {2**58 + 1} (1 of 1 elements wrong)"


def test_what_no_format_holds_is_an_infinity() -> None:
    """If the expected result overflows, the message gives the infinity and the exact value."""
    largest = torch.finfo(torch.float32).max
    actual, wanted = torch.tensor([1.0, -largest]), torch.tensor([1.0, -8.3717766e38], dtype=torch.float64)
    found = compare_exact(actual.double(), wanted)
    assert found is not None
    said = failure(CASE, found, actual, wanted).message
    assert said == "out[1]=-3.40282347e+38, but should be -inf (exactly -8.3717766e+38) (1 of 2 elements wrong)"


@pytest.mark.parametrize(
    "arithmetic",
    [
        replace(SINGLE, algorithms=(Winograd(6),)),
        replace(SINGLE, algorithms=(Fft(16),)),
        replace(SINGLE, input_rounding=TF32_ROUNDING),
        replace(SINGLE, accumulator=BFLOAT16),
    ],
)
def test_exact_data_is_judged_by_the_bound_where_the_arithmetic_rounds_it(arithmetic: Arithmetic) -> None:
    """A whole-number result that is off by half its bound passes only if the arithmetic rounds whole numbers."""
    case = Case((1, 2, 6, 6), (1, 2, 3, 3))
    operands = draw(case)
    reference = expected(case.geometry, operands.input, operands.weight, None, algorithms=arithmetic.algorithms)
    off = (reference.value + reference.bound(arithmetic, has_bias=False) / 2).float()
    assert (off != reference.value).any()
    subject = Planted(lambda _c, _o: off, arithmetic)
    assert forward_verdict(subject, case, operands).status is Status.PASS
    subject.assumed = SINGLE
    assert forward_verdict(subject, case, operands).status is Status.FAIL
    # Matrix units add whole numbers exactly.
    subject.assumed = replace(SINGLE, algorithms=(MatrixUnits(),))
    assert forward_verdict(subject, case, operands).status is Status.FAIL


@pytest.mark.parametrize("changes", [{}, {"dilation": 2}, {"stride": 2}])
@pytest.mark.parametrize("recipe", ["integers", "normal"])
def test_a_declared_fft_is_judged_by_its_bound(recipe: str, changes: dict) -> None:
    """A declared FFT is judged by its bound for every stride and dilation, also on whole numbers, which it rounds."""
    case = Case((1, 2, 6, 7), (1, 2, 3, 3), padding=1, data=recipe).replace(**changes)
    operands = draw(case)
    fft = replace(SINGLE, algorithms=(Fft(16),))
    reference = expected(case.geometry, operands.input, operands.weight, None, algorithms=fft.algorithms)
    off = (reference.value + reference.bound(fft, has_bias=False) / 2).float()
    for arithmetic, status in ((fft, Status.PASS), (SINGLE, Status.FAIL)):
        assert forward_verdict(Planted(lambda _c, _o: off, arithmetic), case, operands).status is status
