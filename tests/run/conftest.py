"""What the tests of runs share."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.hostile_laws import made_up
from toeplitz_core.testing.laws import LAWS


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for temporary files is the test's own: interrupted runs leave their journals there."""
    directory = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


@pytest.fixture
def made_up_laws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two laws that take no time have names: ``fails`` and ``holds``."""
    for name in ("fails", "holds"):
        monkeypatch.setitem(LAWS, name, made_up(name))
