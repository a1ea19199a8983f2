"""Operands that lie against protected pages are the same operands."""

from __future__ import annotations

import mmap
import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES, DTYPES
from toeplitz_core.testing.case.layouts import ALL_LAYOUTS, apply_layout
from toeplitz_core.testing.data.operands import Guard
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.subjects import guard_pages, placement
from toeplitz_core.testing.subjects.guard_pages import guarded, why_not_guarded
from toeplitz_core.testing.subjects.placement import placed

posix = pytest.mark.skipif(os.name != "posix", reason="pages are protected with mprotect")
SIDES: tuple[Literal["before", "behind"], ...] = ("before", "behind")


@posix
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("layout", ALL_LAYOUTS)
@pytest.mark.parametrize("dtype", CASE_DTYPES)
def test_a_guarded_operand_is_equal(dtype: str, layout: str, side: Literal["before", "behind"]) -> None:
    """A guarded copy has the values and the strides of the operand, and touches the page that its side names."""
    values = torch.arange(3 * 2 * 5 * 7).reshape(3, 2, 5, 7).to(DTYPES[dtype].torch)
    laid_out = apply_layout(values, layout)
    copy = guarded(laid_out, Guard(side))
    assert torch.equal(copy, laid_out)
    assert copy.stride() == laid_out.stride()
    assert copy.dtype == laid_out.dtype
    storage = copy.untyped_storage()
    edge = storage.data_ptr() + (0 if side == "before" else storage.nbytes())
    assert edge % mmap.PAGESIZE == 0
    assert copy.data_ptr() % copy.element_size() == 0


@posix
def test_an_operand_without_elements_is_not_guarded() -> None:
    """A tensor without elements has no memory, and stays as it is."""
    empty = torch.empty(0, 2, 3, 3)
    assert guarded(empty, Guard("behind")) is empty


@posix
def test_only_the_named_operands_are_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard puts only the operands that it names against protected pages."""
    case = Case.parse("input=1x1x3x3 weight=1x1x1x1 bias")
    operands = replace(draw(case), guard=Guard("before", operands=("weight",)))
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(placement, "guarded", lambda values, _: seen.append(values) or values)
    placed(case, operands)
    assert [tuple(values.shape) for values in seen] == [case.weight]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="counts the mappings of this process with /proc")
def test_the_memory_of_a_guarded_operand_is_released() -> None:
    """A guarded operand that is no longer used leaves no mapping behind."""
    values, maps = torch.ones(10), Path("/proc/self/maps")
    before = len(maps.read_text().splitlines())
    for _ in range(100):
        guarded(values, Guard("behind"))
    assert len(maps.read_text().splitlines()) < before + 50


def test_where_pages_cannot_be_protected_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of a GPU has no guard, nor has any on a platform without mprotect; both say so."""
    assert "not of cuda" in why_not_guarded("cuda:1")
    monkeypatch.setattr(guard_pages.os, "name", "nt")
    assert "mprotect" in why_not_guarded("cpu")
