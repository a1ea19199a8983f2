"""``--write-known``: at the end of a run, bring a list of known failures up to date."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.findings.known_failures.known_file import KnownFile
from toeplitz_core.testing.findings.known_failures.staleness import Stale
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.run.events import Adopted
from toeplitz_core.testing.run.execution.judgement import judge
from toeplitz_core.testing.run.execution.known_upkeep import stale
from toeplitz_core.testing.run.execution.subject_pool import SubjectPool
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.run.plan import Plan, Task

# A failing law is searched again at most this many times while its failures are adopted. Each search finds another
# fault; listing more of them than this is not useful.
ROUNDS = 20


class Adoption:
    """The update of one list.

    Parameters
    ----------
    path : str
        The file of the list, which may also be one of the lists of the run.
    options : Options
    plan : Plan

    Raises
    ------
    ValueError
        If the file cannot be updated, or has a name of an entry that another list of the run has.
    """

    def __init__(self, path: str, options: Options, plan: Plan) -> None:
        self._file = KnownFile(path)
        self._plan = plan
        others = [name for name in options.known if Path(name).resolve() != Path(path).resolve()]
        self._others = KnownFailures.of_files(others, laws=LAWS)
        try:
            KnownFailures((*self._others.entries, *self._file.known.entries))
        except ValueError as error:
            raise ValueError(f"{path} and {', '.join(others)}: {error}") from None
        seed = ["--seed", str(plan.seed)] * (options.seed is None and plan.seed != 0)
        self._chosen = shlex.join([*(word for name in (*others, path) for word in ("--known", name)), *seed])

    def in_full(
        self,
        pool: SubjectPool,
        results: Sequence[Result],
        unneeded: Sequence[Stale],
        red: Callable[[Sequence[Result], Sequence[Stale]], str],
    ) -> Adopted:
        """Remove the entries that hold, and add the failures; then search for further failures and add them too.

        Parameters
        ----------
        unneeded : sequence of Stale
            The stale entries of the lists of the run.
        red : callable
            Why a run with such results and stale entries would not end with 0; empty if it would.
        """
        there = self._file.known
        alone = KnownFailures(tuple(entry for entry in there.entries if entry not in self._plan.known.entries))
        unneeded = [*unneeded, *stale(replace(self._plan, known=alone), pool, results)]
        after = list(results)
        for grown, after in self._adopted(pool, results, _needed(there, results, unneeded)):  # noqa: B007  # used below
            self._file.update(grown)
        left = [each for each in unneeded if each.entry in (*self._others.entries, *self._file.known.entries)]
        return self._event(red(after, left))

    def in_brief(self, results: Sequence[Result]) -> Adopted:
        """Add the failures of a run that was cut short. No subject is called."""
        self._file.update(self._grown(self._file.known, results))
        return self._event("this run was cut short")

    def _grown(self, there: KnownFailures, results: Sequence[Result]) -> KnownFailures:
        taken = [entry.name for entry in self._others.entries]
        failing = [result for result in results if result.status.is_failure]
        return there.adopt(failing, datetime.now(UTC).date().isoformat(), taken)

    def _adopted(
        self, pool: SubjectPool, results: Sequence[Result], there: KnownFailures
    ) -> Iterator[tuple[KnownFailures, list[Result]]]:
        """Add the failures to a list and search again, until no other failure is found.

        Each step of the iteration yields the list so far, and the results of a run with the list before that.
        """
        after = {result.step: result for result in results}
        for _ in range(ROUNDS):
            there = self._grown(there, list(after.values()))
            yield there, list(after.values())
            failing = [step for step, result in after.items() if result.status.is_failure]
            if not failing:
                return
            known = KnownFailures((*self._others.entries, *there.entries))
            longer = replace(self._plan, known=known, remembers=False)
            after |= {step: judge(longer, pool, Task(step)) for step in failing}

    def _event(self, red: str) -> Adopted:
        before, now = self._file.before.entries, self._file.known.entries
        added = tuple(entry.name for entry in now if entry not in before)
        removed = tuple(entry.name for entry in before if entry not in now)
        return Adopted(str(self._file.path), added, removed, len(now) - len(added), self._chosen, red)


def _needed(known: KnownFailures, results: Sequence[Result], unneeded: Sequence[Stale]) -> KnownFailures:
    """The list without entries whose example holds for all their subjects, and which match no failure of the run."""
    held = {(each.entry.name, each.subject) for each in unneeded if each.holds}

    def is_needed(name: str, result: Result) -> bool:
        return bool(result.known[name]) or any(
            (entry := known.match(result.subject, failure)) is not None and entry.name == name
            for failure in result.failures
        )

    return KnownFailures(
        tuple(
            entry
            for entry in known.entries
            if not all((entry.name, subject) in held for subject in entry.subjects)
            or any(is_needed(entry.name, result) for result in results)
        )
    )
