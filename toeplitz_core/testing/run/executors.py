"""Who judges the tasks of a plan: this process, or several judge processes, each with workers of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Protocol

from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.run import judging
from toeplitz_core.testing.run.events import Consumer, FailureFound, StepEnded, StepStarted
from toeplitz_core.testing.run.plan import Plan, Task
from toeplitz_core.testing.run.pool import SubjectPool
from toeplitz_core.testing.support import interrupts


class Executor(Protocol):
    """What carries tasks out, and tells of it."""

    def execute(self, tasks: Iterator[Task], emit: Consumer) -> None:
        """Judge tasks until there are no more; ``tasks`` is asked for the next when somebody can begin it."""
        ...


class ThisProcess:
    """Judges one task at a time.

    Parameters
    ----------
    plan : Plan
    pool : SubjectPool
    """

    def __init__(self, plan: Plan, pool: SubjectPool) -> None:
        self._plan = plan
        self._pool = pool

    def execute(self, tasks: Iterator[Task], emit: Consumer) -> None:
        """Judge the tasks one after the other."""
        for task in tasks:
            interrupts.check()
            emit(StepStarted(task))
            result = judging.judge(self._plan, self._pool, task, _announcing(emit, task))
            emit(StepEnded(task, result))


def _announcing(emit: Consumer, task: Task) -> judging.Announce:
    return lambda found: emit(FailureFound(task, found))


class JudgeDied(RuntimeError):  # noqa: N818  # it says what happened
    """A judge process ended without an answer, which says nothing about the subject: workers run that."""


class Judges:
    """Judge processes. They are killed when no more is to be done: what they have found was told before.

    Parameters
    ----------
    plan : Plan
    count : int
        How many processes.
    timeout : float
        Seconds that one call of a subject may take.
    directory : path
        Where each keeps the case that it is at.
    """

    def __init__(self, plan: Plan, count: int, *, timeout: float, directory: Path) -> None:
        self._plan = plan
        self._count = count
        self._timeout = timeout
        self._directory = directory

    def execute(self, tasks: Iterator[Task], emit: Consumer) -> None:
        """Judge as many tasks at a time as there are processes.

        Raises
        ------
        JudgeDied
        LawError, SubjectError
            That a judge met.
        """
        judges: list[_Judge] = []
        try:
            while True:
                interrupts.check()
                idle = next((each for each in judges if each.task is None), None)
                if idle is None and len(judges) < self._count:
                    idle = _Judge(self._plan, self._timeout, self._directory / f"judge-{len(judges)}.case")
                    judges.append(idle)
                if idle is not None and (task := next(tasks, None)) is not None:
                    idle.begin(task)
                    emit(StepStarted(task))
                elif not any(each.task is not None for each in judges):
                    return
                else:
                    self._wait(judges, emit)
        finally:
            for each in judges:
                each.kill()

    def _wait(self, judges: list[_Judge], emit: Consumer) -> None:
        """Wait until a judge says something, and tell of it."""
        with interrupts.at_once():
            wait([each.connection for each in judges if each.task is not None])
        for each in judges:
            for event in each.said():
                emit(event)


class _Judge:
    """Our end of a judge process."""

    def __init__(self, plan: Plan, timeout: float, last_case: Path) -> None:
        self._last_case = last_case
        self.task: Task | None = None
        context = multiprocessing.get_context("spawn")  # forked, a judge would have threads that do not run
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(theirs, plan, timeout, last_case), daemon=False)
        with theirs, interrupts.blocked():  # a terminal's Ctrl-C is for us alone, also while the judge starts
            self._process.start()

    def begin(self, task: Task) -> None:
        """Give it a task."""
        self.task = task
        with self._alive():
            self.connection.send(task)

    def said(self) -> Iterator[FailureFound | StepEnded]:
        """What it has said since."""
        with self._alive():
            while self.task is not None and self.connection.poll():
                message = self.connection.recv()
                if isinstance(message, _Error):
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
                at = f": it was at {line}"
            raise JudgeDied(
                f"a judge process was killed or ran out of memory{at}. That says nothing about the subject, which runs "
                "in another process"
            ) from None

    def kill(self) -> None:
        """End it, and with it its workers, whatever they do."""
        self._process.kill()
        self._process.join()
        self.connection.close()


class _Error:
    """An error of a judge, on its way to us, with where it came from."""

    def __init__(self, error: Exception) -> None:
        self.where = "".join(traceback.format_exception(error))
        try:
            pickle.loads(pickle.dumps(error))
            self.error = error
        except Exception:  # noqa: BLE001  # an error of any library
            self.error = RuntimeError(str(error))

    def reraise(self) -> None:
        self.error.add_note(f"In a judge process:\n{self.where}")
        raise self.error


# What follows runs in a judge process.


def _main(connection: Connection, plan: Plan, timeout: float, last_case: Path) -> None:
    """Judge tasks until we are killed, or whoever started us has ended."""
    for number in (signal.SIGINT, signal.SIGTERM):  # those of a terminal or a container are for our parent
        signal.signal(number, lambda *_: None)  # processes that we start would inherit that a signal is ignored
    interrupts.unblock()
    os.dup2(2, 1)  # the parent's standard output may be a document
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pool = SubjectPool(lambda: Sandbox(timeout=timeout, last_case=last_case), inline=False)
    with contextlib.suppress(EOFError, OSError):
        while True:
            task = connection.recv()
            try:
                result = judging.judge(plan, pool, task, _announcing(connection.send, task))
            except Exception as error:  # noqa: BLE001  # whatever it is, our parent is told
                connection.send(_Error(error))
            else:
                connection.send(StepEnded(task, result))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
