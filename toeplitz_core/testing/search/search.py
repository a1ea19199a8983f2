"""Find a case that breaks a law: one law, one subject, one dtype, one device at a time.

By a search, which shrinks it, or in a row of cases, the smallest first.
"""

from __future__ import annotations

import contextlib
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from hypothesis import event, example, given, settings, target
from hypothesis import seed as seeded
from hypothesis.errors import Flaky

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.layouts import ALL_LAYOUTS
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.search.regions import products, regions
from toeplitz_core.testing.search.seeding import no_constants_of_modules
from toeplitz_core.testing.support import interrupts
from toeplitz_core.testing.support.spelling import cases_of

if TYPE_CHECKING:
    from toeplitz_core.testing.findings.known import KnownFailures
    from toeplitz_core.testing.laws.law import Law
    from toeplitz_core.testing.subjects.interface import Outcome, Runner

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


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one law on one subject, for one dtype and device.

    ``known`` says how many cases each entry of a list of known failures spoke for, by its name; ``assumed`` by which
    arithmetic, in words, how many were judged; ``zeros`` and ``zero_signs`` are sums of those of a :class:`Verdict`.
    ``refused`` is why one of the unsupported cases was.
    """

    subject: str
    law: str
    dtype: str
    device: str
    status: Status
    counts: Counter[Status] = field(default_factory=Counter)
    max_ratio: float | None = None
    failure: Verdict | None = None
    message: str = ""
    known: Counter[str] = field(default_factory=Counter)
    assumed: Counter[str] = field(default_factory=Counter)
    zeros: int = 0
    zero_signs: int = 0
    refused: str = ""

    @property
    def cases(self) -> int:
        """Cases judged, shrinking not counted."""
        return sum(self.counts.values())

    @property
    def nothing_proven(self) -> bool:
        """Whether too few cases could be judged, which is neither a pass nor a failure."""
        refused = self.status is Status.UNSUPPORTED and not wholly_refused(self.counts)
        return refused or self.status is Status.MISTRUSTED


Judge = Callable[[Case | Call], Verdict]


class LawError(Exception):
    """A law could not judge a case: an error of the suite, and no finding about the subject. Its cause says which."""

    def __init__(self, law: str, subject: str, case: Case | Call) -> None:
        super().__init__(f'law {law} could not judge subject {subject} on "{case}"')
        self.law, self.subject, self.case = law, subject, case

    def __reduce__(self) -> tuple[type[LawError], tuple[str, str, Case | Call]]:
        return LawError, (self.law, self.subject, self.case)  # it travels between processes


class Interrupted(KeyboardInterrupt):
    """The search was interrupted after it had found a failure, perhaps not the smallest yet: ``result`` has it."""

    def __init__(self, result: Result) -> None:
        super().__init__()
        self.result = result


class _Broken(Exception):  # noqa: N818  # it carries a verdict to Hypothesis, and is not an error of ours
    """A law does not hold: Hypothesis shrinks what raises this."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


class _Stop(BaseException):
    """An error of our own, on its way past Hypothesis, which would shrink it like a failure of the subject."""

    def __init__(self, error: Exception, case: Case | Call) -> None:
        super().__init__()
        self.error = error
        self.case = case


class _Tally:
    """Statuses and the largest ratio until the first failure, after which Hypothesis shrinks; the smallest failure."""

    def __init__(self) -> None:
        self.counts: Counter[Status] = Counter()
        self.max_ratio: float | None = None
        self.smallest: Verdict | None = None
        self.known: Counter[str] = Counter()
        self.assumed: Counter[str] = Counter()
        self.zeros = self.zero_signs = 0
        self.refused = ""
        self.runs = 1
        self.timeouts = 0

    def judged(self, judge: Judge, case: Case | Call) -> Verdict:
        """The verdict on a case. Once a failure was seen that did not repeat, a case fails if one of some runs does."""
        if self.timeouts >= SHRINKING_TIMEOUTS:
            return Verdict(Status.PASS, case)  # not run: Hypothesis finds nothing smaller, and ends
        verdict = judge(case)
        first = self.smallest is None
        self._add(verdict)
        if verdict.status is Status.TIMEOUT:
            self.timeouts += 1
        elif first and verdict.status.is_failure:
            self.runs = 1 if _failures(judge, case, CONFIRMATIONS) == CONFIRMATIONS else SHRINKING_RUNS
        for _ in range(self.runs - 1):
            if verdict.status.is_failure:
                break
            verdict = judge(case)
            self._add(verdict)
        return verdict

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


