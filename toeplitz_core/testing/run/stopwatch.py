"""When a run began, and how long it and its steps took."""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import UTC, datetime

from toeplitz_core.testing.laws.result import Step
from toeplitz_core.testing.run.events import Event, StepEnded, StepStarted
from toeplitz_core.testing.run.plan import Task
from toeplitz_core.testing.run.record import Timing


class Stopwatch:
    """Measure a run. It consumes the events of the run."""

    def __init__(self) -> None:
        self._date = _now()
        self._begin = time.monotonic()
        self._running: dict[Task, float] = {}
        self._steps: dict[Step, float] = defaultdict(float)
        self._began: dict[Step, str] = {}

    def __call__(self, event: Event) -> None:
        """Note when a step begins and ends."""
        if isinstance(event, StepStarted):
            self._running[event.task] = time.monotonic()
            self._began.setdefault(event.task.step, _now())
        elif isinstance(event, StepEnded) and event.task in self._running:
            self._steps[event.task.step] += time.monotonic() - self._running.pop(event.task)

    @property
    def timing(self) -> Timing:
        """The times until now."""
        return Timing(self._date, time.monotonic() - self._begin, dict(self._steps), dict(self._began))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
