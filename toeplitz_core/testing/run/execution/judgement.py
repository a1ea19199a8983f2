"""Judge one task: search one step of a plan in one round."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch

from toeplitz_core.testing.findings.causes.diagnosis import Diagnosis, diagnosed, explains
from toeplitz_core.testing.findings.explanation import explained
from toeplitz_core.testing.findings.shared import SharedFailures
from toeplitz_core.testing.laws import LAWS, Law
from toeplitz_core.testing.laws.attribution import attributed
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Excuse, Status, Verdict
from toeplitz_core.testing.run.execution.subject_pool import SubjectPool, why_not_run
from toeplitz_core.testing.run.plan import Plan, Task
from toeplitz_core.testing.search.repetition import without_chance
from toeplitz_core.testing.search.search import find
from toeplitz_core.testing.search.tally import Explains, Tally
from toeplitz_core.testing.subjects.interface import Implementation, Subject

Announce = Callable[[Result], None]


def judge(
    plan: Plan,
    pool: SubjectPool,
    task: Task,
    announce: Announce | None = None,
) -> Result:
    """Judge a task and return its result. If the device is missing, the result has the status ``not-run``.

    Parameters
    ----------
    announce : callable, optional
        Called with the result so far at each failure that is smaller than the one before.

    Raises
    ------
    SubjectError
        If the subject cannot be imported.
    LawError
        If the law raises an error, which is a bug of the suite.
    """
    step, law = task.step, plan.laws[task.step.law]
    subject = pool[step.subject]
    if reason := why_not_run(subject, step.device):
        return Result(step, Status.NOT_RUN, message=reason)
    if reason := subject.claims.not_asked(step.dtype, law.procedure):
        return Result(step, Status.UNSUPPORTED, message=reason)
    laws = {**LAWS, **plan.laws}

    def found(result: Result) -> None:
        if announce is not None:
            announce(_completed(plan, result))

    shared = None if plan.strict else SharedFailures(subject, laws)
    predicted: set[str] = set()  # the cases of failures that a mistake predicts

    def understand(failure: Verdict) -> Explains | None:
        """What tells whether the mistake behind a failure explains others; None if the mistake is not known."""
        # An error of ours must not end the search. The findings at the end of the run name it.
        with contextlib.suppress(Exception):
            known = diagnosed(subject, failure)
            predicted.update([str(failure.case)] if known.hypothesis is not None else ())
            return partial(_explains, subject, known) if known.predicts else None
        return None

    def searched(*, thorough: bool) -> Result:
        tally = Tally(step, found)

        def excuse(verdict: Verdict) -> Excuse | None:
            entry = plan.known.match(step.subject, verdict)
            if entry is not None:
                return Excuse(Status.KNOWN, entry.name)
            shrinking = tally.smallest is not None
            return None if shared is None or (shrinking and not thorough) else shared(verdict, fill=thorough)

        return find(
            law,
            subject,
            plan.effort.in_round(task.number, plan.layouts(step.subject), task.first),
            dtype=step.dtype,
            device=step.device,
            domain=plan.domain.within(subject.claims.where),
            excuse=excuse,
            understand=understand,
            tally=tally,
            fatal=known,
        )

    known = pool.fatal(step.subject)

    def conclude(result: Result) -> list[Verdict]:
        return [
            each if known.has_explained(each) else _concluded(each, law, subject, predicted=str(each.case) in predicted)
            for each in result.failures
        ]

    # A subject that runs in this process keeps its usual threads.
    with contextlib.nullcontext() if isinstance(subject, Subject) else _one_thread():
        result = searched(thorough=False)
        concluded = conclude(result)
        # A failure may be torch's own since it was shrunk, or only with filled memory, which takes long to see.
        if shared is not None and any(
            shared(failure, fill=_may_vary(conclusion))
            for failure, conclusion in zip(result.failures, concluded, strict=True)
            if not known.has_explained(failure)
        ):
            result = searched(thorough=True)
            concluded = conclude(result)
    return _completed(plan, _with_failures(result, [explained(subject, failure) for failure in concluded]))


def _explains(subject: Implementation, known: Diagnosis, failure: Verdict) -> bool:
    with contextlib.suppress(Exception):
        return explains(subject, known, failure)
    return False


def _concluded(failure: Verdict, law: Law, subject: Implementation, *, predicted: bool) -> Verdict:
    """The failure of the call to which it belongs, without values that are not the same each time.

    What a mistake predicts for fresh data in a fresh process is the same each time, unless memory decides it.
    """
    found = attributed(failure, subject, predicted=predicted)
    own = law if found.case.law == law.name else LAWS[str(found.case.law)]
    return without_chance(found, own, subject, seen=() if predicted else None)


def _may_vary(concluded: Verdict) -> bool:
    """Whether what memory held before may decide a failure: it was seen to, or there are no numbers to tell."""
    return concluded.difference is None or bool(concluded.difference.varies)


def _completed(plan: Plan, result: Result) -> Result:
    """Add to each failure the known one that would match if other versions were installed, and its replay's flags."""
    failures = [_with_elsewhere(plan, result.subject, each) for each in result.failures]
    return _with_failures(result, [failure.replace(flags=plan.flags) for failure in failures])


def _with_failures(result: Result, failures: Sequence[Verdict]) -> Result:
    """The result with these failures in place of its own, the first of each case."""
    if not failures:
        return result
    distinct: dict[str, Verdict] = {}
    for failure in failures:
        distinct.setdefault(str(failure.case), failure)
    first, *others = distinct.values()
    return replace(result, message=first.message, failure=first, others=tuple(others))


def _with_elsewhere(plan: Plan, subject: str, failure: Verdict) -> Verdict:
    entry = plan.known.of_elsewhere(subject, failure)
    if entry is None:
        return failure
    message = f"{failure.message} (known failure {entry.name} would match, but it is for {entry.unmet})"
    return failure.replace(message=message)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Let the judge use one thread: its tensors are small, and more threads would compete with the workers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
