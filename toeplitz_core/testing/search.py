"""Search for a case that breaks a law, and shrink it: one law, one subject, one dtype, one device at a time."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import given, seed as hypothesis_seed
from hypothesis.errors import FlakyFailure

from toeplitz_core.testing.layouts import LAYOUTS
from toeplitz_core.testing.strategies import cases
from toeplitz_core.testing.verdict import Status, Verdict

if TYPE_CHECKING:
    from hypothesis import settings

    from toeplitz_core.testing.case import Case
    from toeplitz_core.testing.laws.base import Law
    from toeplitz_core.testing.subjects.base import Subject

# A law of which more than half of the cases were refused or could prove nothing is not reported as passed.
PROVEN_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one law on one subject, for one dtype and device."""

    subject: str
    law: str
    dtype: str
    device: str
    status: Status
    counts: Counter[Status] = field(default_factory=Counter)
    max_ratio: float | None = None
    failure: Verdict | None = None
    message: str = ""

    @property
    def cases(self) -> int:
        """Cases judged, shrinking not counted."""
        return sum(self.counts.values())


class _Broken(Exception):  # noqa: N818  # it carries a verdict to Hypothesis, and is not an error of ours
    """A law does not hold: Hypothesis shrinks what raises this."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


class _Tally:
    """Statuses and the largest ratio, until the first failure: what comes after it is shrinking."""

    def __init__(self) -> None:
        self.counts: Counter[Status] = Counter()
        self.max_ratio: float | None = None
        self.smallest: Verdict | None = None

    def add(self, verdict: Verdict) -> None:
        if self.smallest is None:
            self.counts[verdict.status] += 1
            if verdict.ratio is not None and verdict.status is Status.PASS:
                self.max_ratio = max(verdict.ratio, self.max_ratio or 0.0)
        if verdict.status.is_failure:
            self.smallest = verdict


def search(
    law: Law,
    subject: Subject,
    *,
    dtype: str,
    settings: settings,
    device: str = "cpu",
    seed: int | None = None,
    layouts: Collection[str] = tuple(LAYOUTS),
) -> Result:
    """Look for a case on which a law fails.

    Parameters
    ----------
    seed : int, optional
        Of the search; with it the same cases come again. Without it the settings decide.
    layouts : collection of str
        Memory layouts that the cases may name.

    Returns
    -------
    Result
        With the smallest failing case that was found.
    """
    if dtype not in law.dtypes:
        reason = f"{law.name} is not for {dtype}"
        return Result(subject.name, law.name, dtype, device, Status.UNSUPPORTED, message=reason)
    tally = _Tally()

    def holds(case: Case) -> None:
        verdict = law(subject, case)
        tally.add(verdict)
        if verdict.status.is_failure:
            raise _Broken(verdict)

    strategy = cases(dtypes=(dtype,), recipes=law.recipes, legal_layouts=tuple(layouts), device=device)
    test = settings(given(case=strategy)(holds))
    # Each law and dtype its own stream: the cases of one do not depend on which others run.
    stream = zlib.crc32(f"{law.name} {dtype}".encode())
    test = hypothesis_seed(stream if seed is None else seed + stream)(test) if seed is not None else test
    failure = None
    try:
        test()
    except _Broken as broken:
        failure = broken.verdict
    except FlakyFailure:
        failure = tally.smallest
    return _conclude(law, subject, dtype, device, tally, failure)


def _conclude(
    law: Law, subject: Subject, dtype: str, device: str, tally: _Tally, failure: Verdict | None
) -> Result:
    judged = sum(tally.counts.values())
    proven = tally.counts[Status.PASS] + tally.counts[Status.KNOWN]
    message = ""
    if failure is not None:
        status, message = failure.status, failure.message
    elif proven > PROVEN_SHARE * judged:
        status = Status.PASS
    else:
        refused = tally.counts[Status.UNSUPPORTED] >= tally.counts[Status.MISTRUSTED]
        status = Status.UNSUPPORTED if refused else Status.MISTRUSTED
        message = f"nothing proven: only {proven} of {judged} cases could be judged"
    return Result(subject.name, law.name, dtype, device, status, tally.counts, tally.max_ratio, failure, message)
