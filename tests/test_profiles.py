"""Profiles of effort: what is searched again, and where what failed is remembered."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis.database import DirectoryBasedExampleDatabase

from toeplitz_core.testing.profiles import PROFILES, cache_directory


def test_only_a_profile_that_remembers_has_a_database():
    """A failure of last night is tried first tonight; a gate, and a run with a seed, depend on no earlier run."""
    remembering = [name for name, profile in PROFILES.items() if profile.settings().database is not None]
    assert remembering == ["nightly"]
    assert all(profile.settings(seeded=True).database is None for profile in PROFILES.values())


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="not run: the directory has another name here")
def test_database_is_in_the_cache_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is remembered is in the user's cache directory, where a relative one is none, and not where a run starts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "toeplitz-core"
    database = PROFILES["nightly"].settings().database
    assert isinstance(database, DirectoryBasedExampleDatabase)
    assert database.path.is_relative_to(tmp_path)
    for unfit in ("", "cache"):
        monkeypatch.setenv("XDG_CACHE_HOME", unfit)
        assert cache_directory() == Path.home() / ".cache" / "toeplitz-core"
