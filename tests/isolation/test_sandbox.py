"""Whatever a subject does to its process, the judge continues and knows what happened."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.helpers.paths import CHECKOUT
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.isolation import isolated_subject, worker_process
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.subjects.interface import Environment
from toeplitz_core.testing.subjects.outcome import described

CASE = Case.parse("input=2x3x8x8 weight=4x3x3x3 bias")
OPERANDS = draw(CASE)


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("segfault", "crashed", "was killed by SIGSEGV"),
        ("abort", "crashed", "was killed by SIGABRT"),
        ("killed", "crashed", "was killed by SIGKILL"),
        ("leave", "crashed", "ended its process with exit code 0"),
        ("give_up", "raised", "raised SystemExit: 3"),
        ("interrupt", "raised", "raised KeyboardInterrupt"),
        ("greedy", "raised", "allocate"),
        ("nothing", "raised", "returned NoneType"),
        ("missing", "raised", "has no 'missing'"),
        ("default_dtype", "spoiled", "the default dtype from torch.float32 to torch.float64"),
        ("flush", "spoiled", "flushing of subnormals from False to True"),
        ("threads", "spoiled", "the number of threads"),
        ("seed", "spoiled", "torch's random state"),
        ("cudnn", "spoiled", "cudnn.benchmark"),
    ],
)
def test_what_a_subject_does_becomes_an_outcome(isolation: Sandbox, name: str, status: str, message: str) -> None:
    """A crash, an exit or a changed global is reported with its cause, and again in a fresh worker."""
    isolated = IsolatedSubject(isolation, f"tests.helpers.hostile:{name}")
    for _ in range(2):
        outcome = isolated.run(CASE, OPERANDS)
        assert outcome.status == status
        assert message in outcome.message
        assert outcome.output is None


def test_a_hang_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that does not return is killed after the timeout, even if it ignores SIGTERM."""
    monkeypatch.setattr(isolated_subject, "FIRST_CALL", 0.5)
    with Sandbox(timeout=0.5) as processes:
        isolated = IsolatedSubject(processes, "tests.helpers.hostile:hang")
        # The first call gets extra time because it may load something; the next first call gets less.
        for seconds in (1, 0.5):
            outcome = isolated.run(CASE, OPERANDS)
            assert (outcome.status, outcome.message) == ("timed out", f"did not return within {seconds} s")


@pytest.mark.parametrize("fork", [True, False])
def test_who_hangs_up_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, fork: bool) -> None:
    """A worker that closes its connection but does not exit is killed."""
    monkeypatch.setattr(worker_process, "PARTING", 0.5)
    with Sandbox(timeout=20) as processes:
        outcome = IsolatedSubject(processes, "tests.helpers.hostile:hang_up", fork=fork).run(CASE, OPERANDS)
    assert (outcome.status, outcome.message) == ("crashed", "closed its connection to the judge and did not exit")


@pytest.mark.parametrize("name", ["kill_parent", "kill_parent_and_leave"])
def test_whoever_forks_workers_may_die(name: str) -> None:
    """The process that forks workers is replaced after it dies, and no files are left behind."""
    with Sandbox(timeout=20) as processes:
        isolated = IsolatedSubject(processes, f"tests.helpers.hostile:{name}")
        for _ in range(2):
            outcome = isolated.run(CASE, OPERANDS)
            assert outcome.status == ("returned" if name == "kill_parent" else "crashed"), outcome.message
            if name == "kill_parent":
                isolated.restart()
        assert IsolatedSubject(processes, "tests.helpers.hostile:correct").run(CASE, OPERANDS).status == "returned"
    assert not processes.directory.exists()


@pytest.mark.parametrize("fork", [True, False])
def test_no_signal_is_held_back_in_a_worker(isolation: Sandbox, fork: bool) -> None:
    """Signals that are blocked while a process starts are unblocked in the worker."""
    outcome = IsolatedSubject(isolation, "tests.helpers.hostile:signals", fork=fork).run(CASE, OPERANDS)
    assert outcome.output is not None
    assert outcome.output.any()


