"""The smallest case of a failure: its parameters one at a time, those that depend on each other, and its cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.search.smallest import smallest
from toeplitz_core.testing.subjects import resolve

LARGE = (
    "input=4x12x20x33 weight=34x6x3x5 stride=2x3 padding=2x1 dilation=1x2 groups=2 bias dtype=bfloat16 "
    "layout=channels_last layout.bias=sliced data=normal seed=99"
)
SQUARE = "input=3x8x40x39 weight=24x2x5x5 dilation=2 groups=4 dtype=float64 seed=7"
POINT = "input=1x1x1x1 weight=1x1x1x1"


def outputs(case: Case) -> tuple[int, ...]:
    """The outputs of a case per axis."""
    return case.geometry.output_size


@pytest.mark.parametrize(
    ("line", "fails", "least"),
    [
        (LARGE, lambda _: True, POINT),
        (LARGE, lambda c: c.weight[0] > 16 and outputs(c)[1] > 4, "input=1x1x1x5 weight=17x1x1x1"),
        (LARGE, lambda c: c.batch >= 3, "input=3x1x1x1 weight=1x1x1x1"),
        (LARGE, lambda c: c.groups > 1, "input=1x2x1x1 weight=2x1x1x1 groups=2"),
        (LARGE, lambda c: c.geometry.in_channels > 8, "input=1x9x1x1 weight=1x9x1x1"),
        (LARGE, lambda c: c.bias and c.dtype != "float32", f"{POINT} bias dtype=float64"),
        (LARGE, lambda c: c.layout("input") == "channels_last", f"{POINT} layout.input=channels_last"),
        (LARGE, lambda c: c.data == "normal", f"{POINT} data=normal"),
        (LARGE, lambda c: c.geometry.pads[0][0] > 1 and c.seed > 1, f"{POINT} padding=2x0 seed=2"),
        (
            LARGE,
            lambda c: c.geometry.stride[0] != c.geometry.stride[1] and outputs(c) > (1, 1),
            "input=1x1x1x3 weight=1x1x1x1 stride=1x2",
        ),
        (
            SQUARE,
            lambda c: c.geometry.kernel_size[0] == c.geometry.kernel_size[1] > 1,
            "input=1x1x2x2 weight=1x1x2x2",
        ),
        (SQUARE, lambda c: outputs(c)[0] == outputs(c)[1] + 1, "input=1x1x2x1 weight=1x1x1x1"),
        (SQUARE, lambda c: outputs(c)[1] % 8 == 7, "input=1x1x1x7 weight=1x1x1x1"),
        ("input=1x1x1x1 weight=1x1x2x1 padding=same", lambda c: c.padding == "same", f"{POINT} padding=same"),
        ("input=1x5x5 weight=1x1x3x3", lambda c: c.batch is None, "input=1x1x1 weight=1x1x1x1"),
        ("input=0x2x5x5 weight=4x2x3x3", lambda c: c.batch == 0, "input=0x1x1x1 weight=1x1x1x1"),
        ("input=2x0x5x5 weight=4x0x3x3", lambda c: c.weight[1] == 0, "input=1x0x1x1 weight=1x0x1x1"),
        ("input=2x3x9 weight=4x3x3", lambda c: outputs(c)[0] > 3, "input=1x1x4 weight=1x1x1"),
    ],
)
def test_the_smallest_case_has_nothing_that_the_failure_does_not_need(
    line: str, fails: Callable[[Case], bool], least: str
):
    """The smallest case is the least one for which the predicate holds, and it is found in 150 calls."""
    assert fails(Case.parse(line))
    assert str(smallest(Case.parse(line), fails, calls=150)) == least


@pytest.mark.parametrize("calls", [0, 1, 7, 20, 100])
def test_calls_are_limited(calls: int):
    """No more calls are made than allowed, no case is asked about twice, and the case at the end fails."""
    asked: list[Case] = []

    def fails(case: Case) -> bool:
        asked.append(case)
        return case.geometry.output_size[1] > 2 and case.weight[0] > 5

    found = smallest(Case.parse(LARGE), fails, calls=calls)
    assert len(asked) <= calls
    assert len(set(asked)) == len(asked)
    assert fails(found)
    assert calls or found == Case.parse(LARGE)


def test_a_case_stays_within_its_law():
    """Only cases that the law is checked on are tried, and the law and the device stay."""
    case = Case.parse("input=1x2x5x5 weight=2x2x3x3 dtype=float16 data=wide law=forward-bound")
    found = smallest(case, lambda _: True, calls=100)
    assert str(found) == f"{POINT} data=normal law=forward-bound"


@pytest.mark.parametrize(
    ("fault", "line", "least"),
    [
        ("misses_last_column", "input=2x3x4x44 weight=5x3x3x3 bias", "input=1x1x1x9 weight=1x1x1x1"),
        ("drops_tail_channels", "input=2x62x5x5 weight=4x31x3x3 groups=2", "input=1x9x1x1 weight=1x9x1x1"),
        ("interleaves_groups", "input=2x12x5x5 weight=24x3x3x3 groups=4", "input=1x2x1x1 weight=4x1x1x1 groups=2"),
        ("transposes_square_kernels", "input=1x3x9x9 weight=4x3x5x5 padding=2", "input=1x1x2x2 weight=1x1x2x2"),
        ("repeats_images_beyond_15", "input=33x2x4x4 weight=2x2x3x3", "input=16x1x1x1 weight=1x1x1x1"),
        (
            "drops_a_tap_under_four_conditions",
            "input=2x6x12x12 weight=6x2x3x3 stride=2 dilation=2 groups=3 bias dtype=float64",
            "input=1x2x1x1 weight=2x1x1x1 stride=2x1 dilation=1x2 groups=2 bias",
        ),
    ],
)
def test_the_smallest_case_of_a_planted_fault(fault: str, line: str, least: str):
    """A large case of a wrong convolution becomes the least case on which its law fails."""
    subject = resolve(f"tests.faults.indexing:{fault}")
    case = Case.parse(f"{line} law=forward-exact")

    def fails(case: Case) -> bool:
        return LAWS["forward-exact"](subject, case).status.is_failure

    assert fails(case)
    assert str(smallest(case, fails, calls=200)) == f"{least} law=forward-exact"
