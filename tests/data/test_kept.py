"""What is kept is given out again, within its limit, and nobody's change of it is seen by others."""

from __future__ import annotations

import torch
from torch.nn.functional import conv2d

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.gradient_operands import draw_with_directions, draw_with_gradient
from toeplitz_core.testing.data.kept import Kept, bytes_of
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.oracle.results import expected
from toeplitz_core.testing.subjects import Subject

CASE = Case.parse("input=2x3x5x5 weight=4x3x3x3 bias")


def test_the_latest_values_are_kept_within_the_limit():
    """A value that is asked for again stays; the one that was asked for longest ago goes first."""
    made: list[str] = []

    def value(key: str, size: int = 10) -> str:
        return kept.get(key, lambda: (made.append(key), key * size)[1])  # type: ignore[func-returns-value]

    kept: Kept[str] = Kept(80, len)
    for key in "abcdefgh":
        assert value(key) == key * 10
    assert (made, kept.bytes) == (list("abcdefgh"), 80)
    assert value("a") == "a" * 10
    assert value("i") == "i" * 10
    assert made == list("abcdefghi")
    assert value("a") == "a" * 10
    assert made == list("abcdefghi")
    value("b")
    assert (made, kept.bytes) == (list("abcdefghib"), 80)
    value("j", 11)  # more than an eighth of the limit
    value("j", 11)
    assert (made[-2:], kept.bytes) == (["j", "j"], 80)


def test_nothing_is_kept_of_inference_mode():
    """Autograd cannot use tensors that were made in it."""
    case = CASE.replace(seed=77)
    with torch.inference_mode():
        assert draw(case).input.is_inference()
    assert not draw(case).input.is_inference()


def test_draws_do_not_depend_on_law_and_device():
    """They depend on everything else, and on what is drawn."""
    for draws in (draw, draw_with_gradient, draw_with_directions):
        assert draws(CASE) is draws(CASE.replace(law="strides"))
        for other in ({"seed": 1}, {"data": "normal"}, {"dtype": "float64"}, {"stride": (2, 2)}, {"bias": False}):
            changed = draws(CASE.replace(**other))
            assert changed is not draws(CASE)
    assert draw_with_gradient(CASE) is not draw(CASE)


def test_expected_results_are_those_of_these_tensors():
    """Equal numbers in other tensors are computed again, so that a changed tensor never has an old result."""
    one = draw(CASE)
    other = one.copied()
    first = expected(CASE.geometry, one.input, one.weight, one.bias)
    assert expected(CASE.geometry, one.input, one.weight, one.bias) is first
    assert expected(CASE.geometry, other.input, one.weight, one.bias) is not first
    assert expected(CASE.geometry, one.input, one.weight, None) is not first
    assert bytes_of(one.input, None, one.weight) == 4 * (150 + 108)


class Doubling(Subject):
    """A right convolution that doubles its operands afterwards."""

    name = "doubling"

    def forward(self, case: Case, operands: Operands) -> torch.Tensor:
        y = conv2d(operands.input, operands.weight, operands.bias, case.stride, case.padding, case.dilation)
        for values in (operands.input, operands.weight, operands.bias):
            if values is not None:
                values.mul_(2)
        return y


def test_a_subject_that_changes_its_operands_changes_no_draw():
    """It is judged by the operands as they were drawn, each time."""
    before = draw(CASE).copied()
    for _ in range(3):
        assert LAWS["forward-exact"](Doubling(), CASE).status is Status.PASS
    assert torch.equal(draw(CASE).weight, before.weight)
    assert torch.equal(draw(CASE).input, before.input)
