"""Rounds until the time is spent: their steps, their seeds, and how they become one result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.helpers.hostile_laws import made_up
from tests.helpers.running import Bench
from toeplitz_core import conv2d
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.run.events import StepEnded
from toeplitz_core.testing.run.execution import judgement
from toeplitz_core.testing.run.plan import Task
from toeplitz_core.testing.run.rounds import Progress, tasks
from toeplitz_core.testing.search.effort import Search
from toeplitz_core.testing.search.search import find
from toeplitz_core.testing.search.tally import merged_results
from toeplitz_core.testing.subjects import TorchSubject

CASE = Case.parse("input=1x1x1x1 weight=1x1x1x1")


def bench(*laws: str, **options: object) -> Bench:
    """A plan of made-up laws for our own operator, with a few cases each."""
    return Bench([TorchSubject("right", conv2d)], [made_up(law) for law in laws], **{"examples": 5, **options})


def ticks() -> Callable[[], float]:
    """A clock that advances by one second with every reading."""
    moments: Iterator[float] = iter(range(10**6))
    return lambda: next(moments)


@pytest.fixture
def seeds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of all searches, in order."""
    seen: list[int] = []

    def watched(law: object, subject: object, effort: Search, **options: object) -> Result:
        seen.append(effort.seed)
        return find(law, subject, effort, **options)

    monkeypatch.setattr(judgement, "find", watched)
    return seen


@pytest.mark.parametrize(("seed", "wanted"), [(0, [0, 1, 2]), (7, [7, 8, 9])])
def test_each_round_has_another_seed(seeds: list[int], seed: int, wanted: list[int]):
    """Rounds continue until the time is spent, each with the next seed, and are merged into one result."""
    run = bench("holds", time=3, seed=seed).run(clock=ticks())
    assert seeds == wanted
    assert [r.cases for r in run.came] == [5, 5, 5]
    (together,) = run.results
    assert (together.cases, together.status, run.progress.rounds) == (15, Status.PASS, 3)


def test_without_time_there_is_one_round(seeds: list[int]):
    """A plan without a time is searched once, with its seed."""
    assert len(bench("holds", seed=4).run().came) == 1
    assert len(bench("holds").run().came) == 1
    assert seeds == [4, 0]


def test_what_failed_is_not_searched_again(seeds: list[int]):
    """A failed step is not searched again; if all steps have failed, the run ends early."""
    run = bench("fails", "holds", time=5).run(clock=ticks())
    assert [(r.law, r.status.value) for r in run.came] == [("fails", "fail"), *[("holds", "pass")] * 4]
    assert [r.status for r in run.results] == [Status.FAIL, Status.PASS]
    assert run.progress.rounds == 4
    assert len(bench("fails", time=10**6).run(clock=ticks()).came) == 1
    assert seeds == [0, 0, 1, 2, 3, 0]


def test_at_least_one_step_is_searched():
    """At least one step is searched, however short the time; the other steps are reported as not run."""
    late = bench("holds", "fails", time=0.5)
    run = late.run(clock=ticks())
    assert [r.law for r in run.came] == ["holds"]
    assert run.progress.rounds == 0
    assert [(r.law, r.status) for r in late.plan.unreached(run.results, "spent")] == [("fails", Status.NOT_RUN)]


def test_absent_devices_are_said_once():
    """A missing device is reported once and does not count as searched."""
    run = bench("holds", time=2, devices=["cuda:77", "cpu"]).run(clock=ticks())
    assert [(r.device, r.status.value) for r in run.came] == [("cuda:77", "not-run"), ("cpu", "pass"), ("cpu", "pass")]
    assert run.progress.rounds == 2


def test_what_has_ended_is_no_task_any_more():
    """Tasks that have ended are not repeated; the rest keep the order of the plan."""
    plan = bench("holds", "fails", dtypes=["float32", "float64"], time=1).plan
    progress = Progress(plan)
    for step, number in [(plan.steps[0], 0), (plan.steps[0], 1), (plan.steps[2], 0)]:
        passed = Result(step, Status.PASS if step.law == "holds" else Status.FAIL, Counter({Status.PASS: 1}))
        progress(StepEnded(Task(step, number), passed))
    due = tasks(progress, clock=lambda: 0.0)
    assert [next(due) for _ in range(4)] == [
        Task(plan.steps[1], 0), Task(plan.steps[3], 0), Task(plan.steps[1], 1), Task(plan.steps[3], 1),
    ]  # fmt: skip


def test_a_sweep_without_some_of_its_parts_is_no_result():
    """Unless it has failed, it would look like a whole sweep; with its last part it is one."""
    plan = bench("holds", dtypes=["float32"], sweep=4).plan
    (step,), parts = plan.steps, plan.effort.rounds
    assert parts > 1
    progress = Progress(plan)
    for number in range(parts):
        assert progress.results == []
        progress(StepEnded(Task(step, number), Result(step, Status.PASS, Counter({Status.PASS: 1}))))
    (whole,) = progress.results
    assert whole.cases == parts
    failed = Progress(plan)
    failed(StepEnded(Task(step, 0), Result(step, Status.FAIL, Counter({Status.FAIL: 1}))))
    assert len(failed.results) == 1


def result(status: Status, cases: int = 10, **options: object) -> Result:
    """The result of one round."""
    failure = Verdict(status, CASE, "wrong") if status.is_failure else None
    values = {"counts": Counter({status: cases}), "failure": failure, "message": "wrong" * bool(failure)} | options
    return Result(Step("s", "law", "float32", "cpu"), status, **values)


def test_rounds_are_one_result():
    """Counts add up, the largest error is the maximum, and the status is that of all cases together."""
    entry = Counter({"listed": 0, "other": 2})
    together = merged_results(
        [
            result(Status.PASS, max_ratio=0.5, assumed=Counter({"sums": 10})),
            result(Status.KNOWN, max_ratio=0.25, known=entry, assumed=Counter({"sums": 10})),
            result(Status.MISTRUSTED, message="nothing proven"),
        ]
    )
    assert (together.status, together.max_ratio, together.cases, together.message) == (Status.KNOWN, 0.5, 30, "")
    assert (together.known, dict(together.assumed)) == (entry, {"sums": 20})
    assert "listed" in together.known
    unproven = merged_results([result(Status.PASS, 90), result(Status.MISTRUSTED, 100)])
    assert (unproven.status, unproven.message) == (
        Status.MISTRUSTED,
        "nothing proven: only 90 of 190 cases could be judged",
    )


def test_rounds_end_with_the_first_that_failed():
    """Rounds after the first failure are left out: whether they ran depends on timing."""
    together = merged_results([result(Status.PASS), result(Status.CRASH, 3), result(Status.FAIL, 4)])
    assert (together.status, together.cases, together.message) == (Status.CRASH, 13, "wrong")
    assert together.failure is not None


def test_real_laws_in_rounds():
    """Two rounds of a law on a correct implementation pass, with the cases of both."""
    law = LAWS["forward-bound"]
    run = Bench([TorchSubject("right", conv2d)], [law], examples=5, time=2).run(clock=ticks())
    assert [r.counts[Status.PASS] for r in run.came] == [5, 5]
    assert run.results[0].cases == 10
    assert run.results[0].assumed == Counter({"sums in float32": 10})
