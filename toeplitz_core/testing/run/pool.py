"""Judge processes: several steps of a plan at a time, each process with workers of its own.

A judge is interrupted by the process that started it, with SIGUSR1, and answers with what it has found so far. It
ignores the SIGINT of a terminal, which is for that process, and ends when that has ended, however it came about.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.connection import wait as wait_for
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING, Self

from toeplitz_core.testing.isolation.sandbox import IsolatedRunner, Isolation
from toeplitz_core.testing.search.search import Interrupted
from toeplitz_core.testing.subjects import environment
from toeplitz_core.testing.support import interrupts

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from types import FrameType, TracebackType

    from toeplitz_core.testing.run.plan import Plan, Task
    from toeplitz_core.testing.search.search import Result

# Seconds in which an interrupted judge answers; a call of its subject is not waited for, a computation of its own is.
GRACE = 10.0


class JudgeDied(RuntimeError):  # noqa: N818  # it says what happened
    """A judge process ended without an answer, which says nothing about the subject: workers run that."""


class Judges:
    """A pool of judge processes for the steps of a plan. Use as a context manager, which ends them.

    Parameters
    ----------
    plan : Plan
        What is picklable of it is sent to them: its subjects go by their names.
    jobs : int
        How many processes.
    timeout : float
        Seconds that one call of a subject may take.
    """

    def __init__(self, plan: Plan, *, jobs: int, timeout: float) -> None:
        self.jobs = jobs
        self.journals = Path(tempfile.gettempdir()) / f"toeplitz-core-{os.getpid()}-*.case"
        self._running: dict[Future[Result | None], Task] = {}
        self._pool = ProcessPoolExecutor(
            jobs,
            mp_context=multiprocessing.get_context("spawn"),  # forked, a judge would have threads that do not run
            initializer=_begin,
            initargs=(replace(plan, subjects=()), timeout, str(self.journals)),
        )

    @property
    def idle(self) -> bool:
        """Whether a judge waits for a step."""
        return len(self._running) < self.jobs

    @property
    def busy(self) -> bool:
        """Whether a step is being searched."""
        return bool(self._running)

    def start(self, task: Task) -> None:
        """Give a step to a judge."""
        number, (subject, law, dtype, device) = task
        with interrupts.held(), self._died():
            self._running[self._pool.submit(_step, subject.name, law.name, dtype, device, number)] = task

    def finished(self) -> Iterator[tuple[Task, Result]]:
        """Wait until a step is done; the results that are there.

        Raises
        ------
        JudgeDied
        LawError, SubjectError
            That a judge met.
        """
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        yield from self._results(done)

    def interrupt(self) -> list[tuple[Task, Result]]:
        """Interrupt all searches; what they have found."""
        with interrupts.ignored():
            for process in self._processes:
                _interrupt(process)
            done, late = wait(self._running, timeout=GRACE)
            for future in late:
                del self._running[future]
            if late:
                self._kill()
                for journal in self.journals.parent.glob(self.journals.name):  # which they have left
                    journal.unlink(missing_ok=True)
            found: list[tuple[Task, Result]] = []
            for future in done:
                with contextlib.suppress(Exception):  # what ends the run is known already
                    found.extend(self._results({future}))
        return found

    def _results(self, done: set[Future[Result | None]]) -> Iterator[tuple[Task, Result]]:
        for future in done:
            task = self._running.pop(future)
            with self._died():
                result = future.result()
            if result is not None:
                yield task, result

    @contextlib.contextmanager
    def _died(self) -> Iterator[None]:
        try:
            yield
        except BrokenProcessPool:
            left = [path for path in self.journals.parent.glob(self.journals.name) if path.stat().st_size]
            at = "; ".join(f"it was at {_first_line(path)}, see {path}" for path in left)
            raise JudgeDied(
                f"a judge process was killed or ran out of memory{': ' * bool(at)}{at}. That is no finding about the "
                "subject, which runs in a process of its own"
            ) from None

    @property
    def _processes(self) -> list[BaseProcess]:
        # Python 3.14 has kill_workers() for this, and still nothing that interrupts them.
        return list((getattr(self._pool, "_processes", None) or {}).values())

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.busy:
            self.interrupt()
        with interrupts.ignored():
            self._pool.shutdown(cancel_futures=True)


def _first_line(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]


def _interrupt(process: BaseProcess) -> None:
    if os.name == "nt":  # there is no signal for one process alone: what it has found is lost
        process.kill()
    elif process.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGUSR1)


# What follows runs in a judge process.


class _Judge:
    """What a judge process keeps between steps."""

    def __init__(self, plan: Plan, timeout: float, journal: Path) -> None:
        self.plan = plan
        self.laws = {law.name: law for law in plan.laws}
        self.journal = journal
        self.isolation = Isolation(timeout=timeout, journal=journal)
        self.runners: dict[str, IsolatedRunner] = {}
        self._interrupted = self._searching = False

    def runner(self, name: str) -> IsolatedRunner:
        if name not in self.runners:
            self.runners[name] = self.isolation.runner(name, environment(name))
        self.runners[name].start()
        return self.runners[name]

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: the step that is searched ends, and those that are on their way do not begin."""
        self._interrupted = True
        if self._searching:
            interrupts.interrupt(number, frame)

    @contextlib.contextmanager
    def searching(self) -> Iterator[None]:
        try:
            self._searching = True
            if self._interrupted:
                raise KeyboardInterrupt
            yield
        finally:
            self._searching = False

    def close(self) -> None:
        self.isolation.close()
        self.journal.unlink(missing_ok=True)


_judge: _Judge | None = None


def _begin(plan: Plan, timeout: float, journals: str) -> None:
    global _judge  # noqa: PLW0603  # an initializer has no other place for what it makes
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # that of a terminal is for our parent, who may ignore it
    os.dup2(2, 1)  # the parent's standard output may be a document
    journal = Path(journals.replace("*", str(os.getpid())))
    _judge = _Judge(plan, timeout, journal)
    if os.name != "nt":
        signal.signal(signal.SIGUSR1, _judge.interrupt)
    interrupts.let_go()
    Finalize(None, _judge.close, exitpriority=1)
    signal.signal(signal.SIGTERM, lambda *_: _leave(journal))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _leave(journal: Path) -> None:
    """End at once, for another judge has died: workers end with us."""
    journal.unlink(missing_ok=True)
    os._exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)


def _step(subject: str, law: str, dtype: str, device: str, number: int) -> Result | None:
    """The result of a step, or what was found of it when it was interrupted; the number is the round's."""
    assert _judge is not None
    try:
        with interrupts.kept(), _judge.searching():
            return _judge.plan.result((_judge.runner(subject), _judge.laws[law], dtype, device), number)
    except Interrupted as interrupted:
        return interrupted.result
    except KeyboardInterrupt:
        return None
