"""What to run: subjects x laws x dtypes x devices, and how hard to look; what came of it as an exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from toeplitz_core.testing.case.layouts import ALL_LAYOUTS
from toeplitz_core.testing.findings.known import KnownFailures
from toeplitz_core.testing.findings.memory import Remembered
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.search.search import Interrupted, Result, search, walk
from toeplitz_core.testing.strategies.sweep import convolutions
from toeplitz_core.testing.subjects.interface import Subject
from toeplitz_core.testing.support.spelling import cases_of

if TYPE_CHECKING:
    from toeplitz_core.testing.case.call import Call
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.findings.known import Stale
    from toeplitz_core.testing.laws.law import Law
    from toeplitz_core.testing.search.profiles import Profile
    from toeplitz_core.testing.subjects.interface import Runner

    Step = tuple[Runner, Law, str, str]
    # The number of a round and a step.
    Task = tuple[int, Step]

# Not for subjects that run in the judge's own process.
UNSAFE_LAYOUTS = ("channels_last", "channel_slice")
UNSAFE_REASON = "torch 2.13 on a CPU can kill the process on tensors whose channels are innermost; not run inline"
SAFE_LAYOUTS = tuple(layout for layout in ALL_LAYOUTS if layout not in UNSAFE_LAYOUTS)


# How often a failing law is searched again while its failures are adopted: each round finds the next of its faults, and
# an implementation with more of them than this has none to be kept apart.
ADOPTION_ROUNDS = 20
# How often the example of a known failure is run before it counts as holding: of a failure that comes in every second
# run, one in a thousand is then taken for mended.
REPLAYS = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and how hard to look.

    With ``time``, a number of seconds, all steps are searched in rounds until it is spent, each round with a seed of
    its own: ``seed`` (or 0) and the number of the round.

    With ``sweep``, a number of steps, nothing is searched: each law is held on every convolution up to so many steps
    from the smallest. ``profile``, ``examples``, ``seed``, ``layouts`` and ``time`` say nothing then.
    """

    subjects: Sequence[Runner]
    laws: Sequence[Law]
    dtypes: Sequence[str]
    devices: Sequence[str]
    profile: Profile
    examples: int | None = None
    seed: int | None = None
    fail_fast: bool = False
    layouts: Collection[str] = SAFE_LAYOUTS
    known: KnownFailures | None = None
    time: float | None = None
    sweep: int | None = None

    @property
    def without(self) -> list[str]:
        """What the plan names and does not run: dtypes that a law is not for, and what a sweep leaves out."""
        left_out: dict[str, list[str]] = {}
        for law in self.laws:
            if dtypes := ", ".join(dtype for dtype in self.dtypes if dtype not in law.dtypes):
                left_out.setdefault(dtypes, []).append(law.name)
        lines = [f"not for {dtypes}: {', '.join(laws)}" for dtypes, laws in left_out.items()]
        if self.sweep is None:
            return lines
        lines += [f"{name}: {reason}" for name, reason in self._unswept.items()]
        for law in self.laws:
            if law.max_products is not None and (count := sum(map(law.too_large, convolutions(self.sweep)))):
                lines.append(f"{law.name}: {cases_of(count)} of more than {law.max_products} products")
        return lines

    @property
    def steps(self) -> list[Step]:
        """(subject, law, dtype, device) in the order of the run; without the dtypes that a law is not for."""
        return self._steps([law for law in self.laws if law.name not in self._unswept])

    def _steps(self, laws: Sequence[Law]) -> list[Step]:
        return [
            (subject, law, dtype, device)
            for subject in self.subjects
            for device in self.devices
            for law in laws
            for dtype in self.dtypes
            if dtype in law.dtypes
        ]

    @property
    def _unswept(self) -> dict[str, str]:
        """The laws that a sweep is nothing for, and why."""
        return {law.name: law.unswept for law in self.laws if self.sweep is not None and law.unswept}

    def result(self, step: Step, number: int = 0) -> Result:
        """The result of one step in one round. A device that is not there gives one that was not run."""
        subject, law, dtype, device = step
        if (reason := not_run(subject, device)) is not None:
            return Result(subject.name, law.name, dtype, device, Status.NOT_RUN, message=reason)
        if subject.dtypes is not None and dtype not in subject.dtypes:
            reason = f"it has {', '.join(subject.dtypes)} only"
            return Result(subject.name, law.name, dtype, device, Status.UNSUPPORTED, message=reason)
        if law.procedure not in subject.procedures:
            reason = f"it has no {law.procedure.replace('_', ' ')}"
            return Result(subject.name, law.name, dtype, device, Status.UNSUPPORTED, message=reason)
        if self.time is not None:
            return self._search(step, self.known, (self.seed or 0) + number)
        if self.sweep is not None or self.seed is not None or not self.profile.remembers:
            return self._search(step, self.known, self.seed)
        memory = Remembered(subject.name, law.name, dtype, device)
        first = memory.recall()
        if first is not None and not (law.takes(first) and self._has_layouts_of(first)):
            return self._search(step, self.known, None)  # it is for a run that can try it
        try:
            result = self._search(step, self.known, None, first)
        except Interrupted as stopped:
            memory.keep(stopped.result.failure)
            raise
        memory.keep(result.failure)
        return result

    def _has_layouts_of(self, case: Case | Call) -> bool:
        return {layout for _, layout in case.layouts} <= set(self.layouts)

    def _search(
        self, step: Step, known: KnownFailures | None, seed: int | None, first: Case | Call | None = None
    ) -> Result:
        subject, law, dtype, device = step
        # What runs in this process has the threads that it would have anywhere.
        with contextlib.nullcontext() if isinstance(subject, Subject) else _one_thread():
            if self.sweep is not None:
                cases = law.swept(convolutions(self.sweep), dtype, device)
                return walk(law, subject, cases, dtype=dtype, device=device, known=known)
            return search(
                law,
                subject,
                dtype=dtype,
                settings=self.profile.settings(
                    examples=self.examples or law.examples(self.profile.examples), seeded=seed is not None
                ),
                device=device,
                seed=seed,
                layouts=self.layouts,
                known=known,
                first=first,
            )

    def unreached(self, results: Sequence[Result], reason: str) -> list[Result]:
        """For each step that has no result, and for those that a sweep has not, one that was not run."""
        reached = {(r.subject, r.law, r.dtype, r.device) for r in results}
        steps = [(subject.name, law.name, dtype, device) for subject, law, dtype, device in self._steps(self.laws)]
        reasons = {law.name: reason for law in self.laws} | self._unswept
        return [Result(*step, Status.NOT_RUN, message=reasons[step[1]]) for step in steps if step not in reached]

    def stale(self, results: Sequence[Result], *, patient: bool = False) -> list[Stale]:
        """The known failures that are not needed any more, but for those of :meth:`dear` unless ``patient``.

        An example in a layout that is not run is left alone.
        """
        if self.known is None:
            return []
        put_off = () if patient else self.dear
        legal = [
            entry for entry in self.known.entries if self._has_layouts_of(entry.example) and entry.name not in put_off
        ]
        subjects = {subject.name: subject for subject in self.subjects}
        laws = {law.name: law for law in self.laws}
        return KnownFailures(tuple(legal)).stale(
            results,
            lambda subject, case: replays(laws[str(case.law)], subjects[subject], case),
            takes=lambda case: case.law not in laws or laws[case.law].takes(case),
        )

    @property
    def dear(self) -> list[str]:
        """The known failures of these subjects and laws whose examples do not return: each takes its whole timeout."""
        subjects, laws = {subject.name for subject in self.subjects}, {law.name for law in self.laws}
        entries = () if self.known is None else self.known.entries
        return [
            entry.name
            for entry in entries
            if entry.status is Status.TIMEOUT
            and entry.applies
            and subjects.intersection(entry.subjects)
            and laws.intersection(entry.laws)
        ]

    def adopt(self, results: Sequence[Result], date: str, there: KnownFailures) -> Iterator[KnownFailures]:
        """The list ``there`` with entries for what fails, searched again and longer until nothing else does."""
        own = () if self.known is None else self.known.entries
        names = {entry.name for entry in own}
        failing = [result for result in results if result.status.is_failure]
        steps = {(s.name, law.name, dtype, device): (s, law, dtype, device) for s, law, dtype, device in self.steps}
        for _ in range(ADOPTION_ROUNDS):
            there = there.adopt(failing, date)
            yield there
            if not failing:
                return
            known = KnownFailures((*own, *(entry for entry in there.entries if entry.name not in names)))
            again = [self._search(steps[r.subject, r.law, r.dtype, r.device], known, self.seed) for r in failing]
            failing = [result for result in again if result.status.is_failure]


