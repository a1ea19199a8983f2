"""Crashes and hangs are met a few times, and then a run goes on beyond them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from torch.nn.functional import conv2d

from tests.helpers.running import Bench, law_of
from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.findings.gathering import Gathering
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.patience import Patience
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS, Law
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.search.effort import PROFILES, Search
from toeplitz_core.testing.search.fatal import FatalCases
from toeplitz_core.testing.search.search import find
from toeplitz_core.testing.subjects import TorchSubject

WIDE = Case.parse("input=1x1x1x1 weight=3x1x1x1")


def searched(
    fatal: FatalCases, status: Callable[[Case], Status], *, name: str = "made-up", dtype: str = "float32"
) -> Result:
    """The result of a law that gives each case a status, with what is known of how the subject's calls end."""
    effort = Search(PROFILES["gate"], 60, 0, failures=4)
    return find(law_of(status, name), TorchSubject("mine", conv2d), effort, dtype=dtype, fatal=fatal)


def test_patience_shrinks_after_a_hang():
    """Then a call is given three times what the slowest took, and at least half a second, unless more is asked for."""
    patience = Patience(20.0)
    assert patience.seconds(1) == 20
    patience.returned(0.5)
    assert patience.seconds(4) == 20 + 3 * 1.5  # the others of a batch are as fast as usual
    patience.hung()
    assert (patience.seconds(1), patience.seconds(4)) == (1.5, 6)
    with patience.in_full():
        assert patience.seconds(1) == 20
    assert patience.seconds(1) == 1.5
    fast = Patience(20.0)
    fast.hung()
    assert fast.seconds(1) == 0.5
    short = Patience(0.1)
    short.hung()
    assert short.seconds(1) == 0.1


def test_a_search_goes_on_beyond_a_hang():
    """The cases that hang too are counted and left out, and as many others are judged as without the hang."""
    calls: Counter[bool] = Counter()

    def status(case: Case) -> Status:
        calls[hangs := case.weight[0] > 2] += 1
        return Status.TIMEOUT if hangs else Status.PASS

    found = searched(FatalCases(), status)
    assert found.status is Status.TIMEOUT
    assert [failure.case.weight[0] for failure in found.failures if isinstance(failure.case, Case)] == [3]
    assert found.counts[Status.TIMEOUT] == 1
    assert found.counts[Status.PASS] >= 59
    assert found.left_out > 10
    assert calls[True] < 60


@pytest.mark.parametrize("end", [Status.CRASH, Status.TIMEOUT])
def test_each_law_meets_it_once(end: Status):
    """Each law and each dtype shows for itself that its calls end so; then none is called if three have."""
    fatal = FatalCases()
    calls: list[Case] = []

    def status(case: Case) -> Status:
        calls.extend([case] * (case.weight[0] > 2))
        return end if case.weight[0] > 2 else Status.PASS

    searched(fatal, status)
    # A hang takes long, so one is enough for a search. A crash is confirmed three times.
    most = 6 if end is Status.CRASH else 1
    for number in range(4):
        calls.clear()
        first = searched(fatal, status, name=f"law-{number}")
        assert (first.status, len(first.failures)) == (end, 1)
        assert 1 <= len(calls) <= most
    assert searched(fatal, status, name="law-3", dtype="float64").status is end
    calls.clear()
    again = searched(fatal, status, name="law-2", dtype="float64")
    assert (again.status, calls) == (Status.PASS, [])
    for result in (first, again):
        assert result.left_out > 10
        assert result.counts[Status.PASS] >= 59


@pytest.mark.parametrize("end", [Status.CRASH, Status.TIMEOUT])
def test_cases_that_return_are_judged_though_they_meet_the_needs(end: Status):
    """If the needs hold for cases that return, those are judged in every search, and what else is wrong is found."""
    fatal = FatalCases()
    fatal.add(Verdict(end, WIDE))

    def status(case: Case) -> Status:
        return Status.FAIL if case.weight[0] > 4 else Status.PASS

    for number in range(5):
        assert searched(fatal, status, name=f"law-{number}").status is Status.FAIL


