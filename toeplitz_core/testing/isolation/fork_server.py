"""The process that forks workers, started afresh with the environment that a subject needs.

It imports torch but computes nothing, so it has only one thread. It forks a worker on request within milliseconds. The
fork server of the standard library cannot be used: there is one per process, and it keeps the environment of its first
start, while each subject may need another environment.

A run gives its fork servers back at its end, and the next run of this process takes them: torch is not imported again.
For the same reason judges in other processes, runs at the same time and most environments take copies of the first one,
which are forked from it.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import signal
import subprocess
import sys
import traceback
from multiprocessing import Pipe, reduction
from multiprocessing.connection import Connection

from toeplitz_core.testing.isolation.forking import exit_code, exit_status, kill_group, run_fork_server
from toeplitz_core.testing.isolation.worker import Settings
from toeplitz_core.testing.subjects.interface import Environment
from toeplitz_core.testing.support import interrupts

# OpenMP threads that wait actively for work would take time from judges and other workers, so they sleep instead. This
# changes no result. A value set by the user takes precedence.
DEFAULTS = {"OMP_WAIT_POLICY": "PASSIVE"}
# Seconds that a fork server has to exit after its connection is closed.
_PARTING = 10.0
_START = (
    "import sys; sys.path[:] = {path!r}; "
    "from toeplitz_core.testing.isolation.forking import run_fork_server; "
    "run_fork_server({descriptor})"
)
# Fork servers that no run uses, the one that was kept longest first. They take seconds to start.
_GIVEN_BACK: list[ForkServer] = []
# Fork servers that a run uses.
_TAKEN: list[ForkServer] = []
# Modules that workers import only if a subject does.
_UNWANTED = {"hypothesis", "pytest"}
# How many of them are kept: two environments, each with and without filled memory.
_KEPT = 4
# Variables that change during a process and do not concern a subject: the name of a test, and the width of a terminal.
_CHANGING = ("PYTEST_CURRENT_TEST", "COLUMNS")
# Variables that are read at the first call of a library, or for a file, a breakpoint or a colour. As a fork server
# computes nothing, its copy may still set them. It has imported all that it needs, and workers get their path.
_READ_LATE = (
    "HOME",
    "JAX_PLATFORMS",
    "ONEDNN_MAX_CPU_ISA",
    "ONEDNN_VERBOSE",
    "PYTEST_DEBUG_TEMPROOT",
    "PYTHONBREAKPOINT",
    "PYTHONPATH",
    "PY_COLORS",
    "TORCHINDUCTOR_CACHE_DIR",
    "USERPROFILE",
)


class ForkServerDied(RuntimeError):  # noqa: N818  # its name says what happened
    """The process that starts workers has died."""


class ForkServer:
    """The judge's end of a fork server.

    Parameters
    ----------
    variables : dict of str to str
        All its environment variables.
    copy : Connection, optional
        The connection to a copy of another fork server with these variables; a new process is started if not given.
    child : Child, optional
        The process of the copy, if this process forked it.
    """

    def __init__(self, variables: dict[str, str], copy: Connection | None = None, child: Child | None = None) -> None:
        self.variables = variables
        self._judge = os.getpid()
        self.pid = 0  # until it is ready
        # Whether a message has been sent whose answer has not come: an interrupt may arrive in between.
        self.is_waiting = False
        self._is_buried = False
        self.process: subprocess.Popen[bytes] | Child | None = child
        if copy is not None:
            self._connection = copy
            return
        self._connection, theirs = Pipe()
        with theirs:
            path = [entry or os.getcwd() for entry in sys.path]  # noqa: PTH109  # sys.path holds strings
            start = _START.format(path=path, descriptor=theirs.fileno())
            self.process = subprocess.Popen(  # our own interpreter
                [sys.executable, "-c", start],
                stdin=subprocess.DEVNULL,
                env=variables,
                pass_fds=[theirs.fileno()],
                process_group=0,  # signals to a group are for the judge, which ends this one by closing the connection
            )

    @classmethod
    def taken(cls, environment: Environment) -> ForkServer:
        """A fork server that another run has given back, or else a copy of one, or else a new one."""
        variables = _variables(environment)
        for server in list(_GIVEN_BACK):
            if server.variables == variables and server.is_usable:
                _GIVEN_BACK.remove(server)
                break
        else:
            server = cls._copied(variables) or cls(variables)
        _TAKEN.append(server)
        return server

    @classmethod
    def _copied(cls, variables: dict[str, str]) -> ForkServer | None:
        """A copy of a fork server that has the same early variables; None if no fork server has."""
        for server in (*_TAKEN, *_GIVEN_BACK):
            if _read_early(server.variables) == _read_early(variables) and server.is_usable:
                with contextlib.suppress(ForkServerDied):
                    return cls(variables, server.copy(variables))
        return None

    def give_back(self) -> None:
        """Keep it for the next run; all its workers have ended. End the one that was kept longest if there are many."""
        if self in _TAKEN:
            _TAKEN.remove(self)
        if not self.is_usable:
            self.close()
            return
        _GIVEN_BACK.append(self)
        if len(_GIVEN_BACK) > _KEPT:
            _GIVEN_BACK.pop(0).close()

    @property
    def is_usable(self) -> bool:
        """Whether it can serve another run: it lives, owes no answer, and is this process's own, not its parent's."""
        return not (self.is_waiting or self._connection.closed or self._judge != os.getpid() or self.has_died)

    @property
    def has_died(self) -> bool:
        """True if it was killed; it never exits by itself while this process lives."""
        if self._is_buried:
            return True
        if self.process is not None:
            return self.process.poll() is not None
        return bool(self.pid) and not self.is_waiting and self._connection.poll()  # it says nothing unasked

    def fork(self, settings: Settings, connection: Connection) -> int:
        """Fork a worker that answers on a connection, and return its process id.

        Raises
        ------
        ForkServerDied
        """
        try:
            self._await()
            self.is_waiting = True
            self._connection.send(settings)
            reduction.send_handle(self._connection, connection.fileno(), self.pid)
            pid: int = self._connection.recv()
            self.is_waiting = False
        except (EOFError, OSError) as error:
            self._bury()
            raise ForkServerDied(f"the process that starts workers has died: {error!r}") from error
        return pid

    def copy(self, variables: dict[str, str] | None = None) -> Connection:
        """A connection to a copy of this process, which ends when the connection is closed everywhere.

        Parameters
        ----------
        variables : dict of str to str, optional
            All environment variables of the copy. They differ from those of this process in some that are read late.

        Raises
        ------
        ForkServerDied
        """
        ours, theirs = Pipe()
        with theirs:
            try:
                self._await()
                self._connection.send(self.variables if variables is None else variables)
                reduction.send_handle(self._connection, theirs.fileno(), self.pid)
            except (EOFError, OSError) as error:
                self._bury()
                raise ForkServerDied(f"the process that starts workers has died: {error!r}") from error
        return ours

    def _await(self) -> None:
        """Wait until it is ready."""
        if not self.pid:
            with interrupts.at_once():
                self._connection.poll(None)
            self.pid = self._connection.recv()

    def reap(self, pid: int, timeout: float) -> int | None:
        """The exit code of a worker, negative for a signal; None if it had to be killed after the timeout."""
        if self._connection.closed:  # its workers ended with it
            return None
        try:
            self.is_waiting = True
            self._connection.send((pid, timeout))
            code: int | None = self._connection.recv()
            self.is_waiting = False
        except (EOFError, OSError):  # the fork server has died, and its workers are orphans
            code = None
            self._bury()
            kill_group(pid)
        return code

    def kill(self, pid: int) -> None:
        """Kill a worker, and do not wait for its end."""
        if self._connection.closed:  # its workers ended with it
            return
        try:
            self._connection.send((pid, None))
        except OSError:  # as in reap
            self._bury()
            kill_group(pid)

    def close(self) -> None:
        """End the process and all of its workers."""
        self._connection.close()
        if self._judge != os.getpid():  # this process was forked by the one that owns it
            return
        if self.process is None:
            return
        if not self.pid:  # it has forked nothing yet, and would finish its imports first
            self._bury()
            return
        try:
            self.process.wait(_PARTING)
        except subprocess.TimeoutExpired:
            self._bury()

    def _bury(self) -> None:
        self._is_buried = True
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        elif self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class Child:
    """A child process that this one forked, with what a ``Popen`` has to end it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        if self._code is None:
            self._code = exit_code(exit_status(self.pid, 0))
        return self._code

    def wait(self, timeout: float = math.inf) -> int:
        """The exit code, once it has ended (``subprocess.TimeoutExpired`` if it has not)."""
        if self._code is None:
            self._code = exit_code(exit_status(self.pid, timeout))
        if self._code is None:
            raise subprocess.TimeoutExpired("fork server", timeout)
        return self._code

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def fork_early() -> None:
    """Fork a fork server from this process, which has imported torch and has computed nothing.

    The next run takes it. Nothing is done where processes cannot be forked, and where modules are imported that workers
    must not have.
    """
    if not hasattr(os, "fork") or not _UNWANTED.isdisjoint(sys.modules):
        return
    ours, theirs = Pipe()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            os.setpgid(0, 0)  # as process_group above
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            run_fork_server(theirs.fileno())
        except BaseException:  # noqa: BLE001  # it must not go on as the command line
            traceback.print_exc()
        os._exit(1)
    theirs.close()
    _GIVEN_BACK.append(ForkServer(_variables(Environment()), ours, Child(pid)))


def adopt(copy: Connection) -> None:
    """Let this process take a copy of another process's fork server instead of starting its own."""
    _GIVEN_BACK.append(ForkServer(_variables(Environment()), copy))


def _variables(environment: Environment) -> dict[str, str]:
    """All variables of a fork server for subjects with an environment."""
    variables = {**DEFAULTS, **os.environ, **dict(environment.variables)}
    for name in _CHANGING:
        variables.pop(name, None)
    return variables


def _read_early(variables: dict[str, str]) -> dict[str, str]:
    """The variables that a process must start with."""
    return {name: value for name, value in variables.items() if name not in _READ_LATE}


@atexit.register
def _close_all() -> None:
    """End the fork servers that no run uses."""
    while _GIVEN_BACK:
        _GIVEN_BACK.pop().close()
