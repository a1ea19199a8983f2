"""Fork servers are given back by a run and taken by the next, if they can serve it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.paths import CHECKOUT
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.isolation import fork_server, isolated_subject
from toeplitz_core.testing.isolation.fork_server import Child, ForkServer, adopt
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.subjects.interface import Environment

CASE = Case.parse("input=1x1x1x1 weight=1x1x1x1")
PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="not run: needs /proc")
PLAIN, OTHER = Environment(), Environment((("TOEPLITZ_TEST_VALUE", "1"),))


@pytest.fixture
def given_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ForkServer]]:
    """The fork servers that were given back in this test. They are ended after it."""
    servers: list[ForkServer] = []
    monkeypatch.setattr(fork_server, "_GIVEN_BACK", servers)
    monkeypatch.setattr(fork_server, "_TAKEN", [])
    yield servers
    while servers:
        servers.pop().close()


def used(environment: Environment = PLAIN) -> ForkServer:
    """The fork server that a run used and has given back, if it was usable."""
    with Sandbox() as sandbox:
        return sandbox.fork_server(environment)


@pytest.mark.usefixtures("given_back")
def test_the_next_run_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run has the same fork server if the variables are the same: those of its subject and of the judge."""
    first, other = used(), used(OTHER)
    assert other is not first
    assert other.variables["TOEPLITZ_TEST_VALUE"] == "1"
    assert [used(), used(OTHER)] == [first, other]
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "another")
    assert used() is first
    monkeypatch.setenv("TOEPLITZ_TEST_VALUE", "2")
    assert used() not in (first, other)


@pytest.mark.usefixtures("given_back")
def test_two_runs_at_once_have_two() -> None:
    """A fork server serves one run at a time."""
    with Sandbox() as one, Sandbox() as other:
        assert one.fork_server(PLAIN) is not other.fork_server(PLAIN)


PRINTED = "import torch; x = torch.ones(4, 64, 32, 32); torch.conv2d(x, x[0, :, None, :3, :3].expand(64, 64, 3, 3)); "


@PROC
@pytest.mark.usefixtures("given_back")
def test_a_copy_may_have_variables_that_are_read_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy sees its instruction set as a process that started with it; the copied one keeps its own."""
    (tmp_path / "says_isa.py").write_text(f"def says(*_):\n    {PRINTED}raise RuntimeError\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    limited = Environment((("ONEDNN_MAX_CPU_ISA", "SSE41"), ("ONEDNN_VERBOSE", "1")))
    command = [sys.executable, "-c", PRINTED]
    fresh = subprocess.run(
        command, env={**os.environ, **dict(limited.variables)}, capture_output=True, text=True, check=True
    )
    wanted = [line for line in fresh.stdout.splitlines() if ",isa:" in line]
    assert wanted
    with Sandbox() as sandbox:
        plain = sandbox.fork_server(PLAIN)
        copied = sandbox.fork_server(limited)
        said = IsolatedSubject(sandbox, "says_isa:says", limited).run(CASE, draw(CASE)).printed
        assert (plain.process is None, copied.process is None) == (False, True)
        assert parent(copied.pid) == plain.pid
        assert wanted[0] in said
        assert "isa:" not in IsolatedSubject(sandbox, "says_isa:says").run(CASE, draw(CASE)).printed
        assert sandbox.fork_server(Environment((("OMP_NUM_THREADS", "7"),))).process is not None


@pytest.mark.parametrize("how", ["waiting", "killed"])
def test_an_unusable_one_is_ended(how: str, given_back: list[ForkServer]) -> None:
    """A fork server that owes an answer, because of an interrupt, or that has died, is not used again."""
    with Sandbox() as sandbox:
        server = sandbox.fork_server(PLAIN)
        if how == "waiting":
            server.is_waiting = True
        else:
            server.process.kill()
            server.process.wait()
    assert not given_back
    assert server.process.poll() is not None


def test_few_are_kept(given_back: list[ForkServer], monkeypatch: pytest.MonkeyPatch) -> None:
    """If many are given back, the one that was kept longest is ended."""
    monkeypatch.setattr(fork_server, "_KEPT", 1)
    first, second = used(), used(OTHER)
    assert given_back == [second]
    assert first.process.poll() is not None


def test_workers_begin_in_the_directory_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker has the working directory of its run, not that in which the fork server was started."""
    (tmp_path / "places.py").write_text("import os\ndef says(*_):\n    raise RuntimeError(os.getcwd())\n")
    used()
    kept = [*fork_server._GIVEN_BACK]  # some may be of earlier tests
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with Sandbox() as sandbox:
        said = IsolatedSubject(sandbox, "places:says").run(CASE, draw(CASE)).message
        assert sandbox.fork_server(PLAIN) in kept
    assert said == f"raised RuntimeError: {tmp_path}"


