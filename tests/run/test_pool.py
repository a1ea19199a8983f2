"""Judge processes: the same verdicts as one process gives, and an orderly end, whatever ends a run."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hostile_laws import made_up
from tests.paths import CHECKOUT
from toeplitz_core import conv2d
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run import pool
from toeplitz_core.testing.run.executors import JudgeDied, Judges
from toeplitz_core.testing.run.plan import Plan
from toeplitz_core.testing.run.rounds import Run
from toeplitz_core.testing.search.effort import PROFILES
from toeplitz_core.testing.search.search import LawError
from toeplitz_core.testing.subjects import TorchSubject

LAWS = "--law forward-exact --law forward-bound"
KERNELS = """
import os, pathlib, signal, time
from toeplitz_core import conv2d

def right(*args):
    return conv2d(*args)

def no_groups(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    return y.zero_() if groups > 1 else y

def slow_bfloat16(x, *args):
    time.sleep(3 if "bfloat16" in str(x.dtype) else 0)
    return conv2d(x, *args)

def kills_its_judge(x, *args):
    if "bfloat16" in str(x.dtype):
        stat = pathlib.Path(f"/proc/{os.getppid()}/stat").read_text()
        os.kill(int(stat.rpartition(")")[2].split()[1]), signal.SIGKILL)
    return conv2d(x, *args)
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command line in a session of its own, in a directory with implementations; end what has not ended."""
    (tmp_path / "kernels.py").write_text(KERNELS, encoding="utf-8")
    all_started: list[subprocess.Popen[str]] = []

    def started(line: str, *, deaf: bool = False) -> subprocess.Popen[str]:
        room = {"TMPDIR": str(tmp_path), "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        # A process ignores interrupts if the one that starts it does, as ours may.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN if deaf else signal.default_int_handler)
        running = subprocess.Popen(
            [sys.executable, "-m", "toeplitz_core", *shlex.split(line)],
            cwd=tmp_path,
            env=os.environ | room,
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
        if running.poll() is None:  # the test has failed already
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        for pipe in (running.stdout, running.stderr):
            assert pipe is not None
            pipe.close()


def names(directory: Path) -> set[str]:
    """What is in a directory that is also the temporary one; bytecode is Python's matter."""
    return {path.name for path in directory.iterdir()} - {"__pycache__"}


def session(leader: int) -> list[int]:
    """The processes of a session that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has just ended
            continue
        if int(of) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


def assert_nobody_is_left(leader: int) -> None:
    """All processes of a session end soon."""
    deadline = time.monotonic() + 30
    while (left := session(leader)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def test_the_same_with_several_jobs(start: Callable[[str], subprocess.Popen[str]], tmp_path: Path):
    """Two judges come to the verdicts of one, case by case: the JSON is the same but for the number of jobs."""
    line = f"check kernels:right kernels:no_groups --dtype float32 --dtype int64 {LAWS} --device cpu --seed 3"
    documents = []
    for jobs in (1, 2):
        running = start(f"{line} --examples 40 --jobs {jobs} --json jobs{jobs}.json")
        printed, errors = running.communicate(timeout=300)
        assert running.returncode == 1, errors
        document = json.loads((tmp_path / f"jobs{jobs}.json").read_text(encoding="utf-8"))
        assert document["options"].pop("jobs") == jobs
        documents.append(document)
        # The table has the plan's order, whatever came first.
        rows = [row.split()[0] for row in printed.splitlines() if row.startswith(" forward-")]
        assert rows == ["forward-exact", "forward-bound"] * 2
        titles = [row.split()[-3] for row in printed.splitlines() if row.startswith("Held against")]
        assert titles == ["kernels:right", "kernels:no_groups"]
        assert_nobody_is_left(running.pid)
    assert documents[0] == documents[1]
    assert {r["status"] for r in documents[0]["results"]} == {"pass", "fail"}
    assert names(tmp_path) == {"kernels.py", "jobs1.json", "jobs2.json"}


def plan(*laws: str, **options: object) -> Plan:
    """A plan of made-up laws on torch."""
    options = {
        "laws": [made_up(law) for law in laws],
        "dtypes": ["float32", "float64"],
        "devices": ["cpu"],
        "profile": PROFILES["gate"],
        "examples": 3,
    } | options
    return Plan(subjects=[TorchSubject("torch", conv2d)], **options)


def test_fail_fast_starts_nothing_more():
    """After the first failure no other step begins; those that run are waited for."""
    failing = plan("fails", "holds", fail_fast=True)
    with Judges(failing, jobs=2, timeout=20) as judges:
        run = Run(failing, judges)
        assert {r.status for r in run} == {Status.FAIL}
    assert len(run.results) <= 3


@pytest.mark.parametrize(
    ("law", "error", "said"),
    [
        ("breaks", LawError, 'law breaks could not judge subject torch on "input='),
        ("dies", JudgeDied, "a judge process was killed or ran out of memory"),
    ],
)
def test_an_error_of_a_judge_is_ours(
    law: str, error: type[Exception], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What goes wrong in a judge is raised where the run was started, with its cause, after what was found."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # the journal of a judge that was killed stays
    broken = plan("holds", law, dtypes=["float32"])
    with Judges(broken, jobs=2, timeout=20) as judges:
        run = Run(broken, judges)
        with pytest.raises(error, match=said) as raised:
            list(run)
        run.interrupt()
    assert len(run.results) <= 1
    if error is LawError:
        assert "ZeroDivisionError: a bug in a law, at float32" in str(raised.value.__cause__)


@pytest.mark.parametrize("jobs", [1, 2])
def test_interrupted(start: Callable[[str], subprocess.Popen[str]], tmp_path: Path, jobs: int):
    """Ctrl-C ends all processes within seconds with 130, prints what was found, and leaves nothing behind."""
    line = "check kernels:slow_bfloat16 --dtype float32 --dtype bfloat16 --law forward-bound --device cpu --examples 20"
    running = start(f"{line} --jobs {jobs}")
    assert running.stdout is not None
    lines = iter(running.stdout.readline, "")
    assert any("forward-bound float32 cpu: pass, 20 cases" in said for said in lines)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does it
    printed, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert "20 cases; 1 of 1 hold" in printed
    assert "not run: 1 of 2 (each law with each dtype): interrupted" in printed
    assert errors == ""
    assert_nobody_is_left(running.pid)
    assert names(tmp_path) == {"kernels.py"}


def test_interrupted_before_the_judges_are_there(monkeypatch: pytest.MonkeyPatch):
    """An interrupt is also for the steps that judges have not begun yet, for they are still being started."""
    monkeypatch.setattr(pool, "GRACE", 60.0)
    holding = plan("holds")
    with Judges(holding, jobs=2, timeout=20) as judges:
        for step in holding.steps:
            judges.start((0, step))
        assert judges.interrupt() == []
        assert not judges.busy


@pytest.mark.parametrize("jobs", [1, 2])
def test_interrupts_are_ignored_where_they_were(start: Callable[..., subprocess.Popen[str]], jobs: int):
    """Ctrl-C is not for a run that a script has put into the background, where it is started with SIGINT ignored."""
    line = "check kernels:right --dtype float32 --dtype bfloat16 --law forward-bound --device cpu --examples 200"
    running = start(f"{line} --jobs {jobs}", deaf=True)
    assert running.stdout is not None
    assert any("forward-bound float32 cpu: pass, 200 cases" in said for said in iter(running.stdout.readline, ""))
    os.killpg(running.pid, signal.SIGINT)
    printed, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    assert "400 cases; 2 of 2 hold" in printed


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_reader_that_leaves(start: Callable[[str], subprocess.Popen[str]], tmp_path: Path, jobs: int):
    """Where nobody reads any more, as behind ``head``, a run ends as if interrupted: without a word, files written."""
    dtypes = "--dtype float32 --dtype int64 --dtype float64 --dtype bfloat16"
    line = f"check kernels:no_groups kernels:right {dtypes} --law forward-exact --device cpu"
    running = start(f"{line} --jobs {jobs} --examples 300 --json run.json")
    assert running.stdout is not None
    assert any("forward-exact float32 cpu: fail" in said for said in iter(running.stdout.readline, ""))
    running.stdout.close()
    running.wait(timeout=120)
    assert running.stderr is not None
    assert running.stderr.read() == ""
    assert running.returncode == 130
    document = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert document["summary"]["ended"] == "interrupted"
    found = [r["status"] for r in document["results"]]
    assert "fail" in found
    assert "not-run" in found
    assert_nobody_is_left(running.pid)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="not run: a worker finds its judge in /proc")
def test_a_judge_that_dies(start: Callable[[str], subprocess.Popen[str]], tmp_path: Path):
    """A judge process that is killed ends the run with 4: what was found is printed, with the case that it was at."""
    line = "check kernels:kills_its_judge --dtype float32 --dtype bfloat16 --law forward-bound --device cpu"
    running = start(f"{line} --examples 20 --jobs 2 --json run.json")
    printed, errors = running.communicate(timeout=300)
    assert running.returncode == 4, errors
    assert "error: a judge process was killed or ran out of memory: it was at input=" in errors
    assert "Traceback" not in errors
    assert "of 2 (each law with each dtype): an error of toeplitz-core" in printed
    document = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert document["summary"]["error"].startswith("JudgeDied: ")
    assert_nobody_is_left(running.pid)
    (journal,) = tmp_path.glob("toeplitz-core-*.case")
    assert "dtype=bfloat16" in journal.read_text(encoding="utf-8")


def test_jobs_and_inline_exclude_each_other(start: Callable[[str], subprocess.Popen[str]]):
    """A subject in this process cannot be judged by several; that is said before anything runs."""
    running = start("check torch --inline --jobs 2")
    printed, errors = running.communicate(timeout=60)
    assert (running.returncode, printed) == (2, "")
    assert "--jobs 2 needs processes of their own: not with --inline" in errors
