"""What a failure needs: boundaries of single parameters, relations, and the cost of finding them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.sizes.boundaries import needs
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.subjects import resolve

POINT = "input=1x1x1x1 weight=1x1x1x1"


@pytest.mark.parametrize(
    ("line", "fails", "needed"),
    [
        (POINT, lambda _: True, ""),
        (
            "input=1x1x1x5 weight=17x1x1x1",
            lambda c: c.weight[0] > 16 and c.geometry.output_size[1] > 4,
            "out_channels >= 17, output width >= 5",
        ),
        ("input=1x1x1x7 weight=1x1x1x1", lambda c: c.geometry.input_size[1] > 6, "input width >= 7"),
        ("input=1x9x1x1 weight=1x9x1x1", lambda c: c.geometry.in_channels > 8, "in_channels >= 9"),
        ("input=1x9x1x1 weight=1x9x1x1", lambda c: c.weight[1] > 8, "group_channels >= 9"),
        (POINT, lambda c: c.batch in (1, None), "batch == 1"),
        (POINT, lambda c: c.geometry.kernel_size[0] < 4, "kernel height <= 3"),
        (POINT, lambda c: not c.bias and c.groups < 3, "no bias, groups <= 2"),
        ("input=1x2x1x1 weight=2x1x1x1 groups=2", lambda c: c.groups > 1, "groups > 1"),
        ("input=1x1x1x2 weight=1x1x1x2", lambda c: max(c.geometry.kernel_size) > 1, "largest kernel > 1"),
        (
            "input=1x1x2x1 weight=1x1x1x1 stride=1x2",
            lambda c: c.geometry.stride[0] != c.geometry.stride[1],
            "stride[0] != stride[1]",
        ),
        (
            "input=1x1x2x2 weight=1x1x2x2",
            lambda c: c.geometry.kernel_size[0] == c.geometry.kernel_size[1] > 1,
            "kernel width > 1, kernel height == kernel width",
        ),
        (
            "input=1x1x1x1 weight=9x1x1x1",
            lambda c: c.weight[0] > 8 and c.weight[0] % 8 != 0,
            "out_channels >= 9, out_channels % 8 != 0",
        ),
        ("input=1x1x1x5 weight=1x1x1x1", lambda c: c.geometry.output_size[1] % 8 == 5, "output width % 8 == 5"),
        ("input=1x1x1 weight=1x1x1x1", lambda c: c.batch is None, "no batch axis"),
        (f"{POINT} dtype=float64", lambda c: c.dtype in ("float64", "float16"), "dtype float64 or float16"),
        (
            f"{POINT} layout.input=channels_last",
            lambda c: c.layout("input") == "channels_last",
            "input layout channels_last",
        ),
        (f"{POINT} padding=0x2", lambda c: c.geometry.pads[1][0] > 1, "padding[1] >= 2"),
    ],
)
def test_needs_are_the_conditions_of_the_failure(line: str, fails: Callable[[Case], bool], needed: str):
    """The needs are the parts of the predicate, in words, and hold for the case."""
    case = Case.parse(line)
    found = needs(case, fails, calls=300)
    assert ", ".join(map(str, found)) == needed
    assert all(need.holds(case) for need in found)


def test_what_nothing_is_known_of_is_no_need():
    """A dtype, a bias or a batch that a subject does not support, so that it neither fails nor holds, is no need."""

    def fails(case: Case) -> bool | None:
        if case.dtype == "float16" or case.bias or case.batch != 1:
            return None
        return case.weight[0] > 16

    found = needs(Case.parse("input=1x1x1x1 weight=17x1x1x1"), fails, calls=300)
    assert [str(need) for need in found] == ["out_channels >= 17"]


@pytest.mark.parametrize("calls", [0, 1, 10, 50])
def test_calls_are_limited(calls: int):
    """No more calls are made than allowed, and no case is asked about twice."""
    asked: list[Case] = []

    def fails(case: Case) -> bool:
        asked.append(case)
        return case.weight[0] > 16

    needs(Case.parse("input=1x1x1x1 weight=17x1x1x1"), fails, calls=calls)
    assert len(asked) <= calls
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize(
    ("fault", "line", "needed"),
    [
        ("misses_last_column", "input=1x1x1x9 weight=1x1x1x1", {"output width >= 9", "output width % 8 != 0"}),
        ("repeats_images_beyond_15", "input=16x1x1x1 weight=1x1x1x1", {"batch >= 16"}),
        ("interleaves_groups", "input=1x2x1x1 weight=4x1x1x1 groups=2", {"groups > 1", "out_channels > groups"}),
        (
            "ignores_dilation",
            "input=1x1x1x3 weight=1x1x1x2 dilation=1x2",
            {"largest kernel > 1", "largest dilation > 1"},
        ),
        ("shifts_padding", f"{POINT} padding=0x1", {"padding[1] > 0"}),
    ],
)
def test_needs_of_a_planted_fault(fault: str, line: str, needed: set[str]):
    """What a wrong convolution needs is what its code asks for."""
    subject = resolve(f"tests.faults.indexing:{fault}")

    def fails(case: Case) -> bool:
        return LAWS["forward-exact"](subject, case).status.is_failure

    assert needed == {str(need) for need in needs(Case.parse(f"{line} law=forward-exact"), fails, calls=300)}
