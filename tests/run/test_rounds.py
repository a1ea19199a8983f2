"""Rounds until the time is spent: what is searched how often, with which seeds, and how rounds become one result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.hostile_laws import made_up
from toeplitz_core import conv2d
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.run import plan as run
from toeplitz_core.testing.run.plan import Plan
from toeplitz_core.testing.run.rounds import Run
from toeplitz_core.testing.search.effort import PROFILES
from tests.running import search
from toeplitz_core.testing.search.tally import merged
from toeplitz_core.testing.subjects import TorchSubject

CASE = Case.parse("input=1x1x1x1 weight=1x1x1x1")


def plan(*laws: str, **options: object) -> Plan:
    """A plan of made-up laws on our own operator, a few cases each."""
    options = {
        "laws": [made_up(law) for law in laws],
        "dtypes": ["float32"],
        "devices": ["cpu"],
        "profile": PROFILES["gate"],
        "examples": 5,
    } | options
    return Plan(subjects=[TorchSubject("right", conv2d)], **options)


def ticks() -> Callable[[], float]:
    """A clock that goes on by a second whenever it is looked at."""
    moments: Iterator[float] = iter(range(10**6))
    return lambda: next(moments)


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The seeds of all searches."""
    seen: list[int | None] = []

    def watched(*args: object, **options: object) -> Result:
        seen.append(options["seed"])
        return search(*args, **options)

    monkeypatch.setattr(run, "search", watched)
    return seen


@pytest.mark.parametrize(("seed", "wanted"), [(None, [0, 1, 2]), (7, [7, 8, 9])])
def test_each_round_has_another_seed(seeds: list[int | None], seed: int | None, wanted: list[int]):
    """Rounds go on until the time is spent, each with the seed after the one before, and count as one result."""
    running = Run(plan("holds", time=3, seed=seed), clock=ticks())
    single = list(running)
    assert seeds == wanted
    assert [r.cases for r in single] == [5, 5, 5]
    (together,) = running.results
    assert (together.cases, together.status, running.rounds) == (15, Status.PASS, 3)


def test_without_time_there_is_one_round(seeds: list[int | None]):
    """A plan without a time is searched once, under the seed that it has."""
    assert len(list(Run(plan("holds", seed=4)))) == 1
    assert len(list(Run(plan("holds")))) == 1
    assert seeds == [4, None]


def test_what_failed_is_not_searched_again(seeds: list[int | None]):
    """A step that has failed takes no more of the time; where all have, the run ends before its time."""
    running = Run(plan("fails", "holds", time=5), clock=ticks())
    assert [(r.law, r.status.value) for r in running] == [("fails", "fail"), *[("holds", "pass")] * 4]
    assert [r.status for r in running.results] == [Status.FAIL, Status.PASS]
    assert running.rounds == 4
    assert len(list(Run(plan("fails", time=10**6), clock=ticks()))) == 1
    assert seeds == [0, 0, 1, 2, 3, 0]


def test_at_least_one_step_is_searched():
    """Whatever the time, something is searched; what no round has reached is named as not run."""
    late = plan("holds", "fails", time=0.5)
    running = Run(late, clock=ticks())
    assert [r.law for r in running] == ["holds"]
    assert running.rounds == 0
    assert [(r.law, r.status) for r in late.unreached(running.results, "spent")] == [("fails", Status.NOT_RUN)]


def test_absent_devices_are_said_once():
    """A device that is not there is no step that takes time, and is not asked for in every round."""
    running = Run(plan("holds", time=2, devices=["cuda:77", "cpu"]), clock=ticks())
    assert [(r.device, r.status.value) for r in running] == [("cuda:77", "not-run"), ("cpu", "pass"), ("cpu", "pass")]
    assert running.rounds == 2


def result(status: Status, cases: int = 10, **options: object) -> Result:
    """The result of a round."""
    failure = Verdict(status, CASE, "wrong") if status.is_failure else None
    values = {"counts": Counter({status: cases}), "failure": failure, "message": "wrong" * bool(failure)} | options
    return Result("s", "law", "float32", "cpu", status, **values)


def test_rounds_are_one_result():
    """Counts add up, the largest error is the largest of all, and the status is that of all cases together."""
    entry = Counter({"listed": 0, "other": 2})
    together = merged(
        [
            result(Status.PASS, max_ratio=0.5, assumed=Counter({"sums": 10})),
            result(Status.KNOWN, max_ratio=0.25, known=entry, assumed=Counter({"sums": 10})),
            result(Status.MISTRUSTED, message="nothing proven"),
        ]
    )
    assert (together.status, together.max_ratio, together.cases, together.message) == (Status.KNOWN, 0.5, 30, "")
    assert (together.known, dict(together.assumed)) == (entry, {"sums": 20})
    assert "listed" in together.known
    unproven = merged([result(Status.PASS, 90), result(Status.MISTRUSTED, 100)])
    assert (unproven.status, unproven.message) == (
        Status.MISTRUSTED,
        "nothing proven: only 90 of 190 cases could be judged",
    )


def test_rounds_end_with_the_first_that_failed():
    """What a later round has found, when it was searched at the same time, is left out: it depends on chance."""
    together = merged([result(Status.PASS), result(Status.CRASH, 3), result(Status.FAIL, 4)])
    assert (together.status, together.cases, together.message) == (Status.CRASH, 13, "wrong")
    assert together.failure is not None


def test_real_laws_in_rounds():
    """Rounds of a law on a right implementation pass with more cases than one of them has."""
    running = Run(plan(laws=[LAWS["forward-bound"]], time=2), clock=ticks())
    assert [r.counts[Status.PASS] for r in running] == [5, 5]
    assert running.results[0].cases == 10
    assert running.results[0].assumed == Counter({"sums in float32": 10})
