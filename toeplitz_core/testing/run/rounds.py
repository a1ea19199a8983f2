"""The tasks of a plan and their progress: each step once, or in rounds until the time is spent."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run.events import Event, FailureFound, StepEnded
from toeplitz_core.testing.run.plan import Plan, Task
from toeplitz_core.testing.search.tally import merged_results


class Progress:
    """The progress of a plan. It consumes the events of the run.

    Parameters
    ----------
    plan : Plan
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._ended: dict[Step, dict[int, Result]] = defaultdict(dict)
        self._found: dict[Step, dict[int, Result]] = defaultdict(dict)
        self._settled: set[Step] = set()

    def __call__(self, event: Event) -> None:
        """Record an event."""
        if isinstance(event, FailureFound):
            self._found[event.task.step][event.task.number] = event.result
        elif isinstance(event, StepEnded):
            step, result = event.task.step, event.result
            self._found[step].pop(event.task.number, None)
            self._ended[step][event.task.number] = result
            if result.status.is_failure or result.status is Status.NOT_RUN:
                self._settled.add(step)

    @property
    def results(self) -> list[Result]:
        """One result for each step that was run, in the plan's order, with all of its rounds merged.

        The result of a step that was cut short has what the step had found by then. A sweep without some of its parts
        has no result, unless it has failed: it would look like a whole one.
        """
        rounds = ({**self._ended.get(step, {}), **self._found.get(step, {})} for step in self.plan.steps)
        merged = [merged_results([found[number] for number in sorted(found)]) for found in rounds if found]
        return [each for each in merged if each.status.is_failure or self._is_whole(each.step)]

    def _is_whole(self, step: Step) -> bool:
        wanted = 1 if self.plan.time is not None else self.plan.effort.rounds
        return step in self._settled or len(self._ended.get(step, ())) >= wanted

    @property
    def rounds(self) -> int:
        """Number of completed rounds. Steps that have failed or cannot run are not needed for a complete round."""
        live = [len(self._ended.get(step, ())) for step in self.plan.steps if step not in self._settled]
        return min(live) if live else max(map(len, self._ended.values()), default=0)

    @property
    def stopped(self) -> bool:
        """Whether no more tasks start, because a step has failed and the plan stops at the first failure."""
        return self.plan.fail_fast and any(
            result.status.is_failure for rounds in self._ended.values() for result in rounds.values()
        )

    @property
    def searched(self) -> bool:
        """Whether any step was searched to its end. Steps that cannot run do not count."""
        ended = (result for rounds in self._ended.values() for result in rounds.values())
        return any(result.status is not Status.NOT_RUN for result in ended)

    def is_settled(self, step: Step) -> bool:
        """Whether further rounds of the step would add nothing."""
        return step in self._settled

    def is_done(self, task: Task) -> bool:
        """Whether the task has ended."""
        return task.number in self._ended.get(task.step, {})


def tasks(progress: Progress, *, clock: Callable[[], float] = time.monotonic) -> Iterator[Task]:
    """Generate the remaining tasks of a plan.

    Parameters
    ----------
    progress : Progress
        The progress of the plan. It is read again before each task.
    clock : callable
        Returns the time in seconds.
    """
    plan, limit = progress.plan, progress.plan.time
    begin = clock()
    for number in itertools.count() if limit is not None else range(plan.effort.rounds):
        left = [step for step in plan.steps if not progress.is_settled(step)]
        if not left:
            return
        for step in left:
            task = Task(step, number)
            if progress.stopped:
                return
            if progress.is_settled(step) or progress.is_done(task):
                continue
            if limit is not None and progress.searched and clock() - begin >= limit:
                return
            yield task
