"""Run a subject where it cannot hurt the judge: in a worker that is replaced when it dies, hangs or is unfit."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import reduction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from toeplitz_core.testing.isolation.transport import SharedFile
from toeplitz_core.testing.isolation.worker import (
    PRINTED,
    CallReply,
    Greeting,
    Replies,
    Reply,
    Request,
    Settings,
    serve,
)
from toeplitz_core.testing.oracle.arithmetics import strictest
from toeplitz_core.testing.subjects.interface import Answer, Environment, Outcome, Procedure
from toeplitz_core.testing.support import interrupts

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from toeplitz_core.testing.case.call import Call
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.data.operands import Operands

# A call may take this long in seconds. The first of a worker may have to import a package, or to compile.
TIMEOUT = 10.0
FIRST_CALL = 60.0
# Seconds in which a worker ends that has closed its connection: at once if it died, and Python may have things to undo.
PARTING = 2.0
# What glibc fills freed memory with; new memory gets the complement, which as float32 is 3.4e38 and -3e-13, and as an
# integer large: no result survives any of it by accident.
POISONS = (0x80, 0x55)
_TUNABLES = "GLIBC_TUNABLES"
# Threads of OpenMP that wait for work would take the time that judges and other workers need: let them sleep instead.
# It changes no result, and whoever sets it to something else has that.
DEFAULTS = {"OMP_WAIT_POLICY": "PASSIVE"}
# Address space in bytes that a worker may take beyond what it starts with.
MEMORY = 8 * 2**30

_START = (
    "import sys; sys.path[:] = {path!r}; "
    "from toeplitz_core.testing.isolation.worker import nursery; nursery({fd}, {room!r})"
)


class SubjectError(ValueError):
    """A subject cannot be imported, or names nothing: a mistake in how it was named, rather than a finding about it."""


class Isolation:
    """Owns the processes of a run. Use as a context manager; ``runner`` gives a subject that runs in a worker.

    Parameters
    ----------
    timeout : float
        Seconds that one call may take.
    memory : int or None
        Bytes of address space that a worker may take beyond what it starts with; None for no limit.
    journal : path, optional
        A file that holds the case that is running now: what is left of a run if the judge itself is killed.
    """

    def __init__(self, *, timeout: float = TIMEOUT, memory: int | None = MEMORY, journal: Path | None = None) -> None:
        self.timeout = timeout
        self.memory = memory
        memory_room = Path("/dev/shm")  # a directory in memory, where Linux has one
        usable = memory_room.is_dir() and os.access(memory_room, os.W_OK)
        self.room = Path(tempfile.mkdtemp(prefix="toeplitz-core-", dir=memory_room if usable else None))
        # On disk, and not in the room: it must survive what ends the judge.
        self.journal = journal or Path(tempfile.gettempdir()) / f"toeplitz-core-{os.getpid()}.case"
        self._keep_journal = journal is not None
        self._journal = self.journal.open("w", buffering=1)
        self._nurseries: dict[Environment, _Nursery] = {}
        self._runners: list[IsolatedRunner] = []

    def runner(
        self, name: str, environment: Environment | None = None, *, fork: bool = True, poison: int | None = None
    ) -> IsolatedRunner:
        """The subject of a name, in a worker.

        ``fork=False`` starts each worker cleanly, as CUDA needs it. ``poison`` is a byte that fills freed memory.
        """
        fork = fork and hasattr(os, "fork")
        runner = IsolatedRunner(self, name, environment or Environment(), fork=fork, poison=poison)
        self._runners.append(runner)
        return runner

    def write_journal(self, lines: Sequence[str]) -> None:
        """Put cases on disk before they run."""
        self._journal.seek(0)
        self._journal.write("\n".join(lines) + "\n")
        self._journal.truncate()

    def nursery(self, environment: Environment) -> _Nursery:
        """The process that forks workers with an environment; started when first asked for, or when it died."""
        found = self._nurseries.get(environment)
        if found is None or found.has_died:
            found = self._nurseries[environment] = _Nursery(environment, self.room)
        return found

    def file(self, name: str) -> Path:
        """A new, empty file that lives as long as the run."""
        descriptor, path = tempfile.mkstemp(prefix=f"{name}-", dir=self.room)
        os.close(descriptor)
        return Path(path)

    def close(self) -> None:
        """End all processes and remove what they shared."""
        with interrupts.ignored():
            for runner in self._runners:
                runner.close()
            for nursery in self._nurseries.values():
                nursery.close()
            self._journal.close()
            if not self._keep_journal:
                self.journal.unlink(missing_ok=True)
            shutil.rmtree(self.room, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class IsolatedRunner:
    """A subject in a worker process: whatever it does becomes an :class:`Outcome`."""

    def __init__(
        self, isolation: Isolation, name: str, environment: Environment, *, fork: bool, poison: int | None
    ) -> None:
        self.name = name
        self._isolation = isolation
        self._environment = environment
        self._fork = fork
        self._poison = poison
        self._shared = SharedFile(str(isolation.file("operands")))
        self._worker: _Worker | None = None
        self._greeting: Greeting | None = None
        self._slowest_first: float | None = None
        self._poisoned: list[IsolatedRunner] = []

    @property
    def devices(self) -> tuple[str, ...] | None:
        """What the subject says of itself; it is imported if it was not yet (``SubjectError`` if that fails)."""
        return self._greeted().devices

    @property
    def dtypes(self) -> tuple[str, ...] | None:
        """Likewise."""
        return self._greeted().dtypes

    @property
    def procedures(self) -> tuple[Procedure, ...]:
        """Likewise."""
        return self._greeted().procedures

    @property
    def draws(self) -> int:
        """Likewise."""
        return self._greeted().draws

    @property
    def absent(self) -> str:
        """Likewise."""
        return self._greeted().absent

    @property
    def repeatable(self) -> bool:
        """Likewise."""
        return self._greeted().repeatable

    def poisoned(self) -> Sequence[IsolatedRunner]:
        """The subject in two more workers, where the C library can fill what it gives out (glibc), and does."""
        if not self._poisoned and platform.libc_ver()[0] == "glibc":
            # A cache of each thread would give out small blocks again as they are.
            tunables = ":".join(filter(None, (os.environ.get(_TUNABLES), "glibc.malloc.tcache_count=0")))
            environment = Environment((*self._environment.variables, (_TUNABLES, tunables)))
            self._poisoned = [
                self._isolation.runner(self.name, environment, fork=self._fork, poison=byte) for byte in POISONS
            ]
        return self._poisoned if all(runner._is_poisoned() for runner in self._poisoned) else ()

    def _is_poisoned(self) -> bool:
        try:
            return self._greeted().poisoned
        except SubjectError:  # whoever calls it is told why
            return True

    def _greeted(self) -> Greeting:
        if self._greeting is None:
            self.start()
        assert self._greeting is not None
        return self._greeting

    def run(self, case: Case, operands: Operands, procedure: Procedure = "forward") -> Outcome:
        """Call the subject once."""
        return self.run_batch([case], [operands], procedure)[0]

    def run_batch(
        self, cases: Sequence[Case], operands: Sequence[Operands], procedure: Procedure = "forward"
    ) -> list[Outcome]:
        """Call the subject several times with one message. If that kills the worker, each call is made on its own."""
        self._shared.rewind()
        requests = [self._packed(case, values, procedure) for case, values in zip(cases, operands, strict=True)]
        answer = self._ask(requests, [f"{case} # {self.name}" for case in cases])
        if isinstance(answer, Death):
            if len(cases) > 1 and answer.status != "raised":
                return [self.run(case, values, procedure) for case, values in zip(cases, operands, strict=True)]
            return [
                Outcome(answer.status, strictest(case), message=answer.message, printed=answer.printed)
                for case in cases
            ]
        outcomes = [self._unpacked(reply) for reply in answer if isinstance(reply, Reply)]
        if any(outcome.status == "spoiled" for outcome in outcomes):
            self.restart()
        return outcomes

    def answer(self, call: Call) -> Answer:
        """Call the subject with arguments that may be invalid."""
        self._shared.rewind()
        answer = self._ask([call], [f"{call} # {self.name}"])
        if isinstance(answer, Death):
            return Answer(answer.status, message=answer.message, printed=answer.printed)
        (reply,) = answer
        assert isinstance(reply, CallReply)
        if reply.status == "spoiled":
            self.restart()
        result = None if reply.result is None else self._shared.unpack(reply.result)
        return Answer(reply.status, result, reply.message, reply.printed)

    def _ask(self, requests: Sequence[Request | Call], lines: Sequence[str]) -> Sequence[Reply | CallReply] | Death:
        """Write the lines to the journal, and send a message. A worker that does not answer is ended."""
        self._isolation.write_journal(lines)
        fresh = self._worker is None
        try:
            worker = self.start()
        except SubjectError as error:
            return Death("raised", str(error))
        extra = (FIRST_CALL if self._slowest_first is None else self._slowest_first) if fresh else 0.0
        begin = time.monotonic()
        answer = worker.ask(requests, self._isolation.timeout * len(requests) + extra)
        if fresh:
            # Once it is known how long a first call takes, one that hangs is not waited for much longer.
            took = 0.0 if isinstance(answer, Death) else time.monotonic() - begin
            self._slowest_first = min(FIRST_CALL, max(2 * took, self._slowest_first or 0.0))
        if isinstance(answer, Death):
            self.restart()
            return answer
        if answer.worn:
            self.restart()
        return answer.each

    def restart(self) -> None:
        """End the worker; the next call starts a fresh one."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    def close(self) -> None:
        """End the worker for good."""
        self.restart()
        self._shared.close()

    def start(self) -> _Worker:
        """The worker, started and with the subject imported if it is not yet; ``SubjectError`` if that fails."""
        if self._worker is None:
            isolation = self._isolation
            log = str(isolation.file("log"))
            settings = Settings(self.name, self._shared.path, log, isolation.memory, tuple(sys.path), self._poison)
            self._worker = _Worker(isolation, settings, self._environment, fork=self._fork)
            self._greeting = self._worker.greeting()
            if self._greeting.error:
                reason, self._greeting = self._greeting.error, None
                self.restart()
                raise SubjectError(reason)
        return self._worker

    def _packed(self, case: Case, operands: Operands, procedure: Procedure) -> Request:
        pack = self._shared.pack
        bias = None if operands.bias is None else pack(operands.bias)
        more = {name: pack(values) for name, values in operands.more.items()}
        return Request(case, pack(operands.input), pack(operands.weight), bias, more, procedure)

    def _unpacked(self, reply: Reply) -> Outcome:
        results = {name: self._shared.unpack(packed) for name, packed in reply.results.items()}
        return Outcome(
            reply.status,
            reply.arithmetic,
            results,
            reply.message,
            reply.printed,
            reply.gradients,
            reply.kernel,
        )


