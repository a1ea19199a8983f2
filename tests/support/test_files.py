"""Files are written whole, and a path that cannot be written is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from toeplitz_core.testing.support.files import check_writable, write_atomically


def test_file_is_whole_or_as_it_was(tmp_path: Path):
    """A failed write leaves the file unchanged and no other file behind; a link stays a link."""
    path, link = tmp_path / "report", tmp_path / "link"
    write_atomically(path, "old")
    link.symlink_to(path)
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")
    assert path.read_text(encoding="utf-8") == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "report"]
    write_atomically(link, "new")
    assert path.read_text(encoding="utf-8") == "new"
    assert link.is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "report"]


def test_writable(tmp_path: Path):
    """A path that cannot be written is reported before a run, not after it."""
    assert check_writable(tmp_path / "new") == tmp_path / "new"
    with pytest.raises(ValueError, match="is a directory"):
        check_writable(tmp_path)
    with pytest.raises(ValueError, match="must be in a directory that exists"):
        check_writable(tmp_path / "none" / "new")
