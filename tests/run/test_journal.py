"""The journal of a run: what it contains, and how another run resumes it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.run.test_session import at, options
from toeplitz_core.testing.checking import check
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.run.events import Consumer, Ended, Event, FailureFound, Started, StepEnded
from toeplitz_core.testing.run.execution import judgement
from toeplitz_core.testing.run.journal import KEPT_DAYS, VERSION, Journal, Resumed
from toeplitz_core.testing.run.options import merged_options
from toeplitz_core.testing.run.plan import Task
from toeplitz_core.testing.run.record import Record, result_document
from toeplitz_core.testing.run.session import Session
from toeplitz_core.testing.support import interrupts
from toeplitz_core.testing.support.directories import OwnedDirectory

pytestmark = pytest.mark.usefixtures("made_up_laws")
# Four steps: two fail, two hold.
FOUR = {"dtype": ("float32", "float64"), "seed": 3}


def run(*consumers: Consumer, **more: object) -> Record:
    """The record of a run in this process."""
    return Session(options(**FOUR, **more)).run(*consumers)


def cut(step: int = 2, **more: object) -> Path:
    """The journal of a run that is interrupted after its n-th step."""
    where: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, Started):
            where.append(event.journal)

    assert run(note, at(step, interrupts.request), **more).exit_code == 130
    return Path(where[0])


def resumed(journal: Path, **more: object) -> Record:
    """The record of a resumed run."""
    return check(resume=str(journal), quiet=True, **more)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """The tasks that are judged, as they begin."""
    seen: list[Task] = []
    judge = judgement.judge

    def watched(plan: object, pool: object, task: Task, *more: object) -> Result:
        seen.append(task)
        return judge(plan, pool, task, *more)

    monkeypatch.setattr(judgement, "judge", watched)
    return seen


def test_failures_are_on_disk_when_they_are_announced():
    """When consumers get a failure or the end of a step, it is already the last line of the journal."""
    journal = Path()

    def compare(event: Event) -> None:
        nonlocal journal
        if isinstance(event, Started):
            journal = Path(event.journal)
        elif isinstance(event, FailureFound | StepEnded):
            last = Resumed.read(journal).events[-1]
            assert type(last) is type(event)
            assert (last.task, result_document(last.result)) == (event.task, result_document(event.result))

    assert run(compare).exit_code == 1
    assert not journal.parent.exists()


@pytest.mark.parametrize("step", [1, 2, 4])
def test_a_resumed_run_goes_on(step: int, judged: list[Task], temporary: Path):
    """A resumed run repeats no step and has the results of an uninterrupted run; then the journal is removed."""
    whole = run()
    judged.clear()
    journal = cut(step)
    assert list(temporary.iterdir()) == [journal.parent]
    again = resumed(journal)
    assert len(judged) == len(set(judged)) == 4
    assert [result_document(result) for result in again.results] == [result_document(r) for r in whole.results]
    assert (again.exit_code, again.ended) == (1, "completed")
    differing = {key for key in whole.options if whole.options[key] != again.options[key]}
    assert differing == {"command"}
    assert list(temporary.iterdir()) == []


def test_a_step_that_was_cut_short_is_run_again(judged: list[Task]):
    """A step that was cut short is run again to its end, and its earlier failure is replaced."""
    first: list[Task] = []
    where: list[Path] = []

    def note(event: Event) -> None:
        if isinstance(event, Started):
            where.append(Path(event.journal))
        elif isinstance(event, FailureFound) and not first:
            first.append(event.task)
            interrupts.request()

    assert run(note).exit_code == 130
    whole = run()
    judged.clear()
    assert resumed(where[0]).results == whole.results
    assert judged[0] == first[0]


def test_a_run_may_be_resumed_more_than_once(judged: list[Task], monkeypatch: pytest.MonkeyPatch):
    """A resumed run can be interrupted too; its journal then has the results of both runs."""
    journal = cut(1)
    monkeypatch.setattr(
        "toeplitz_core.testing.reports.files.report_files.JsonReport", lambda _: at(3, interrupts.request)
    )
    assert resumed(journal, json="-").exit_code == 130
    assert len(judged) == 3
    assert resumed(journal).exit_code == 1
    assert len(judged) == len(set(judged)) == 4


def test_a_torn_last_line_is_dropped():
    """An incomplete last line is dropped, and the resumed run appends after the complete lines."""
    journal = cut(2)
    whole = journal.read_text(encoding="utf-8")
    journal.write_text(f'{whole}{{"event": "step en', encoding="utf-8")
    assert len(Resumed.read(journal).events) == len(whole.splitlines()) - 1
    file = Journal(journal)
    assert journal.read_text(encoding="utf-8") == whole
    file.close(keep=True)
    assert resumed(journal).exit_code == 1


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda _: "", ": not a journal: its first line must be the start of a run"),
        (lambda _: "input=1x1x1x1 weight=1x1x1x1\n", ":1: not a line of a journal: Expecting value"),
        (lambda _: "[]\n", ":1: not a line of a journal: list indices"),
        (lambda _: '{"results": []}\n', ":1: not a line of a journal: key 'event' is missing"),
        (
            lambda text: f'{text}{{"event": "stepped"}}\n',
            ":{lines}: not a line of a journal: event='stepped' is unknown",
        ),
        (lambda text: f'{text}{{"event": "failure"}}\n', ":{lines}: not a line of a journal: key 'result' is missing"),
        (lambda text: text.replace('"fail"', '"fial"', 1), ":2: not a line of a journal: 'fial' is not a valid"),
        (
            lambda text: text.replace('"version": 1', '"version": 2'),
            ":1: not a line of a journal: version=2 must be 1",
        ),
        (lambda text: text.replace('"jobs"', '"jbos"'), ":1: not a line of a journal: unknown option 'jbos'; did you"),
    ],
)
def test_what_is_no_journal_is_refused(edit: Callable[[str], str], said: str):
    """A file that is not a journal of this version is an error with the file, the line and the fault."""
    journal = cut(1)
    text = edit(journal.read_text(encoding="utf-8"))
    journal.write_text(text, encoding="utf-8")
    said = f"^{re.escape(str(journal) + said.format(lines=len(text.splitlines())))}"
    with pytest.raises(ValueError, match=said):
        resumed(journal)
    assert VERSION == 1


def test_a_journal_that_is_not_there(tmp_path: Path):
    """If the journal is missing, the error names the file."""
    with pytest.raises(ValueError, match=r"none\.jsonl: .*No such file"):
        resumed(tmp_path / "none.jsonl")


@pytest.mark.parametrize("other", [{"seed": 1}, {"law": "matrix"}, {"subject": "torch"}, {"inline": True}])
def test_other_options_are_refused(other: dict[str, object]):
    """A resumed run keeps its options; other options are refused."""
    journal = cut(1)
    said = f"resume={journal} uses the options of the journal, so it cannot be combined with {', '.join(other)}"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        resumed(journal, **other)


def test_reports_may_be_chosen_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A resumed run writes the reports of the first run, from any directory, or the reports it is given."""
    monkeypatch.chdir(tmp_path)
    journal = cut(1, json="run.json", junit="run.xml")
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    assert resumed(journal, junit="other.xml").exit_code == 1
    assert [path.name for path in elsewhere.iterdir()] == ["other.xml"]
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["summary"]["ended"] == "completed"


