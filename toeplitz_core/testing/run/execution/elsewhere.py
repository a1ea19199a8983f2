"""Judge the tasks of a plan on any executor of ``concurrent.futures``: on Dask, or on one that a callable returns."""

from __future__ import annotations

import importlib
import logging
import os
import pickle
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from typing import Any

from toeplitz_core.testing.run.events import FailureFound, StepEnded
from toeplitz_core.testing.run.execution import distant_judge
from toeplitz_core.testing.run.execution.executors import JudgeDied, Team
from toeplitz_core.testing.run.plan import Plan, Task
from toeplitz_core.testing.support import interrupts
from toeplitz_core.testing.support.modules import look_here
from toeplitz_core.testing.support.places import DASK

# Seconds for the connection to a scheduler, and until its first worker is there.
CONNECTING = 20.0
# Seconds after which the number of workers is read again, because workers may join a cluster at any time.
_LOOK = 2.0
# A task whose workers died this many times is not given out again. It is also Dask's own number.
MOST_DEATHS = 3


class ExecutorLost(RuntimeError):  # noqa: N818  # the name says what happened
    """The executor can run no more tasks, or may not. This says nothing about the subject."""


class Elsewhere(Team):
    """Judge tasks on an executor. A task that was lost with its worker is given out again, and counts once.

    Parameters
    ----------
    plan : Plan
    name : str
        ``dask://host:port``, or ``module:callable``, which returns a ``concurrent.futures.Executor``.
    count : int, optional
        Number of tasks to give out at once. The default is the number of workers, as far as the executor tells.
    timeout : float
        Time limit of one call of a subject, in seconds.
    """

    def __init__(self, plan: Plan, name: str, count: int | None, *, timeout: float) -> None:
        self._run = pickle.dumps((plan, timeout))
        self._versions = distant_judge.versions()
        self.name = name
        self._count = count
        self._workers: _Workers | None = None
        self._running: dict[Future[distant_judge.Answer], Task] = {}
        self._deaths: Counter[Task] = Counter()

    def open(self) -> None:
        """Connect to the executor, unless that was done before.

        Raises
        ------
        ValueError
            If there is no such executor; the message has its name and the reason.
        """
        if self._workers is None:
            self._workers = _Dask(self.name) if self.name.startswith(DASK) else _Any(self.name)

    def has_room(self) -> bool:
        """Whether fewer tasks run than may run at once."""
        assert self._workers is not None
        if self._count is not None:
            return len(self._running) < self._count
        try:
            return len(self._running) < self._workers.count
        except OSError as error:
            raise self._lost(error) from None

    def is_busy(self) -> bool:
        """Whether an answer is still to come."""
        return bool(self._running)

    def begin(self, task: Task) -> None:
        """Give a task to the executor."""
        assert self._workers is not None
        try:
            future = self._workers.executor.submit(distant_judge.judged, self._versions, self._run, pickle.dumps(task))
        except BrokenExecutor as error:
            self._anew([task], error)
        except Exception as error:  # noqa: BLE001  # each library has its own errors
            raise self._lost(error) from None
        else:
            self._running[future] = task

    def news(self) -> Iterator[FailureFound | StepEnded]:
        """Wait for answers."""
        with interrupts.at_once():
            done, _ = wait(self._running, timeout=_LOOK, return_when=FIRST_COMPLETED)
        broken: list[Task] = []
        why: BrokenExecutor | None = None
        for future in done:
            task = self._running.pop(future)
            try:
                answer = future.result()
            except BrokenExecutor as error:
                broken.append(task)
                why = error
            except CancelledError:
                raise self._lost("it has dropped its tasks") from None
            except Exception as error:
                raise self._refused(task, error) from error
            else:
                yield self._ended(task, answer)
        if why is not None:
            self._anew(broken, why)

    def _ended(self, task: Task, answer: distant_judge.Answer) -> StepEnded:
        """The event for an answer."""
        if answer.versions:
            other = ", ".join(
                f"{name} {version} instead of {self._versions[name]}" for name, version in answer.versions.items()
            )
            raise ExecutorLost(
                f"a worker of {self.name} ({answer.worker}) has {other}. Install the same versions everywhere: others "
                "draw other cases or compute other results"
            )
        if answer.error is not None:
            answer.error.reraise()
        assert answer.result is not None
        return StepEnded(task, answer.result)

    def _anew(self, tasks: list[Task], error: BrokenExecutor) -> None:
        """Make the executor again after one of its workers died, and give out again what had not ended."""
        tasks += self._running.values()
        self._running = {}
        self._deaths.update(tasks)
        if deadly := [task for task in tasks if self._deaths[task] >= MOST_DEATHS]:
            steps = ", ".join(str(task.step) for task in deadly)
            raise JudgeDied(
                f"{self.name}: its workers died {MOST_DEATHS} times while they judged {steps}: {error}. This says "
                "nothing about the subject, which runs in another process"
            )
        self._let_go()
        self.open()
        for task in tasks:
            self.begin(task)

    def _refused(self, task: Task, error: Exception) -> Exception:
        """The error for a task that the executor could not run."""
        said = f"{self.name} could not run {task.step}: {type(error).__name__}: {error}"
        return JudgeDied(said) if type(error).__name__ == "KilledWorker" else ExecutorLost(said)

    def _lost(self, why: object) -> ExecutorLost:
        return ExecutorLost(f"the executor {self.name} was lost: {why or type(why).__name__}")

    def close(self) -> None:
        """Drop what has not ended, and leave the executor. Workers finish what they have begun."""
        for future in self._running:
            future.cancel()
        self._running = {}
        self._let_go()

    def _let_go(self) -> None:
        if self._workers is not None:
            self._workers.close()
            self._workers = None


