"""What a plan runs and leaves out, and what exit code comes of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from toeplitz_core import conv2d
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run.plan import Plan
from toeplitz_core.testing.run.pool import missing
from toeplitz_core.testing.run.record import exit_code
from toeplitz_core.testing.run.rounds import Run
from toeplitz_core.testing.search.effort import PROFILES
from toeplitz_core.testing.subjects import TorchSubject

GATE = PROFILES["gate"]


def returns_float64(*args: torch.Tensor) -> torch.Tensor:
    """The right numbers in another dtype."""
    return conv2d(*args).double()


def plan(functions: dict[str, Callable[..., torch.Tensor]], **options: object) -> Plan:
    """A short plan of two laws in float32."""
    options = {
        "laws": [LAWS["forward-exact"], LAWS["forward-bound"]],
        "dtypes": ["float32"],
        "devices": ["cpu"],
        "profile": GATE,
        "examples": 20,
    } | options
    return Plan(subjects=[TorchSubject(name, function) for name, function in functions.items()], **options)


def test_plan_goes_on_after_a_failure():
    """One law's failure ends that law alone; with ``fail_fast`` it ends the run."""
    functions = {"broken": returns_float64, "right": conv2d}
    assert [(r.subject, r.law, r.status.value) for r in Run(plan(functions))] == [
        ("broken", "forward-exact", "fail"),
        ("broken", "forward-bound", "fail"),
        ("right", "forward-exact", "pass"),
        ("right", "forward-bound", "pass"),
    ]
    assert [r.status for r in Run(plan(functions, fail_fast=True))] == [Status.FAIL]


def test_plan_skips_what_makes_no_sense():
    """Laws are not planned for dtypes that they are not for."""
    steps = plan({"right": conv2d}, dtypes=["int64", "float32"]).steps
    assert [(law.name, dtype) for _, law, dtype, _ in steps] == [
        ("forward-exact", "int64"),
        ("forward-exact", "float32"),
        ("forward-bound", "float32"),
    ]


def test_absent_device_is_not_run():
    """A device that is not there gives results that were not run, with the reason."""
    reason = missing("cuda:77")
    assert reason is not None
    results = list(Run(plan({"right": conv2d}, devices=["cuda:77"])))
    assert [(r.status, r.message, r.cases) for r in results] == [(Status.NOT_RUN, reason, 0)] * 2
    assert missing("cpu") is None
    assert missing("xpu:77") is not None


def result(status: Status, device: str = "cpu") -> Result:
    """A result of nothing but its status."""
    return Result("s", "law", "float32", device, status)


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
    """A failure outweighs what is not proven, which outweighs what holds; a device that was asked for must be there."""
    assert exit_code([result(status) for status in statuses], required_devices=required) == code