@dataclass(frozen=True, slots=True)
class Death:
    """Why a worker did not answer: it could not be started, was ended by the call, or did not return in time."""

    status: Literal["raised", "crashed", "timed out"]
    message: str
    printed: str = ""


class _Worker:
    """The judge's end of one worker process."""

    def __init__(self, isolation: Isolation, settings: Settings, environment: Environment, *, fork: bool) -> None:
        self._log = Path(settings.log)
        self._nursery = isolation.nursery(environment) if fork else None
        self._process = None
        ours, theirs = multiprocessing.Pipe()
        self._connection = ours
        with theirs:
            if self._nursery is not None:
                self._pid = self._nursery.fork(settings, theirs)
            else:
                self._process = multiprocessing.get_context("spawn").Process(
                    target=serve, args=(settings, theirs, environment.variables), daemon=True
                )
                with interrupts.held():
                    self._process.start()

    def greeting(self) -> Greeting:
        """Wait until the subject is imported."""
        try:
            if not self._connection.poll(FIRST_CALL):
                return Greeting(f"importing it did not end within {FIRST_CALL:g} s")
            greeting: Greeting = self._connection.recv()
        except (EOFError, OSError):
            return Greeting(f"importing it {_death(self._end(PARTING))}\n{self.printed()}".rstrip())
        return greeting

    def ask(self, requests: Sequence[Request | Call], limit: float) -> Replies | Death:
        """The replies, or what became of the worker instead."""
        try:
            self._connection.send(requests)
            if not self._connection.poll(limit):
                return Death("timed out", f"did not return within {limit:g} s", self.printed())
            replies: Replies = self._connection.recv()
        except (EOFError, OSError):
            return Death("crashed", _death(self._end(PARTING)), self.printed())
        return replies

    def printed(self) -> str:
        """The end of what the worker wrote to its standard streams."""
        return self._log.read_text(errors="replace")[-PRINTED:]

    def kill(self) -> None:
        """End the worker, if it still lives."""
        self._connection.close()
        self._end(0)
        self._log.unlink(missing_ok=True)

    def _end(self, patience: float) -> int | None:
        """The exit code of the worker, negative for a signal; None if it does not end in some seconds and is killed."""
        if self._process is not None:
            end = time.monotonic() + patience  # join() believes that a process has ended if it closes its files
            while (code := self._process.exitcode) is None and time.monotonic() < end:
                time.sleep(0.002)
            if code is None:
                self._process.kill()
                self._process.join()
            return code
        if self._nursery is None:
            return None
        nursery, self._nursery = self._nursery, None
        return nursery.reap(self._pid, patience)


