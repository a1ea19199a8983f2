"""A hang is waited for a few times, and then the run goes on beyond it."""

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
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.search.effort import PROFILES, Search
from toeplitz_core.testing.search.hangs import Hangs
from toeplitz_core.testing.search.search import find
from toeplitz_core.testing.subjects import TorchSubject

WIDE = Case.parse("input=1x1x1x1 weight=3x1x1x1")


def searched(
    hangs: Hangs, status: Callable[[Case], Status], *, name: str = "made-up", dtype: str = "float32"
) -> Result:
    """The result of a law that gives each case a status, with what is known of the subject's hangs."""
    effort = Search(PROFILES["gate"], 60, 0, failures=4)
    return find(law_of(status, name), TorchSubject("mine", conv2d), effort, dtype=dtype, hangs=hangs)


def test_patience_shrinks_after_a_hang():
    """Then a call is given ten times what the slowest took, and at least half a second, unless more is asked for."""
    patience = Patience(20.0)
    assert patience.seconds(1) == 20
    patience.returned(0.2)
    assert patience.seconds(4) == 20 + 3 * 2  # the others of a batch are as fast as usual
    patience.hung()
    assert (patience.seconds(1), patience.seconds(4)) == (2, 8)
    with patience.in_full():
        assert patience.seconds(1) == 20
    assert patience.seconds(1) == 2
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

    found = searched(Hangs(), status)
    assert found.status is Status.TIMEOUT
    assert [failure.case.weight[0] for failure in found.failures if isinstance(failure.case, Case)] == [3]
    assert found.counts[Status.TIMEOUT] == 1
    assert found.counts[Status.PASS] >= 59
    assert found.left_out > 10
    assert calls[True] < 60


def test_a_later_search_asks_three_times_whether_it_is_the_same_hang():
    """After three cases that hang as expected, none is called; in each search before, one is."""
    hangs = Hangs()
    calls: list[Case] = []

    def status(case: Case) -> Status:
        calls.extend([case] * (case.weight[0] > 2))
        return Status.TIMEOUT if case.weight[0] > 2 else Status.PASS

    searched(hangs, status)
    found = []
    for number in range(5):
        calls.clear()
        found.append(searched(hangs, status, name=f"law-{number}"))
        assert len(calls) == (number < 3)
    assert [result.status for result in found] == [Status.TIMEOUT] * 3 + [Status.PASS] * 2
    assert all(result.left_out > 10 for result in found)
    assert all(result.counts[Status.PASS] >= 59 for result in found)


def test_cases_that_return_are_judged_though_they_meet_the_needs():
    """If the needs hold for cases that return, those are judged in every search, and what else is wrong is found."""
    hangs = Hangs()
    hangs.add(WIDE)

    def status(case: Case) -> Status:
        return Status.FAIL if case.weight[0] > 4 else Status.PASS

    for number in range(5):
        assert searched(hangs, status, name=f"law-{number}").status is Status.FAIL


def test_a_hang_that_needs_more_than_is_known_is_called_once_in_each_search():
    """Cases that meet the needs and return show that the needs do not suffice, however many hang."""
    hangs = Hangs()
    hangs.add(WIDE)
    calls: Counter[bool] = Counter()

    def status(case: Case) -> Status:
        calls[odd := case.weight[0] % 2 == 1] += case.weight[0] > 2
        return Status.TIMEOUT if odd and case.weight[0] > 2 else Status.PASS

    for number in range(6):
        calls[True] = 0
        searched(hangs, status, name=f"law-{number}")
        assert calls[True] == 1
    assert calls[False] > 2


def test_needs_are_of_any_dtype():
    """A hang of float32 is known in float64, and one of a call that may be invalid is never known."""
    hangs = Hangs()
    hang = hangs.add(WIDE)
    assert hangs.of(WIDE.replace(dtype="float64", data="normal", law="strides")) is hang
    assert hangs.of(Case.parse("input=1x1x1x1 weight=2x1x1x1")) is None
    assert hangs.of(Call.parse("input=float32[1x1x1x1] weight=float32[3x1x1x1] stride=2")) is None


@pytest.fixture
def laws() -> list[Law]:
    """Laws that call the subject in several ways: one call, several at once, and gradients."""
    return [LAWS[name] for name in ("forward-exact", "strides", "additive-in-input", "gradients-exact")]


def test_a_kernel_that_hangs_is_judged_to_the_end(laws: list[Law], monkeypatch: pytest.MonkeyPatch):
    """The whole run waits for few calls, every law is judged, and there is one finding with what it needs."""
    monkeypatch.setattr("toeplitz_core.testing.isolation.patience._LEAST", 0.1)
    with Sandbox(timeout=1.0) as processes:
        subject = IsolatedSubject(processes, "tests.helpers.hostile:hangs_with_stride")
        bench = Bench([subject], laws, dtypes=("float32", "float64"), strict=True, examples=40)
        results = bench.run().results
        gathering = Gathering(lambda _: subject, LAWS)
        gathering.gather(results)
    assert sum(result.counts[Status.TIMEOUT] for result in results) == 4
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
