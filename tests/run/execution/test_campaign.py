"""A run goes on from what earlier runs with the same memory knew, and loses nothing if the memory is lost."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from hypothesis.database import ExampleDatabase, InMemoryExampleDatabase

from toeplitz_core.testing.checking import check
from toeplitz_core.testing.reports import terminal
from toeplitz_core.testing.run import session
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.run.plan import Plan

KERNELS = "tests.run.kernels"
ASKED = {"law": "forward-exact", "dtype": "float32", "device": "cpu", "examples": 30, "inline": True}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory for the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Broken(InMemoryExampleDatabase):
    """A database that can be read and not written, as if its disk were full or its server lost."""

    def save(self, key: bytes, value: bytes) -> None:
        """Raise an error."""
        raise ConnectionError(f"no room for {key!r} {value!r}")


class Silent(InMemoryExampleDatabase):
    """A database that does not say that it stores nothing, as Hypothesis's directory does on a full disk."""

    def save(self, key: bytes, value: bytes) -> None:
        """Store nothing."""


def test_a_bug_is_reported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The second run tries the failing case first, has the finding in one line, and fails all the same."""
    place = str(tmp_path / "memory")
    first = check(f"{KERNELS}:no_groups", memory=place, **ASKED)
    told = capsys.readouterr().out
    assert "cause:" in told
    assert "known to the memory" not in told
    again = check(f"{KERNELS}:no_groups", memory=place, **ASKED)
    told = capsys.readouterr().out
    assert re.search(r"^F1 .* \(known to the memory\)$", told, re.MULTILINE)
    assert "cause:" not in told
    assert [first.exit_code, again.exit_code] == [1, 1]
    assert [finding.id for finding in again.findings] == [finding.id for finding in first.findings]
    assert again.results[0].cases < first.results[0].cases or again.results[0].cases == 30
    assert check(f"{KERNELS}:right", memory=place, quiet=True, **ASKED).exit_code == 0


def test_another_bug_is_reported_in_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A memory of other findings hides nothing."""
    memory = str(tmp_path / "memory")
    check(f"{KERNELS}:no_groups", memory=memory, quiet=True, **ASKED)
    check(f"{KERNELS}:slow_int64", memory=memory, **ASKED)
    told = capsys.readouterr().out
    assert "cause:" in told


def test_an_artifact_is_read_and_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """``readonly:`` is combined with a directory; only the directory changes."""
    check(f"{KERNELS}:no_groups", memory=str(tmp_path / "old"), quiet=True, **ASKED)
    before = {path: path.read_bytes() for path in (tmp_path / "old").rglob("*") if path.is_file()}
    places = [f"readonly:{tmp_path / 'old'}", str(tmp_path / "new")]
    check(f"{KERNELS}:no_groups", memory=places, **ASKED)
    assert "(known to the memory)" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in (tmp_path / "old").rglob("*") if path.is_file()} == before
    assert any((tmp_path / "new").rglob("*"))
    shutil.rmtree(tmp_path / "new")
    check(f"{KERNELS}:right", memory=places[0], **ASKED)
    assert "is not used any more" not in capsys.readouterr().err


@pytest.mark.parametrize("database", [Broken, Silent])
def test_a_lost_memory_is_said_once(
    database: type[ExampleDatabase],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """A memory that cannot be written is said once, and the run has the same findings."""
    monkeypatch.setattr(session, "opened", lambda _: database())
    record = check(f"{KERNELS}:no_groups", memory=str(tmp_path / "m"), **ASKED)
    told = capsys.readouterr()
    assert " ".join(told.err.split()).count("is not used any more: ") == 1
    assert record.exit_code == 1
    assert len(record.findings) == 1
    assert "cause:" in told.out


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("mysql://host", "memory='mysql://host' must be a directory, readonly:DIRECTORY, or redis://HOST:PORT/N"),
        ("readonly:nowhere", "memory='readonly:nowhere' must be a directory that exists"),
        (__file__, "must be a directory, but is a file"),
    ],
)
def test_what_is_no_memory_is_refused(place: str, words: str):
    """The error has the place and the rule."""
    with pytest.raises(ValueError, match=re.escape(words)):
        Options(memory=place)


def test_each_run_of_a_campaign_draws_other_cases(tmp_path: Path):
    """With a memory and a time, the seed is new, unless one is given; a gate with a memory keeps its seed."""
    memory = (str(tmp_path),)
    seeds = {Plan.of(Options(memory=memory, time=5), ["torch"]).seed for _ in range(3)}
    assert len(seeds) == 3
    assert Plan.of(Options(memory=memory, time=5, seed=7), ["torch"]).seed == 7
    assert Plan.of(Options(memory=memory), ["torch"]).seed == 0


def test_a_line_an_hour(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """A run in rounds says every hour what it has covered."""
    monkeypatch.setattr(terminal, "HOUR", 0.5)
    check(f"{KERNELS}:right", time=1.5, **ASKED | {"examples": 3})
    told = re.findall(
        r"^(\d) h: round \d+, [\d,]+ cases, 1 laws? and 1 dtypes?; ", capsys.readouterr().out, re.MULTILINE
    )
    assert told[0] == "1"
    assert len(told) == len(set(told))
