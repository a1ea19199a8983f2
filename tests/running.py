"""Searches and runs in this process, for tests: of subjects and laws that no name leads to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.layouts import ALL_LAYOUTS
from toeplitz_core.testing.findings.known import KnownFailures
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Verdict
from toeplitz_core.testing.run.events import Consumer, Event, StepEnded
from toeplitz_core.testing.run.executors import ThisProcess
from toeplitz_core.testing.run.judging import judge
from toeplitz_core.testing.run.plan import Plan, Task
from toeplitz_core.testing.run.pool import SubjectPool
from toeplitz_core.testing.run.rounds import Progress, tasks
from toeplitz_core.testing.search.effort import PROFILES, Profile, Search, Sweep
from toeplitz_core.testing.search.search import find
from toeplitz_core.testing.search.tally import Tally
from toeplitz_core.testing.subjects import Implementation, Subject


def search(
    law: Law,
    subject: Implementation,
    *,
    dtype: str,
    device: str = "cpu",
    profile: str = "gate",
    examples: int | None = None,
    seed: int = 0,
    layouts: Sequence[str] = ALL_LAYOUTS,
    known: KnownFailures | None = None,
    first: Sequence[Case | Call] = (),
    sweep: int | None = None,
    tally: Tally | None = None,
) -> Result:
    """The result of one law on one subject: of all cases of a profile, a number of them, or a sweep."""
    of_profile = PROFILES[profile]
    drawn = Search(examples or of_profile.examples, seed, of_profile.climbs, tuple(layouts), tuple(first))
    effort = drawn if sweep is None else Sweep(sweep)

    def excuse(verdict: Verdict) -> str | None:
        entry = None if known is None else known.match(subject.name, verdict)
        return None if entry is None else entry.name

    return find(law, subject, effort, dtype=dtype, device=device, excuse=excuse, tally=tally)


class Bench:
    """A plan and the subjects that it is for.

    Parameters
    ----------
    subjects : sequence of Implementation
    laws : sequence of Law
    **options
        Of a :class:`Plan`.
    """

    def __init__(
        self,
        subjects: Sequence[Implementation],
        laws: Sequence[Law],
        dtypes: Sequence[str] = ("float32",),
        devices: Sequence[str] = ("cpu",),
        profile: str | Profile = "gate",
        **options: Any,
    ) -> None:
        self.plan = Plan(
            subjects=[subject.name for subject in subjects],
            laws={law.name: law for law in laws},
            dtypes=dtypes,
            devices=devices,
            profile=PROFILES[profile] if isinstance(profile, str) else profile,
            inline=frozenset(subject.name for subject in subjects if isinstance(subject, Subject)),
            **options,
        )
        here: Mapping[str, Implementation] = {subject.name: subject for subject in subjects}
        self.pool = SubjectPool(Sandbox, here=here)

    @property
    def steps(self) -> list[Step]:
        """Those of the plan."""
        return self.plan.steps

    def result(self, step: Step | None = None, number: int = 0) -> Result:
        """The result of a step, the first if not given, in one round."""
        return judge(self.plan, self.pool, Task(self.steps[0] if step is None else step, number))

    def run(self, *consumers: Consumer, clock: Callable[[], float] = time.monotonic) -> Run:
        """What becomes of all steps."""
        run = Run(self.plan)

        def emit(event: Event) -> None:
            for consumer in (run, *consumers):
                consumer(event)

        ThisProcess(self.plan, self.pool).execute(tasks(run.progress, clock=clock), emit)
        return run


class Run:
    """What came of a run: the single results as they came, and the progress at its end."""

    def __init__(self, plan: Plan) -> None:
        self.progress = Progress(plan)
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Take an event in."""
        self.events.append(event)
        self.progress(event)

    @property
    def came(self) -> list[Result]:
        """Of single rounds, in the order in which they ended."""
        return [event.result for event in self.events if isinstance(event, StepEnded)]

    @property
    def results(self) -> list[Result]:
        """Of each step, all of its rounds as one."""
        return self.progress.results


def share(law: Law, examples: int = PROFILES["gate"].examples) -> int:
    """The cases for one dtype of a law, where a profile has so many."""
    return replace(PROFILES["gate"], examples=examples).examples_of(law.name)