def replays(law: Law, subject: Runner, case: Case | Call) -> Iterator[Verdict]:
    """The verdicts on a case that is run again and again, and then where the memory given out is full of something.

    What a fault leaves in its result may be whatever was in memory, and that may be right by chance for a long time.
    """
    for _ in range(REPLAYS):
        yield law(subject, case)
    for poisoned in subject.poisoned():
        yield law(poisoned, case)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """The judge alone with one thread: its tensors are small, and its threads would wait where a worker computes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def not_run(subject: Runner, device: str) -> str | None:
    """Why a subject cannot run on a device; None if it can."""
    if subject.absent:
        return subject.absent
    kind = torch.device(device).type
    if subject.devices is not None and kind not in subject.devices:
        return f"it computes on {', '.join(subject.devices)}, not on {kind}"
    return missing(device)


def missing(device: str) -> str | None:
    """Why a device cannot be used; None if it can."""
    named = torch.device(device)
    if named.type == "meta":
        return "tensors on meta have no values"
    if named.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (named.index or 0) >= count:
            return f"torch sees {count} CUDA devices" if count else "torch sees no CUDA device"
        return None
    try:
        torch.empty(1, device=named)
    except (AssertionError, NotImplementedError, RuntimeError) as error:  # AssertionError: torch is built without it
        return str(error).partition("\n")[0]
    return None


def exit_code(
    results: Sequence[Result], *, required_devices: Collection[str] = (), refused_stale: Collection[Stale] = ()
) -> int:
    """1 a law fails; 3 nothing proven, a required device is absent, or an entry is stale and not to be; 0 all hold.

    Nothing is proven of a law if too few cases could be judged, and of a subject if it does without every law. A law or
    a dtype that a subject does without altogether is none that it claims.
    """
    if any(result.status.is_failure for result in results):
        return 1
    absent = any(r.status is Status.NOT_RUN and r.device in required_devices for r in results)
    ran = [r for r in results if r.status is not Status.NOT_RUN]
    proven = {r.subject for r in ran if r.status in (Status.PASS, Status.KNOWN)}
    unproven = not ran or any(r.nothing_proven or r.subject not in proven for r in ran)
    return 3 if absent or unproven or refused_stale else 0
