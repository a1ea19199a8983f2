"""What a plan runs and leaves out, its seed, and the exit code of its results."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.helpers.running import Bench
from toeplitz_core import conv2d
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run.execution.subject_pool import missing
from toeplitz_core.testing.run.exit_code import exit_code
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.run.plan import UNSAFE_LAYOUTS, Plan
from toeplitz_core.testing.search.effort import PROFILES, Search, Sweep
from toeplitz_core.testing.subjects import TorchSubject


def returns_float64(*args: torch.Tensor) -> torch.Tensor:
    """Returns the right numbers in the wrong dtype."""
    return conv2d(*args).double()


def bench(functions: dict[str, Callable[..., torch.Tensor]], **options: object) -> Bench:
    """A short plan with two laws in float32."""
    subjects = [TorchSubject(name, function) for name, function in functions.items()]
    return Bench(subjects, [LAWS["forward-exact"], LAWS["forward-bound"]], **{"examples": 20, **options})


def test_plan_goes_on_after_a_failure():
    """A failure ends only its law; with ``fail_fast`` it ends the run."""
    functions = {"broken": returns_float64, "right": conv2d}
    assert [(r.subject, r.law, r.status.value) for r in bench(functions).run().came] == [
        ("broken", "forward-exact", "fail"),
        ("broken", "forward-bound", "fail"),
        ("right", "forward-exact", "pass"),
        ("right", "forward-bound", "pass"),
    ]
    assert [r.status for r in bench(functions, fail_fast=True).run().came] == [Status.FAIL]


def test_plan_skips_what_makes_no_sense():
    """A law is not planned for a dtype to which it does not apply, and the plan says so."""
    plan = bench({"right": conv2d}, dtypes=["int64", "float32"]).plan
    assert [(step.law, step.dtype) for step in plan.steps] == [
        ("forward-exact", "int64"),
        ("forward-exact", "float32"),
        ("forward-bound", "float32"),
    ]
    assert plan.left_out[0] == "forward-bound: not for int64"
    with pytest.raises(ValueError, match=r"^nothing to check: forward-bound: not for int64"):
        Plan.of(Options(law="forward-bound", dtype="int64"), ["torch"])
    with pytest.raises(ValueError, match=r"^nothing to check: no subject"):
        Plan.of(Options(), [])


def test_absent_device_is_not_run():
    """Results for a missing device are not run, with the reason."""
    reason = missing("cuda:77")
    assert reason
    results = bench({"right": conv2d}, devices=["cuda:77"]).run().results
    assert [(r.status, r.message, r.cases) for r in results] == [(Status.NOT_RUN, reason, 0)] * 2
    assert missing("cpu") == ""
    assert missing("xpu:77")
    assert missing("meta") == "tensors on meta have no values"


@pytest.mark.parametrize("profile", ["smoke", "gate", None])
def test_smoke_and_gate_are_deterministic(profile: str | None):
    """Without a given seed they use seed 0 and remember nothing; a given seed is used."""
    plan = Plan.of(Options(profile=profile), ["torch"])
    assert (plan.remembers, plan.effort) == (False, Search(PROFILES[profile or "gate"]))
    assert Plan.of(Options(profile=profile, seed=7), ["torch"]).seed == 7


def test_nightly_draws_a_seed():
    """Each nightly run without a seed draws one; a run without seed and time begins with earlier failures."""
    plans = [Plan.of(Options(profile="nightly"), ["torch"]) for _ in range(3)]
    assert len({plan.seed for plan in plans}) == 3
    assert all(plan.remembers for plan in plans)
    assert not Plan.of(Options(profile="nightly", seed=plans[0].seed), ["torch"]).remembers
    assert not Plan.of(Options(profile="nightly", time=1), ["torch"]).remembers


def test_effort_of_a_task():
    """A search has the share of its law and the seed of its round; a sweep has its part."""
    plan = Plan.of(Options(seed=5), ["torch"], inline=["torch"])
    search = plan.effort.in_round(2, plan.layouts("torch"), ())
    assert isinstance(search, Search)
    assert (search.examples_of("adjoint"), search.seed) == (12, 7)
    assert not {*UNSAFE_LAYOUTS} & {*search.layouts}
    plan = Plan.of(Options(examples=3), ["torch"])
    search = plan.effort.in_round(0, plan.layouts("torch"), ())
    assert isinstance(search, Search)
    assert search.examples_of("adjoint") == 3
    assert {*UNSAFE_LAYOUTS} <= {*search.layouts}
    plan = Plan.of(Options(sweep=2), ["torch"])
    assert (plan.effort.in_round(1, plan.layouts("torch"), ()), plan.remembers) == (Sweep(2, 1), False)


def result(status: Status, device: str = "cpu") -> Result:
    """A result with this status."""
    return Result(Step("s", "law", "float32", device), status)


@pytest.mark.parametrize(
    ("statuses", "required", "code"),
    [
        ([Status.PASS], [], 0),
        ([Status.PASS, Status.FAIL], [], 1),
        ([Status.CRASH], [], 1),
        ([Status.TIMEOUT, Status.MISTRUSTED], [], 1),
        ([Status.PASS, Status.MISTRUSTED], [], 3),
        ([Status.PASS, Status.UNSUPPORTED], [], 0),
        ([Status.UNSUPPORTED], [], 3),
        ([Status.PASS, Status.NOT_RUN], [], 0),
        ([Status.PASS, Status.NOT_RUN], ["cpu"], 3),
        ([Status.FAIL, Status.NOT_RUN], ["cpu"], 1),
        ([Status.NOT_RUN], [], 3),
        ([], [], 3),
    ],
)
def test_exit_code(statuses: list[Status], required: list[str], code: int):
    """A failure outweighs nothing proven, which outweighs a pass; a required device must be present."""
    assert exit_code([result(status) for status in statuses], required_devices=required) == code
