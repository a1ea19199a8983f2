"""A wrong result belongs to the call that returned it, and not to the law that compared it with others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.helpers.running import Bench
from toeplitz_core.testing.case.call import parse_line
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.conditions import Condition
from toeplitz_core.testing.findings.known_failures.entry import Entry
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.attribution import attributed
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.subjects import TorchSubject

LINE = "input=2x4x6x5 weight=6x2x2x3 stride=2x1 padding=1 dilation=1x2 groups=2 bias seed=3"


@pytest.fixture
def isolation() -> Iterator[Sandbox]:
    """Processes for faults that keep something from one call to the next."""
    with Sandbox() as processes:
        yield processes


def altered(change: Callable[[Tensor], Tensor]) -> TorchSubject:
    """A convolution with another result than torch's, and as differentiable."""

    def function(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
        return change(torch.nn.functional.conv2d(x, weight, bias, *rest))

    return TorchSubject("altered", function, transposed=torch.nn.functional.conv_transpose2d)


WRONG = altered(lambda y: y + 1)
OF_RESULTS = [name for name, law in LAWS.items() if law.procedure not in ("transposed", "argument_checks")]


# Without channels it is right, and the other two prove nothing in this process.
NOT_HERE = ("no-channels", "stale-memory", "in-bounds")


@pytest.mark.parametrize("law", [name for name in OF_RESULTS if name not in NOT_HERE])
def test_a_wrong_result_belongs_to_its_call(law: str) -> None:
    """For a kernel that is wrong in the forward, every law reports a wrong result, on a line that fails again."""
    case = Case.parse(f"{LINE} data={LAWS[law].recipes[0]}")
    verdict = attributed(LAWS[law](WRONG, case), WRONG)
    assert verdict.status is Status.FAIL
    assert verdict.message.startswith("out["), verdict.message
    assert verdict.case.law in ("forward-exact", "forward-bound", "special-values")
    assert verdict.message.endswith(f" (found by {law})") is (verdict.case.law != law)
    again = LAWS[str(verdict.case.law)](WRONG, parse_line(str(verdict.case)))
    assert verdict.message.startswith(again.message)


def test_a_wrong_gradient_belongs_to_the_backward_pass() -> None:
    """A wrong gradient found by torch.func or by an inner product is one of the plain backward pass, if that has it."""

    def doubled(x: Tensor, *rest: Any) -> Tensor:
        return torch.nn.functional.conv2d(2 * x - x.detach(), *rest)

    subject = TorchSubject("doubled", doubled)
    for law in ("adjoint", "functional-gradients"):
        verdict = attributed(LAWS[law](subject, Case.parse(LINE)), subject)
        assert verdict.case.law == "gradients-exact"
        assert verdict.message.startswith("input gradient[")
        assert verdict.message.endswith(f" (found by {law})")


@pytest.mark.parametrize(
    ("path", "law"),
    [
        ("plans:keeps_the_groups", "groups"),
        ("plans:keeps_the_stride", "stride"),
        ("training:adds_one_where_autograd_records", "gradients-exact"),
        ("contracts:adds_one_when_called_again", "contract"),
        ("memory:writes_its_input", "contract"),
    ],
)
def test_a_call_that_is_right_alone_stays_with_its_law(path: str, law: str, isolation: Sandbox) -> None:
    """A failure that needs earlier calls, autograd or old memory keeps the line of the law that found it."""
    subject = IsolatedSubject(isolation, f"tests.faults.{path}")
    verdict = LAWS[law](subject, Case.parse(LINE))
    assert verdict.status is Status.FAIL
    assert attributed(verdict, subject) is verdict
    assert verdict.case.law == law


def test_a_result_that_depends_on_memory_stays_so(isolation: Sandbox) -> None:
    """A result that is wrong alone, but differs with what memory held, is reported as that."""
    subject = IsolatedSubject(isolation, "tests.faults.contracts:adds_to_what_memory_held")
    verdict = LAWS["stale-memory"](subject, Case.parse(LINE))
    assert (verdict.status, verdict.call) == (Status.FAIL, None)
    wrong = IsolatedSubject(isolation, "tests.faults.indexing:flips_kernel")
    verdict = LAWS["stale-memory"](wrong, Case.parse(LINE))
    assert verdict.call == Case.parse(f"{LINE} law=forward-exact")
    assert attributed(verdict, wrong).case == verdict.call


def test_another_failure_of_the_call_is_another_failure() -> None:
    """A broken contract stays one even if the result is wrong as well."""

    def function(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
        y = torch.nn.functional.conv2d(x, weight, bias, *rest) + 1
        x.zero_()
        return y

    subject = TorchSubject("writes", function)
    verdict = LAWS["contract"](subject, Case.parse(LINE))
    assert verdict.message == "changed its input, or memory next to it"
    assert attributed(verdict, subject) is verdict


def test_a_run_reports_the_call() -> None:
    """In a run, the result of a law has the failure of the call, and the search has the failure of the law."""

    def function(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
        y = torch.nn.functional.conv2d(x, weight, bias, *rest)
        return y + 1 if rest[3] > 1 else y

    bench = Bench([TorchSubject("mine", function)], [LAWS["forward-exact"], LAWS["groups"]], examples=40)
    own, found = (bench.result(step) for step in bench.steps)
    assert found.law == "groups"
    assert found.failure is not None
    assert own.failure is not None
    assert found.failure.case == own.failure.case
    assert found.message == found.failure.message == f"{own.message} (found by groups)"


def test_a_known_call_is_known_to_every_law() -> None:
    """An entry for the wrong call matches the failure of a law that makes this call, and is adopted only once."""

    def function(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
        y = torch.nn.functional.conv2d(x, weight, bias, *rest)
        return y + 1 if rest[3] == 1 else y

    subject = TorchSubject("mine", function)
    verdict = LAWS["groups"](subject, Case.parse(LINE))
    assert verdict.call is not None
    assert (verdict.case.law, verdict.call.law) == ("groups", "forward-exact")
    entry = Entry("one", ("mine",), ("forward-exact",), Condition("groups == 1"), verdict.call, "Made up.")
    assert KnownFailures((entry,)).match("mine", verdict) is entry
    assert KnownFailures((entry,)).match("mine", verdict.replace(call=None)) is None
    bench = Bench([subject], [LAWS["forward-exact"], LAWS["dilation"]], examples=10)
    adopted = KnownFailures().adopt([bench.result(step) for step in bench.steps], "2030-01-02")
    assert [entry.laws for entry in adopted.entries] == [("forward-exact",)]


def test_a_verdict_without_a_call_is_returned() -> None:
    """Passing verdicts and those on the law's only call stay as they are."""
    case = Case.parse(f"{LINE} law=forward-exact")
    for verdict in (
        Verdict(Status.FAIL, case),
        Verdict(Status.PASS, case, call=case.replace(seed=1)),
        Verdict(Status.FAIL, case, call=case),
    ):
        assert attributed(verdict, WRONG) is verdict
