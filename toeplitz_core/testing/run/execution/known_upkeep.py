"""Maintain a list of known failures: find stale entries, and add new ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.findings.known_failures.staleness import Stale, stale_entries
from toeplitz_core.testing.findings.replay import repeated
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run.execution.judgement import judge
from toeplitz_core.testing.run.execution.subject_pool import SubjectPool
from toeplitz_core.testing.run.plan import Plan, Task

# A failing law is searched again at most this many times while its failures are adopted. Each search finds another
# fault; listing more of them than this is not useful.
ADOPTION_ROUNDS = 20
NOT_CHECKED = "not checked for staleness, because its example hangs; --fail-stale checks it"


def hanging(plan: Plan) -> list[str]:
    """Names of known failures whose examples hang, among the plan's subjects and laws. Each takes the full timeout."""
    return [
        entry.name
        for entry in plan.known.entries
        if entry.status is Status.TIMEOUT
        and entry.applies
        and not {*plan.subjects}.isdisjoint(entry.subjects)
        and not plan.laws.keys().isdisjoint(entry.laws)
    ]


def stale(plan: Plan, pool: SubjectPool, results: Iterable[Result], *, slow: bool = False) -> list[Stale]:
    """The stale entries among the known failures that these results could have matched.

    Entries whose examples have a layout that is not run are skipped.

    Parameters
    ----------
    slow : bool
        Whether to check entries whose examples hang.
    """
    results = list(results)
    put_off = () if slow else hanging(plan)
    found = []
    for name in plan.subjects:
        found += stale_entries(
            [e for e in plan.known.entries if e.name not in put_off and plan.has_layouts_of(name, e.example)],
            [result for result in results if result.subject == name],
            lambda subject, case: repeated(plan.laws[str(case.law)], pool[subject], case),
            takes=lambda case: (law := plan.laws.get(str(case.law))) is None or law.takes(case),
        )
    return found


def adopted(
    plan: Plan, pool: SubjectPool, results: Sequence[Result], there: KnownFailures, date: str
) -> Iterator[KnownFailures]:
    """Add entries for the failures to the list ``there``, and search again until no other failure is found.

    Each step of the iteration yields the list so far.
    """
    own = plan.known.entries
    names = {entry.name for entry in own}
    failing = [result for result in results if result.status.is_failure]
    for _ in range(ADOPTION_ROUNDS):
        there = there.adopt(failing, date)
        yield there
        if not failing:
            return
        known = KnownFailures((*own, *(entry for entry in there.entries if entry.name not in names)))
        longer = replace(plan, known=known, remembers=False)
        again = [judge(longer, pool, Task(result.step)) for result in failing]
        failing = [result for result in again if result.status.is_failure]
