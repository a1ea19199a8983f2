"""What is left of a worker that died: where it crashed, and what it printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.isolation.worker import PRINTED, printed_since

CASE = Case.parse("input=1x1x4x4 weight=1x1x3x3")


@pytest.mark.parametrize("fork", [True, False])
def test_a_crash_says_which_line_called_it(isolation: Sandbox, fork: bool):
    """After a crash in C, the outcome has the Python frame that called it, and none of the worker's."""
    outcome = IsolatedSubject(isolation, "tests.helpers.hostile:segfault", fork=fork).run(CASE, draw(CASE))
    assert outcome.status == "crashed"
    first, source = outcome.traceback.splitlines()[1:3]
    assert first.startswith('  File "')
    assert first.endswith(", in segfault")
    assert source == "    ctypes.string_at(0)"
    assert "worker.py" not in outcome.traceback


def test_what_an_earlier_call_printed_is_not_that_of_a_crash(isolation: Sandbox):
    """The printed text of a crash begins with the call that crashed."""
    subject = IsolatedSubject(isolation, "tests.helpers.hostile:segfault")
    harmless = Case.parse("input=1x1x4x4 weight=1x1x1x1")
    assert subject.run(harmless, draw(harmless)).printed == "called with 1\n"
    assert subject.run(CASE, draw(CASE)).printed.splitlines() == ["called with 3", "the last words"]


def test_long_output_keeps_its_beginning_and_its_end(tmp_path: Path):
    """Of a long text the beginning and the end are kept, and the number of bytes between them."""
    log = tmp_path / "log"
    log.write_text("earlier" + "first" + "." * 10 * PRINTED + "last", encoding="utf-8")
    text = printed_since(log, len("earlier"))
    assert text.startswith("first")
    assert text.endswith("last")
    assert f"[... {9 * PRINTED + 9} bytes left out ...]" in text
    assert printed_since(log, log.stat().st_size - 4) == "last"
    assert printed_since(tmp_path / "removed", 0) == ""
