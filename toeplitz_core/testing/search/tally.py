"""The tally of a search: counts of its verdicts, its smallest failure, and the result for the law."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.conditions import Condition, common, necessary
from toeplitz_core.testing.laws.result import Result, Step, wholly_refused
from toeplitz_core.testing.laws.verdict import EXCUSED, Excuse, Status, Verdict, alike, same_refusal
from toeplitz_core.testing.search.fatal import Fatal
from toeplitz_core.testing.support.spelling import cases_of

# A law passes only if more than this share of the cases that were not refused proved something, and at least
# PROVEN_SHARE_OF_ALL of all cases: a search tries more cases where some are refused.
PROVEN_SHARE = 0.5
PROVEN_SHARE_OF_ALL = 0.125
# With fewer cases than this, the share varies too much by chance: an implementation that refuses a third of all cases
# would sometimes refuse most of a dozen. Then one case in eight must prove something, and at least one.
MANY_CASES = 50
PROVEN_SHARE_OF_FEW = 0.125
# How often the first failure is run again to see whether it repeats, how often each smaller case runs if it does not,
# and how often the smallest case runs in the end (``FINAL_RUNS``).
CONFIRMATIONS = 3
SHRINKING_RUNS = 8
FINAL_RUNS = 10

# Returns the verdict on a case.
Judge = Callable[[Case | Call], Verdict]
# Returns whether what is known explains a failing verdict.
Explains = Callable[[Verdict], bool]


class Tally:
    """Counts of statuses and the largest ratio up to the first failure, and the smallest failure after shrinking.

    The caller of a search owns its tally, and so has the result even if an exception ends the search.

    Parameters
    ----------
    step : Step
    announce : callable, optional
        Called with the result at each failure that is smaller than the one before.
    """

    def __init__(self, step: Step, announce: Callable[[Result], None] | None = None) -> None:
        self.step = step
        self.counts: Counter[Status] = Counter()
        self.max_ratio: float | None = None
        self.smallest: Verdict | None = None
        self.known: Counter[str] = Counter()
        self.shared: Counter[str] = Counter()
        self.assumed: Counter[str] = Counter()
        self.zeros = self.zero_signs = 0
        self.refused = ""
        # The names of the features that the subject refuses.
        self.refuses: tuple[str, ...] = ()
        self.runs = 1
        # The cases that were refused, and the others.
        self._refused: list[Case] = []
        self._taken: list[Case] = []
        # Cases outside the subject's domain, which were not tried.
        self.outside = 0
        # The crashes and hangs that this search has met, and the cases that it left out because they would end alike.
        self.fatal: list[Fatal] = []
        self.left_out = 0
        # The smallest cases of failures whose shrinking has ended. ``smallest`` is that of the next failure.
        self.found: list[Verdict] = []
        self._understood: list[tuple[str, Condition]] = []
        self._explains: list[Explains] = []
        # The last failure that was asked about, and the answer: asking may call the subject.
        self._asked: tuple[Verdict, bool] | None = None
        # What to report as unfinished if the search ended now.
        self.unfinished = "not shrunk to the end"
        self._announce = announce

    def judged(self, judge: Judge, case: Case | Call) -> Verdict:
        """Judge a case. After a failure that did not repeat, each case runs several times and fails if one run does.

        If it is a failure that none before explains, the verdict is then ``smallest``.
        """
        first = self.smallest is None
        verdict = judge(case)
        self._add(verdict)
        if first and verdict is self.smallest and verdict.status is not Status.TIMEOUT:
            self.runs = 1 if failures(judge, case, CONFIRMATIONS) == CONFIRMATIONS else SHRINKING_RUNS
        for _ in range(self.runs - 1):
            if verdict.status.is_failure:
                break
            verdict = judge(case)
            self._add(verdict)
        return verdict

    def understands(self, failure: Verdict) -> bool:
        """Whether one of the failures that were found before explains a failing verdict."""
        if self._asked is None or self._asked[0] is not failure:
            alike = (condition.holds(failure.case) for kind, condition in self._understood if kind == failure.kind)
            self._asked = failure, any(alike) or any(explains(failure) for explains in self._explains)
        return self._asked[1]

    def go_on(self, failure: Verdict, explains: Explains | None = None) -> None:
        """Keep a failure that has been shrunk, so that the search can go on beyond it.

        Later failures that it explains are counted, but are no new ones.

        Parameters
        ----------
        explains : callable, optional
            Returns whether the cause of the failure explains another one. If it is not known, the failure explains
            those of its kind that meet its necessary conditions, and those that the same line raises.
        """
        self.found.append(failure)
        if explains is None:
            self._understood.append((failure.kind, necessary(failure.case)))
            self._explains.append(partial(same_refusal, failure))
        else:
            self._explains.append(explains)
        self.smallest, self.runs, self.unfinished = None, 1, "not shrunk to the end"

    @property
    def tried(self) -> int:
        """The number of cases that were drawn, and not tried again while shrinking."""
        return self.counts.total() + self.outside + self.left_out

    @property
    def judged_cases(self) -> int:
        """The number of cases that were not refused."""
        return self.counts.total() - self.counts[Status.UNSUPPORTED]

    def excused(self, excuse: Excuse) -> None:
        """Count a failure that does not fail the run."""
        counts = self.known if excuse.status is Status.KNOWN else self.shared
        counts[excuse.name] += self.smallest is None  # not while shrinking

    def _add(self, verdict: Verdict) -> None:
        if self.smallest is None:
            self.counts[verdict.status] += 1
            self.assumed.update([verdict.assumed] if verdict.assumed else ())
            self.zeros += verdict.zeros
            self.zero_signs += verdict.zero_signs
            self.refused = verdict.message if verdict.status is Status.UNSUPPORTED else self.refused
            if isinstance(verdict.case, Case):
                (self._refused if verdict.status is Status.UNSUPPORTED else self._taken).append(verdict.case)
            if verdict.ratio is not None and verdict.status is Status.PASS:
                self.max_ratio = max(verdict.ratio, self.max_ratio or 0.0)
        if verdict.status.is_failure and self._is_smaller(verdict) and not self.understands(verdict):
            self.smallest = verdict
            self.announce()

    def _is_smaller(self, failure: Verdict) -> bool:
        """Whether a failure is like the one that is being shrunk. After a failure, only smaller cases are tried."""
        before = self.smallest
        return before is None or (before.quantity == failure.quantity and alike(before, failure))

    def announce(self) -> None:
        """Announce the result as it would be if the search ended now."""
        if self._announce is not None and self.smallest is not None:
            self._announce(self.result(f" ({self.unfinished})"))

    def result(self, note: str = "") -> Result:
        """The result of the step, with all its failures. ``note`` is added to the message of the one being shrunk."""
        unfinished = [] if self.smallest is None else [self.smallest.replace(message=self.smallest.message + note)]
        found = (*self.found, *unfinished)
        failure = found[0] if found else None
        if failure is not None:
            status, message = failure.status, failure.message
        else:
            status, message = _proven(self.counts, known=bool(self.known), shared=bool(self.shared))
            if not self.counts and self.outside:
                message = "no case of this law is in the domain"
            elif wholly_refused(self.counts):
                message = self.refused
            elif status is Status.UNSUPPORTED:
                domain = common(self._taken, self._refused)
                chosen = "--where" if domain is None else f'--where "{domain.text}"'
                message = f"{message}; {chosen} gives the cases that a kernel is for"
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
            found[1:],
            self.outside,
            shared=self.shared,
            refuses=self.refuses,
            left_out=self.left_out,
        )


def failures(judge: Judge, case: Case | Call, runs: int) -> int:
    """The number of runs, of ``runs`` more, in which a case fails."""
    return sum(judge(case).status.is_failure for _ in range(runs))


def _proven(counts: Counter[Status], *, known: bool, shared: bool) -> tuple[Status, str]:
    """The status and the message of a law that no case broke."""
    drawn = counts.total()
    proven = sum(counts[status] for status in (Status.PASS, *EXCUSED))
    judged = drawn - counts[Status.UNSUPPORTED]
    enough = proven > PROVEN_SHARE * judged if judged >= MANY_CASES else proven >= PROVEN_SHARE_OF_FEW * judged
    if enough and proven >= max(1, PROVEN_SHARE_OF_ALL * drawn):
        return Status.KNOWN if known else Status.SHARED if shared else Status.PASS, ""
    refused = counts[Status.UNSUPPORTED] >= counts[Status.MISTRUSTED]
    status = Status.UNSUPPORTED if refused else Status.MISTRUSTED
    return status, f"nothing proven: only {proven} of {cases_of(drawn)} could be judged"


def merged_results(rounds: Sequence[Result]) -> Result:
    """Merge the results of several searches of one law on one subject, up to the first that failed.

    The merged result is the one that a single search would have had.
    """
    failing = next((number for number, result in enumerate(rounds) if result.status.is_failure), len(rounds) - 1)
    last, rounds = rounds[failing], rounds[: failing + 1]
    if len(rounds) == 1:
        return last
    counts, known, assumed, shared = Counter[Status](), Counter[str](), Counter[str](), Counter[str]()
    for result in rounds:  # adding counters would drop entries with count 0
        counts.update(result.counts)
        known.update(result.known)
        assumed.update(result.assumed)
        shared.update(result.shared)
    status, message = last.status, last.message
    if not status.is_failure:
        status, message = _proven(counts, known=bool(known), shared=bool(shared))
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
        shared=shared,
        refuses=tuple(dict.fromkeys(name for result in rounds for name in result.refuses)),
        left_out=sum(result.left_out for result in rounds),
    )
