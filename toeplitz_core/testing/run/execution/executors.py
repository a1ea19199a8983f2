"""Judge the tasks of a plan in this process, or by a team: here, processes that each have their own workers."""

from __future__ import annotations

import abc
import atexit
import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from toeplitz_core.testing.isolation.fork_server import ForkServer, adopt
from toeplitz_core.testing.isolation.sandbox import Sandbox, shared_directory
from toeplitz_core.testing.run.events import Consumer, FailureFound, StepEnded, StepStarted
from toeplitz_core.testing.run.execution import judgement
from toeplitz_core.testing.run.execution.subject_pool import SubjectPool
from toeplitz_core.testing.run.plan import Plan, Task
from toeplitz_core.testing.subjects.interface import Environment
from toeplitz_core.testing.support import interrupts
from toeplitz_core.testing.support.importable import without_main

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext


_CAN_FORK = hasattr(os, "fork")


class Executor(Protocol):
    """Judges tasks and emits events."""

    def execute(self, tasks: Iterator[Task], emit: Consumer) -> None:
        """Judge all tasks. The next task is taken from ``tasks`` only when it can begin."""
        ...


class ThisProcess:
    """Judge one task at a time in this process.

    Parameters
    ----------
    plan : Plan
    pool : SubjectPool
    """

    def __init__(self, plan: Plan, pool: SubjectPool) -> None:
        self._plan = plan
        self._pool = pool

    def execute(self, tasks: Iterator[Task], emit: Consumer) -> None:
        """Judge the tasks one after another."""
        for task in tasks:
            interrupts.raise_if_requested()
            emit(StepStarted(task))
            result = judgement.judge(self._plan, self._pool, task, _announcing(emit, task))
            emit(StepEnded(task, result))


def _announcing(emit: Consumer, task: Task) -> judgement.Announce:
    return lambda found: emit(FailureFound(task, found))


class JudgeDied(RuntimeError):  # noqa: N818  # the name says what happened
    """A judge process ended without an answer. This says nothing about the subject, which runs in a worker."""


class Team(abc.ABC):
    """Several that judge tasks at the same time. How a task reaches one of them is the business of the subclass."""

    def execute(self, tasks: Iterator[Task], emit: Consumer) -> None:
        """Judge the tasks, as many at a time as there is room for.

        Raises
        ------
        JudgeDied
            If a judge process ends without an answer.
        LawError, SubjectError
            If a judge raises it.
        """
        try:
            self.open()
            while True:
                interrupts.raise_if_requested()
                if self.has_room() and (task := next(tasks, None)) is not None:
                    self.begin(task)
                    emit(StepStarted(task))
                elif self.is_busy():
                    for event in self.news():
                        emit(event)
                else:
                    return
        finally:
            self.close()

    @abc.abstractmethod
    def open(self) -> None:
        """Get ready for tasks."""

    @abc.abstractmethod
    def has_room(self) -> bool:
        """Whether another task could begin now."""

    @abc.abstractmethod
    def is_busy(self) -> bool:
        """Whether a task is being judged."""

    @abc.abstractmethod
    def begin(self, task: Task) -> None:
        """Let somebody judge a task."""

    @abc.abstractmethod
    def news(self) -> Iterator[FailureFound | StepEnded]:
        """Wait until something happens to the tasks, or for a while, and return the events."""

    @abc.abstractmethod
    def close(self) -> None:
        """End what is running, and free what is held."""


class Judges(Team):
    """Judge tasks in several processes. They are killed at the end; by then they have sent all their results.

    Parameters
    ----------
    plan : Plan
    count : int
        Number of processes.
    timeout : float
        Time limit of one call of a subject, in seconds.
    directory : path
        Where each judge writes the case that it is judging.
    """

    def __init__(self, plan: Plan, count: int, *, timeout: float, directory: Path) -> None:
        self._plan = plan
        self._count = count
        self._timeout = timeout
        self._directory = directory
        self._judges: list[_Judge] = []
        self._server: ForkServer | None = None

    def open(self) -> None:
        """Start the process that judges are forked from."""
        if _CAN_FORK:
            self._server = ForkServer.taken(Environment())
            _start_forkserver()

    def has_room(self) -> bool:
        """Whether a judge is idle, or another one may be started."""
        return len(self._judges) < self._count or not all(each.task for each in self._judges)

    def is_busy(self) -> bool:
        """Whether a judge has a task."""
        return any(each.task for each in self._judges)

    def begin(self, task: Task) -> None:
        """Send the task to an idle judge, or to a new one."""
        idle = next((each for each in self._judges if each.task is None), None)
        if idle is None:
            copy = None if self._server is None else self._server.copy()
            path = self._directory / f"judge-{len(self._judges)}.case"
            idle = _Judge(self._plan, self._timeout, path, copy)
            self._judges.append(idle)
        idle.begin(task)

    def news(self) -> Iterator[FailureFound | StepEnded]:
        """Wait for messages of the judges."""
        with interrupts.at_once():
            wait([each.connection for each in self._judges if each.task is not None])
        for each in self._judges:
            yield from each.said()

    def close(self) -> None:
        """Kill the judges."""
        for each in self._judges:
            each.kill()
        self._judges = []
        if self._server is not None:
            self._server.give_back()
            self._server = None