def test_output_is_caught_and_kept(isolation: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    """Output of a subject, from Python or from C, becomes part of its outcome and not of the judge's output."""
    outcome = IsolatedSubject(isolation, "tests.helpers.hostile:talkative").run(CASE, OPERANDS)
    assert outcome.status == "returned"
    assert {"from Python", "from C"} <= set(outcome.printed.splitlines())
    crash = IsolatedSubject(isolation, "tests.helpers.hostile:segfault").run(CASE, OPERANDS)
    assert "the last words" in crash.printed
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_the_worker_is_reused_until_it_dies(isolation: Sandbox) -> None:
    """Calls share a worker; after a crash the next call gets a fresh one and the right result."""
    isolated = IsolatedSubject(isolation, "tests.helpers.hostile:segfault")
    harmless = Case.parse("input=1x1x4x4 weight=1x1x1x1")
    first = isolated._worker
    assert isolated.run(harmless, draw(harmless)).status == "returned"
    kept = isolated._worker
    assert kept is not first
    assert isolated.run(harmless, draw(harmless)).status == "returned"
    assert isolated._worker is kept
    assert isolated.run(CASE, OPERANDS).status == "crashed"
    assert isolated.run(harmless, draw(harmless)).status == "returned"
    assert isolated._worker is not kept


def test_an_interrupt_of_its_own_leaves_the_worker_alive(isolation: Sandbox) -> None:
    """A KeyboardInterrupt that a subject raises does not cost its worker: shrinking may raise hundreds."""
    isolated = IsolatedSubject(isolation, "tests.helpers.hostile:interrupt")
    assert isolated.run(CASE, OPERANDS).status == "raised"
    kept = isolated._worker
    assert kept is not None
    assert isolated.run(CASE, OPERANDS).status == "raised"
    assert isolated._worker is kept


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="not run: no limit of memory on this platform")
def test_a_worker_with_little_memory_left_is_replaced() -> None:
    """A worker is replaced before memory that earlier calls keep makes a call fail, and not sooner."""
    with Sandbox(timeout=20, memory=5 * 2**30) as processes:
        isolated = IsolatedSubject(processes, "tests.helpers.hostile:hoarding")
        workers = []
        for _ in range(8):
            outcome = isolated.run(CASE, OPERANDS)
            assert outcome.status == "returned", outcome.message
            workers.append(isolated._worker)
        assert workers[0] is workers[2]
        assert [worker is None for worker in workers] == [False, False, False, True] * 2


def test_a_batch_that_kills_its_worker_is_told_case_by_case(isolation: Sandbox) -> None:
    """If one of three calls in a message crashes, only that call is reported as crashed."""
    harmless = Case.parse("input=1x1x4x4 weight=1x1x1x1")
    isolated = IsolatedSubject(isolation, "tests.helpers.hostile:segfault")
    cases = [harmless, CASE, harmless]
    outcomes = isolated.run_batch(cases, [draw(case) for case in cases])
    assert [outcome.status for outcome in outcomes] == ["returned", "crashed", "returned"]


def test_the_judge_keeps_its_operands(isolation: Sandbox) -> None:
    """A subject that overwrites its input changes only a copy."""
    before = OPERANDS.input.clone()
    IsolatedSubject(isolation, "tests.helpers.hostile:write_input").run(CASE, OPERANDS)
    assert torch.equal(OPERANDS.input, before)


def test_environments_differ_between_runners(isolation: Sandbox, tmp_path: Path) -> None:
    """Each isolated's processes start with its own environment variables."""
    (tmp_path / "reader.py").write_text(
        "import os, torch\n"
        "def shape(x, w, *rest):\n"
        "    return torch.full((2, 4, 6, 6), float(os.environ.get('TOEPLITZ_TEST_VALUE', '-1')))\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        values = [
            IsolatedSubject(isolation, "reader:shape", Environment((("TOEPLITZ_TEST_VALUE", value),))).run(
                CASE, OPERANDS
            )
            for value in ("1", "2")
        ]
    finally:
        sys.path.remove(str(tmp_path))
    assert [float(outcome.output.flatten()[0]) for outcome in values if outcome.output is not None] == [1.0, 2.0]


