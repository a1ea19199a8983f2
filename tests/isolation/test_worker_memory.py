"""Workers whose new memory is filled, so that a result of stale memory shows."""

from __future__ import annotations

import platform
from dataclasses import replace

import pytest
import torch

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.isolation import worker_memory
from toeplitz_core.testing.isolation.isolated_subject import POISONS, IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.subjects.outcome import OUTPUT

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory is filled by glibc")


@glibc
def test_who_cannot_poison_memory_says_so(isolation: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """If memory cannot be filled, the law stale-memory is unsupported."""
    isolated = IsolatedSubject(isolation, "tests.helpers.hostile:correct")
    case = Case.parse("input=2x3x8x8 weight=4x3x3x3 bias law=stale-memory")
    assert LAWS["stale-memory"](isolated, case).status is Status.PASS
    for poisoned in isolated.poisoned():
        handshake = poisoned._handshake
        assert handshake is not None
        monkeypatch.setattr(poisoned, "_handshake", replace(handshake, poisoned=False))
    verdict = LAWS["stale-memory"](isolated, case)
    assert verdict.status is Status.UNSUPPORTED
    assert "glibc" in verdict.message


def test_memory_that_is_not_filled_is_not_called_poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """``poison`` checks whether the C library really fills memory."""
    monkeypatch.setattr(worker_memory, "_M_PERTURB", 2**20)  # not a parameter of that library
    assert not worker_memory.poison(POISONS[0])


@glibc
@pytest.mark.parametrize("fault", ["stale_blocks", "stale_arrays"])
def test_small_memory_is_poisoned_too(isolation: Sandbox, fault: str) -> None:
    """Small blocks from the caches of the C library and of NumPy are filled too."""
    isolated = IsolatedSubject(isolation, f"tests.helpers.hostile:{fault}")
    case = Case.parse("input=1x1x10x10 weight=1x1x1x1")
    for poisoned, byte in zip(isolated.poisoned(), POISONS, strict=True):
        for _ in range(3):
            values = poisoned.run(case, draw(case)).results[OUTPUT].view(torch.uint8)
            assert (values == byte ^ 0xFF).all(), values


@glibc
@pytest.mark.parametrize("fork", [True, False])
def test_poisoned_memory_holds_the_complement_of_the_byte(isolation: Sandbox, fork: bool) -> None:
    """New memory of each poisoned worker is filled with the complement of its byte, with and without fork."""
    isolated = IsolatedSubject(isolation, "tests.helpers.hostile:stale", fork=fork)
    large = Case.parse("input=1x1x512x512 weight=1x1x1x1")
    for poisoned, byte in zip(isolated.poisoned(), POISONS, strict=True):
        for _ in range(2):
            values = poisoned.run(large, draw(large)).results[OUTPUT].view(torch.uint8)
            assert (values == byte ^ 0xFF).all()
