"""Classes of results (NaN, infinities, finite) against sums in Python, and the judge's verdicts on them."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings

from tests.helpers.definition import entries_by_definition
from tests.helpers.operands import seeds, small_geometries
from tests.laws.test_verdict import Planted, correct
from toeplitz_core import ConvGeometry
from toeplitz_core.bound import FLOAT32, Arithmetic
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws.families.forward import SPECIAL_VALUES, forward_verdict
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.oracle.algorithms import Winograd
from toeplitz_core.testing.oracle.special_values import classes

nan, inf = math.nan, math.inf


def values(shape: tuple[int, ...], shuffle: random.Random) -> torch.Tensor:
    """Small integers, with zeros, NaN and infinities among them."""
    palette = [1.0, -1.0, 2.0, -3.0] * 4 + [0.0] * 3 + [nan, inf, -inf]
    return torch.tensor([shuffle.choice(palette) for _ in range(math.prod(shape))]).reshape(shape)


def by_sums(
    g: ConvGeometry, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, shuffle: random.Random
) -> list[float]:
    """The results for one image, each summed in a random order with Python's floats, which give the classes."""
    terms: list[list[float]] = [[float(bias[row // g.positions])] for row in range(g.matrix_shape[0])]
    pixels = x.flatten().tolist()
    entries = entries_by_definition(weight, g.input_size, g.stride, g.padding, g.dilation, g.groups)
    for (row, column), tap in entries.items():
        terms[row].append(float(tap) * pixels[column])
    for row in terms:
        shuffle.shuffle(row)
    return [sum(row[1:], start=row[0]) for row in terms]


@settings(max_examples=150)
@given(g=small_geometries(), seed=seeds())
def test_classes_are_those_of_the_sums(g: ConvGeometry, seed: int) -> None:
    """A result is NaN, an infinity or finite exactly if the sum of its row is, in any order."""
    shuffle = random.Random(seed)
    x, weight, bias = (
        values(shape, shuffle) for shape in ((1, g.in_channels, *g.input_size), g.weight_shape, (g.out_channels,))
    )
    wanted = torch.tensor(by_sums(g, x, weight, bias, shuffle), dtype=torch.float64)
    wanted = torch.where(wanted.isfinite(), 0, wanted)
    assert torch.equal(classes(g, x, weight, bias).special.flatten().nan_to_num(7), wanted.nan_to_num(7))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_a_weight_of_zero_makes_nan_of_what_is_not_finite(dtype: str) -> None:
    """For drawn data too the classes are those of the sums, and some results are NaN only because of a zero weight."""
    by_zeros = 0
    for seed in range(40):
        case = Case((1, 2, 4, 5), (2, 2, 2, 3), padding=(1, 0), bias=True, dtype=dtype, data="nonfinite", seed=seed)
        o, g = draw(case), case.geometry
        assert o.bias is not None
        wanted = torch.tensor(by_sums(g, o.input, o.weight, o.bias, random.Random(seed)), dtype=torch.float64)
        found = classes(g, o.input, o.weight, o.bias).special.flatten()
        assert torch.equal(found.nan_to_num(7), torch.where(wanted.isfinite(), 0, wanted).nan_to_num(7))
        without = classes(g, o.input, o.weight.where(o.weight != 0, 1), o.bias).special.flatten()
        by_zeros += int((found.isnan() & ~without.isnan()).sum())
    assert by_zeros > 0


@settings(max_examples=60)
@given(g=small_geometries(), seed=seeds())
def test_a_convolution_that_multiplies_padding_passes(g: ConvGeometry, seed: int) -> None:
    """If zeros are copied into the image as padding, results differ only by NaN, where NaN is allowed."""
    shuffle = random.Random(seed)
    x, weight = values((1, g.in_channels, *g.input_size), shuffle), values(g.weight_shape, shuffle)
    ends = [n for pads in reversed(g.pads) for n in pads]
    padded = torch.nn.functional.pad(x, ends)
    bare = ConvGeometry(g.in_channels, g.out_channels, g.padded_size, g.kernel_size, g.stride, 0, g.dilation, g.groups)
    found, copied = classes(g, x, weight, None), classes(bare, padded, weight, None).special
    same = (copied == found.special) | found.settles(copied)
    assert same.all()


def test_an_unread_pixel_spoils_nothing() -> None:
    """NaN in a pixel that no window reads affects no result; an infinity affects only the group that reads it."""
    g = ConvGeometry(2, 2, (1, 3), (1, 1), stride=(1, 2), groups=2)
    x = torch.tensor([[[[1.0, nan, 1.0]], [[1.0, 1.0, inf]]]])
    found = classes(g, x, torch.ones(2, 1, 1, 1), None)
    assert found.special.tolist() == [[[0.0, 0.0], [0.0, inf]]]
    assert not found.may_be_nan.any()


def test_a_tile_may_be_nan_where_it_has_one() -> None:
    """Winograd may spread NaN to results of the same tile only; a weight may spread it to its whole channel."""
    g = ConvGeometry(1, 2, (1, 20), (1, 3))
    x, weight = torch.ones(1, 1, 1, 20), torch.ones(2, 1, 1, 3)
    x[..., 10] = nan
    assert not classes(g, x, weight, None, (Winograd(2),)).may_be_nan.any()  # not for kernels of one row
    square = ConvGeometry(1, 2, (3, 20), (3, 3))
    x, weight = torch.ones(1, 1, 3, 20), torch.ones(2, 1, 3, 3)
    x[0, 0, 1, 10] = nan
    found = classes(square, x, weight, None, (Winograd(2),))
    assert found.may_be_nan[0, 0].nonzero().flatten().tolist() == [7, 8, 9, 10, 11]
    infinite = classes(square, x, weight, torch.tensor([1.0, inf]), (Winograd(2),))
    assert infinite.may_be_nan[0, 1].all()
    assert not infinite.may_be_nan[0, 0].all()
    weight[1, 0, 0, 0] = inf
    assert classes(square, x, weight, None, (Winograd(2),)).may_be_nan[0, 1].all()


CASE = Case((1, 1, 1, 4), (1, 1, 1, 2), padding=(0, 1), data="nonfinite")


def verdict(x: list[float], weight: list[float], result: list[float], arithmetic: Arithmetic | None = None) -> Status:
    """The verdict on a result for this input and weight."""
    operands = Operands(torch.tensor(x).view(1, 1, 1, 4), torch.tensor(weight).view(1, 1, 1, 2), None, 0.1)
    return forward_verdict(
        Planted(lambda _c, _o: torch.tensor(result).view(1, 1, 1, 5), arithmetic), CASE, operands
    ).status


@pytest.mark.parametrize(
    ("result", "status"),
    [
        ([2.0, inf, nan, nan, 3.0], Status.PASS),
        ([-nan, inf, nan, nan, 3.0], Status.FAIL),
        ([2.0, -inf, nan, nan, 3.0], Status.FAIL),
        ([2.0, nan, nan, nan, 3.0], Status.FAIL),
        ([2.0, 5.0, nan, nan, 3.0], Status.FAIL),
        ([2.0, inf, inf, nan, 3.0], Status.FAIL),
        ([2.0, inf, 4.0, nan, 3.0], Status.FAIL),
        ([2.5, inf, nan, nan, 3.0], Status.FAIL),
        ([inf, inf, nan, nan, 3.0], Status.FAIL),
    ],
)
@pytest.mark.parametrize("rounding", [0.0, 2.0**-10])
def test_each_class_is_judged(result: list[float], status: Status, rounding: float) -> None:
    """NaN, infinities and finite numbers pass only where they are right; finite ones exactly or within the bound."""
    arithmetic = Arithmetic(FLOAT32, FLOAT32, input_rounding=rounding)
    assert verdict([2.0, inf, nan, 3.0], [1.0, 1.0], result, arithmetic) is status


def test_a_weight_of_zero_is_multiplied() -> None:
    """Where an infinity or NaN meets a zero weight, a finite result is wrong."""
    for fourth, status in ((nan, Status.PASS), (3.0, Status.FAIL)):
        assert verdict([2.0, inf, nan, 3.0], [0.0, 1.0], [2.0, inf, nan, fourth, 0.0]) is status
        assert verdict([2.0, inf, -inf, 3.0], [0.0, 1.0], [2.0, inf, nan, fourth, 0.0]) is status


def test_a_compensated_sum_may_make_nan_of_infinity() -> None:
    """With declared compensated sums, NaN may replace an infinity, but not a finite number."""
    compensated = Arithmetic(FLOAT32, FLOAT32, compensates=True)
    for result, status in (
        ([2.0, nan, nan, nan, 3.0], Status.PASS),
        ([2.0, -inf, nan, nan, 3.0], Status.FAIL),
        ([nan, nan, nan, nan, 3.0], Status.FAIL),
    ):
        assert verdict([2.0, inf, nan, 3.0], [1.0, 1.0], result, compensated) is status


def test_padding_may_meet_a_weight_that_is_not_finite() -> None:
    """An infinite weight over padding may be skipped or give NaN, but not an infinity."""
    for first, status in ((2.0, Status.PASS), (nan, Status.PASS), (inf, Status.FAIL)):
        assert verdict([2.0, 1.0, 1.0, 3.0], [inf, 1.0], [first, inf, inf, inf, inf], None) is status


def test_the_law_holds_for_a_correct_convolution() -> None:
    """The package's own convolution passes the law; data for which every result may be NaN is mistrusted."""
    for seed in range(20):
        case = Case((2, 3, 7, 6), (4, 3, 3, 2), bias=True, data="nonfinite", seed=seed)
        assert SPECIAL_VALUES(Planted(correct), case).status is Status.PASS
    small = Case((1, 1, 1, 1), (1, 1, 1, 2), padding=(0, 1), data="nonfinite")
    operands = Operands(torch.ones(1, 1, 1, 1), torch.tensor([[[[inf, inf]]]]), None, 0.1)
    for value, status in ((nan, Status.MISTRUSTED), (inf, Status.MISTRUSTED), (1.0, Status.FAIL)):
        result = torch.full((1, 1, 1, 2), value)
        assert forward_verdict(Planted(lambda _c, _o, y=result: y), small, operands).status is status
