"""No failure names a value that is not the same each time."""

from __future__ import annotations

import pytest
import torch

from toeplitz_core import conv2d
from toeplitz_core.testing import check
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.search.repetition import without_chance

CASE = Case.parse("input=1x1x4x4 weight=1x1x3x3")
LAW = LAWS["forward-exact"]


class Counting:
    """Adds the number of the call to the result, or always the same."""

    def __init__(self, step: int) -> None:
        self.added, self.step = 1, step

    def __call__(self, *arguments: torch.Tensor) -> torch.Tensor:
        self.added += self.step
        return conv2d(*arguments) + self.added


@pytest.mark.parametrize("step", [0, 1])
def test_a_search_tells_values_that_change_between_runs(step: int):
    """The failure of a search names its value only if another run of the case gives the same."""
    (found,) = check(Counting(step), law=LAW.name, dtype="float32", device="cpu", examples=10, quiet=True).results
    assert found.failure is not None
    assert ("but its value changes between runs" in found.message) == bool(step)
    assert (found.failure.actual is None) == bool(step)


def test_values_that_depend_on_memory_are_not_named():
    """A value that only filled memory changes is not named, in a search and by the law on memory."""
    with Sandbox() as sandbox:
        subject = IsolatedSubject(sandbox, "tests.helpers.hostile:old_memory")
        if not subject.poisoned():
            pytest.skip("memory cannot be filled here")
        verdict = LAW(subject, CASE)
        assert verdict.status.is_failure
        found = without_chance(verdict, LAW, subject, [verdict])
        assert "but its value changes with what new memory held before" in found.message
        stale = LAWS["stale-memory"]
        assert "changes with what new memory held before" in stale(subject, CASE).message