class _Nursery:
    """The judge's end of the process that forks workers."""

    def __init__(self, environment: Environment, room: Path) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        self._ready = False
        with theirs:
            path = [entry or os.getcwd() for entry in sys.path]  # noqa: PTH109  # sys.path holds strings
            start = _START.format(path=path, fd=theirs.fileno(), room=str(room))
            with interrupts.held():
                self._process = subprocess.Popen(  # our own interpreter
                    [sys.executable, "-c", start],
                    stdin=subprocess.DEVNULL,
                    env={**DEFAULTS, **os.environ, **dict(environment.variables)},
                    pass_fds=[theirs.fileno()],
                )

    def fork(self, settings: Settings, connection: Connection) -> int:
        """Fork a worker that answers on a connection; its process id. ``SubjectError`` if nobody is there to do so."""
        try:
            if not self._ready:
                self._connection.poll(None)  # until it has imported torch, which may be interrupted
            with interrupts.held():
                if not self._ready:
                    self._ready = self._connection.recv()
                self._connection.send(settings)
                reduction.send_handle(self._connection, connection.fileno(), self._process.pid)
                pid: int = self._connection.recv()
        except (EOFError, OSError) as error:
            self._bury()
            raise SubjectError(f"the process that starts workers has died: {error!r}") from error
        return pid

    @property
    def has_died(self) -> bool:
        """Whether it was killed: it ends by itself only with us."""
        return self._process.poll() is not None

    def _bury(self) -> None:
        self._process.kill()
        self._process.wait()

    def reap(self, pid: int, patience: float) -> int | None:
        """The exit code of a worker, negative for a signal; None if it does not end in some seconds and is killed."""
        with interrupts.held():
            try:
                self._connection.send((pid, patience))
                code: int | None = self._connection.recv()
            except (EOFError, OSError):  # it has died itself, and its workers are nobody's children
                code = None
                self._bury()
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
        return code

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.wait(timeout=10)


def _death(code: int | None) -> str:
    if code is None:
        return "closed its connection to us, and did not end"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
        return f"was killed by signal {-code}"
    return f"ended its process with exit code {code}"
