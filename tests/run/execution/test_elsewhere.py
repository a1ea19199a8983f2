"""An executor judges as this process does; a worker that dies loses nothing, and other versions are refused."""

from __future__ import annotations

import multiprocessing
import pickle
import re
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from toeplitz_core.testing.checking import check
from toeplitz_core.testing.reports.files.json import document
from toeplitz_core.testing.run.execution import distant_judge, elsewhere
from toeplitz_core.testing.run.execution.executors import JudgeDied
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.run.plan import Plan, Task
from toeplitz_core.testing.run.record import Record
from toeplitz_core.testing.run.rounds import Progress, tasks

HERE = "tests.run.execution.test_elsewhere"
KERNELS = "tests.run.kernels"
ASKED: dict[str, Any] = {
    "dtype": ("float32", "int64"), "law": ("forward-exact", "shift-equivariant"), "device": "cpu", "seed": 3,
    "examples": 12, "quiet": True,
}  # fmt: skip


def two_processes() -> Executor:
    """An executor of the standard library."""
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


def one_thread() -> Executor:
    """An executor in this process."""
    return ThreadPoolExecutor(1)


def nothing() -> None:
    """No executor."""


def comparable(record: Record) -> dict[str, Any]:
    """A record without what differs between executors."""
    found = document(record)
    del found["timing"], found["options"], found["environment"]
    return found


def test_the_same_on_an_executor_and_after_the_death_of_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A worker that is killed in mid-run changes no result and no count."""
    monkeypatch.setenv("TOEPLITZ_TEST_MARK", str(tmp_path / "killed"))
    subject = f"{KERNELS}:kills_its_judge_once"
    there = check(subject, executor=f"{HERE}:two_processes", **ASKED)
    assert (tmp_path / "killed").exists()
    here = check(subject, **ASKED)
    assert comparable(there) == comparable(here)
    assert here.findings


def test_a_task_that_kills_every_worker_ends_the_run(tmp_path: Path):
    """After three deaths, a task is not given out again, and the run ends with 4 and names it."""
    record = check(
        f"{KERNELS}:kills_its_judge",
        executor=f"{HERE}:two_processes",
        **ASKED | {"law": "forward-exact", "jobs": 1, "json": str(tmp_path / "run.json")},
    )
    assert (record.exit_code, record.ended) == (4, "error")
    assert record.error.startswith(f"{JudgeDied.__name__}: {HERE}:two_processes: its workers died 3 times while they")
    assert [result.status.value for result in record.results] == ["pass"]


@pytest.mark.parametrize("package", ["toeplitz_core", "torch", "numpy", "hypothesis", "Python"])
def test_other_versions_are_refused_by_name(package: str):
    """A worker with another version judges nothing, and says which version it has."""
    own = distant_judge.versions()
    answer = distant_judge.judged({**own, package: "0.0.1"}, b"not read", b"not read")
    assert (answer.result, answer.versions) == (None, {package: own[package]})


def test_the_run_ends_at_a_worker_with_another_version(monkeypatch: pytest.MonkeyPatch):
    """The error names the worker, the package and both versions."""
    plan = Plan.of(Options(law="matrix", dtype="float32", device="cpu"), ["toeplitz"])
    team = elsewhere.Elsewhere(plan, f"{HERE}:one_thread", None, timeout=10)
    monkeypatch.setattr(distant_judge, "versions", lambda: {**team._versions, "torch": "0.1"})
    with pytest.raises(elsewhere.ExecutorLost, match=r"worker of .*one_thread \(.*, process \d+\) has torch 0.1 inste"):
        team.execute(tasks(Progress(plan)), lambda _: None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cluster", "executor='cluster' must be local, dask://HOST:PORT, or module:callable"),
        ("dask://host", "executor='dask://host' must be local, dask://HOST:PORT"),
        ("no_such_module:pool", "executor='no_such_module:pool' cannot be made: ModuleNotFoundError"),
        (f"{HERE}:nothing", "must return a concurrent.futures.Executor, but returns NoneType"),
    ],
)
def test_what_is_no_executor_is_refused_before_the_run(name: str, words: str):
    """The error has the name and what it must be."""
    with pytest.raises(ValueError, match=re.escape(words)):
        check("toeplitz", executor=name, **ASKED)


def test_an_executor_takes_no_inline_subject():
    """A subject in this process cannot be judged elsewhere, and the error says so."""
    with pytest.raises(ValueError, match="executor=a:b judges elsewhere, so it cannot be combined with inline"):
        Options(executor="a:b", inline=True)
    with pytest.raises(ValueError, match=r"executor=a:b needs subjects that another process can import, but .*lambda"):
        check(lambda *args: args, executor="a:b", **ASKED)


def test_an_error_of_a_law_is_raised_here():
    """What is raised in a worker ends the run, with the traceback of the worker."""
    plan = Plan.of(Options(law="matrix", dtype="float32", device="cpu"), ["toeplitz"])
    (step,) = plan.steps
    answer = distant_judge.judged(distant_judge.versions(), b"no pickle", pickle.dumps(Task(step)))
    assert answer.error is not None
    with pytest.raises(pickle.UnpicklingError) as raised:
        answer.error.reraise()
    assert "distant_judge.py" in "".join(raised.value.__notes__)