class _Workers:
    """An executor, and the number of its workers.

    Parameters
    ----------
    executor : Executor
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    @property
    def count(self) -> int:
        """The number of tasks that it can run at once now."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave it."""
        self.executor.shutdown(wait=False, cancel_futures=True)


class _Any(_Workers):
    """The executor that ``module:callable`` returns."""

    def __init__(self, name: str) -> None:
        module, _, attribute = name.partition(":")
        look_here()
        try:
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
            made = found()
        except Exception as error:
            raise ValueError(f"executor={name!r} cannot be made: {type(error).__name__}: {error}") from error
        if not isinstance(made, Executor):
            raise ValueError(  # noqa: TRY004  # as for any wrong option
                f"executor={name!r} must return a concurrent.futures.Executor, but returns {type(made).__name__}"
            )
        super().__init__(made)

    @property
    def count(self) -> int:
        """Its number of workers, as executors of the standard library and most others have it; else that of cores."""
        told = getattr(self.executor, "_max_workers", None)  # there is no public name
        return told if isinstance(told, int) and told > 0 else os.cpu_count() or 1


class _Dask(_Workers):
    """A cluster of Dask, by the address of its scheduler."""

    def __init__(self, name: str) -> None:
        try:
            from distributed import Client  # noqa: PLC0415  # only this executor needs it
        except ImportError:
            said = "python -m pip install 'toeplitz-core[dask]'"
            raise ValueError(f"executor={name!r} needs the package distributed: {said}") from None
        for part in ("client", "utils"):  # what they would log is in our message
            logging.getLogger(f"distributed.{part}").setLevel(logging.CRITICAL)
        address = f"tcp://{name.removeprefix(DASK)}"
        try:
            self._client = Client(address, timeout=CONNECTING, set_as_default=False, name="toeplitz-core")
        except (OSError, ValueError) as error:
            raise ValueError(f"executor={name!r} must be the address of a scheduler: {error}") from None
        try:
            self._client.wait_for_workers(1, timeout=CONNECTING)
        except (OSError, TimeoutError):
            self._client.close()
            raise ValueError(f"executor={name!r} must have a worker, but none joined it in {CONNECTING:g} s") from None
        super().__init__(self._client.get_executor(pure=False))  # the same call twice is two tasks

    @property
    def count(self) -> int:
        """The number of threads of all its workers now."""
        threads: dict[str, int] = self._client.nthreads()
        return max(1, sum(threads.values()))

    def close(self) -> None:
        """Leave it; drop what has not begun."""
        self._client.close(timeout=_LOOK)