def test_no_worker_outlives_its_run() -> None:
    """The workers of a run end with it, although their fork server lives on."""
    with Sandbox() as sandbox:
        pid = IsolatedSubject(sandbox, "torch").start().pid
        server = sandbox.fork_server(PLAIN)
    assert not server.has_died
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_they_end_with_the_process() -> None:
    """When the process ends, so do the fork servers that it keeps."""
    script = (
        "from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject\n"
        "from toeplitz_core.testing.isolation.sandbox import Sandbox\n"
        "from toeplitz_core.testing.subjects.interface import Environment\n"
        "with Sandbox() as sandbox:\n"
        "    IsolatedSubject(sandbox, 'torch').start()\n"
        "    print(sandbox.fork_server(Environment()).process.pid)\n"
    )
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


@PROC
def test_a_copy_serves_another_process(given_back: list[ForkServer]) -> None:
    """A process takes the copy that it was given, whose workers are its own; a copy that was killed is not used."""
    server = ForkServer.taken(PLAIN)
    for copy in (server.copy(), server.copy()):
        adopt(copy)
        with Sandbox() as sandbox:
            worker = IsolatedSubject(sandbox, "torch").start()
            mine = sandbox.fork_server(PLAIN)
            assert mine.pid not in (0, server.pid)
            assert parent(worker.pid) == mine.pid
        assert given_back == [mine]
        os.kill(mine.pid, signal.SIGKILL)
        copy.poll(10)
        assert mine.has_died
        assert not mine.is_usable
        given_back.clear()
    with Sandbox() as sandbox:
        server.give_back()
        assert sandbox.fork_server(PLAIN) is server
        assert IsolatedSubject(sandbox, "torch").run(CASE, draw(CASE)).message == ""


@PROC
def test_a_copy_ends_with_its_connection(given_back: list[ForkServer]) -> None:
    """A copy ends when the process that controls it has ended, and so closed the connection."""
    server = ForkServer.taken(PLAIN)
    copy = server.copy()
    pid = copy.recv()
    assert parent(pid) == server.pid
    copy.close()
    server.close()
    assert given_back == []
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError("it lives")


def parent(pid: int) -> int:
    """The process id of the parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


KERNEL = """
import os, sys

def says(*_):
    with open(f"/proc/{os.getppid()}/cmdline") as file:
        server = file.read().replace(chr(0), " ")
    unwanted = {"hypothesis", "pytest", "rich", "typer"} & sys.modules.keys()
    raise RuntimeError(f"{server}; {os.environ['OMP_WAIT_POLICY']}; {sorted(unwanted)}; {sys.stdin.read()!r}")
"""


@PROC
def test_the_command_line_forks_its_first_one(tmp_path: Path) -> None:
    """It is a copy of the command line before that imported what workers must not have, and ends with it."""
    (tmp_path / "kernels.py").write_text(KERNEL, encoding="utf-8")
    command = [sys.executable, "-m", "toeplitz_core", "replay", str(CASE), "--subject", "kernels:says", "--runs", "1"]
    path = os.pathsep.join((str(CHECKOUT), str(tmp_path)))
    variables = {"PYTHONPATH": path}
    running = subprocess.Popen(
        command, env=os.environ | variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    printed, _ = running.communicate()
    assert running.returncode == 1
    said = " ".join(printed.split())  # long lines are folded
    assert f"-m toeplitz_core replay {CASE} --subject kernels:says" in said
    assert "; PASSIVE; []; ''" in said
    with pytest.raises(ProcessLookupError):  # the fork server has the group of its own
        os.killpg(running.pid, 0)


@pytest.mark.usefixtures("given_back")
@pytest.mark.parametrize("triton", [False, True])
def test_triton_is_left_to_the_subject(triton: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What imports Triton is not imported before a subject: Triton reads its settings when it is imported."""
    source = "import sys\nEARLY = 'torch._dynamo' in sys.modules\ndef says(*_):\n    raise RuntimeError(EARLY)\n"
    (tmp_path / "early.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(isolated_subject, "_is_installed", lambda _: triton)
    with Sandbox() as sandbox:
        subject = IsolatedSubject(sandbox, "early:says")
        messages = [subject.run(CASE, draw(CASE), procedure).message for procedure in ("forward", "vmap", "forward")]
    assert [message[-5:] for message in messages[::2]] == ["False", "False" if triton else " True"]


def test_a_child_has_ended_when_it_was_waited_for() -> None:
    """A forked child is polled, waited for and killed as a Popen is."""
    pid = os.fork()
    if pid == 0:
        time.sleep(60)
        os._exit(3)
    child = Child(pid)
    assert child.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.01)
    child.kill()
    assert child.wait() == child.poll() == -signal.SIGKILL
    child.kill()  # no error after its end


@pytest.mark.parametrize("program", ["", "import toeplitz_core.__main__"])
def test_the_package_imports_torch_at_the_first_name(program: str) -> None:
    """The package alone does not import torch, so that the command line can choose what comes before."""
    script = (
        f"import sys, toeplitz_core; {program or 'pass'}; print('torch' in sys.modules, toeplitz_core.conv2d.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout == "False conv2d\n"
