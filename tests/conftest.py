"""Fixtures for tests that run pytest in a user's directory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.paths import CHECKOUT
from tests.helpers.projects import KERNELS, KNOWN
from tests.helpers.workers import share_fork_servers
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
    share_fork_servers(monkeypatch)
    return pytester


@pytest.fixture
def own_command_line() -> Iterator[None]:
    """Hide the options of this repository's tests from the tests inside these tests."""
    before = COMMAND_LINE.set({})
    yield
    COMMAND_LINE.reset(before)
