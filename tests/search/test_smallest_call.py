"""The smallest call of a failure: arguments left out, and sizes of 1, alone and together."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.search.smallest_call import smallest_call


@pytest.mark.parametrize(
    ("line", "fails", "least"),
    [
        (
            "input=float32[2x18x4x5] weight=float32[3x6x2x2] bias=float32[3]@meta stride=(1,2) groups=3",
            lambda call: "@meta" in call.bias,
            "call input=float32[1x1x1x1] weight=float32[1x1x1x1] bias=float32[1]@meta",
        ),
        (
            "input=float32[2x4x9x9] weight=float32[3x4x3x3] dilation=2",
            lambda call: call["input"].shape[1] == call["weight"].shape[1] > 3,
            "call input=float32[1x4x1x1] weight=float32[1x4x1x1]",
        ),
        (
            "input=float32[0x4x9x9] weight=float32[3x4x3x3] padding='same'",
            lambda call: call["input"].shape[0] == 0 and call.padding == "'same'",
            "call input=float32[0x1x1x1] weight=float32[1x1x1x1] padding='same'",
        ),
    ],
)
def test_the_smallest_call_has_nothing_that_the_failure_does_not_need(
    line: str, fails: Callable[[Call], bool], least: str
):
    """What can be left out or made 1 is, also where sizes and groups must agree."""
    assert str(smallest_call(Call.parse(line), fails, calls=300)) == least


def test_no_more_calls_than_allowed():
    """Each call is asked about once, and no more than allowed."""
    asked: list[Call] = []
    smallest_call(
        Call.parse("input=float32[2x18x4x5] weight=float32[3x6x2x2]"), lambda call: asked.append(call) or True, calls=3
    )
    assert len(asked) == len(set(asked)) <= 3
