"""Which elements of a result are wrong: ranges in words, samples, a map, and what changes between runs."""

from __future__ import annotations

import json

import pytest
import torch

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.laws.difference import (
    BETWEEN_RUNS,
    MAP_COLUMNS,
    MAP_ROWS,
    Difference,
    Range,
    axes,
    difference,
)
from toeplitz_core.testing.laws.judging import failure
from toeplitz_core.testing.laws.verdict import Verdict, compare_exact

CASE = Case.parse("input=2x3x5x7 weight=6x3x1x1")
SHAPE = CASE.output_shape


def judged(actual: torch.Tensor, wanted: torch.Tensor, name: str = "out", case: Case = CASE) -> Verdict:
    """The failing verdict on a result."""
    found = compare_exact(actual, wanted)
    assert found is not None
    return failure(case, found, actual, wanted, name=name)


def differing(*where: object, shape: tuple[int, ...] = SHAPE, name: str = "out", case: Case = CASE) -> Difference:
    """The difference of a result that is wrong by 1 in a part of it."""
    actual = torch.zeros(shape)
    actual[where] = 1
    found = judged(actual, torch.zeros(shape), name, case).difference
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ((..., slice(4, None), slice(None), slice(4, None)), "output channels 4.. of 6, columns 4.. of 7"),
        ((1,), "image 1 of 2"),
        ((..., slice(1, None, 2)), "columns 1, 3, .. of 7"),
        ((..., slice(0, 5, 2)), "columns 0, 2 and 4 of 7"),
        ((..., slice(2, 4), slice(None)), "rows 2..3 of 5"),
        ((..., [0, 6]), "columns 0 and 6 of 7"),
        ((..., [0, 1, 4, 6]), "4 of 7 columns, from 0 to 6"),
        ((...,), ""),
        ((..., [0, 4], [1, 6]), "24 of the 48 elements in rows 0 and 4 of 5, columns 1 and 6 of 7"),
        ((..., range(5), [0, 2, 3, 4, 6]), "60 of the 300 elements in 5 of 7 columns, from 0 to 6"),
    ],
)
def test_ranges_are_in_words_of_the_axes(where: tuple[object, ...], said: str):
    """The wrong elements are named by ranges per axis; an axis on which all indices are wrong is not named."""
    assert differing(*where).where == said


def test_elements_all_over_the_result_are_scattered():
    """If each axis has wrong elements at every index, the elements are scattered."""
    assert differing([0, 1], [0, 1], shape=(2, 2), name="side").where == "scattered over the whole result"


@pytest.mark.parametrize(
    ("line", "name", "count", "named"),
    [
        ("input=3x5x7 weight=6x3x1x1", "out", 3, ("output channel", "row", "column")),
        ("input=1x3x7 weight=6x3x1", "out", 3, ("image", "output channel", "column")),
        ("input=1x3x5x7 weight=6x3x1x1", "input gradient (again)", 4, ("image", "input channel", "row", "column")),
        (
            "input=1x3x5x7 weight=6x3x1x1",
            "weight gradient",
            4,
            ("output channel", "input channel", "kernel row", "kernel column"),
        ),
        ("input=1x3x5x7 weight=6x3x1x1", "bias gradient", 1, ("output channel",)),
        ("input=1x3x5x7 weight=6x3x1x1 dtype=complex64", "bias gradient", 2, ("output channel", "part")),
        ("input=1x3x5x7 weight=6x3x1x1", "outputs", 5, ("weight", "image", "output channel", "row", "column")),
        ("input=1x3x5x7 weight=6x3x1x1 dtype=complex64", "out", 2, ("axis 0 position", "part")),
        ("input=1x3x5x7 weight=6x3x1x1", "left side", 2, ("axis 0 position", "axis 1 position")),
        ("input=1x3x5x7 weight=6x3x1x1", "out", 1, ("axis 0 position",)),
    ],
)
def test_axes_are_those_of_the_result(line: str, name: str, count: int, named: tuple[str, ...]):
    """A gradient has the axes of its operand; an unknown result has numbered axes."""
    assert axes(Case.parse(line), name, count) == named


def test_parts_of_complex_numbers_are_named():
    """A wrong imaginary part is called so, in the range and in the element."""
    case = CASE.replace(dtype="complex64")
    found = differing(1, 0, slice(0, 2), 0, 1, shape=(*SHAPE, 2), case=case)
    assert found.where == "image 1 of 2, output channel 0 of 6, rows 0..1 of 5, column 0 of 7, imaginary parts"
    assert found.samples[0].element == "out[1, 0, 0, 0].imag"
    assert found.map[0] == "X......"


