"""The plan of a run: its steps (subjects x laws x dtypes x devices), and the effort for each."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.conditions import Condition
from toeplitz_core.testing.case.layouts import ALL_LAYOUTS
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.search.effort import PROFILES, Effort, Search, Sweep
from toeplitz_core.testing.strategies.domain import EVERYTHING, Domain
from toeplitz_core.testing.subjects.declared import Declared
from toeplitz_core.testing.support.spelling import cases_of, counted

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
    first : tuple of Case or Call
        Remembered cases, which are tried before others.
    """

    step: Step
    number: int = 0
    first: tuple[Case | Call, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and with how much effort.

    Parameters
    ----------
    subjects, dtypes, devices : sequence of str
        Names.
    laws : mapping of str to Law
        The laws to check, by name.
    effort : Search or Sweep
        How each law is checked: the cases to draw, or the convolutions to sweep.
    domain : Domain
        The cases that all subjects are checked on.
    remembers : bool
        Whether failures of earlier runs are tried first.
    fail_fast : bool
        Whether no step starts after the first failure.
    inline : frozenset of str
        The subjects that run in the judge's process.
    strict : bool
        Whether failures that a subject shares with torch fail the run.
    known : KnownFailures
        Failures that are counted, but do not fail the run.
    time : float, optional
        All steps are searched in rounds until this many seconds have passed; None for one round.
    declared : Declared
        What the options declare about the subjects.
    flags : tuple of str
        The options without a value that a replay of a failure needs.
    """

    subjects: Sequence[str]
    laws: Mapping[str, Law]
    dtypes: Sequence[str]
    devices: Sequence[str]
    effort: Effort
    domain: Domain = EVERYTHING
    remembers: bool = False
    fail_fast: bool = False
    inline: frozenset[str] = frozenset()
    known: KnownFailures = field(default_factory=KnownFailures)
    strict: bool = False
    time: float | None = None
    declared: Declared = field(default_factory=Declared)
    flags: tuple[str, ...] = ()

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
            goes_on = bool(options.memory) and options.time is not None  # a campaign draws other cases each time
            seed = 0 if profile.deterministic and not goes_on else secrets.randbelow(_SEEDS)
        plan = cls(
            subjects=tuple(subjects),
            laws={name: LAWS[name] for name in options.laws},
            dtypes=options.dtypes,
            devices=options.devices,
            effort=Search(profile, options.examples, seed, failures=options.max_failures)
            if options.sweep is None
            else Sweep(options.sweep),
            domain=Domain(() if options.where is None else (Condition(options.where),), options.max_products),
            remembers=bool(options.memory) or (profile.remembers and options.seed is None and options.time is None),
            fail_fast=options.fail_fast,
            inline=frozenset(subjects if options.inline else inline),
            known=KnownFailures.of_files(options.known, laws=LAWS),
            strict=options.strict,
            time=options.time,
            declared=options.declared,
            flags=options.flags,
        )
        if not plan.subjects:
            raise ValueError("nothing to check: no subject")
        if not plan.steps:
            raise ValueError(f"nothing to check: {', '.join(plan.left_out)}")
        return plan

    @property
    def seed(self) -> int:
        """The seed in reports: 0 for a sweep, which has none."""
        return self.effort.seed or 0

    @property
    def steps(self) -> list[Step]:
        """The steps in the order of the run, without dtypes to which a law does not apply."""
        return self._steps([law for law in self.laws.values() if law.name not in self._unused])

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
    def _unused(self) -> dict[str, str]:
        """The laws that are not checked with this effort, with the reasons."""
        return {name: reason for name, law in self.laws.items() if (reason := self.effort.unused(law))}

    @property
    def left_out(self) -> list[str]:
        """What the plan names but does not run, and why: dtypes, unsafe layouts, laws and cases without a sweep."""
        dtypes_of: dict[str, list[str]] = {}
        for law in self.laws.values():
            if dtypes := ", ".join(dtype for dtype in self.dtypes if dtype not in law.dtypes):
                dtypes_of.setdefault(dtypes, []).append(law.name)
        lines = [f"{counted(laws, 'law')}: not for {dtypes}" for dtypes, laws in dtypes_of.items()]
        lines += [f"{name}: {reason}" for name, reason in self._unused.items()]
        for law in self.laws.values():
            if count := self.effort.too_large(law):
                lines.append(f"{law.name}: {cases_of(count)} with more than {law.max_products} products")
        unsafe = [layout for layout in UNSAFE_LAYOUTS if self.inline and layout in self.effort.layouts]
        return lines + [f"layout {layout}: {UNSAFE_REASON}" for layout in unsafe]

    def layouts(self, subject: str) -> tuple[str, ...]:
        """The memory layouts that a subject is tested on."""
        return SAFE_LAYOUTS if subject in self.inline else ALL_LAYOUTS

    def takes(self, step: Step, case: Case | Call) -> bool:
        """Whether the case can be run in this step."""
        return self.laws[step.law].takes(case) and self.has_layouts_of(step.subject, case)

    def has_layouts_of(self, subject: str, case: Case | Call) -> bool:
        """Whether the subject is tested on all layouts of the case."""
        return {layout for _, layout in case.layouts} <= set(self.layouts(subject))

    def unreached(self, results: Sequence[Result], reason: str) -> list[Result]:
        """A result with the status ``not-run`` for each step without a result, also for laws that cannot be swept."""
        reached = {result.step for result in results}
        reasons = dict.fromkeys(self.laws, reason) | self._unused
        steps = self._steps(list(self.laws.values()))
        return [Result(step, Status.NOT_RUN, message=reasons[step.law]) for step in steps if step not in reached]
