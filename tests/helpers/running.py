"""Searches and runs in this process, for tests with subjects and laws that have no importable name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.layouts import ALL_LAYOUTS
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.findings.remembered import default_database
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Excuse, Status, Verdict
from toeplitz_core.testing.run.events import Consumer, Event, StepEnded
from toeplitz_core.testing.run.execution.campaign import Campaign
from toeplitz_core.testing.run.execution.executors import ThisProcess
from toeplitz_core.testing.run.execution.judgement import judge
from toeplitz_core.testing.run.execution.subject_pool import SubjectPool
from toeplitz_core.testing.run.plan import Plan, Task
from toeplitz_core.testing.run.rounds import Progress, tasks
from toeplitz_core.testing.search.effort import PROFILES, Profile, Search, Sweep
from toeplitz_core.testing.search.search import find
from toeplitz_core.testing.search.tally import Tally
from toeplitz_core.testing.strategies.domain import EVERYTHING, Domain
from toeplitz_core.testing.subjects import Implementation, Subject, TorchSubject

EXACT = LAWS["forward-exact"]


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
    domain: Domain = EVERYTHING,
    failures: int = 1,
) -> Result:
    """The result of one law on one subject, for the cases of a profile, a number of them, or a sweep."""
    of_profile = PROFILES[profile]
    drawn = Search(of_profile, examples or of_profile.examples, seed, tuple(layouts), tuple(first), failures)
    effort = drawn if sweep is None else Sweep(sweep)

    def excuse(verdict: Verdict) -> Excuse | None:
        entry = None if known is None else known.match(subject.name, verdict)
        return None if entry is None else Excuse(Status.KNOWN, entry.name)

    return find(law, subject, effort, dtype=dtype, device=device, domain=domain, excuse=excuse, tally=tally)


def hunt(function: Callable[..., torch.Tensor], *, law: Law = EXACT, examples: int = 100, **options: object) -> Result:
    """Search with the gate's settings, in float32 unless the options say otherwise."""
    options = {"dtype": "float32", "examples": examples} | options
    return search(law, TorchSubject("planted", function), **options)


def law_of(check: Callable[[Case], Status], name: str = "made-up") -> Law:
    """A law that calls no implementation; a function gives the status of each case."""
    return Law(name, "Made up.", "Nothing.", lambda _, case: Verdict(check(case), case), EXACT.recipes, EXACT.dtypes)


class Bench:
    """A plan with its subjects.

    Parameters
    ----------
    subjects : sequence of Implementation
    laws : sequence of Law
    **options
        Further fields of the :class:`Plan`.
    """

    def __init__(
        self,
        subjects: Sequence[Implementation],
        laws: Sequence[Law],
        dtypes: Sequence[str] = ("float32",),
        devices: Sequence[str] = ("cpu",),
        profile: str | Profile = "gate",
        examples: int | None = None,
        seed: int = 0,
        sweep: int | None = None,
        failures: int = 1,
        **options: Any,
    ) -> None:
        of_profile = PROFILES[profile] if isinstance(profile, str) else profile
        drawn = Search(of_profile, examples, seed, failures=failures)
        self.plan = Plan(
            subjects=[subject.name for subject in subjects],
            laws={law.name: law for law in laws},
            dtypes=dtypes,
            devices=devices,
            effort=drawn if sweep is None else Sweep(sweep),
            inline=frozenset(subject.name for subject in subjects if isinstance(subject, Subject)),
            **options,
        )
        here: Mapping[str, Implementation] = {subject.name: subject for subject in subjects}
        self.pool = SubjectPool(Sandbox, here=here)

    @property
    def steps(self) -> list[Step]:
        """The steps of the plan."""
        return self.plan.steps

    def result(self, step: Step | None = None, number: int = 0) -> Result:
        """The result of one round of a step, by default of the first step."""
        campaign = Campaign(self.plan, default_database)
        task = campaign.recalled(Task(self.steps[0] if step is None else step, number))
        found = judge(self.plan, self.pool, task)
        campaign(StepEnded(task, found))
        return found

    def run(self, *consumers: Consumer, clock: Callable[[], float] = time.monotonic) -> Run:
        """Run all steps in this process."""
        run = Run(self.plan)

        def emit(event: Event) -> None:
            for consumer in (run, *consumers):
                consumer(event)

        ThisProcess(self.plan, self.pool).execute(tasks(run.progress, clock=clock), emit)
        return run


class Run:
    """The outcome of a run: the result of each round in order, and the final progress."""

    def __init__(self, plan: Plan) -> None:
        self.progress = Progress(plan)
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Record an event."""
        self.events.append(event)
        self.progress(event)

    @property
    def came(self) -> list[Result]:
        """The results of single rounds, in the order in which they ended."""
        return [event.result for event in self.events if isinstance(event, StepEnded)]

    @property
    def results(self) -> list[Result]:
        """The result of each step, with all its rounds merged."""
        return self.progress.results


def share(law: Law, examples: int = PROFILES["gate"].examples) -> int:
    """The number of cases of a law for one dtype, in a profile with this number of examples."""
    return replace(PROFILES["gate"], examples=examples).examples_of(law.name)