@pytest.mark.parametrize(("outside", "inside"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_of_a_worker_sleep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outside: str | None, inside: str
) -> None:
    """OpenMP's threads sleep while they wait in workers, unless the user sets another policy."""
    (tmp_path / "waits.py").write_text(
        "import os\ndef says(*_):\n    raise RuntimeError(os.environ.get('OMP_WAIT_POLICY'))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if outside is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", outside)
    with Sandbox() as processes:
        assert IsolatedSubject(processes, "waits:says").run(CASE, OPERANDS).message == f"raised RuntimeError: {inside}"


def test_workers_can_be_started_without_fork(isolation: Sandbox) -> None:
    """A worker started without fork, as CUDA and some platforms require, gives the same outcomes."""
    isolated = IsolatedSubject(isolation, "tests.helpers.hostile:segfault", fork=False)
    harmless = Case.parse("input=1x1x4x4 weight=1x1x1x1")
    assert isolated.run(harmless, draw(harmless)).status == "returned"
    assert isolated.run(CASE, OPERANDS).message == "was killed by SIGSEGV"


def test_the_case_is_on_disk_before_the_call(tmp_path: Path) -> None:
    """A file names the running case, so it is known after a crash of the judge."""
    last_case = tmp_path / "running.txt"
    with Sandbox(last_case=last_case) as processes:
        IsolatedSubject(processes, "tests.helpers.hostile:abort").run(CASE, OPERANDS)
        assert last_case.read_text() == f"{CASE} # tests.helpers.hostile:abort\n"


@pytest.mark.parametrize("subject", ["torch", "tests.helpers.hostile:hang"])
def test_nothing_is_left_behind(subject: str) -> None:
    """If the judge is killed, no process and no shared file remains, even if a call hangs."""
    script = (
        "import os, signal, threading\n"
        "from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject\n"
        "from toeplitz_core.testing.isolation.sandbox import Sandbox\n"
        "from toeplitz_core.testing.case.case import Case\n"
        "from toeplitz_core.testing.data.recipes import draw\n"
        "case = Case.parse('input=1x1x4x4 weight=1x1x1x1')\n"
        "processes = Sandbox()\n"
        f"isolated = IsolatedSubject(processes, '{subject}')\n"
        "isolated.start()\n"
        "server = processes.fork_server(isolated._environment)\n"
        "print(processes.directory, server.process.pid, isolated._worker.pid, flush=True)\n"
        "threading.Timer(1, os.kill, (os.getpid(), signal.SIGKILL)).start()\n"
        "isolated.run(case, draw(case))\n"
        "threading.Event().wait()\n"
    )
    root = CHECKOUT
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    directory, *rest = done.stdout.split()
    pids = [int(pid) for pid in rest]
    assert len(pids) == 2, done.stderr
    deadline = 50
    while any(_alive(pid) for pid in pids) and deadline:
        deadline -= 1
        subprocess.run(["sleep", "0.1"], check=True)
    assert not any(_alive(pid) for pid in pids)
    assert not Path(directory).exists()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_crash_is_a_verdict(isolation: Sandbox) -> None:
    """The verdict on a crashing subject has the case, the cause and the output."""
    verdict = LAWS["forward-exact"](IsolatedSubject(isolation, "tests.helpers.hostile:segfault"), CASE)
    assert (verdict.status, verdict.message) == (Status.CRASH, "was killed by SIGSEGV")
    assert "the last words" in verdict.printed
    assert verdict.case.law == "forward-exact"


def test_what_a_dead_worker_has_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that a subject started is killed when its worker dies."""
    (tmp_path / "forks.py").write_text(
        "import os, subprocess\n"
        "def leaves(*_):\n"
        f"    child = subprocess.Popen(['sleep', '60'])\n"
        f"    open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "    os.abort()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with Sandbox() as processes:
        assert IsolatedSubject(processes, "forks:leaves").run(CASE, OPERANDS).status == "crashed"
        status = Path(f"/proc/{(tmp_path / 'child').read_text()}/stat")
        # A zombie counts as dead; the signal may take a moment.
        assert any(time.sleep(0.05) or not status.exists() or status.read_text().split()[2] == "Z" for _ in range(100))


def test_an_exception_that_cannot_be_printed_is_an_exception() -> None:
    """An exception whose message cannot be read is reported by its type."""

    class Silent(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError

    assert described(Silent()) == "Silent: its message cannot be read"


IMPORTED = """
import sys
def names(*_):
    raise RuntimeError(" ".join({"hypothesis", "pytest", "_pytest", "rich", "typer"} & sys.modules.keys()))
"""


@pytest.mark.parametrize("fork", [True, False])
def test_a_worker_imports_neither_hypothesis_nor_pytest(
    fork: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers, laws and the matrix import neither Hypothesis nor pytest nor a terminal library."""
    (tmp_path / "imported.py").write_text(IMPORTED)
    monkeypatch.syspath_prepend(str(tmp_path))
    with Sandbox() as processes:
        outcome = IsolatedSubject(processes, "imported:names", fork=fork).run(CASE, OPERANDS)
    assert outcome.message == "raised RuntimeError"
    script = "import sys, toeplitz_core.testing.laws; print(*({'hypothesis', 'pytest', 'rich'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