@pytest.mark.parametrize("end", [Status.CRASH, Status.TIMEOUT])
def test_what_needs_more_than_is_known(end: Status):
    """Cases that meet the needs and return show that the needs do not suffice, however many end.

    Then a search meets one hang, and every crash.
    """
    fatal = FatalCases()
    fatal.add(Verdict(end, WIDE))
    calls: Counter[bool] = Counter()

    def status(case: Case) -> Status:
        calls[odd := case.weight[0] % 2 == 1] += case.weight[0] > 2
        return end if odd and case.weight[0] > 2 else Status.PASS

    for number in range(6):
        calls.clear()
        result = searched(fatal, status, name=f"law-{number}")
        assert len(result.failures) == 1
        assert calls[True] == result.counts[end] + 3 * (end is Status.CRASH)  # a crash is confirmed three times
        assert (result.counts[end] > 3) is (end is Status.CRASH)
        assert bool(result.left_out) is (end is Status.TIMEOUT)


def test_a_crash_in_one_dtype_alone():
    """It does not keep others from being judged."""
    fatal = FatalCases()
    fatal.add(Verdict(Status.CRASH, WIDE))
    for number in range(5):
        for dtype in ("float64", "float32"):

            def status(case: Case) -> Status:
                return Status.CRASH if case.dtype == "float64" and case.weight[0] > 2 else Status.PASS

            result = searched(fatal, status, name=f"law-{number}", dtype=dtype)
            assert result.status is (Status.CRASH if dtype == "float64" else Status.PASS)
            assert not (dtype == "float32" and result.left_out)


def test_needs_are_of_any_dtype():
    """A hang of float32 is known in float64, and one of a call that may be invalid is never known."""
    fatal = FatalCases()
    known = fatal.add(Verdict(Status.TIMEOUT, WIDE))
    call = Call.parse("input=float32[1x1x1x1] weight=float32[3x1x1x1] stride=2")
    assert known is not None
    assert fatal.of(WIDE.replace(dtype="float64", data="normal", law="strides")) is known
    assert fatal.of(Case.parse("input=1x1x1x1 weight=2x1x1x1")) is None
    assert fatal.of(call) is None
    assert fatal.add(Verdict(Status.TIMEOUT, call)) is None


@pytest.fixture
def laws() -> list[Law]:
    """Laws that call the subject in several ways: one call, several at once, and gradients."""
    return [LAWS[name] for name in ("forward-exact", "strides", "additive-in-input", "gradients-exact")]


def test_a_kernel_that_hangs_is_judged_to_the_end(laws: list[Law]):
    """The whole run waits for few calls, every law is judged, and there is one finding with what it needs."""
    with Sandbox(timeout=1.0) as processes:
        subject = IsolatedSubject(processes, "tests.helpers.hostile:hangs_with_stride")
        bench = Bench([subject], laws, dtypes=("float32", "float64"), strict=True, examples=40)
        results = bench.run().results
        gathering = Gathering(lambda _: subject, LAWS)
        gathering.gather(results)
    assert {result.counts[Status.TIMEOUT] for result in results} == {0, 1}  # once each law and each dtype has met it
    assert all(result.counts[Status.PASS] for result in results)
    assert sum(result.left_out for result in results) > 20
    (finding,) = gathering.findings
    assert (finding.cause, finding.needs) == ("hang", ("out_channels >= 2", "stride[1] >= 2"))
    assert str(finding.failure.case) == "input=1x1x1x1 weight=2x1x1x1 stride=1x2 law=forward-exact"
    assert finding.failure.message == "did not return within 1 s"


def test_a_batch_ends_at_the_call_that_hangs():
    """The calls of a law that are made at once are made one by one after a hang, but not those after it."""
    case = Case.parse("input=1x1x3x3 weight=2x1x1x1 stride=1x2")
    right = case.replace(stride=(1, 1))
    with Sandbox(timeout=1.0) as processes:
        subject = IsolatedSubject(processes, "tests.helpers.hostile:hangs_with_stride")
        operands = draw(right)
        subject.run(right, operands)
        outcomes = subject.run_batch([right, case, right], [operands] * 3)
    assert [outcome.status for outcome in outcomes] == ["returned", "timed out", "timed out"]
