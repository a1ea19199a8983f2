"""The judge's end of one worker process: it starts the process, asks it, and ends it."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.isolation.fork_server import ForkServer, ForkServerDied
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.isolation.transport import Channel
from toeplitz_core.testing.isolation.worker import (
    Handshake,
    Replies,
    Request,
    Settings,
    crash_file,
    printed_bytes,
    printed_since,
    serve,
)
from toeplitz_core.testing.subjects.frames import traceback_of_crash
from toeplitz_core.testing.subjects.interface import Environment
from toeplitz_core.testing.subjects.symptom import Symptom
from toeplitz_core.testing.support import interrupts
from toeplitz_core.testing.support.importable import without_main

# Extra seconds for the first call of a worker, which may import a package or compile.
FIRST_CALL = 60.0
# Seconds that a worker has to exit after it closed its connection. A dead one has exited; Python may need to clean up.
PARTING = 2.0


@dataclass(frozen=True, slots=True)
class Death:
    """Why a worker did not answer: it could not start, the call ended it, or the call timed out.

    Parameters
    ----------
    status : str
        ``raised`` if it could not start, ``crashed`` if the call ended it, or ``timed out``.
    message : str
        What happened, as text for reports.
    printed : str
        What the worker wrote to its standard streams during the call.
    traceback : str
        The frames of the subject in which it crashed, if Python could write them.
    symptom : Symptom
        A crash by a signal, an exit, or a hang.
    """

    status: Literal["raised", "crashed", "timed out"]
    message: str
    printed: str = ""
    traceback: str = ""
    symptom: Symptom = Symptom.OTHER


class WorkerProcess:
    """The judge's end of one worker process."""

    def __init__(self, sandbox: Sandbox, settings: Settings, environment: Environment, *, fork: bool) -> None:
        self._log = Path(settings.log)
        self._server: ForkServer | None = None
        self._process = None
        self._is_idle = False
        # Whether it was asked before: the first call may take longer.
        self.was_asked = False
        ours, theirs = multiprocessing.Pipe()
        self._channel = Channel(ours, settings.shared)
        with theirs:
            if fork:
                try:
                    self._fork(sandbox, settings, environment, theirs)
                except ForkServerDied:
                    self._channel.close()
                    raise
            else:
                self._process = multiprocessing.get_context("spawn").Process(
                    target=serve, args=(settings, theirs, environment.variables), daemon=True
                )
                with interrupts.blocked(), without_main():
                    self._process.start()

    def _fork(self, sandbox: Sandbox, settings: Settings, environment: Environment, theirs: Connection) -> None:
        self._server = sandbox.fork_server(environment)
        try:
            self.pid = self._server.fork(settings, theirs)
        except ForkServerDied:  # the worker before may have killed it
            self._server = sandbox.fork_server(environment)
            self.pid = self._server.fork(settings, theirs)

    def handshake(self) -> Handshake:
        """Wait until the subject is imported."""
        try:
            with interrupts.at_once():
                there = self._channel.poll(FIRST_CALL)
            if not there:
                return Handshake(error=f"the import did not finish within {FIRST_CALL:g} s")
            said: Handshake = self._channel.recv()
        except (EOFError, OSError):
            return Handshake(error=f"the import {_death(self._end(PARTING))}\n{printed_since(self._log, 0)}".rstrip())
        return said

    def ask(self, requests: Sequence[Request | Call], limit: float) -> Replies | Death:
        """The replies, or the reason why the worker did not answer."""
        begin = printed_bytes(self._log)
        self._is_idle, self.was_asked = False, True
        try:
            self._channel.send(requests)
            with interrupts.at_once():
                there = self._channel.poll(limit)
            if not there:
                message, printed = f"did not return within {limit:g} s", printed_since(self._log, begin)
                return Death("timed out", message, printed, symptom=Symptom.HANG)
            replies: Replies = self._channel.recv()
        except (EOFError, OSError):
            code = self._end(PARTING)
            symptom = Symptom.EXIT if code is not None and code >= 0 else Symptom.CRASH
            return Death("crashed", _death(code), printed_since(self._log, begin), self._crashed_in(), symptom)
        self._is_idle = True
        return replies

    def _crashed_in(self) -> str:
        """The frames of the subject in which it crashed; empty if Python did not write any."""
        file = crash_file(str(self._log))
        return traceback_of_crash(file.read_text(errors="replace")) if file.exists() else ""

    def kill(self) -> None:
        """End the worker if it is still alive."""
        self._channel.close()
        if self._is_idle and self._server is not None:
            server, self._server = self._server, None
            server.kill(self.pid)
        else:  # it could still write to the file that the next worker shares
            self._end(0)
        for file in (self._log, crash_file(str(self._log))):
            file.unlink(missing_ok=True)

    def _end(self, timeout: float) -> int | None:
        """The exit code of the worker, negative for a signal; None if it had to be killed after the timeout."""
        if self._process is not None:
            end = time.monotonic() + timeout  # join() takes a process for ended if it closes its files
            while (code := self._process.exitcode) is None and time.monotonic() < end:
                time.sleep(0.002)
            if code is None:
                self._process.kill()
                self._process.join()
            return code
        if self._server is None:
            return None
        server, self._server = self._server, None
        return server.reap(self.pid, timeout)


def _death(code: int | None) -> str:
    if code is None:
        return "closed its connection to the judge and did not exit"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
        return f"was killed by signal {-code}"
    return f"ended its process with exit code {code}"
