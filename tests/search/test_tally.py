"""What a search counts, when nothing is proven, and which failure an interrupt leaves."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.running import hunt, law_of, search
from toeplitz_core import conv2d
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.search.search import LawError
from toeplitz_core.testing.search.tally import PROVEN_SHARE, Tally, merged_results
from toeplitz_core.testing.subjects import TorchSubject

STEP = Step("planted", "made-up", "float32", "cpu")


def test_shrinking_is_not_counted():
    """Cases tried while shrinking are not counted."""
    called = []

    def check(case: Case) -> Status:
        called.append(case)
        return Status.FAIL if case.groups > 1 else Status.PASS

    result = hunt(conv2d, law=law_of(check))
    first = next(number for number, case in enumerate(called, start=1) if case.groups > 1)
    assert result.counts == {Status.PASS: first - 1, Status.FAIL: 1}
    assert len(called) > first


def test_nothing_proven_is_no_pass():
    """If at least half of the judged cases prove nothing, the law does not pass."""
    for proven, expected in ((40, Status.MISTRUSTED), (100 * PROVEN_SHARE, Status.MISTRUSTED), (60, Status.PASS)):
        judged: list[Case] = []

        def check(case: Case, *, judged: list[Case] = judged, proven: float = proven) -> Status:
            judged.append(case)
            return Status.PASS if len(judged) <= proven else Status.MISTRUSTED

        result = hunt(conv2d, law=law_of(check))
        assert result.cases == 100
        assert result.status is expected
        shortage = f"nothing proven: only {proven:.0f} of 100 cases could be judged"
        assert result.message == ("" if expected is Status.PASS else shortage)


def test_others_are_drawn_for_refused_cases():
    """The number of a profile counts judged cases; up to four times as many are tried, and one in eight must prove."""
    for share, tried, expected in ((2, 200, Status.PASS), (5, 400, Status.PASS), (60, 400, Status.UNSUPPORTED)):
        seeds: list[int] = []

        def check(case: Case, *, seeds: list[int] = seeds, share: int = share) -> Status:
            seeds.append(case.seed)
            return Status.UNSUPPORTED if case.seed % share else Status.PASS

        result = hunt(conv2d, law=law_of(check))
        assert result.status is expected
        assert tried * 0.8 <= result.cases <= tried * 1.2
        if share == 2:
            assert result.cases - result.counts[Status.UNSUPPORTED] >= 90


def test_refusal_is_no_failure():
    """An implementation that always raises ``NotImplementedError`` is unsupported, with its message."""

    def refuses(*_: object) -> torch.Tensor:
        raise NotImplementedError("some day")

    result = hunt(refuses, examples=20)
    assert result.status is Status.UNSUPPORTED
    assert result.counts == {Status.UNSUPPORTED: 20}
    assert result.message == result.refused == "NotImplementedError: some day"


def test_a_law_that_passes_says_why_cases_were_refused():
    """A passing result keeps the reason of a refusal, also after it is merged with other rounds."""

    def refuses_groups(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001, ANN202  # F.conv2d's signature
        if groups > 1:
            raise NotImplementedError("no groups")
        return conv2d(x, w, b, stride, padding, dilation, groups)

    result = hunt(refuses_groups)
    assert result.status is Status.PASS
    assert 0 < result.counts[Status.UNSUPPORTED] < result.cases
    assert (result.message, result.refused) == ("", "NotImplementedError: no groups")
    assert merged_results([result, hunt(conv2d, examples=5)]).refused == result.refused
    assert hunt(conv2d, examples=5).refused == ""


def test_interrupt_passes_through():
    """Ctrl-C ends a search at once."""
    calls = []

    def check(case: Case) -> Status:
        calls.append(case)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return Status.PASS

    tally = Tally(STEP)
    with pytest.raises(KeyboardInterrupt):
        hunt(conv2d, law=law_of(check), tally=tally)
    assert tally.smallest is None
    assert len(calls) == 7


def test_interrupt_keeps_what_was_found():
    """After Ctrl-C during shrinking, the tally has announced the smallest failure so far."""
    failed: list[Case] = []

    def check(case: Case) -> Status:
        if len(failed) == 3:
            raise KeyboardInterrupt
        if case.groups > 1:
            failed.append(case)
            return Status.FAIL
        return Status.PASS

    announced: list[Result] = []
    with pytest.raises(KeyboardInterrupt):
        hunt(conv2d, law=law_of(check), tally=Tally(STEP, announced.append))
    result = announced[-1]
    assert result.status is Status.FAIL
    assert result.failure is not None
    assert result.failure.case.replace(law=None) in [case.replace(law=None) for case in failed]
    assert "not shrunk to the end" in result.message


@pytest.mark.parametrize("raised", [KeyboardInterrupt, ZeroDivisionError])
def test_the_last_runs_of_a_failure_that_does_not_repeat_end_like_all_others(raised: type[BaseException]):
    """Ctrl-C in the final runs of a failure keeps the failure; an error of the law there is a LawError."""
    counting = []

    def check(case: Case) -> Status:
        if counting:
            raise raised
        judged.append(case)
        return Status.FAIL if len(judged) == 5 else Status.PASS

    judged: list[Case] = []
    subject = TorchSubject("planted", conv2d)
    subject.restart = lambda: counting.append(True)
    announced: list[Result] = []
    with pytest.raises((KeyboardInterrupt, LawError)) as caught:
        search(law_of(check), subject, dtype="float32", examples=20, tally=Tally(STEP, announced.append))
    assert announced[-1].failure is not None
    assert announced[-1].message.endswith("(fails in some runs only)")
    assert isinstance(caught.value, LawError) == (raised is ZeroDivisionError)
