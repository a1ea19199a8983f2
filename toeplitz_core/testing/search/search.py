"""Search for a case that breaks a law, for one law, subject, dtype and device at a time."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, cast

from hypothesis import example, given, target
from hypothesis import seed as seeded

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.isolation.isolated_subject import patiently
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Excuse, Status, Verdict
from toeplitz_core.testing.oracle.strictest import strictest
from toeplitz_core.testing.search.changes import OutOfCallsError
from toeplitz_core.testing.search.effort import Effort, Search, Sweep
from toeplitz_core.testing.search.fatal import FATAL, FatalCases
from toeplitz_core.testing.search.law_cases import drawn, drawn_again, swept
from toeplitz_core.testing.search.refusals import Refusals, RefusesAll
from toeplitz_core.testing.search.seeding import no_constants_of_modules
from toeplitz_core.testing.search.smallest import smallest
from toeplitz_core.testing.search.smallest_call import smallest_call
from toeplitz_core.testing.search.statistics import note
from toeplitz_core.testing.search.tally import FINAL_RUNS, Explains, Judge, Tally, failures
from toeplitz_core.testing.strategies.domain import EVERYTHING, Domain
from toeplitz_core.testing.strategies.sweep import convolutions
from toeplitz_core.testing.subjects.interface import Implementation, Subject
from toeplitz_core.testing.subjects.outcome import Outcome
from toeplitz_core.testing.support import interrupts

# A search tries at most this many times the cases that it is to judge, in at most this many rounds.
_MOST_TRIED, _MOST_ROUNDS = 4, 12
# How often a law is checked for the smallest case of a failure; each crash costs a process.
CALLS = {Status.FAIL: 300, Status.CRASH: 60, Status.TIMEOUT: 60}
# Seconds after which no smaller case is tried. Only slow subjects need more than the calls take.
SECONDS = 20.0
# The same for a failure that hangs: each such call takes half a second and more.
SECONDS_OF_HANGS = 10.0
# Seconds of a slow check. A case that did not return in time, and then takes longer than this, is only slow.
SLOW = 1.0
# Calls of more seconds than this are slow, and calls of about ``_QUICK`` seconds are quick enough. Smaller limits on
# products than this leave too little to check.
_SLOW, _QUICK, _FEWEST_PRODUCTS = 1.0, 0.05, 64
# Returns why a failing verdict does not fail the run, or None if it does.
Excusing = Callable[[Verdict], Excuse | None]
# Returns what tells whether the cause of a failure explains others; None if the cause is not known.
Understanding = Callable[[Verdict], Explains | None]


class LawError(Exception):
    """A law raised an error on a case: a bug in the suite, not a finding about the subject. See its cause.

    Parameters
    ----------
    law, subject : str
        Their names.
    case : Case or Call
    """

    def __init__(self, law: str, subject: str, case: Case | Call) -> None:
        super().__init__(f'law {law} could not judge subject {subject} on "{case}"')
        self.law, self.subject, self.case = law, subject, case

    def __reduce__(self) -> tuple[type[LawError], tuple[str, str, Case | Call]]:
        return LawError, (self.law, self.subject, self.case)  # it is sent between processes


class _Found(BaseException):
    """A failure that none before explains. A BaseException passes through Hypothesis, which shrinks Exceptions."""


class _Stop(BaseException):
    """An error of our own. A BaseException passes through Hypothesis, which shrinks Exceptions."""

    def __init__(self, error: Exception, case: Case | Call) -> None:
        super().__init__()
        self.error = error
        self.case = case


class _Watched:
    """A subject that is not called outside its domain, and records which kernels computed its results.

    A law may make several calls.
    """

    def __init__(self, subject: Implementation, domain: Domain) -> None:
        self.subject = subject
        self.domain = domain
        self.kernels: set[str] = set()
        self._called = False
        self._slowest = (0.0, 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.subject, name)

    def run(self, case: Case, *args: Any, **options: Any) -> Outcome:
        if not self.domain.allows(case):
            return Outcome("unsupported", strictest(case), message=f"outside the domain: {self.domain}")
        begin = time.monotonic()
        outcome = self.subject.run(case, *args, **options)
        self.kernels.add(outcome.kernel)
        if self._called and outcome.status != "timed out":  # the first call may import and compile
            self._slowest = max(self._slowest, (time.monotonic() - begin, case.geometry.nnz * (case.batch or 1)))
        self._called = True
        return outcome

    @property
    def slow(self) -> str:
        """What to do about calls that took long; empty if none did."""
        seconds, products = self._slowest
        if seconds < _SLOW or products <= _FEWEST_PRODUCTS:
            return ""
        limit = max(_FEWEST_PRODUCTS, 2 ** int(math.log2(products * _QUICK / seconds)))
        return f"a call with {products:,} products took {seconds:.1f} s: --max-products {limit} leaves out such sizes"


def find(
    law: Law,
    subject: Implementation,
    effort: Effort,
    *,
    dtype: str,
    device: str = "cpu",
    domain: Domain = EVERYTHING,
    excuse: Excusing | None = None,
    understand: Understanding | None = None,
    tally: Tally | None = None,
    fatal: FatalCases | None = None,
) -> Result:
    """Look for cases on which a law fails.

    Parameters
    ----------
    effort : Search or Sweep
        A search shrinks each failure, and goes on beyond it; a sweep ends with the first.
    domain : Domain
        The cases that the subject is for.
    excuse : callable, optional
        Returns why a failing verdict does not fail the run, or None. Excused failures are counted, and the search goes
        on; while shrinking they count as passes.
    understand : callable, optional
        Takes a failure that has been shrunk. Returns what tells whether its cause explains further failures, or None.
    tally : Tally, optional
        The counts. The caller keeps them even if an exception ends the search.
    fatal : FatalCases, optional
        Where the subject is known to crash or to hang. The search adds to it.

    Returns
    -------
    Result
        With the smallest case of each failure.

    Raises
    ------
    LawError
        If the law itself raises.
    """
    tally = Tally(Step(subject.name, law.name, dtype, device)) if tally is None else tally
    if dtype not in law.dtypes:
        return Result(tally.step, Status.UNSUPPORTED, message=f"{law.name} is not for {dtype}")
    watched = _Watched(subject, domain)
    fatal = FatalCases() if fatal is None else fatal
    judge = _judge(law, watched, tally, excuse, fatal, at_once=isinstance(subject, Subject))
    try:
        if isinstance(effort, Sweep):
            tally.unfinished = "not run again"
            cases = (
                case
                for case in swept(law, convolutions(effort.steps), dtype, device, effort.numbers)
                if domain.contains(case)
            )
            if _is_broken(lambda: _walk(judge, tally, cases)):
                tally.go_on(_final(judge, tally, subject))
        else:
            _search(law, watched, judge, tally, effort, understand, fatal)
    except _Stop as stop:
        raise LawError(law.name, subject.name, stop.case) from stop.error
    return replace(tally.result(), slow=watched.slow)


def _search(
    law: Law,
    watched: _Watched,
    judge: Judge,
    tally: Tally,
    effort: Search,
    understand: Understanding | None,
    fatal: FatalCases,
) -> None:
    """Draw cases, in rounds: after a failure, and after cases that were refused, others are drawn in their place."""
    wanted = effort.examples_of(law.name)
    refusals = Refusals(law, lambda law, case: _judged_by(law, cast("Implementation", watched), case))
    examples = wanted
    for number in range(_MOST_ROUNDS):
        before = tally.tried
        test = _round(law, watched, judge, tally, effort, refusals, fatal, number, examples)
        failure = None
        try:
            if _is_broken(test):
                failure = _smallest(judge, tally, watched, fatal)
        except RefusesAll:
            return
        finally:
            tally.refuses = refusals.names
        if failure is not None:
            goes_on = understand is not None and len(tally.found) + 1 < effort.failures
            explains = understand(failure) if understand is not None and goes_on else None
            if explains is None and tally.fatal and tally.fatal[-1].explains(failure):
                explains = tally.fatal[-1].explains
            tally.go_on(failure, explains)
        tried = tally.tried
        missing = wanted - tally.judged_cases
        # What makes a call hang whose arguments may be invalid is not known, so others would hang too.
        hung = failure is not None and failure.status is Status.TIMEOUT and isinstance(failure.case, Call)
        ended = hung or (failure is not None and len(tally.found) >= effort.failures)
        if missing <= 0 or ended or tried == before or tried >= _MOST_TRIED * wanted or not tally.judged_cases:
            return
        # As many as are likely to give the missing number.
        examples = min(-(-missing * tried // tally.judged_cases), _MOST_TRIED * wanted - tried)


def _round(
    law: Law,
    watched: _Watched,
    judge: Judge,
    tally: Tally,
    effort: Search,
    refusals: Refusals,
    fatal: FatalCases,
    number: int,
    examples: int,
) -> Callable[[], None]:
    """Make a Hypothesis test of this number of cases, which ends at the first new failure."""
    step, draws = tally.step, watched.claims.draws

    def placed(case: Case) -> Case:
        """The case near a drawn one that the subject is for, and does not refuse, as far as is known."""
        case = refusals.avoided(case)
        return watched.domain.moved(case) if watched.domain else case

    def holds(case: Case | Call) -> None:
        largest = 0.0
        if not watched.domain.contains(case):
            tally.outside += tally.smallest is None
            return
        for each in drawn_again(law, case, draws):
            ends = fatal.of(each)
            if ends is not None and ends.leaves_out(step, in_this_search=ends in tally.fatal):
                tally.left_out += 1
                continue
            watched.kernels.clear()
            verdict = tally.judged(judge, each)
            if ends is not None:
                ends.note(verdict, step)
            if verdict is tally.smallest:
                raise _Found
            refusals.learn(verdict)
            note(verdict, watched.kernels)
            if verdict.status is Status.PASS and verdict.ratio is not None:
                largest = max(largest, verdict.ratio)  # the ratio of a known failure may be infinite
        if largest:
            target(largest, label="largest error in units of the bound")

    strategy = drawn(law, step.dtype, step.device, effort.layouts, placed=placed, domain=watched.domain)
    test = effort.settings(examples, draws)(given(case=strategy)(holds))
    # Without a key, Hypothesis reads and parses the source of ``holds`` each time, to find this test in its database.
    test._hypothesis_internal_database_key = b""  # type: ignore[attr-defined]
    for case in reversed(effort.first if number == 0 else ()):
        test = example(case=case)(test)
    # Each law and dtype has its own seed, so its cases do not depend on which others run.
    words = [effort.seed, law.name, step.dtype, *[f"round {number}"] * (number > 0)]
    return seeded(zlib.crc32(" ".join(map(str, words)).encode()))(test)


def _walk(judge: Judge, tally: Tally, cases: Iterable[Case]) -> None:
    """Judge the cases in order, smallest first, until one fails."""
    for case in cases:
        verdict = tally.judged(judge, case)
        if verdict is tally.smallest:
            raise _Found


def _judge(
    law: Law, watched: _Watched, tally: Tally, excuse: Excusing | None, fatal: FatalCases, *, at_once: bool
) -> Judge:
    """Make a function that judges one case. Excused failures get their own status; errors of the law raise ``_Stop``.

    With ``at_once``, an interrupt does not wait for the verdict, because the subject runs in this process and may hang.
    """

    def judge(case: Case | Call) -> Verdict:
        interrupts.raise_if_requested()
        with interrupts.at_once(at_once):
            verdict = _judged_by(law, cast("Implementation", watched), case)
            if verdict.status is Status.TIMEOUT and tally.smallest is None and fatal.of(case) is None:
                verdict = _unless_slow(law, watched, verdict)
        try:
            asked = verdict.status.is_failure and not (tally.understands(verdict) or fatal.has_explained(verdict))
            excused = excuse(verdict) if excuse is not None and asked else None
        except Exception as error:
            raise _Stop(error, case.replace(law=law.name)) from error
        if excused is None:
            return verdict
        tally.excused(excused)
        return verdict.replace(status=excused.status)

    return judge


def _unless_slow(law: Law, watched: _Watched, verdict: Verdict) -> Verdict:
    """The verdict of a call that did not return in time; that of a second call if it takes long and returns.

    On a busy machine a slow call may take longer than the timeout. One that hangs now and then is fast otherwise.
    """
    begin = time.monotonic()
    with patiently(watched.subject):
        again = _judged_by(law, cast("Implementation", watched), verdict.case)
    slow = again.status is not Status.TIMEOUT and time.monotonic() - begin > SLOW
    return again if slow else verdict


def _judged_by(law: Law, subject: Implementation, case: Case | Call) -> Verdict:
    """The verdict of a law. An error of the law raises ``_Stop``."""
    try:
        return law(subject, case)
    except Exception as error:
        raise _Stop(error, case.replace(law=law.name)) from error


def _is_broken(test: Callable[[], None]) -> bool:
    """Whether a test ends at a new failure, which is then the tally's smallest one."""
    try:
        with no_constants_of_modules():
            test()
    except _Found:
        return True
    return False


