"""Fixtures for tests that run pytest or the command line in a user's directory."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.paths import CHECKOUT
from tests.helpers.projects import KERNELS, KNOWN
from toeplitz_core.testing.decorator import COMMAND_LINE
from toeplitz_core.testing.run.pyproject import VARIABLE


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A directory with a file of implementations and a list of their known failures."""
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "160")
    for variable in (VARIABLE, "PYTEST_ADDOPTS"):
        monkeypatch.delenv(variable, raising=False)
    pytester.makepyfile(kernels=KERNELS)
    pytester.makefile(".toml", known=KNOWN)
    pytester.syspathinsert()
    return pytester


@pytest.fixture
def own_command_line() -> Iterator[None]:
    """Hide the options of this repository's tests from the tests inside these tests."""
    before = COMMAND_LINE.set({})
    yield
    COMMAND_LINE.reset(before)


@pytest.fixture
def own_journals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process keep their journals in the test's directory, and get no subject from the environment."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a file of implementations."""
    (tmp_path / "kernels.py").write_text(KERNELS, encoding="utf-8")
    (tmp_path / "unfinished.py").write_text("def conv2d(:\n", encoding="utf-8")
    (tmp_path / "needy.py").write_text("import no_such_package_of_mine\n", encoding="utf-8")
    (tmp_path / "leaving.py").write_text("raise SystemExit(0)\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path
