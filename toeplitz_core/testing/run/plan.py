"""The plan of a run: its steps (subjects x laws x dtypes x devices), and the effort for each."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.layouts import ALL_LAYOUTS
from toeplitz_core.testing.findings.known import KnownFailures
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.search.effort import PROFILES, Effort, Profile, Search, Sweep
from toeplitz_core.testing.search.law_cases import too_large, why_not_swept
from toeplitz_core.testing.strategies.sweep import convolutions
from toeplitz_core.testing.support.spelling import cases_of

# Layouts on which torch can crash. Subjects in the judge's process are not tested on them.
UNSAFE_LAYOUTS = ("channels_last", "channel_slice")
UNSAFE_REASON = "not run inline, because torch on a CPU can crash on this layout"
SAFE_LAYOUTS = tuple(layout for layout in ALL_LAYOUTS if layout not in UNSAFE_LAYOUTS)
# Drawn seeds are below this, so that they are short enough to type.
_SEEDS = 2**31


@dataclass(frozen=True, slots=True)
class Task:
    """A step in one round.

    Parameters
    ----------
    step : Step
        The subject, law, dtype and device to check.
    number : int
        The number of the round, from 0.
    """

    step: Step
    number: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and with how much effort.

    With ``time``, all steps are searched in rounds until this many seconds have passed. The seed of a round is ``seed``
    plus the number of the round.

    With ``sweep``, each law is checked on every convolution up to this many steps from the smallest one. There is no
    search, so ``examples`` and ``seed`` are not used.

    Parameters
    ----------
    subjects, dtypes, devices : sequence of str
        Names.
    laws : mapping of str to Law
        The laws to check, by name.
    profile : Profile
        The amount of effort for each step.
    seed : int
        The seed of the first round; the same seed draws the same cases.
    remembers : bool
        Whether failures of earlier runs are tried first.
    examples : int, optional
        Number of cases per law and dtype, instead of the profile's.
    fail_fast : bool
        Whether no step starts after the first failure.
    inline : frozenset of str
        The subjects that run in the judge's process.
    known : KnownFailures
        Failures that are counted, but do not fail the run.
    time : float, optional
        Seconds to search, as above; None for one round.
    sweep : int, optional
        Largest number of steps from the smallest convolution, as above; None for a search.
    """

    subjects: Sequence[str]
    laws: Mapping[str, Law]
    dtypes: Sequence[str]
    devices: Sequence[str]
    profile: Profile
    seed: int = 0
    remembers: bool = False
    examples: int | None = None
    fail_fast: bool = False
    inline: frozenset[str] = frozenset()
    known: KnownFailures = field(default_factory=KnownFailures)
    time: float | None = None
    sweep: int | None = None

    @classmethod
    def of(cls, options: Options, subjects: Sequence[str], inline: Collection[str] = ()) -> Plan:
        """Make the plan of these options.

        Raises
        ------
        ValueError
            If a list of known failures cannot be read, or if there is nothing to run.
        """
        profile = PROFILES[options.profile or "gate"]
        seed = options.seed
        if seed is None:
            seed = 0 if profile.deterministic else secrets.randbelow(_SEEDS)
        plan = cls(
            subjects=tuple(subjects),
            laws={name: LAWS[name] for name in options.laws},
            dtypes=options.dtypes,
            devices=options.devices,
            profile=profile,
            seed=seed,
            remembers=profile.remembers and options.seed is None and options.time is None,
            examples=options.examples,
            fail_fast=options.fail_fast,
            inline=frozenset(subjects if options.inline else inline),
            known=KnownFailures.of_files(options.known, laws=LAWS),
            time=options.time,
            sweep=options.sweep,
        )
        if not plan.subjects:
            raise ValueError("nothing to check: no subject")
        if not plan.steps:
            raise ValueError(f"nothing to check: {', '.join(plan.left_out)}")
        return plan

    @property
    def steps(self) -> list[Step]:
        """The steps in the order of the run, without dtypes to which a law does not apply."""
        return self._steps([law for law in self.laws.values() if law.name not in self._unswept])

    def _steps(self, laws: Sequence[Law]) -> list[Step]:
        return [
            Step(subject, law.name, dtype, device)
            for subject in self.subjects
            for device in self.devices
            for law in laws
            for dtype in self.dtypes
            if dtype in law.dtypes
        ]

    @property
    def _unswept(self) -> dict[str, str]:
        """The laws that cannot be swept, with the reasons."""
        if self.sweep is None:
            return {}
        return {name: reason for name, law in self.laws.items() if (reason := why_not_swept(law))}

    @property
    def left_out(self) -> list[str]:
        """What the plan names but does not run, and why: dtypes, unsafe layouts, laws and cases without a sweep."""
        dtypes_of: dict[str, list[str]] = {}
        for law in self.laws.values():
            if dtypes := ", ".join(dtype for dtype in self.dtypes if dtype not in law.dtypes):
                dtypes_of.setdefault(dtypes, []).append(law.name)
        lines = [f"{', '.join(laws)}: not for {dtypes}" for dtypes, laws in dtypes_of.items()]
        if self.sweep is not None:
            lines += [f"{name}: {reason}" for name, reason in self._unswept.items()]
            for law in self.laws.values():
                if count := sum(too_large(law, case) for case in self._swept(law)):
                    lines.append(f"{law.name}: {cases_of(count)} with more than {law.max_products} products")
        elif self.inline:
            lines += [f"layout {layout}: {UNSAFE_REASON}" for layout in UNSAFE_LAYOUTS]
        return lines

    def _swept(self, law: Law) -> Sequence[Case]:
        return list(convolutions(self.sweep)) if law.max_products is not None and self.sweep is not None else ()

    def layouts(self, subject: str) -> tuple[str, ...]:
        """The memory layouts that a subject is tested on."""
        return SAFE_LAYOUTS if subject in self.inline else ALL_LAYOUTS

    def takes(self, step: Step, case: Case | Call) -> bool:
        """Whether the case can be run in this step."""
        return self.laws[step.law].takes(case) and self.has_layouts_of(step.subject, case)

    def has_layouts_of(self, subject: str, case: Case | Call) -> bool:
        """Whether the subject is tested on all layouts of the case."""
        return {layout for _, layout in case.layouts} <= set(self.layouts(subject))

    def effort(self, task: Task, first: Sequence[Case | Call] = ()) -> Effort:
        """How to look for a failure in a task. The cases ``first`` are tried before all others."""
        if self.sweep is not None:
            return Sweep(self.sweep)
        return Search(
            examples=self.examples or self.profile.examples_of(task.step.law),
            seed=self.seed + task.number,
            climbs=self.profile.climbs,
            layouts=self.layouts(task.step.subject),
            first=tuple(first),
        )

    def without_known(self, known: KnownFailures) -> Plan:
        """The same plan with another list of known failures."""
        return replace(self, known=known)

    def unreached(self, results: Sequence[Result], reason: str) -> list[Result]:
        """A result with the status ``not-run`` for each step without a result, also for laws that cannot be swept."""
        reached = {result.step for result in results}
        reasons = dict.fromkeys(self.laws, reason) | self._unswept
        steps = self._steps(list(self.laws.values()))
        return [Result(step, Status.NOT_RUN, message=reasons[step.law]) for step in steps if step not in reached]