@pytest.mark.parametrize(
    ("actual", "wanted", "ratio", "said"),
    [
        (2.0, 1.0, 3.14159, "out[0]=2, but should be 1, an error of 3.142 times the bound (1 of 1 elements wrong)"),
        (2.0, 0.0, float("inf"), "out[0]=2, but should be 0, where no error is allowed (1 of 1 elements wrong)"),
        (float("nan"), 1.0, float("inf"), "out[0]=nan, but should be 1 (1 of 1 elements wrong)"),
        (float("-inf"), 1.0, float("inf"), "out[0]=-inf, but should be 1 (1 of 1 elements wrong)"),
        (2.0, float("inf"), float("inf"), "out[0]=2, but should be inf (1 of 1 elements wrong)"),
        (2.0, 1.0, None, "out[0]=2, but should be 1 (1 of 1 elements wrong)"),
    ],
)
def test_the_error_is_said_if_a_number_says_more(actual: float, wanted: float, ratio: float | None, said: str):
    """An error has its size in units of the bound, unless that is infinite."""
    numbers = torch.tensor([actual], dtype=torch.float64), torch.tensor([wanted], dtype=torch.float64)
    assert str(difference(CASE, "out", (0,), torch.tensor([True]), *numbers, ratio)) == said


def test_the_worst_element_comes_first():
    """The message names the element that is off by most, NaN before all others; others follow in their order."""
    actual = torch.zeros(SHAPE)
    actual[0, 0, 0, 1], actual[0, 1, 2, 3], actual[1, 5, 4, 6] = 1.0, -3.0, 2.0
    verdict = judged(actual, torch.zeros(SHAPE))
    assert verdict.message == "out[0, 1, 2, 3]=-3, but should be 0 (3 of 420 elements wrong)"
    assert verdict.index == (0, 1, 2, 3)
    assert [str(sample) for sample in verdict.difference.samples] == [
        "out[0, 1, 2, 3]=-3, not 0", "out[0, 0, 0, 1]=1, not 0", "out[1, 5, 4, 6]=2, not 0",
    ]  # fmt: skip
    actual[1, 0, 0, 0] = float("nan")
    assert judged(actual, torch.zeros(SHAPE)).index == (1, 0, 0, 0)


def test_the_map_shows_the_channel_of_the_worst_element():
    """The map has a character for each pixel of one channel; it is left out if it would say nothing."""
    found = differing(1, 3, slice(2, None), slice(4, 6))
    assert found.plane == "image 1, output channel 3"
    assert found.map == (".......", ".......", "....Xx.", "....xx.", "....xx.")
    assert differing(...).map == ()
    assert differing(0, shape=(1,), name="bias gradient").map == ()
    assert differing(2, shape=(4,), name="bias gradient").map == ("..X.",)


def test_a_large_map_is_cut_around_the_worst_element():
    """A map has at most 16 rows of 32 characters, and says which rows and columns they are."""
    case = Case.parse("input=1x1x100x200 weight=1x1x1x1")
    found = differing(0, 0, 50, 199, shape=case.output_shape, case=case)
    assert (len(found.map), {len(line) for line in found.map}) == (MAP_ROWS, {MAP_COLUMNS})
    assert found.map[8] == "." * 31 + "X"
    assert found.plane == "image 0, output channel 0, rows 42..57 of 100, columns 168..199 of 200"


def test_a_value_that_changes_is_not_named():
    """If another run gives other values, the message has what the element should be, and no value or range."""
    zeros = torch.zeros(SHAPE)
    one, other = (judged(torch.where(torch.arange(7) > 3, value, zeros), zeros) for value in (1.0, 2.0))
    assert one.unless_repeated([one, one], BETWEEN_RUNS) is one
    found = one.replace(message=f"{one.message}: output again").unless_repeated([one, other], BETWEEN_RUNS)
    assert found.message == (
        "out[0, 0, 0, 4] should be 0, but its value changes between runs (180 of 420 elements wrong in one run)"
        ": output again"
    )
    assert found.actual is None
    assert found.difference is not None
    assert found.difference.where == ""
    assert found.difference.map == ()
    assert "=1" not in json.dumps(found.difference.document())
    right = Verdict("pass", CASE)
    assert one.unless_repeated([right], BETWEEN_RUNS).actual is None


@pytest.mark.parametrize("ratio", [None, 2.5, float("inf")])
def test_a_difference_survives_its_document(ratio: float | None):
    """A difference is read back from its JSON unchanged."""
    found = differing(..., slice(1, None, 2))
    found = Difference(found.wrong, found.total, found.ranges, found.samples, ratio, found.plane, found.map)
    assert Difference.read(json.loads(json.dumps(found.document(), allow_nan=False))) == found


def test_ranges_are_regular_if_they_can_be():
    """A single index is a regular range; a regular range that ends before the axis does has its last index."""
    assert str(Range("column", 12, 0, 6, 2, 4)) == "columns 0, 2, .., 6 of 12"
    assert Range.of("row", torch.tensor([False, True])) == Range("row", 2, 1, 1, 1, 1)


def test_chosen_elements_have_their_index_in_the_whole_result():
    """For chosen elements, samples are named as in the whole result; where the others are wrong is not known."""
    found = differing(slice(1, 3), shape=(4,)).located(lambda chosen: (0, chosen, 2))
    assert [sample.element for sample in found.samples] == ["out[0, 1, 2]", "out[0, 2, 2]"]
    assert (found.where, found.map) == ("", ())
