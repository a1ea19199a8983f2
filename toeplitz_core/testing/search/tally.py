"""The count of a search: what its cases came to, the smallest failure, and what follows for the law."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.laws.result import Result, Step, wholly_refused
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.support.spelling import cases_of

# A law of which more than half of the cases were refused or could prove nothing is not reported as passed.
PROVEN_SHARE = 0.5
# Of fewer cases than this a share is a matter of chance: an implementation that refuses a third of all cases would now
# and then refuse most of a dozen. Then one in eight has to prove something, and one at least.
MANY_CASES = 50
PROVEN_SHARE_OF_FEW = 0.125
# How often a first failure is run again, to see whether it repeats; how often each smaller case then runs, if not; and
# how often the smallest case runs in the end.
CONFIRMATIONS = 3
SHRINKING_RUNS = 8
# Calls that do not return, each of which takes the whole timeout, before the smallest of them is small enough.
SHRINKING_TIMEOUTS = 12
FINAL_RUNS = 10

# The verdict on a case.
Judge = Callable[[Case | Call], Verdict]


class Tally:
    """Statuses and the largest ratio until the first failure, after which Hypothesis shrinks; the smallest failure.

    Whoever starts a search owns its tally, and has the result whatever ends the search.

    Parameters
    ----------
    step : Step
    announce : callable, optional
        Told the result at each failure that is smaller than the one before.
    """

    def __init__(self, step: Step, announce: Callable[[Result], None] | None = None) -> None:
        self.step = step
        self.counts: Counter[Status] = Counter()
        self.max_ratio: float | None = None
        self.smallest: Verdict | None = None
        self.known: Counter[str] = Counter()
        self.assumed: Counter[str] = Counter()
        self.zeros = self.zero_signs = 0
        self.refused = ""
        self.runs = 1
        self.timeouts = 0
        # What would be left undone if the search ended with the failure that it has.
        self.unfinished = "not shrunk to the end"
        self._announce = announce

    @property
    def out_of_time(self) -> bool:
        """Whether so many calls did not return that nothing smaller is looked for."""
        return self.timeouts >= SHRINKING_TIMEOUTS

    def judged(self, judge: Judge, case: Case | Call) -> Verdict:
        """The verdict on a case. Once a failure was seen that did not repeat, a case fails if one of some runs does."""
        if self.out_of_time:
            return Verdict(Status.PASS, case)  # not run: Hypothesis finds nothing smaller, and ends
        verdict = judge(case)
        first = self.smallest is None
        self._add(verdict)
        if verdict.status is Status.TIMEOUT:
            self.timeouts += 1
        elif first and verdict.status.is_failure:
            self.runs = 1 if failures(judge, case, CONFIRMATIONS) == CONFIRMATIONS else SHRINKING_RUNS
        for _ in range(self.runs - 1):
            if verdict.status.is_failure:
                break
            verdict = judge(case)
            self._add(verdict)
        return verdict

    def excused(self, entry: str) -> None:
        """Count a failure that an entry of the known failures speaks for."""
        self.known[entry] += self.smallest is None  # else it was met while shrinking

    def _add(self, verdict: Verdict) -> None:
        if self.smallest is None:
            self.counts[verdict.status] += 1
            self.assumed.update([verdict.assumed] if verdict.assumed else ())
            self.zeros += verdict.zeros
            self.zero_signs += verdict.zero_signs
            self.refused = verdict.message if verdict.status is Status.UNSUPPORTED else self.refused
            if verdict.ratio is not None and verdict.status is Status.PASS:
                self.max_ratio = max(verdict.ratio, self.max_ratio or 0.0)
        if verdict.status.is_failure:
            self.smallest = verdict  # what is tried after a failure is smaller
            self.announce()

    def announce(self) -> None:
        """Tell what there would be if the search ended now."""
        if self._announce is not None and self.smallest is not None:
            self._announce(self.result(self.smallest, f"{self.smallest.message} ({self.unfinished})"))

    def result(self, failure: Verdict | None, message: str = "") -> Result:
        """The result of the step, with a failure and what is to be said of it, or without one."""
        if failure is not None:
            message = message or failure.message
            status, failure = failure.status, failure.replace(message=message)
        else:
            status, message = _proven(self.counts, known=bool(self.known))
            if wholly_refused(self.counts):
                message = self.refused
        return Result(
            self.step,
            status,
            self.counts,
            self.max_ratio,
            failure,
            message,
            self.known,
            self.assumed,
            self.zeros,
            self.zero_signs,
            self.refused,
        )


def failures(judge: Judge, case: Case | Call, runs: int) -> int:
    """In how many of some further runs a case fails."""
    return sum(judge(case).status.is_failure for _ in range(runs))


def _proven(counts: Counter[Status], *, known: bool) -> tuple[Status, str]:
    """The status of a law that nothing broke, and what is to be said of it."""
    judged = sum(counts.values())
    proven = counts[Status.PASS] + counts[Status.KNOWN]
    many = judged >= MANY_CASES
    if proven > PROVEN_SHARE * judged if many else proven >= max(1, PROVEN_SHARE_OF_FEW * judged):
        return Status.KNOWN if known else Status.PASS, ""
    refused = counts[Status.UNSUPPORTED] >= counts[Status.MISTRUSTED]
    status = Status.UNSUPPORTED if refused else Status.MISTRUSTED
    return status, f"nothing proven: only {proven} of {cases_of(judged)} could be judged"


def merged(rounds: Sequence[Result]) -> Result:
    """One result of several searches of the same law on the same subject, as if they had been one.

    It ends with the first that failed.
    """
    failing = next((number for number, result in enumerate(rounds) if result.status.is_failure), len(rounds) - 1)
    last, rounds = rounds[failing], rounds[: failing + 1]
    if len(rounds) == 1:
        return last
    counts, known, assumed = Counter[Status](), Counter[str](), Counter[str]()
    for result in rounds:  # a sum of counters would drop what was counted 0 times
        counts.update(result.counts)
        known.update(result.known)
        assumed.update(result.assumed)
    status, message = last.status, last.message
    if not status.is_failure:
        status, message = _proven(counts, known=bool(known))
        message = last.message if wholly_refused(counts) else message
    ratios = [result.max_ratio for result in rounds if result.max_ratio is not None]
    return replace(
        last,
        status=status,
        message=message,
        counts=counts,
        max_ratio=max(ratios, default=None),
        known=known,
        assumed=assumed,
        zeros=sum(result.zeros for result in rounds),
        zero_signs=sum(result.zero_signs for result in rounds),
        refused=next((result.refused for result in reversed(rounds) if result.refused), ""),
    )
