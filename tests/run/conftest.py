"""Fixtures for the tests of runs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.helpers.hostile_laws import made_up
from toeplitz_core.testing.laws import LAWS


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test its own directory for temporary files. Interrupted runs leave their journals there."""
    directory = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


@pytest.fixture
def made_up_laws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register two instant laws: ``fails`` and ``holds``."""
    for name in ("fails", "holds"):
        monkeypatch.setitem(LAWS, name, made_up(name))
