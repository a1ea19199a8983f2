"""Scripts that are written in another process, in which a subject's module may do anything."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.reports.page.runs import CASE, finding
from toeplitz_core.testing.findings.reproducer.apart import scripts

# Printing and raising are survived. What ends the process ends it for the scripts that are still missing.
MODULES = {
    "speaking": "print('no script')\nimport torch\ndef conv2d(*of):\n    return torch.conv2d(*of)\n",
    "raising": "raise RuntimeError('not <b>today</b>')\n",
    "ending": "import os\nos._exit(3)\n",
}


def test_scripts_are_written_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each finding gets its script, or a sentence: what a module prints is no script, what it raises is told."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    subjects = ("speaking", "raising", "ending", "speaking")
    found = [replace(finding(), subject=f"{name}:conv2d") for name in subjects]
    relation = finding(case=CASE.replace(law="stride"), subject="speaking:conv2d")
    plain, refused, raised, *rest = scripts([found[0], relation, *found[1:]])
    assert "from speaking import conv2d" in plain.text
    assert "no script" not in plain.text
    assert plain.why == ""
    assert refused.why.startswith("There is no script: law 'stride' compares several calls")
    assert "RuntimeError: not <b>today</b>" in raised.why
    why = "No script was written: the process that imports the subjects ended with exit code 3."
    assert [each.why for each in rest] == [why, why]
    assert not any(each.text for each in (refused, raised, *rest))


def test_no_finding_needs_no_process(monkeypatch: pytest.MonkeyPatch):
    """Without a finding, no process is started."""
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("a process was started"))
    assert scripts([]) == []
