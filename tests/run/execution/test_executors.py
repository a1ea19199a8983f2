"""Judge processes give the same verdicts as one process, and a run that is interrupted or killed ends in order."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.helpers.hostile_laws import made_up
from tests.helpers.paths import CHECKOUT
from tests.helpers.running import Run
from toeplitz_core.testing.checking import check
from toeplitz_core.testing.isolation.sandbox import clear_abandoned_sandboxes
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.reports.files.json import document
from toeplitz_core.testing.run.events import Event, Started, StepEnded, StepStarted
from toeplitz_core.testing.run.execution.executors import JudgeDied, Judges
from toeplitz_core.testing.run.journal import Resumed
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.run.plan import Plan
from toeplitz_core.testing.run.rounds import tasks
from toeplitz_core.testing.run.session import Session
from toeplitz_core.testing.search.effort import PROFILES, Search
from toeplitz_core.testing.search.search import LawError

KERNELS = "tests.run.kernels"
# Two steps: the first ends at once, the second takes long if the subject is slow.
TWO = "--dtype float32 --dtype int64 --law forward-exact --device cpu --seed 3"
PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="not run: needs /proc")
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the command line in a new process session, in an empty directory; kill what is left at the end."""
    all_started: list[subprocess.Popen[str]] = []

    def started(line: str, *, deaf: bool = False) -> subprocess.Popen[str]:
        own = {"TMPDIR": str(tmp_path), "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        # A process inherits ignored interrupts, and this process may ignore them.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN if deaf else signal.default_int_handler)
        running = subprocess.Popen(
            [sys.executable, "-m", "toeplitz_core", *shlex.split(line)],
            cwd=tmp_path,
            env=os.environ | own,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )
        signal.signal(signal.SIGINT, before)
        all_started.append(running)
        return running

    yield started
    for running in all_started:
        if running.poll() is None:  # only if the test has failed
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        for pipe in (running.stdout, running.stderr):
            assert pipe is not None
            pipe.close()


def said(running: subprocess.Popen[str], words: str) -> str:
    """What a process prints, up to the first line with these words."""
    assert running.stdout is not None
    lines = []
    for line in iter(running.stdout.readline, ""):
        lines.append(line)
        if words in line:
            return "".join(lines)
    raise AssertionError(f"it ended without {words!r}: {''.join(lines)}{rest(running)[1]}")


def rest(running: subprocess.Popen[str]) -> tuple[str, str]:
    """The rest of what a process prints on both streams; it is killed after a minute."""
    assert running.stdout is not None
    assert running.stderr is not None
    timer = threading.Timer(60, running.kill)
    timer.start()
    try:
        printed, errors = running.stdout.read(), running.stderr.read()
        running.wait()
    finally:
        timer.cancel()
    return printed, errors


def processes(leader: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # the process has just ended
            continue
        if int(of) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


def assert_nobody_is_left(leader: int) -> None:
    """All processes of a session end soon."""
    deadline = time.monotonic() + 30
    while (left := processes(leader)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def files_of(pids: Iterable[int]) -> set[Path]:
    """The files that these processes have open."""
    found = set()
    for link in (link for pid in pids for link in Path(f"/proc/{pid}/fd").glob("*")):
        with contextlib.suppress(OSError):
            found.add(link.readlink())
    return found


def test_the_same_with_several_jobs():
    """Two judges give the same record as one process, except for the number of jobs."""
    subjects = f"{KERNELS}:right", f"{KERNELS}:no_groups"
    asked = {"dtype": ("float32", "int64"), "law": ("forward-exact", "shift-equivariant"), "device": "cpu", "seed": 3}
    documents, events = [], []
    for jobs in (1, 2):
        session = Session(Options(subject=subjects, examples=20, jobs=jobs, max_failures=1, **asked))
        documents.append(document(session.run(*[events.append] * (jobs == 2))))
        session.close()
        assert documents[-1]["options"].pop("jobs") == jobs
        assert f"--jobs={jobs}" in documents[-1]["options"].pop("command") or jobs == 1
        timing = documents[-1].pop("timing")
        assert len(timing["steps"]) == len(documents[-1]["results"])
        assert 0 < sum(step["seconds"] for step in timing["steps"]) < jobs * timing["seconds"]
    assert documents[0] == documents[1]
    # The results have the plan's order, not the order in which they came.
    assert [r["subject"] for r in documents[1]["results"]] == [name for name in subjects for _ in range(4)]
    assert {r["status"] for r in documents[1]["results"]} == {"pass", "fail"}
    assert_in_order(events)


def assert_in_order(events: list[Event]) -> None:
    """The run starts first. Each task starts once, before its failures, and ends once, after them."""
    assert isinstance(events[0], Started)
    running, ended = set(), set()
    for event in events[1:-1]:
        if isinstance(event, StepStarted):
            assert event.task not in running | ended
            running.add(event.task)
        elif isinstance(event, StepEnded):
            running.remove(event.task)
            ended.add(event.task)
        else:
            assert event.task in running  # type: ignore[union-attr]  # FailureFound
    assert not running
    assert type(events[-1]).__name__ == "Ended"


def plan(*laws: str, **options: object) -> Plan:
    """A plan of made-up laws for our own operator."""
    few = {"dtypes": ["float32", "float64"], "devices": ["cpu"], "effort": Search(PROFILES["gate"], 3)}
    return Plan(subjects=["toeplitz"], laws={law: made_up(law) for law in laws}, **{**few, **options})


def carried_out(by_judges: Plan, count: int, directory: Path) -> Run:
    """Carry out a plan with this number of judges."""
    run = Run(by_judges)
    Judges(by_judges, count, timeout=20, directory=directory).execute(tasks(run.progress), run)
    return run


def test_fail_fast_starts_nothing_more(tmp_path: Path):
    """After the first failure no other step begins; running steps are finished."""
    run = carried_out(plan("fails", "holds", fail_fast=True), 2, tmp_path)
    assert {result.status for result in run.results} == {Status.FAIL}
    started = [event.task for event in run.events if isinstance(event, StepStarted)]
    assert len(started) == len(run.came) <= 2


@pytest.mark.parametrize(
    ("law", "error", "words"),
    [
        ("breaks", LawError, 'law breaks could not judge subject toeplitz on "input='),
        ("dies", JudgeDied, "a judge process was killed or ran out of memory"),
    ],
)
def test_an_error_of_a_judge_is_ours(law: str, error: type[Exception], words: str, tmp_path: Path):
    """An error in a judge is raised in the process that started the run, with its cause."""
    with pytest.raises(error, match=words) as raised:
        carried_out(plan(law, dtypes=["float32"]), 1, tmp_path)
    if error is LawError:
        assert "ZeroDivisionError: a bug in a law, at float32" in "".join(raised.value.__notes__)


@PROC
@pytest.mark.parametrize(("jobs", "number"), [(1, signal.SIGINT), (2, signal.SIGTERM)])
def test_interrupted(start: Start, tmp_path: Path, jobs: int, number: int, monkeypatch: pytest.MonkeyPatch):
    """A signal ends all processes within seconds, with 130. Results are reported, and only the journal is left.

    The resumed run has the same results as an uninterrupted run.
    """
    running = start(f"check {KERNELS}:slow_int64 {TWO} --examples 40 --jobs {jobs} -v --json run.json")
    printed = said(running, "forward-exact float32 cpu: fail")
    os.killpg(running.pid, number)  # as a terminal does
    if number == signal.SIGTERM:
        os.kill(running.pid, number)  # as timeout does
    begin = time.monotonic()
    more, errors = rest(running)
    assert (running.returncode, errors) == (130, "")
    assert time.monotonic() - begin < 4  # the run does not wait for the slow call
    printed += more
    assert f"FAIL {KERNELS}:slow_int64, forward-exact: " in printed
    assert "not run: 1 of 2 (each law with each dtype): interrupted" in printed
    found = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert (found["summary"]["ended"], found["summary"]["exit_code"]) == ("interrupted", 130)
    assert [result["status"] for result in found["results"]] == ["fail", "not-run"]
    assert_nobody_is_left(running.pid)
    (directory,) = (path for path in tmp_path.iterdir() if path.name != "run.json")
    journal = directory / "journal.jsonl"
    assert f"to resume this run: python -m toeplitz_core check --resume {journal}" in printed
    assert [type(event) for event in Resumed.read(journal).events][-1] is StepEnded
    if jobs == 1:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        whole = {"dtype": ("float32", "int64"), "law": "forward-exact", "device": "cpu", "seed": 3, "examples": 40}
        monkeypatch.setattr("tests.run.kernels.time.sleep", lambda _: None)
        _without_worker(journal)
        again = check(resume=str(journal), quiet=True)
        uninterrupted = check(f"{KERNELS}:slow_int64", inline=True, quiet=True, **whole)
        assert document(again)["results"] == document(uninterrupted)["results"]
        assert not directory.exists()


def _without_worker(journal: Path) -> None:
    """Edit the journal so that the resumed run is inline, where its subject does not sleep."""
    lines = journal.read_text(encoding="utf-8").replace('"inline": false', '"inline": true')
    journal.write_text(lines, encoding="utf-8")


@PROC
def test_interrupts_are_ignored_where_they_were(start: Start):
    """A run that is started with SIGINT ignored, as in the background of a script, ignores Ctrl-C."""
    running = start(f"check {KERNELS}:right {TWO} --examples 100 --jobs 2 -v", deaf=True)
    said(running, "forward-exact float32 cpu: pass, 100 cases")
    os.killpg(running.pid, signal.SIGINT)
    printed, errors = rest(running)
    assert running.returncode == 0, errors
    assert "200 cases" in printed


@PROC
def test_a_reader_that_leaves(start: Start, tmp_path: Path):
    """If the reader closes the pipe, as ``head`` does, a run ends silently as if interrupted, and writes its files."""
    line = f"check {KERNELS}:no_groups --dtype float32 --dtype int64 --law forward-exact --law adjoint --device cpu"
    running = start(f"{line} --jobs 1 -v --json run.json")
    said(running, "forward-exact float32 cpu: fail")
    assert running.stdout is not None
    running.stdout.close()
    running.wait(timeout=120)
    assert running.stderr is not None
    assert running.stderr.read() == ""
    assert running.returncode == 130
    found = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert found["summary"]["ended"] == "interrupted"
    assert {"fail", "not-run"} <= {result["status"] for result in found["results"]}
    assert_nobody_is_left(running.pid)


@PROC
@pytest.mark.parametrize(("jobs", "all_at_once"), [(1, True), (2, False)])
def test_killed(start: Start, tmp_path: Path, jobs: int, all_at_once: bool):
    """The journal of a killed run has every announced failure, and its sandboxes are removed.

    The run's own processes remove them, or the next run if these were killed too.
    """
    running = start(f"check {KERNELS}:slow_int64 {TWO} --examples 40 --jobs {jobs}")
    printed = said(running, "FAIL ")
    everybody = processes(running.pid)
    sandboxes = {path.parent for path in files_of(everybody) if path.parent.name.startswith("toeplitz-core-sandbox-")}
    assert sandboxes
    for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none sees another end
        for pid in everybody if all_at_once else [running.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
    assert running.wait(timeout=60) == -signal.SIGKILL
    assert_nobody_is_left(running.pid)
    assert all(path.name.startswith("toeplitz-core-run-") for path in tmp_path.iterdir()), "only the journal is left"
    (journal,) = tmp_path.glob("toeplitz-core-run-*/journal.jsonl")
    ended = [event.result for event in Resumed.read(journal).events if isinstance(event, StepEnded)]
    announced = printed.splitlines()[-1].removesuffix(" ...")
    failures = [result.failure for result in ended if result.failure is not None]
    assert any(
        f"{failure.case.law}: {failure.message}".startswith(announced.partition(", ")[2]) for failure in failures
    )
    left = [path for path in sandboxes if path.exists()]
    if all_at_once:
        assert left
    else:
        assert all(any(path.glob("listener-*")) for path in left), "judges remove all but the socket of their parent"
    time.sleep(2.1)  # a directory this young may be one that is just being made
    clear_abandoned_sandboxes()
    assert not any(path.exists() for path in sandboxes)


@PROC
def test_a_judge_that_dies(start: Start, tmp_path: Path):
    """If a judge process is killed, the run ends with 4; results are printed, with the case that was being judged."""
    running = start(f"check {KERNELS}:kills_its_judge {TWO} --examples 20 --jobs 2 --json run.json")
    printed, errors = rest(running)
    assert running.returncode == 4, errors
    assert "error: a judge process was killed or ran out of memory while it judged input=" in errors
    assert "Traceback" not in errors
    assert "of 2 (each law with each dtype): an error of toeplitz-core" in printed
    found = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert found["summary"]["error"].startswith("JudgeDied: ")
    assert_nobody_is_left(running.pid)
    (directory,) = tmp_path.glob("toeplitz-core-run-*")
    assert any("dtype=int64" in path.read_text(encoding="utf-8") for path in directory.glob("judge-*.case"))
