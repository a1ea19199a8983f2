"""What a fork server does in its own process: it forks workers, waits for their end, and makes copies of itself."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import shutil
import signal
import time
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path

from toeplitz_core.testing.isolation.worker import Settings, serve


def run_fork_server(descriptor: int) -> None:
    """Report that the process is ready, then fork workers until the judge closes the connection.

    For ``Settings`` and a connection, it replies with the process id of a new worker. For (process id, seconds), it
    replies with the exit code of the worker, or None if the worker did not exit in that time and was killed. For
    (process id, None), it kills the worker and does not reply: to wait for its end would take longer than a fork. For
    environment variables and a connection, it makes a copy of itself with these variables that is controlled by that
    connection.
    """
    control = Connection(descriptor)
    _import("torch.fx.experimental.symbolic_shapes")  # for all gradients
    _answer(control, os.getpid())
    workers: set[int] = set()
    dying: set[int] = set()
    directories: set[Path] = set()
    while True:
        try:
            message = control.recv()
        except (EOFError, OSError):
            # The judge has ended. If it was killed, only this process can end hanging workers and remove shared files.
            for pid in workers:
                kill_group(pid)
            for directory in directories:
                shutil.rmtree(directory, ignore_errors=True)
            os._exit(0)  # torch's teardown takes half a second, while the judge waits
        dying = {pid for pid in dying if exit_status(pid, 0) is None}
        if isinstance(message, Settings):
            directories.add(Path(message.shared).parent)
            try:
                connection = Connection(reduction.recv_handle(control))
            except (EOFError, OSError, RuntimeError):
                continue  # the judge was interrupted between two messages and is about to end
            for name in message.imports:
                _import(name)
            # A collection in a worker would write to every object that it shares with this process, and so copy them.
            gc.freeze()
            pid = os.fork()
            if pid == 0:
                control.close()
                serve(message, connection)
                os._exit(0)
            connection.close()
            workers.add(pid)
            _answer(control, pid)
        elif isinstance(message, dict):
            connection = Connection(reduction.recv_handle(control))
            replaced = control if os.fork() == 0 else connection
            replaced.close()
            if replaced is control:
                os.setpgid(0, 0)
                os.environ.clear()
                os.environ.update(message)
                control, workers, dying, directories = connection, set(), set(), set()
                _answer(control, os.getpid())
        else:
            pid, timeout = message
            workers.discard(pid)
            if timeout is None:
                kill_group(pid)
                dying.add(pid)
                continue
            status = exit_status(pid, timeout)
            if status is None:
                kill_group(pid)
                os.waitpid(pid, 0)
            else:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)  # processes that the dead worker left behind
            _answer(control, exit_code(status))


def _import(name: str) -> None:
    """Import what torch imports only when it is needed: once here, and not in each worker."""
    with contextlib.suppress(ImportError):  # another version of torch
        importlib.import_module(name)


def exit_status(pid: int, timeout: float) -> int | None:
    """The exit status of a child process, or None if it does not exit within the timeout."""
    end = time.monotonic() + timeout
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        if time.monotonic() >= end:
            return None
        time.sleep(0.002)


def exit_code(status: int | None) -> int | None:
    """The exit code of a process with this exit status, negative for a signal; None for a process that still runs."""
    return None if status is None else os.waitstatus_to_exitcode(status)


def kill_group(pid: int) -> None:
    """Kill a worker and the processes that it started, if they are still alive."""
    for kill in (os.killpg, os.kill):  # the worker may not have its own group yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _answer(control: Connection, number: int | None) -> None:
    """Send a number to the judge, if it is still connected."""
    with contextlib.suppress(BrokenPipeError):
        control.send(number)
