"""Find the stale entries among the known failures of a run."""

from __future__ import annotations

from collections.abc import Iterable

from toeplitz_core.testing.findings.known_failures.staleness import Stale, stale_entries
from toeplitz_core.testing.findings.replay import repeated
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run.execution.subject_pool import SubjectPool
from toeplitz_core.testing.run.plan import Plan

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