def _shrink(judge: Judge, tally: Tally, domain: Domain) -> None:
    """Look for a smaller case of the tally's failure."""
    failure = tally.smallest
    assert failure is not None
    calls = CALLS[failure.status] // tally.runs
    end = time.monotonic() + (SECONDS_OF_HANGS if failure.status is Status.TIMEOUT else SECONDS)

    def fails(case: Case | Call) -> bool | None:
        if time.monotonic() > end:
            raise OutOfCallsError
        return tally.judged(judge, case) is tally.smallest if domain.contains(case) else None

    if isinstance(failure.case, Call):
        smallest_call(failure.case, fails, calls=calls)
    else:
        smallest(failure.case, fails, calls=calls, dtypes=(failure.case.dtype,))


def _smallest(judge: Judge, tally: Tally, watched: _Watched, fatal: FatalCases) -> Verdict:
    """The tally's failure with its smallest case; as it is, if another search has found what calls need to end so."""
    failure = tally.smallest
    assert failure is not None
    known = fatal.of(failure.case)
    if known is not None and known.explains(failure):
        tally.fatal.append(known)
        return failure
    _shrink(judge, tally, watched.domain)
    found = _confirmed(judge, tally, watched, failure) if failure.status is Status.TIMEOUT else None
    found = _final(judge, tally, watched.subject) if found is None else found
    if found.status in FATAL and tally.runs == 1 and (known := fatal.add(found)) is not None:
        known.note(found, tally.step)
        tally.fatal.append(known)
    return found


def _confirmed(judge: Judge, tally: Tally, watched: _Watched, first: Verdict) -> Verdict:
    """The smallest case that hangs, called as long as the timeout allows: it was given less time while shrinking."""
    if tally.smallest is None or tally.smallest is first:
        return first
    with patiently(watched.subject):
        again = judge(tally.smallest.case)
    return again if again.status is Status.TIMEOUT else first


def _final(judge: Judge, tally: Tally, subject: Implementation) -> Verdict:
    """The tally's smallest failure with its final message."""
    failure = tally.smallest
    assert failure is not None
    message = failure.message
    if tally.runs > 1:
        tally.unfinished = "fails in some runs only"
        tally.announce()

        def afresh(case: Case | Call) -> Verdict:
            subject.restart()
            return judge(case)

        failed = failures(afresh, failure.case, FINAL_RUNS)
        message = f"{message} (fails again in {failed} of {FINAL_RUNS} runs)"
    return failure.replace(message=message)
