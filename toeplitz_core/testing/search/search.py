"""Search for a case that breaks a law, for one law, subject, dtype and device at a time."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import Any, cast

from hypothesis import example, given, target
from hypothesis import seed as seeded
from hypothesis.errors import Flaky

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Excuse, Status, Verdict
from toeplitz_core.testing.search.effort import Effort, Search, Sweep
from toeplitz_core.testing.search.law_cases import drawn, drawn_again, swept
from toeplitz_core.testing.search.seeding import no_constants_of_modules
from toeplitz_core.testing.search.statistics import note
from toeplitz_core.testing.search.tally import FINAL_RUNS, SHRINKING_RUNS, Judge, Tally, failures
from toeplitz_core.testing.strategies.sweep import convolutions
from toeplitz_core.testing.subjects.interface import Implementation, Subject
from toeplitz_core.testing.subjects.outcome import Outcome
from toeplitz_core.testing.support import interrupts

# Returns why a failing verdict does not fail the run, or None if it does.
Excusing = Callable[[Verdict], Excuse | None]


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


class _Broken(Exception):  # noqa: N818  # it carries a verdict to Hypothesis and is not an error of ours
    """A law failed on a case. Hypothesis shrinks the cases that raise this."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


class _Stop(BaseException):
    """An error of our own. A BaseException passes through Hypothesis, which would shrink an Exception."""

    def __init__(self, error: Exception, case: Case | Call) -> None:
        super().__init__()
        self.error = error
        self.case = case


class _Watched:
    """A subject that records which kernels computed its results, because a law may make several calls."""

    def __init__(self, subject: Implementation) -> None:
        self._subject = subject
        self.kernels: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._subject, name)

    def run(self, *args: Any, **options: Any) -> Outcome:
        outcome = self._subject.run(*args, **options)
        self.kernels.add(outcome.kernel)
        return outcome


def find(
    law: Law,
    subject: Implementation,
    effort: Effort,
    *,
    dtype: str,
    device: str = "cpu",
    excuse: Excusing | None = None,
    tally: Tally | None = None,
) -> Result:
    """Look for a case on which a law fails.

    Parameters
    ----------
    effort : Search or Sweep
        A search shrinks the first failure; a sweep ends with it.
    excuse : callable, optional
        Returns why a failing verdict does not fail the run, or None. Excused failures are counted, and the search goes
        on; while shrinking they count as passes.
    tally : Tally, optional
        The counts. The caller keeps them even if an exception ends the search.

    Returns
    -------
    Result
        With the smallest failing case, if one was found.

    Raises
    ------
    LawError
        If the law itself raises.
    """
    tally = Tally(Step(subject.name, law.name, dtype, device)) if tally is None else tally
    if dtype not in law.dtypes:
        return Result(tally.step, Status.UNSUPPORTED, message=f"{law.name} is not for {dtype}")
    watched = _Watched(subject)
    judge = _judge(law, cast("Implementation", watched), tally, excuse, at_once=isinstance(subject, Subject))
    if isinstance(effort, Sweep):
        tally.unfinished = "not run again"
        cases = swept(law, convolutions(effort.steps), dtype, device)
        return _concluded(lambda: _walk(judge, tally, cases), judge, tally, law, subject)
    return _concluded(_search(law, watched, judge, tally, effort), judge, tally, law, subject)


def _search(law: Law, watched: _Watched, judge: Judge, tally: Tally, effort: Search) -> Callable[[], None]:
    """Make a Hypothesis test that raises the smallest failure."""
    step, draws = tally.step, watched.claims.draws

    def holds(case: Case | Call) -> None:
        largest = 0.0
        for each in drawn_again(law, case, draws):
            watched.kernels.clear()
            verdict = tally.judged(judge, each)
            if verdict.status.is_failure:
                raise _Broken(verdict)
            note(verdict, watched.kernels)
            if verdict.status is Status.PASS and verdict.ratio is not None:
                largest = max(largest, verdict.ratio)  # the ratio of a known failure may be infinite
        if largest:
            target(largest, label="largest error in units of the bound")

    strategy = drawn(law, step.dtype, step.device, effort.layouts)
    test = effort.settings(law.name, draws)(given(case=strategy)(holds))
    for case in reversed(effort.first):
        test = example(case=case)(test)
    # Each law and dtype has its own seed, so its cases do not depend on which others run.
    return seeded(zlib.crc32(f"{effort.seed} {law.name} {step.dtype}".encode()))(test)


def _walk(judge: Judge, tally: Tally, cases: Iterable[Case]) -> None:
    """Judge the cases in order, smallest first, until one fails."""
    for case in cases:
        verdict = tally.judged(judge, case)
        if verdict.status.is_failure:
            raise _Broken(verdict)


def _judge(law: Law, subject: Implementation, tally: Tally, excuse: Excusing | None, *, at_once: bool) -> Judge:
    """Make a function that judges one case. Excused failures get their own status; errors of the law raise ``_Stop``.

    With ``at_once``, an interrupt does not wait for the verdict, because the subject runs in this process and may hang.
    """

    def judge(case: Case | Call) -> Verdict:
        interrupts.raise_if_requested()
        try:
            with interrupts.at_once(at_once):
                verdict = law(subject, case)
            excused = None if excuse is None or not verdict.status.is_failure else excuse(verdict)
        except Exception as error:
            raise _Stop(error, case.replace(law=law.name)) from error
        if excused is None:
            return verdict
        tally.excused(excused)
        return verdict.replace(status=excused.status)

    return judge


def _concluded(test: Callable[[], None], judge: Judge, tally: Tally, law: Law, subject: Implementation) -> Result:
    """Run a test that raises the first failure, and return the result of the step."""
    try:
        failure = _run(test, tally)
        message = "" if failure is None else failure.message
        if failure is not None and tally.out_of_time:
            message = f"{message} (not shrunk to the end, which would take the timeout for each call)"
        if failure is not None and tally.runs > 1:
            tally.unfinished = "fails in some runs only"
            tally.announce()

            def afresh(case: Case | Call) -> Verdict:
                subject.restart()
                return judge(case)

            failed = failures(afresh, failure.case, FINAL_RUNS)
            message = f"{message} (fails again in {failed} of {FINAL_RUNS} runs)"
    except _Stop as stop:
        raise LawError(law.name, subject.name, stop.case) from stop.error
    return tally.result(failure, message)


def _run(test: Callable[[], None], tally: Tally) -> Verdict | None:
    """Run the test and return its smallest failure, or None."""
    try:
        with no_constants_of_modules():
            test()
    except _Broken as broken:
        return broken.verdict
    except Flaky:
        if tally.smallest is None:
            raise
        if tally.smallest.status is not Status.TIMEOUT:
            tally.runs = SHRINKING_RUNS
        return tally.smallest
    return None
