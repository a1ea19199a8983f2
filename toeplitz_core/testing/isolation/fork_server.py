"""The process that forks workers: started cleanly with the environment that a subject wants.

It imports torch and computes nothing, so that it has one thread only, and forks workers on request, in milliseconds.
The standard library's own fork server is one per process and keeps the environment of its first start; subjects differ
in theirs.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import Pipe, reduction
from multiprocessing.connection import Connection
from pathlib import Path

from toeplitz_core.testing.isolation.worker import Settings, serve
from toeplitz_core.testing.subjects.interface import Environment
from toeplitz_core.testing.support import interrupts

# Threads of OpenMP that wait for work would take the time that judges and other workers need: let them sleep instead.
# It changes no result, and whoever sets it to something else has that.
DEFAULTS = {"OMP_WAIT_POLICY": "PASSIVE"}
# Seconds in which a fork server ends once its connection is closed.
_PARTING = 10.0
_START = (
    "import sys; sys.path[:] = {path!r}; "
    "from toeplitz_core.testing.isolation.fork_server import main; main({descriptor}, {directory!r})"
)


class ForkServerDied(RuntimeError):  # noqa: N818  # it says what happened
    """The process that starts workers has died."""


class ForkServer:
    """The judge's end of a fork server.

    Parameters
    ----------
    environment : Environment
    directory : path
        What it removes if the judge dies before it.
    """

    def __init__(self, environment: Environment, directory: Path) -> None:
        self._connection, theirs = Pipe()
        self._ready = False
        with theirs:
            path = [entry or os.getcwd() for entry in sys.path]  # noqa: PTH109  # sys.path holds strings
            start = _START.format(path=path, descriptor=theirs.fileno(), directory=str(directory))
            self.process = subprocess.Popen(  # our own interpreter
                [sys.executable, "-c", start],
                stdin=subprocess.DEVNULL,
                env={**DEFAULTS, **os.environ, **dict(environment.variables)},
                pass_fds=[theirs.fileno()],
                process_group=0,  # signals to a group are for the judge, which ends us by hanging up
            )

    @property
    def has_died(self) -> bool:
        """Whether it was killed: it never exits by itself while this process lives."""
        return self.process.poll() is not None

    def fork(self, settings: Settings, connection: Connection) -> int:
        """Fork a worker that answers on a connection; its process id.

        Raises
        ------
        ForkServerDied
        """
        try:
            if not self._ready:
                with interrupts.at_once():
                    self._connection.poll(None)
                self._ready = self._connection.recv()
            self._connection.send(settings)
            reduction.send_handle(self._connection, connection.fileno(), self.process.pid)
            pid: int = self._connection.recv()
        except (EOFError, OSError) as error:
            self._bury()
            raise ForkServerDied(f"the process that starts workers has died: {error!r}") from error
        return pid

    def reap(self, pid: int, timeout: float) -> int | None:
        """The exit code of a worker, negative for a signal; None if it did not end in some seconds and was killed."""
        if self._connection.closed:  # its workers have ended with it
            return None
        try:
            self._connection.send((pid, timeout))
            code: int | None = self._connection.recv()
        except (EOFError, OSError):  # it has died itself, and its workers are nobody's children
            code = None
            self._bury()
            kill_group(pid)
        return code

    def close(self) -> None:
        """End the process, and with it all of its workers, whatever they do."""
        self._connection.close()
        try:
            self.process.wait(_PARTING)
        except subprocess.TimeoutExpired:
            self._bury()

    def _bury(self) -> None:
        self.process.kill()
        self.process.wait()


# What follows runs in the fork server's own process.


def main(descriptor: int, directory: str) -> None:
    """Say that we are there, then fork workers until the judge hangs up.

    ``Settings`` and a connection in, process id out; (process id, seconds) in, and out the exit code, or None if the
    process did not end by itself in that time and was killed.
    """
    control = Connection(descriptor)
    with contextlib.suppress(ImportError):  # torch itself does so at its first gradient: once, and not in each worker
        importlib.import_module("torch.fx.experimental.symbolic_shapes")
    _answer(control, True)
    workers: set[int] = set()
    while True:
        try:
            message = control.recv()
        except (EOFError, OSError):
            # The judge has ended. If it was killed, nobody else ends a worker that hangs, or removes what we shared.
            for pid in workers:
                kill_group(pid)
            shutil.rmtree(directory, ignore_errors=True)
            os._exit(0)  # taking torch apart takes half a second, in which the judge waits
        if isinstance(message, Settings):
            try:
                connection = Connection(reduction.recv_handle(control))
            except (EOFError, OSError, RuntimeError):
                continue  # the judge was interrupted between two messages, and is about to end
            pid = os.fork()
            if pid == 0:
                control.close()
                serve(message, connection)
                os._exit(0)
            connection.close()
            workers.add(pid)
            _answer(control, pid)
        else:
            pid, timeout = message
            status = _exit_status(pid, timeout)
            if status is None:
                kill_group(pid)
                os.waitpid(pid, 0)
            else:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)  # what the dead worker has left behind
            workers.discard(pid)
            _answer(control, None if status is None else os.waitstatus_to_exitcode(status))


def _exit_status(pid: int, timeout: float) -> int | None:
    """What a child process ended with, if it does within some seconds."""
    end = time.monotonic() + timeout
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        if time.monotonic() >= end:
            return None
        time.sleep(0.002)


def kill_group(pid: int) -> None:
    """End a worker and the processes that it has started, if any of them still live."""
    for kill in (os.killpg, os.kill):  # it may not have its group yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _answer(control: Connection, number: int | None) -> None:
    """Send a number to the judge, if it is still there to ask."""
    with contextlib.suppress(BrokenPipeError):
        control.send(number)
