"""A run as a stream of events, and its record, however the run ends."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from toeplitz_core.testing.case.layouts import ALL_LAYOUTS
from toeplitz_core.testing.checking import check
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.isolation.isolated_subject import SubjectError
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run.events import (
    Adopted,
    Consumer,
    Ended,
    Event,
    Failed,
    FailureFound,
    Started,
    StepEnded,
    StepStarted,
)
from toeplitz_core.testing.run.execution import judgement
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.run.plan import SAFE_LAYOUTS
from toeplitz_core.testing.run.record import Record
from toeplitz_core.testing.run.session import Session
from toeplitz_core.testing.subjects import TorchSubject
from toeplitz_core.testing.support import interrupts

NO_GROUPS = "tests.run.kernels:no_groups"

pytestmark = pytest.mark.usefixtures("made_up_laws")


def options(**more: object) -> Options:
    """Options of two steps in this process: one fails, one holds."""
    few = {"dtype": "float32", "device": "cpu", "examples": 5, "inline": True}
    return Options(**{"subject": "toeplitz", "law": ("fails", "holds"), **few, **more})


def run(asked: Options, *consumers: Consumer) -> tuple[Record, list[Event]]:
    """The record of a run, and its events."""
    events: list[Event] = []
    session = Session(asked)
    try:
        return session.run(events.append, *consumers), events
    finally:
        session.close()


def at(number: int, action: Callable[[], object], kind: type[Event] = StepEnded) -> Consumer:
    """A consumer that acts at the n-th event of a kind."""
    seen = itertools.count(1)

    def consume(event: Event) -> None:
        if isinstance(event, kind) and next(seen) == number:
            action()

    return consume


def names(events: list[Event]) -> list[str]:
    """The kinds of events, without repetitions in a row."""
    return [name for name, _ in itertools.groupby(type(event).__name__ for event in events)]


def test_the_events_of_a_run(tmp_path: Path):
    """A run starts; each step starts, finds its failures and ends; then failures are adopted, and the run ends."""
    pytest.importorskip("tomlkit", reason="not run: tomlkit, which --write-known needs, is not installed")
    path = tmp_path / "known.toml"
    law = {"law": "forward-exact", "examples": 40}
    record, events = run(options(subject=(NO_GROUPS, "toeplitz"), write_known=str(path), **law))
    steps = ["StepStarted", "FailureFound", "StepEnded", "StepStarted", "StepEnded"]
    assert names(events) == ["Started", *steps, "Adopted", "Ended"]
    started, ended = events[0], events[-1]
    assert isinstance(started, Started)
    assert (started.options.examples, started.plan.seed) == (40, 0)
    assert isinstance(ended, Ended)
    assert ended.record is record
    assert (record.exit_code, record.ended, record.options["seed"]) == (1, "completed", 0)
    found = [event.result.failure for event in events if isinstance(event, FailureFound)]
    (broken,) = (
        event.result for event in events if isinstance(event, StepEnded) and event.task.step.subject == NO_GROUPS
    )
    assert {verdict.status for verdict in found if verdict is not None} == {Status.FAIL}
    assert all(verdict is not None and verdict.message.endswith("(not shrunk to the end)") for verdict in found)
    assert broken in record.results
    assert {found[-1].case} == {broken.failure.case}  # type: ignore[union-attr]  # both fail
    (adopted,) = (event for event in events if isinstance(event, Adopted))
    assert adopted.added == tuple(entry.name for entry in KnownFailures.load(path).entries) != ()


@pytest.mark.parametrize("fail_fast", [False, True])
def test_a_run_may_end_with_its_first_failure(fail_fast: bool):
    """With ``fail_fast`` no step starts after a failure, and the other steps are reported as not run."""
    record, events = run(options(fail_fast=fail_fast))
    assert sum(isinstance(event, StepStarted) for event in events) == (1 if fail_fast else 2)
    assert record.ended == ("stopped at the first failure" if fail_fast else "completed")
    assert [result.message for result in record.unreached] == ["stopped at the first failure"] * fail_fast


def test_an_interrupted_run(tmp_path: Path):
    """An interrupted run records and adopts what was found, also in the step that was cut short; its code is 130."""
    pytest.importorskip("tomlkit", reason="not run: tomlkit, which --write-known needs, is not installed")
    path = tmp_path / "known.toml"
    record, events = run(options(write_known=str(path)), at(1, interrupts.request, FailureFound))
    assert names(events) == ["Started", "StepStarted", "FailureFound", "Adopted", "Ended"]
    assert (record.exit_code, record.ended) == (130, "interrupted")
    (cut,) = record.results
    assert cut.failure is not None
    assert [(r.status, r.message) for r in record.unreached] == [(Status.NOT_RUN, "interrupted")]
    assert len(KnownFailures.load(path).entries) == 1
    interrupts.raise_if_requested()  # the interrupt is handled


def test_an_error_of_our_own(monkeypatch: pytest.MonkeyPatch):
    """An error of our own ends the run with 4 and is reported with its traceback; earlier results are kept."""
    judge, calls = judgement.judge, itertools.count()

    def broken(*args: object) -> object:
        if next(calls):
            raise ZeroDivisionError("a bug")
        return judge(*args)

    monkeypatch.setattr(judgement, "judge", broken)
    record, events = run(options())
    assert names(events) == ["Started", "StepStarted", "FailureFound", "StepEnded", "StepStarted", "Failed", "Ended"]
    assert (record.exit_code, record.ended, record.error) == (4, "error", "ZeroDivisionError: a bug")
    assert [result.status for result in record.results] == [Status.FAIL]
    (failed,) = (event for event in events if isinstance(event, Failed))
    assert failed.error == "ZeroDivisionError: a bug"
    assert "in broken" in failed.traceback


def test_an_error_without_a_traceback(monkeypatch: pytest.MonkeyPatch):
    """If our code is not to blame, only the message is reported."""

    def gone(*_: object) -> None:
        raise SubjectError("subject 'x' is gone")

    monkeypatch.setattr(judgement, "judge", gone)
    record, events = run(options())
    assert Failed("subject 'x' is gone") in events
    assert (record.exit_code, record.error) == (4, "SubjectError: subject 'x' is gone")


def test_a_report_that_fails_costs_no_other():
    """Every consumer gets the end of the run, even if an earlier one raises; then the error is raised."""
    told: list[Event] = []

    def full(event: Event) -> None:
        if isinstance(event, Ended):
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        Session(options()).run(full, told.append)
    assert isinstance(told[-1], Ended)


def test_the_seed_of_a_nightly_run_is_recorded():
    """Without a seed, nightly draws and records one; with that seed, it finds the same again."""
    asked = {"subject": NO_GROUPS, "law": "forward-exact", "profile": "nightly", "examples": 40}
    record, _ = run(options(**asked))
    seed = record.options["seed"]
    assert isinstance(seed, int)
    assert record.options["profile"] == "nightly"
    again = [run(options(**asked, seed=seed))[0].results for _ in range(2)]
    assert again[0] == again[1]


def test_smoke_finds_the_same_in_every_run():
    """Runs of a deterministic profile without a seed have seed 0 and equal results."""
    asked = {"subject": NO_GROUPS, "law": "forward-exact", "profile": "smoke", "examples": None}
    records = [run(options(**asked))[0] for _ in range(2)]
    assert records[0].results == records[1].results
    assert [record.options["seed"] for record in records] == [0, 0]


def test_a_sandbox_that_was_left_is_cleared():
    """A run removes the sandboxes of killed runs, but not those in use."""
    abandoned, used = Sandbox(), Sandbox()
    abandoned._directory.release()
    os.utime(abandoned.directory / "owner.lock", (0, 0))  # the lock of a new one may not be taken yet
    try:
        run(options(subject="toeplitz"))
        assert not abandoned.directory.exists()
        assert used.directory.exists()
    finally:
        used.close()
        abandoned.close()


def test_python_has_the_same_door():
    """``check`` in Python returns the record, and refuses wrong options by their names."""
    asked = {"laws": ["fails", "holds"], "dtypes": "float32", "devices": "cpu", "examples": 5, "inline": True}
    assert check("toeplitz", **asked, quiet=True).results == run(options())[0].results
    with pytest.raises(ValueError, match="unknown option 'lawz'"):
        check("torch", lawz="matrix")
    with pytest.raises(ValueError, match="jobs=2 needs separate processes"):
        check("torch", jobs=2, inline=True)


def test_layouts_by_where_a_subject_runs():
    """Subjects in workers are tested on every layout, subjects in this process only on safe layouts."""
    both = Session(Options(subject=("torch", "here")), {"torch": None, "here": TorchSubject("here", torch.conv2d)})
    assert both.plan.layouts("torch") == ALL_LAYOUTS
    assert both.plan.layouts("here") == SAFE_LAYOUTS
    inline, apart = (Session(Options(subject=("torch",), inline=inline)) for inline in (True, False))
    assert inline.plan.layouts("torch") == SAFE_LAYOUTS
    assert len(inline.left_out) == len(apart.left_out) + len(ALL_LAYOUTS) - len(SAFE_LAYOUTS)
