"""The suite finds every planted fault except the listed ones, and passes every correct implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from tests.faults import CORRECT, FAULTS, Fault
from tests.faults.convolution import implementation
from tests.helpers.running import search, share
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.isolation import isolated_subject as isolation_module
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.search.effort import PROFILES
from toeplitz_core.testing.subjects import TorchSubject, resolve
from toeplitz_core.testing.subjects.interface import Implementation

GATE = PROFILES["gate"]
KILLED = [fault for fault in FAULTS if fault.killed_by is not None]
MISSED = [fault for fault in FAULTS if fault.killed_by is None]
# Cases per law and dtype that a correct implementation must pass here.
CORRECT_EXAMPLES = 15
# Seconds after which a call counts as hanging, and extra seconds for the first call of a worker.
HANG, FIRST = 1.0, 0.5
STATUSES = {"segfault": Status.CRASH, "abort": Status.CRASH, "hang": Status.TIMEOUT}


@pytest.fixture(scope="module")
def isolation() -> Iterator[Sandbox]:
    """Processes for the faults that end their process or keep state in it."""
    with Sandbox() as processes:
        yield processes


@pytest.fixture(scope="module")
def impatient() -> Iterator[Sandbox]:
    """Processes with a short timeout, for faults that do not return."""
    with Sandbox(timeout=HANG) as processes:
        yield processes


def as_subject(fault: Fault, isolation: Sandbox) -> Implementation:
    """The fault as a subject, in a separate process if it needs one."""
    return IsolatedSubject(isolation, fault.path) if fault.isolated else resolve(fault.path)


@pytest.mark.parametrize("fault", [f for f in KILLED if f.name != "hang"], ids=lambda fault: fault.name)
def test_killed(fault: Fault, isolation: Sandbox, record_property: Callable[[str, object], None]):
    """One law finds the fault with the gate's number of cases, and the shrunk case fails again."""
    law, subject = LAWS[str(fault.killed_by)], as_subject(fault, isolation)
    cases = 0
    for dtype in (fault.dtype, *fault.dtypes):
        result = search(law, subject, dtype=dtype)
        cases += result.cases
        if result.failure is not None:
            break
    assert result.status is STATUSES.get(fault.name, Status.FAIL), f"missed in {cases} cases"
    assert result.failure is not None
    record_property("cases", cases)
    record_property("case", str(result.failure.case))
    assert 1 <= result.cases <= GATE.examples
    assert law(subject, Case.parse(str(result.failure.case))).status is result.status


def test_hang_is_killed(impatient: Sandbox, monkeypatch: pytest.MonkeyPatch):
    """A call that does not return is found. It is not shrunk here, because each hang takes the whole timeout."""
    monkeypatch.setattr(isolation_module, "FIRST_CALL", FIRST)
    (fault,) = (fault for fault in KILLED if fault.name == "hang")
    law, subject = LAWS[str(fault.killed_by)], IsolatedSubject(impatient, fault.path)
    result = search(law, subject, dtype=fault.dtype, sweep=2)
    assert result.status is Status.TIMEOUT, f"missed in {result.cases} cases"
    assert result.failure is not None
    assert law(subject, Case.parse(str(result.failure.case))).status is Status.TIMEOUT


@pytest.mark.parametrize("fault", MISSED, ids=lambda fault: fault.name)
def test_still_missed(fault: Fault, isolation: Sandbox):
    """No law finds a fault that the table lists as missed; if one does, the table must change."""
    assert fault.reason
    for law in LAWS.values():
        if fault.dtype in law.dtypes:
            result = search(law, as_subject(fault, isolation), dtype=fault.dtype)
            assert not result.status.is_failure, f"{law.name} finds it now: {result.failure}"


OF_ONE_CALL = ("forward-exact", "forward-bound", "special-values", "contract")
# Laws that prove nothing in this process.
IN_WORKERS = ("stale-memory", "in-bounds")
# A plain callable does not claim to check its arguments.
CLAIMED = [name for name, law in LAWS.items() if law.procedure != "argument_checks"]


@pytest.mark.parametrize("law", CLAIMED)
@pytest.mark.parametrize("path", CORRECT, ids=lambda path: path.partition(":")[2])
def test_correct_passes(path: str, law: str):
    """An unusual but correct implementation passes every law.

    Only the laws of one call take every dtype. The others take a sixth of them, and the next implementation the next
    sixth: there are six.
    """
    subject = resolve(path)
    proven = False
    dtypes = LAWS[law].dtypes
    for dtype in dtypes if law in OF_ONE_CALL else dtypes[CORRECT.index(path) :: len(CORRECT)]:
        examples = share(LAWS[law], CORRECT_EXAMPLES)
        result = search(LAWS[law], subject, dtype=dtype, examples=examples)
        assert not result.status.is_failure, result.message
        assert result.cases >= examples or result.status is Status.UNSUPPORTED
        proven |= result.status is Status.PASS
    assert proven or LAWS[law].procedure not in ("forward", "contract") or law in IN_WORKERS


def test_a_compensated_sum_is_rounded_again_with_the_padding():
    """A compensated sum may exceed the bound of a plain sum, and stays within the bound that it declares."""
    line = "input=3x16x9x15 weight=16x1x3x1 padding=same dilation=3x1 groups=16 data=normal seed=1"
    subject, case = resolve("tests.faults.correct:compensated"), Case.parse(line)
    assert LAWS["forward-bound"](subject, case).ratio == pytest.approx(0.503, abs=0.001)
    undeclared = TorchSubject("undeclared", subject.function)
    assert LAWS["forward-bound"](undeclared, case).ratio == pytest.approx(1.005, abs=0.001)


@pytest.mark.parametrize("dtype", CASE_DTYPES)
def test_right_but_for_the_fault(dtype: str):
    """The code that all planted faults share is right: without a fault it passes every law."""
    subject = TorchSubject("none", implementation(lambda c: c.value()))
    for law in map(LAWS.__getitem__, CLAIMED):
        if dtype in law.dtypes:
            result = search(law, subject, dtype=dtype, examples=share(law, 10))
            assert result.status is Status.PASS or not (result.status.is_failure or result.nothing_proven)


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.name not in STATUSES], ids=lambda fault: fault.name)
@pytest.mark.parametrize("dtype", CASE_DTYPES)
def test_takes_every_call(fault: Fault, dtype: str):
    """Every fault accepts every valid call and returns the right shape and dtype; only its values are wrong."""
    for line in (
        "input=1x6x5x4 weight=4x3x2x3 stride=2x1 padding=2x1 groups=2 bias",
        "input=3x4x6 weight=3x3x2x2 padding=same dilation=1x3",
        "input=17x1x4x4 weight=2x1x4x3 padding=valid bias layout.bias=expanded layout.input=expanded",
        "input=0x2x3x3 weight=2x2x1x1 stride=4 padding=3",
        "input=1x2x1x1 weight=3x2x2x2 padding=1 layout.weight=channel_slice",
    ):
        case = Case.parse(f"{line} dtype={dtype}")
        outcome = resolve(fault.path).run(case, draw(case))
        assert outcome.status == "returned", outcome.message
        assert isinstance(outcome.output, torch.Tensor)
        assert tuple(outcome.output.shape) == case.output_shape
        assert outcome.output.dtype == case.torch_dtype


def test_names_are_unique():
    """Every fault has a unique name and a sentence, and a reason exactly if it is missed."""
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(fault.breaks.endswith(".") for fault in FAULTS)
    assert [fault for fault in FAULTS if bool(fault.reason) != (fault.killed_by is None)] == []
