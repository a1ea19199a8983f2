"""Subjects x laws x dtypes x devices as steps that are run one at a time and in any order: what test runners need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from toeplitz_core.testing.case.case import DTYPES, check_device
from toeplitz_core.testing.case.layouts import ALL_LAYOUTS
from toeplitz_core.testing.findings.known import KnownFailures
from toeplitz_core.testing.isolation.sandbox import IsolatedRunner, Isolation, SubjectError
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.run.options import KEYS, named, names
from toeplitz_core.testing.run.plan import SAFE_LAYOUTS, UNSAFE_LAYOUTS, UNSAFE_REASON, Plan
from toeplitz_core.testing.search.profiles import PROFILES
from toeplitz_core.testing.subjects import Absent, Runner, Subject, absent, check_name, environment, resolve

if TYPE_CHECKING:
    from toeplitz_core.testing.findings.known import Stale
    from toeplitz_core.testing.search.search import Result


@dataclass(frozen=True, slots=True)
class Step:
    """One law, held against one subject for one dtype on one device, by their names."""

    subject: str
    law: str
    dtype: str
    device: str

    def __str__(self) -> str:
        return f"{self.subject}-{self.law}-{self.dtype}-{self.device}"


class Battery:
    """Judges steps. It starts nothing before the first of them, so that it can be made where tests are only listed.

    Parameters
    ----------
    subjects : mapping
        By name: None for one that is found by its name, and runs in a worker; a ``Subject`` runs in this process.
    laws, dtypes, devices : sequence of str, optional
        Names; if not given, every law and dtype, and the devices cpu and cuda.
    profile : str
        The name of a profile.
    examples : int, optional
        Cases per law and dtype, instead of the profile's.
    seed : int, optional
        Of the search.
    known : path, sequence of paths or KnownFailures, optional
        The list of known failures.
    inline : bool
        Whether subjects that are found by name run in this process too.
    isolation : callable
        Makes what owns the workers, when one is needed first.

    Raises
    ------
    ValueError
        With the value and the rule, or the nearest legal name.
    """

    def __init__(
        self,
        subjects: Mapping[str, Subject | None],
        *,
        laws: Sequence[str] | None = None,
        dtypes: Sequence[str] | None = None,
        devices: Sequence[str] | None = None,
        profile: str = "gate",
        examples: int | None = None,
        seed: int | None = None,
        known: str | Path | Sequence[str | Path] | KnownFailures | None = None,
        inline: bool = False,
        isolation: Callable[[], Isolation] = Isolation,
    ) -> None:
        for name, subject in subjects.items():
            if subject is None:
                check_name(name)
        for key, value in (("examples", examples), ("seed", seed)):
            if value is not None:
                KEYS[key](key, value)
        held = _given("devices", devices, ("cpu", "cuda"))
        self.required_devices = () if devices is None else held
        self.subjects = dict(subjects)
        self.inline = inline
        files = [known] if isinstance(known, str | Path) else known
        self.known = files if isinstance(files, KnownFailures | None) else KnownFailures.of_files(files, laws=LAWS)
        self._plan = Plan(
            subjects=(),
            laws=[named(f"law={name!r}", name, LAWS) for name in _given("laws", laws, LAWS)],
            dtypes=[name for name in _given("dtypes", dtypes, DTYPES) if named(f"dtype={name!r}", name, DTYPES)],
            devices=[check_device(name) for name in held],
            profile=named(f"profile={profile!r}", profile, PROFILES),
            examples=examples,
            seed=seed,
            known=self.known,
        )
        if not self.subjects:
            raise ValueError("nothing to judge: no subject")
        if not self.steps:
            raise ValueError(f"nothing to judge: {', '.join(self._plan.without)}")
        self._make_isolation = isolation
        self._isolation: Isolation | None = None
        self._plans: dict[str, Plan] = {}

    @property
    def plan(self) -> Plan:
        """What is asked of each subject; itself without one."""
        return self._plan

    @property
    def steps(self) -> list[Step]:
        """In the order of a run; without the dtypes that a law is not for."""
        plan = self._plan
        return [
            Step(subject, law.name, dtype, device)
            for subject in self.subjects
            for device in plan.devices
            for law in plan.laws
            for dtype in plan.dtypes
            if dtype in law.dtypes
        ]

    @property
    def left_out(self) -> list[str]:
        """What is not run, whatever comes, each with its reason."""
        runs_here = self.inline or any(subject is not None for subject in self.subjects.values())
        layouts = UNSAFE_LAYOUTS if runs_here else ()
        return [*self._plan.without, *(f"layout {layout}: {UNSAFE_REASON}" for layout in layouts)]

    def start(self) -> None:
        """Import every subject.

        Raises
        ------
        SubjectError
            If one cannot be imported.
        """
        for name in self.subjects:
            for runner in self.planned(name).subjects:
                if isinstance(runner, IsolatedRunner):
                    try:
                        runner.start()
                    except SubjectError as error:
                        raise _not_there(name, error) from None

    def result(self, step: Step) -> Result:
        """The result of a step.

        Raises
        ------
        SubjectError
            If the subject cannot be imported.
        LawError
            If a law could not judge: an error of the suite.
        """
        plan = self.planned(step.subject)
        (runner,) = plan.subjects
        if isinstance(runner, IsolatedRunner):
            try:
                runner.start()
            except SubjectError as error:
                raise _not_there(step.subject, error) from None
        return plan.result((runner, LAWS[step.law], step.dtype, step.device))

    def stale(self, results: Iterable[Result], *, patient: bool = False) -> list[Stale]:
        """The known failures that are not needed any more, of those that some results could have met.

        Those whose example does not return are looked at if ``patient``.
        """
        results = list(results)
        if self.known is None:
            return []
        return [
            stale
            for name in self.subjects
            for stale in self.planned(name).stale([r for r in results if r.subject == name], patient=patient)
        ]

    def close(self) -> None:
        """End all workers; the next step starts new ones."""
        self._plans = {}
        if self._isolation is not None:
            self._isolation.close()
            self._isolation = None

    def planned(self, name: str) -> Plan:
        """The plan of one subject."""
        if name not in self._plans:
            runner = self._runner(name)
            layouts = SAFE_LAYOUTS if isinstance(runner, Subject) else ALL_LAYOUTS
            self._plans[name] = replace(self._plan, subjects=(runner,), layouts=layouts)
        return self._plans[name]

    def _runner(self, name: str) -> Runner:
        if (subject := self.subjects[name]) is not None:
            return subject
        if reason := absent(name):
            return Absent(name, reason)
        if self.inline:
            try:
                return resolve(name)
            except ValueError as error:
                raise _not_there(name, error) from None
        if self._isolation is None:
            self._isolation = self._make_isolation()
        return self._isolation.runner(name, environment(name))


def _given(key: str, given: Sequence[str] | None, otherwise: Iterable[str]) -> tuple[str, ...]:
    """Names that were given, each once."""
    if given is None:
        return tuple(otherwise)
    return names(key, given if isinstance(given, str) else list(given))


def _not_there(name: str, error: Exception) -> SubjectError:
    said = str(error)
    return SubjectError(said if said.startswith("subject '") else f"subject '{name}': {said}")
