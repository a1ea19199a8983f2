"""The operands and layouts that relations pass to the subject."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from toeplitz_core.products import forward
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws import LAWS, relation
from toeplitz_core.testing.laws.relation import Convolution, Relation
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.subjects import TorchSubject, resolve
from toeplitz_core.testing.subjects.interface import Procedure
from toeplitz_core.testing.subjects.outcome import Outcome

RELATIONS = [name for name, law in LAWS.items() if isinstance(law.check, Relation)]


class Recorder(TorchSubject):
    """The package's own convolution, which records its calls."""

    def __init__(self) -> None:
        super().__init__("recorder", resolve("toeplitz").function)
        self.calls: list[tuple[Case, Operands]] = []

    def run(self, case: Case, operands: Operands, procedure: Procedure = "forward") -> Outcome:
        self.calls.append((case, operands))
        return super().run(case, operands, procedure)


@pytest.mark.parametrize("law", RELATIONS)
def test_a_relation_keeps_the_layouts_of_its_case(law: str) -> None:
    """Every call of a relation uses the layouts of the case, if the operands of the call allow them."""
    line = "input=2x4x7x6 weight=4x2x3x2 stride=1x2 padding=1 dilation=2x1 groups=2 bias layout=channels_last"
    subject, case = Recorder(), Case.parse(f"{line} layout.bias=sliced")
    assert LAWS[law](subject, case).status is Status.PASS
    for called, operands in subject.calls if law != "strides" else ():
        wanted = {"bias": "sliced"} if operands.bias is not None else {"bias": None}
        wanted |= {"input": "channels_last" if operands.input.ndim == 4 else None, "weight": "channels_last"}
        assert {name: called.layout(name) for name in wanted} == wanted
    assert any(operands.bias is not None for _, operands in subject.calls)


def test_a_layout_changes_no_numbers() -> None:
    """An operand keeps the layout ``expanded`` only if its values still repeat."""
    line = "input=2x1x3x3 weight=2x1x2x2 layout.input=expanded layout.weight=expanded seed=3"
    subject, case = Recorder(), Case.parse(line)
    c = Convolution(subject, case)
    x, weight = draw(case).input, torch.arange(8.0).view(2, 1, 2, 2)
    found = c.of(-x, weight)
    called, operands = subject.calls[-1]
    assert dict(called.layouts) == {"input": "expanded"}
    assert torch.equal(operands.weight, weight)
    assert torch.equal(found, torch.nn.functional.conv2d(-x.double(), weight.double()))


WIDE = "input=2x4x7x6 weight=4x2x3x2 stride=1x2 padding=1 dilation=2x1 groups=2 bias"


@pytest.mark.parametrize("law", RELATIONS)
def test_a_relation_names_the_wrong_call_and_value(law: str) -> None:
    """If a result is wrong, the message has its value, the right value and the parameters of the call."""

    def wrong(*args: Any) -> torch.Tensor:
        return torch.nn.functional.conv2d(*args) + 1

    verdict = LAWS[law](TorchSubject("wrong", wrong), Case.parse(WIDE))
    assert verdict.status is Status.FAIL
    assert verdict.actual == verdict.expected + 1
    assert verdict.call is not None
    assert verdict.call.law == "forward-exact"
    parameters = str(verdict.call.replace(law=None))
    index = ", ".join(map(str, verdict.index or ()))
    said = f"out[{index}]={verdict.actual:.9g}, but should be {verdict.expected:.9g} ("
    assert verdict.message.startswith(said)
    assert verdict.message.endswith(f": in the law's call 1, {parameters}")


@pytest.mark.parametrize("returned", ["a shape", "nothing"])
def test_a_relation_names_a_call_without_a_result(returned: str) -> None:
    """A later call with a wrong shape, or with an exception, is named too."""

    def wrong(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *rest: Any) -> torch.Tensor:
        y = torch.nn.functional.conv2d(x, weight, bias, *rest)
        if rest[3] == 1:
            return y
        if returned == "nothing":
            raise ValueError("no groups")
        return y[..., :1]

    verdict = LAWS["groups"](TorchSubject("wrong", wrong), Case.parse(WIDE))
    message = (
        "raised ValueError: no groups" if returned == "nothing" else "returned shape (2, 4, 5, 1), not (2, 4, 5, 4)"
    )
    assert verdict.message == f"{message}: in the law's call 2, {WIDE}"


def _last_bit(values: torch.Tensor) -> torch.Tensor:
    """The values, off by their last bit where they are too large for it to be a whole number."""
    return torch.where(values.abs() > 2**24, torch.nextafter(values, values * 2), values)


def test_a_relation_of_right_results_can_be_broken() -> None:
    """Results that each lie within their bound break a relation if they contradict each other."""
    subject = TorchSubject("last bit", lambda *args: _last_bit(torch.nn.functional.conv2d(*args)))
    line = "input=1x1x1x2 weight=1x1x1x2 bias seed={}"
    cases = (Case.parse(line.format(seed)) for seed in range(100))
    case = next(c for c in cases if Convolution(subject, c).result().abs() > 2**23)
    assert LAWS["forward-exact"](subject, case).status is Status.PASS
    verdict = LAWS["homogeneous"](subject, case)
    assert verdict.status is Status.FAIL
    assert verdict.message.startswith("each result is right, but ")
    assert verdict.message.endswith(" must be equal at [0, 0, 0, 0, 0] (2 of 2 elements)")
    assert verdict.call is None


def test_a_sum_that_the_case_does_not_have_may_be_rounded() -> None:
    """A call with larger sums than the case has may round those that the relation does not read."""
    line = "input=1x1x1x1 weight=1x1x1x1 stride=2x1 padding=1x0 dilation=2x1 bias dtype=complex64 seed=152"
    verdict = LAWS["stride"](TorchSubject("torch", torch.nn.functional.conv2d), Case.parse(line))
    assert verdict.status is not Status.FAIL, verdict.message


def test_the_exact_result_of_a_call_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that differ only in strides share the exact result, and right results need no bound."""
    calls = []
    monkeypatch.setattr(relation, "forward", lambda *args: calls.append(args) or forward(*args))
    monkeypatch.setattr(relation, "expected", None)
    assert LAWS["strides"](Recorder(), Case.parse(WIDE)).status is Status.PASS
    assert len(calls) == 1
