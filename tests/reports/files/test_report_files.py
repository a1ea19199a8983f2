"""The files of a run: what is wrong with one is said before the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from toeplitz_core.testing.reports.files import report_files as module
from toeplitz_core.testing.reports.files.report_files import report_files
from toeplitz_core.testing.run.options import Options


def test_a_missing_package_is_named_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without jinja2, the option for a page is refused, and the message has the command that installs it."""
    options = Options(subject=("torch",), html=str(tmp_path / "run.html"))
    assert len(report_files(options)) == 1
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"html='.*' needs jinja2: python -m pip install 'toeplitz_core\[html\]'"):
        report_files(options)


@pytest.mark.parametrize("kind", ["json", "junit", "markdown", "html", "write_baseline"])
def test_a_directory_that_does_not_exist_is_named_before_the_run(tmp_path: Path, kind: str):
    """Each file is refused if no file can be written there."""
    with pytest.raises(ValueError, match="must be in a directory that exists"):
        report_files(Options(subject=("torch",), **{kind: str(tmp_path / "none" / "run")}))
