"""A search goes on beyond the failures that it understands."""

from __future__ import annotations

import re

import pytest
import torch

from tests.helpers.running import hunt
from toeplitz_core import conv2d
from toeplitz_core.testing.laws.verdict import Status


def four_faults(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):  # noqa: ANN001  # F.conv2d's signature
    """Wrong in four ways that are not equally frequent."""
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    if x.ndim == 4 and len(x) == 0:
        return y[:, :, :0]
    if max(stride) > 2:
        y = y + 1
    if groups > 1:
        y = y.clone()
        y[..., -1] = 0
    if x.ndim == 4 and len(x) >= 15:
        raise ValueError("too many images")
    return y


def test_four_faults_are_found_in_one_gate():
    """Each of four faults is shown by its own smallest case; each announced failure is kept."""
    result = hunt(four_faults, failures=6)
    found = {str(failure.case).removesuffix(" law=forward-exact"): failure.message for failure in result.failures}
    assert 4 <= len(found) <= 5, found
    assert any("input=0x" in case for case in found)
    assert any("stride" in case for case in found)
    assert any("groups" in case for case in found)
    assert any("too many images" in message for message in found.values())
    assert result.failure == result.failures[0]
    assert result.cases >= 100


def test_a_failure_that_is_explained_is_not_found_again():
    """A fault is one failure, however many cases show it; the search ends when the cases are judged."""

    def no_groups(*args: torch.Tensor) -> torch.Tensor:
        y = conv2d(*args)
        return y.zero_() if args[-1] > 1 else y

    result = hunt(no_groups, failures=4)
    assert len(result.failures) <= 2, [str(failure.case) for failure in result.failures]
    assert result.cases >= 100
    assert result.counts[Status.FAIL] > 5


def test_what_one_line_raises_is_one_failure():
    """An exception of one line is one failure, even where its smallest cases have nothing else in common."""

    def picky(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):  # noqa: ANN001, ANN202  # as above
        if max(stride) > 1 or max(dilation) > 1 or groups > 1:
            raise ValueError(f"stride {stride}, dilation {dilation} or groups {groups}")
        return conv2d(x, w, b, stride, padding, dilation, groups)

    result = hunt(picky, failures=4)
    assert len(result.failures) == 1, [str(failure.case) for failure in result.failures]
    assert result.cases >= 100


def test_the_number_of_failures_is_limited():
    """The search of a law ends with the stated number of failures."""
    assert len(hunt(four_faults, failures=2).failures) == 2
    assert len(hunt(four_faults).failures) == 1


def test_slow_calls_have_a_remedy(monkeypatch: pytest.MonkeyPatch):
    """If a call takes long, the result has the limit on products that would leave it out."""
    clock = iter(range(10**9))
    monkeypatch.setattr("toeplitz_core.testing.search.search.time.monotonic", lambda: next(clock) * 5.0)
    assert re.search(r"took 5.0 s: --max-products \d+ leaves out", hunt(conv2d).slow)
    monkeypatch.setattr("toeplitz_core.testing.search.search.time.monotonic", lambda: 0.0)
    assert hunt(conv2d, examples=5).slow == ""