class _Judge:
    """Our end of a judge process."""

    def __init__(self, plan: Plan, timeout: float, last_case: Path, copy: Connection | None) -> None:
        self._last_case = last_case
        self.task: Task | None = None
        context = _context()
        self.connection, theirs = context.Pipe()
        sent = (theirs, copy, plan, timeout, last_case, dict(os.environ))
        self._process = context.Process(target=_main, args=sent, daemon=False)
        with theirs, interrupts.blocked(), without_main():  # only this process handles Ctrl-C, also during the start
            self._process.start()
        if copy is not None:
            copy.close()

    def begin(self, task: Task) -> None:
        """Send a task to the judge."""
        self.task = task
        with self._alive():
            self.connection.send(task)

    def said(self) -> Iterator[FailureFound | StepEnded]:
        """The events that the judge has sent since the last call."""
        with self._alive():
            while self.task is not None and self.connection.poll():
                message = self.connection.recv()
                if isinstance(message, ErrorOfJudge):
                    message.reraise()
                if isinstance(message, StepEnded):
                    self.task = None
                yield message

    @contextlib.contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError):
            at = ""
            if self._last_case.exists() and self._last_case.stat().st_size:
                line = self._last_case.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
                at = f" while it judged {line}"
            raise JudgeDied(
                f"a judge process was killed or ran out of memory{at}. This says nothing about the subject, which runs "
                "in another process"
            ) from None

    def kill(self) -> None:
        """Kill the judge and its workers, whatever they are doing."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def _context() -> ForkServerContext | SpawnContext:
    """How judges start.

    A judge that is forked from this process would lack its threads. It is forked from a process that has imported what
    judges need and has no threads. That process keeps the variables of its start, so they are sent.
    """
    return multiprocessing.get_context("forkserver") if _CAN_FORK else multiprocessing.get_context("spawn")


@functools.cache
def _start_forkserver() -> None:
    """Start the process that judges are forked from, and do not wait for its imports.

    Its socket is put where the next run removes it if this process is killed.
    """
    directory = shared_directory()
    atexit.register(directory.remove)
    multiprocessing.current_process()._config["tempdir"] = str(directory.path)  # type: ignore[attr-defined]
    _context().set_forkserver_preload([__name__])
    resource_tracker.ensure_running()  # where it is started, it unblocks the signals that are blocked below
    with interrupts.blocked():
        forkserver.ensure_running()


class ErrorOfJudge:
    """An error that a judge sends to this process, with its traceback."""

    def __init__(self, error: Exception) -> None:
        self.where = "".join(traceback.format_exception(error))
        try:
            pickle.loads(pickle.dumps(error))
            self.error = error
        except Exception:  # noqa: BLE001  # any library may raise anything
            self.error = RuntimeError(str(error))

    def reraise(self) -> None:
        self.error.add_note(f"In a judge process:\n{self.where}")
        raise self.error


# The functions below run in a judge process.


def _main(
    connection: Connection,
    copy: Connection | None,
    plan: Plan,
    timeout: float,
    last_case: Path,
    variables: dict[str, str],
) -> None:
    """Judge tasks until this process is killed or its parent has ended."""
    os.environ.clear()
    os.environ.update(variables)
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent handles those of a terminal or a container
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which our child processes would inherit
    interrupts.unblock()
    if copy is not None:
        adopt(copy)
    os.dup2(2, 1)  # the parent's standard output may hold a JSON document
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pool = SubjectPool(lambda: Sandbox(timeout=timeout, last_case=last_case), declared=plan.declared)
    with contextlib.suppress(EOFError, OSError):
        while True:
            task = connection.recv()
            try:
                result = judgement.judge(plan, pool, task, _announcing(connection.send, task))
            except Exception as error:  # noqa: BLE001  # the parent reports any error
                connection.send(ErrorOfJudge(error))
            else:
                connection.send(StepEnded(task, result))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