class _Watched:
    """A subject that remembers what computed its results: a law may ask for several, and judges them together."""

    def __init__(self, subject: Runner) -> None:
        self._subject = subject
        self.kernels: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._subject, name)

    def run(self, *args: Any, **options: Any) -> Outcome:
        outcome = self._subject.run(*args, **options)
        self.kernels.add(outcome.kernel)
        return outcome


def _failures(judge: Judge, case: Case | Call, runs: int) -> int:
    """In how many of some further runs a case fails."""
    return sum(judge(case).status.is_failure for _ in range(runs))


def search(
    law: Law,
    subject: Runner,
    *,
    dtype: str,
    settings: settings,
    device: str = "cpu",
    seed: int | None = None,
    layouts: Collection[str] = ALL_LAYOUTS,
    known: KnownFailures | None = None,
    first: Case | Call | None = None,
) -> Result:
    """Look for a case on which a law fails.

    Parameters
    ----------
    seed : int, optional
        Of the search: with it the same cases come again, for every subject and on every device. Without it, settings
        that are derandomised stand for seed 0, and others draw new cases.
    layouts : collection of str
        Memory layouts that the cases may name.
    known : KnownFailures, optional
        Failures that are counted, and beyond which the search goes on.
    first : Case or Call, optional
        What is tried before all else.

    Returns
    -------
    Result
        With the smallest failing case that was found.

    Raises
    ------
    LawError
        If the law itself raises.
    Interrupted
        For a ``KeyboardInterrupt`` after a failure was found; before, the ``KeyboardInterrupt`` itself.
    """
    if dtype not in law.dtypes:
        reason = f"{law.name} is not for {dtype}"
        return Result(subject.name, law.name, dtype, device, Status.UNSUPPORTED, message=reason)
    tally, watched = _Tally(), _Watched(subject)
    judge = _judge(law, cast("Runner", watched), tally, known)

    def holds(case: Case | Call) -> None:
        largest = 0.0
        for drawn in law.draws(case, subject.draws):
            watched.kernels.clear()
            verdict = tally.judged(judge, drawn)
            if verdict.status.is_failure:
                raise _Broken(verdict)
            _note(verdict, watched.kernels)
            if verdict.status is Status.PASS and verdict.ratio is not None:
                largest = max(largest, verdict.ratio)  # that of a known failure may be infinite
        if largest:
            target(largest, label="largest error in units of the bound")

    test = _fewer(settings, subject.draws)(given(case=law.cases(dtype, device, layouts))(holds))
    if first is not None:
        test = example(case=first)(test)
    if seed is None and settings.derandomize:
        seed = 0
    if seed is not None:
        # Each law and dtype its own stream: the cases of one do not depend on which others run.
        test = seeded(zlib.crc32(f"{seed} {law.name} {dtype}".encode()))(test)
    return _result(test, judge, tally, law, subject, dtype, device, "not shrunk to the end")


def walk(
    law: Law,
    subject: Runner,
    cases: Iterable[Case],
    *,
    dtype: str,
    device: str = "cpu",
    known: KnownFailures | None = None,
) -> Result:
    """Hold a law on each of some cases until one fails, which is not shrunk.

    Parameters
    ----------
    cases : iterable of Case
        The smallest first, each of the dtype and on the device.
    known : KnownFailures, optional
        As for :func:`search`, whose errors are those of this function too.

    Returns
    -------
    Result
        With the first case that fails.
    """
    tally = _Tally()
    judge = _judge(law, subject, tally, known)

    def test() -> None:
        for case in cases:
            verdict = tally.judged(judge, case)
            if verdict.status.is_failure:
                raise _Broken(verdict)

    return _result(test, judge, tally, law, subject, dtype, device, "not run again")


