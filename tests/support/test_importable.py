"""Importable names of objects, and the directories that make them importable."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from toeplitz_core.testing.subjects import ArraySubject, TorchSubject
from toeplitz_core.testing.support.importable import importable_name, needed_path


def module_level(*args: torch.Tensor) -> torch.Tensor:
    """A function that other processes can import."""
    return torch.conv2d(*args)


SUBJECT = TorchSubject("mine", module_level)


def test_importable_names():
    """Objects of a module have a name, which leads to the same object: functions, classes, subjects."""
    assert importable_name(module_level) == "tests.support.test_importable:module_level"
    assert importable_name(SUBJECT) == "tests.support.test_importable:SUBJECT"
    assert importable_name(ArraySubject) == "toeplitz_core.testing.subjects.arrays:ArraySubject"
    assert importable_name(torch.nn.functional.conv2d) == "torch:conv2d"

    def module_level_(*args: torch.Tensor) -> torch.Tensor:
        return torch.conv2d(*args)

    module_level_.__qualname__ = "module_level"
    for without in (module_level_, lambda: 0, TorchSubject("mine", module_level)):
        assert importable_name(without) is None


def test_a_module_that_is_not_on_the_path_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """If the path leads to another module or to none, the object has no name."""
    import importlib.util

    file = tmp_path / "somewhere" / "colorsys_of_mine.py"
    file.parent.mkdir()
    file.write_text("def f(): pass\n", encoding="utf-8")
    for name in ("colorsys_of_mine", "colorsys"):
        spec = importlib.util.spec_from_file_location(name, file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        assert importable_name(module.f) is None
    monkeypatch.syspath_prepend(file.parent)
    monkeypatch.delitem(sys.modules, "colorsys")
    assert importable_name(sys.modules["colorsys_of_mine"].f) == "colorsys_of_mine:f"
    assert needed_path("colorsys_of_mine:f") == str(file.parent)
    monkeypatch.chdir(tmp_path)
    assert needed_path("colorsys_of_mine:f") == "somewhere"
    monkeypatch.chdir(file.parent)
    assert needed_path("colorsys_of_mine:f") is None
    for name in ("torch", "torch:conv2d", "no_such_module_of_mine:f", "math:sqrt", "colorsys:rgb_to_hsv"):
        assert needed_path(name) is None