@pytest.mark.parametrize(("seed", "profile"), [(0, "nightly"), (None, "nightly"), (0, "gate")])
def test_the_seed_is_kept(seed: int | None, profile: str):
    """A resumed run keeps the seed of the first run, also a drawn seed and a seed of 0."""
    seeds: list[int] = []

    def note(event: Event) -> None:
        if isinstance(event, Started):
            seeds.append(event.plan.seed)

    journal = Journal()
    asked = options(seed=seed, profile=profile, jobs=0, inline=False)
    session = Session(asked)
    event = Started(session.plan, asked, str(journal.path))
    journal(event)
    note(event)
    kept = Resumed.read(journal.path).options
    assert (kept["seed"], kept["profile"], kept["jobs"]) == (seeds[0], profile, 0)
    journal.close(keep=False)


def test_a_run_that_has_not_ended_is_not_resumed():
    """The journal of a running run is refused and left unchanged."""
    journal = Journal()
    session = Session(options())
    journal(Started(session.plan, session.options, str(journal.path)))
    with pytest.raises(ValueError, match="belongs to another process, which has not ended"):
        resumed(journal.path)
    assert journal.path.exists()
    journal.close(keep=False)


def test_a_journal_elsewhere_is_not_removed(tmp_path: Path, temporary: Path):
    """A run that is resumed from a copy of its journal does not remove the copy."""
    journal = cut(1)
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(journal.read_bytes())
    assert resumed(copy).exit_code == 1
    assert len(Resumed.read(copy).events) > len(Resumed.read(journal).events)
    assert list(temporary.iterdir()) == [journal.parent]


def test_old_journals_are_removed(temporary: Path):
    """A run removes old journals, but not the one that it resumes."""
    old, new, asked_for = cut(1), cut(1), cut(1)
    living = OwnedDirectory("run")
    for journal in (old, asked_for):
        for path in (journal, journal.parent / "owner.lock"):
            os.utime(path, (0, path.stat().st_mtime - (KEPT_DAYS + 1) * 24 * 3600))
    assert resumed(asked_for).exit_code == 1
    assert set(temporary.iterdir()) == {new.parent, living.path}
    living.remove()


def test_the_first_part_is_reported_too():
    """The reports of a resumed run include the failures of the first run."""
    journal = cut(1)
    seen: list[Event] = []
    read = Resumed.read(journal)
    record = Session(merged_options(read.options)).run(seen.append, resumed=read)
    assert next(event.task for event in seen if isinstance(event, StepEnded)).step.law == "fails"
    assert isinstance(seen[-1], Ended)
    assert len(record.results) == 4