def _judge(law: Law, subject: Runner, tally: _Tally, known: KnownFailures | None) -> Judge:
    """The law, held on one case: known failures apart, and an error of the law as what nobody takes for a failure."""

    def judge(case: Case | Call) -> Verdict:
        interrupts.raise_asked()
        try:
            verdict = law(subject, case)
            entry = None if known is None else known.match(subject.name, verdict)
        except Exception as error:
            raise _Stop(error, case.replace(law=law.name)) from error
        if entry is None:
            return verdict
        tally.known[entry.name] += tally.smallest is None  # else it was met while shrinking
        return verdict.replace(status=Status.KNOWN)

    return judge


def _result(
    test: Callable[[], None],
    judge: Judge,
    tally: _Tally,
    law: Law,
    subject: Runner,
    dtype: str,
    device: str,
    unfinished: str,
) -> Result:
    """What comes of a test that raises the first failure; ``unfinished`` is what an interrupt would leave undone."""
    with _interruptible(law, subject, device, tally, unfinished):
        failure = _run(test, tally)
    message = "" if failure is None else failure.message
    if failure is not None and tally.timeouts >= SHRINKING_TIMEOUTS:
        message = f"{message} (not shrunk to the end, which would take the timeout for each call)"
    if failure is not None and tally.runs > 1:

        def afresh(case: Case | Call) -> Verdict:
            subject.restart()
            return judge(case)

        with _interruptible(law, subject, device, tally, "fails in some runs only"):
            failed = _failures(afresh, failure.case, FINAL_RUNS)
        message = f"{message} (fails again in {failed} of {FINAL_RUNS} runs)"
    return _conclude(law, subject, dtype, device, tally, failure, message)


def _note(verdict: Verdict, kernels: Collection[str]) -> None:
    """Let Hypothesis count where the cases go, for ``--hypothesis-show-statistics``."""
    event(f"status: {verdict.status}")
    for kernel in sorted({verdict.kernel, *kernels} - {""}):
        event(f"kernel: {kernel}")
    if isinstance(verdict.case, Case):  # the strategy for calls has events of its own
        event(f"data: {verdict.case.data}")
        if verdict.status in (Status.PASS, Status.MISTRUSTED):
            event(f"regime: {_regime(verdict, verdict.case)}")
        for region in regions(verdict.case):
            event(f"region: {region}")


def _regime(verdict: Verdict, case: Case) -> str:
    """What results were held to, and how many products are summed for each."""
    if verdict.ratio is None and 0 in case.output_shape:
        return "empty"
    return f"{'exact' if verdict.ratio is None else 'bound'}, {products(case)}"


def _fewer(profile: settings, draws: int) -> settings:
    """Settings for as many cases, of which several come from one example."""
    return profile if draws == 1 else settings(profile, max_examples=-(-profile.max_examples // draws))


def _run(test: Callable[[], None], tally: _Tally) -> Verdict | None:
    """The smallest failure, if there is one."""
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


@contextlib.contextmanager
def _interruptible(law: Law, subject: Runner, device: str, tally: _Tally, unfinished: str) -> Iterator[None]:
    """Let an interrupt carry along what was found, with a word on what is unfinished; and an error of a law be one."""
    try:
        with interrupts.kept():
            yield
    except _Stop as stop:
        raise LawError(law.name, subject.name, stop.case) from stop.error
    except KeyboardInterrupt:
        if tally.smallest is None:
            raise
        found = tally.smallest
        raise Interrupted(
            _conclude(law, subject, found.case.dtype, device, tally, found, f"{found.message} ({unfinished})")
        ) from None


def _conclude(
    law: Law, subject: Runner, dtype: str, device: str, tally: _Tally, failure: Verdict | None, message: str
) -> Result:
    if failure is not None:
        status, failure = failure.status, failure.replace(message=message)
    else:
        status, message = _proven(tally.counts, known=bool(tally.known))
        if wholly_refused(tally.counts):
            message = tally.refused
    return Result(
        subject.name,
        law.name,
        dtype,
        device,
        status,
        tally.counts,
        tally.max_ratio,
        failure,
        message,
        tally.known,
        tally.assumed,
        tally.zeros,
        tally.zero_signs,
        tally.refused,
    )


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


def wholly_refused(counts: Counter[Status]) -> bool:
    """Whether a subject does without a law, or a dtype, altogether: that is no gap in what it claims."""
    return counts.total() == counts[Status.UNSUPPORTED]


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
