"""The operands and layouts that relations pass to the subject."""

from __future__ import annotations

import pytest
import torch

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws import LAWS
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
