"""A plan being carried out: each step searched once, or in rounds until the time is spent, here or by judges."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run.plan import not_run
from toeplitz_core.testing.search.search import Interrupted, Result, merged

if TYPE_CHECKING:
    from toeplitz_core.testing.run.plan import Plan, Step, Task

_Key = tuple[str, str, str, str]


class Searcher(Protocol):
    """What searches steps: :class:`Here`, or :class:`toeplitz_core.testing.run.pool.Judges`."""

    @property
    def idle(self) -> bool:
        """Whether it takes another step."""
        ...

    @property
    def busy(self) -> bool:
        """Whether there is a step that is not finished."""
        ...

    def start(self, task: Task) -> None:
        """Take a step."""
        ...

    def finished(self) -> Iterator[tuple[Task, Result]]:
        """The results of one or more steps; waits until there are some."""
        ...

    def interrupt(self) -> list[tuple[Task, Result]]:
        """What the steps that are not finished have found until now. They are given up."""
        ...


class Here:
    """Searches in this process, one step at a time."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._task: Task | None = None
        self._cut_short: list[tuple[Task, Result]] = []

    @property
    def idle(self) -> bool:
        return self._task is None

    @property
    def busy(self) -> bool:
        return self._task is not None

    def start(self, task: Task) -> None:
        """Take a step."""
        self._task = task

    def finished(self) -> Iterator[tuple[Task, Result]]:
        """Search the step."""
        task, self._task = self._task, None
        assert task is not None
        number, step = task
        try:
            result = self._plan.result(step, number)
        except Interrupted as interrupt:
            self._cut_short = [(task, interrupt.result)]
            raise
        yield task, result

    def interrupt(self) -> list[tuple[Task, Result]]:
        """What the step had found when it was interrupted."""
        return self._cut_short


class Run:
    """A plan being carried out. Iterate for the results of single rounds as they come.

    Parameters
    ----------
    plan : Plan
    searcher : Searcher, optional
        :class:`Here` if not given.
    clock : callable
        Seconds since some moment.
    """

    def __init__(
        self, plan: Plan, searcher: Searcher | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.plan = plan
        self._searcher: Searcher = Here(plan) if searcher is None else searcher
        self._clock = clock
        self._found: dict[_Key, dict[int, Result]] = defaultdict(dict)
        self._settled: set[_Key] = set()

    @property
    def results(self) -> list[Result]:
        """Of each step that was reached, in the plan's order, all of its rounds as one."""
        found = (self._found[key] for key in map(_key, self.plan.steps) if key in self._found)
        return [merged([rounds[number] for number in sorted(rounds)]) for rounds in found]

    @property
    def rounds(self) -> int:
        """Rounds that are complete: all steps, but for those that had failed or cannot run."""
        live = [len(self._found.get(key, ())) for key in map(_key, self.plan.steps) if key not in self._settled]
        return min(live) if live else max(map(len, self._found.values()), default=0)

    def __iter__(self) -> Iterator[Result]:
        tasks, stopped = self._tasks(), False
        while True:
            while not stopped and self._searcher.idle and (task := next(tasks, None)) is not None:
                reason = _absence(task)
                if reason is None:
                    self._searcher.start(task)
                else:
                    yield self._added(task, Result(*_key(task[1]), Status.NOT_RUN, message=reason))
            if not self._searcher.busy:
                return
            for task, result in self._searcher.finished():
                yield self._added(task, result)
                stopped |= self.plan.fail_fast and result.status.is_failure

    def interrupt(self) -> None:
        """Give up what is being searched; failures that it has found already become results."""
        for task, result in self._searcher.interrupt():
            self._added(task, result)

    def _tasks(self) -> Iterator[Task]:
        limit = self.plan.time
        begin, searched = self._clock(), False
        for number in itertools.count() if limit is not None else range(1):
            left = [step for step in self.plan.steps if _key(step) not in self._settled]
            if not left:
                return
            for step in left:
                if _key(step) in self._settled:  # by an earlier round, which ended just now
                    continue
                if limit is not None and searched and self._clock() - begin >= limit:
                    return
                searched |= _absence((number, step)) is None
                yield number, step

    def _added(self, task: Task, result: Result) -> Result:
        number, step = task
        self._found[_key(step)][number] = result
        if result.status.is_failure or result.status is Status.NOT_RUN:
            self._settled.add(_key(step))
        return result


def _key(step: Step) -> _Key:
    subject, law, dtype, device = step
    return subject.name, law.name, dtype, device


def _absence(task: Task) -> str | None:
    _, (subject, _, _, device) = task
    return not_run(subject, device)
