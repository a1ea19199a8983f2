"""The law of errors: its verdict on every outcome that a call can have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import find, settings
from typer.testing import CliRunner

from tests.helpers.running import Bench, search
from toeplitz_core import conv2d
from toeplitz_core.testing import cli
from toeplitz_core.testing.case.call import Call, parse_line
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.conditions import Condition
from toeplitz_core.testing.findings.known_failures.entry import Entry
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.families.errors import definition
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.run.execution.known_upkeep import hanging, stale
from toeplitz_core.testing.search.effort import PROFILES
from toeplitz_core.testing.search.seeding import no_constants_of_modules
from toeplitz_core.testing.strategies import calls as strategy
from toeplitz_core.testing.strategies import invalid_arguments as breaks
from toeplitz_core.testing.strategies.calls import calls
from toeplitz_core.testing.subjects import Subject, TorchSubject, resolve

ERRORS = LAWS["errors"]
VALID = "call input=float32[1x1x3x3] weight=float32[1x1x2x2]"
INVALID = f"{VALID} groups=0"


def judged(line: str, function: Callable[..., Any]) -> Verdict:
    """The verdict on a call of a function in this process."""
    return ERRORS(TorchSubject("mine", function, checks_arguments=True), Call.parse(line))


def raising(error: BaseException) -> Callable[..., Any]:
    """A function that raises an error."""

    def conv(*_: Any, **__: Any) -> torch.Tensor:
        raise error

    return conv


def altered(change: Callable[[torch.Tensor], Any]) -> Callable[..., Any]:
    """The convolution with its result changed."""
    return lambda *args, **kwargs: change(conv2d(*args, **kwargs))


@pytest.mark.parametrize(
    ("line", "function", "status", "said"),
    [
        (VALID, conv2d, Status.PASS, ""),
        (INVALID, conv2d, Status.PASS, ""),
        (f"{VALID}@meta", conv2d, Status.PASS, ""),
        (VALID, raising(ValueError("no")), Status.FAIL, "refused, but it is valid: ValueError: no"),
        (VALID, raising(NotImplementedError("later")), Status.UNSUPPORTED, "NotImplementedError: later"),
        (INVALID, raising(NotImplementedError("later")), Status.PASS, ""),
        (INVALID, raising(MemoryError()), Status.PASS, ""),
        (INVALID, raising(AssertionError()), Status.PASS, ""),
        (INVALID, raising(KeyError("groups")), Status.PASS, ""),
        (INVALID, raising(RuntimeError("INTERNAL ASSERT FAILED at y")), Status.FAIL, "refused by an internal assert"),
        (INVALID, raising(SystemExit(0)), Status.FAIL, "raised SystemExit: 0"),
        (INVALID, lambda *_, **__: torch.zeros(1, 1, 2, 2), Status.FAIL, "accepted, but it is invalid: groups=0 must"),
        (INVALID, lambda *_, **__: None, Status.FAIL, "returned NoneType, not a torch.Tensor"),
        (VALID, lambda *_, **__: None, Status.FAIL, "returned NoneType, not a torch.Tensor"),
        (VALID, altered(lambda y: y[0]), Status.FAIL, "returned shape (1, 2, 2), not (1, 1, 2, 2)"),
        (VALID, altered(lambda y: y.double()), Status.FAIL, "returned dtype torch.float64, not torch.float32"),
        (VALID, altered(lambda y: y.to("meta")), Status.FAIL, "returned a result on meta, not on cpu"),
        (VALID, altered(lambda y: y + 1), Status.FAIL, "out[0, 0, 0, 0]="),
        (VALID, altered(lambda y: y * float("nan")), Status.FAIL, "out[0, 0, 0, 0]=nan, but should be "),
        (VALID, altered(lambda y: y + 0.25), Status.PASS, ""),  # left to other laws
        (f"call input=float32[0x1x3x3] weight=float32[1x1x2x2] padding=({2**50},0)",
         lambda *_, **__: torch.zeros(0, 1, 2**51 + 2, 2), Status.PASS, ""),
    ],
)  # fmt: skip
def test_each_outcome_has_its_verdict(line: str, function: Callable[..., Any], status: Status, said: str):
    """A valid call must return the definition's result, and an invalid call must raise an exception."""
    verdict = judged(line, function)
    assert verdict.status is status, verdict.message
    assert verdict.message.startswith(said)


def test_a_convolution_that_transforms_is_not_blamed():
    """A result that is right up to rounding passes; another law bounds the rounding."""
    line = f"{VALID} stride=(1,1)"
    assert judged(line, altered(lambda y: y * (1 + 2**-12))).status is Status.PASS


def test_calls_for_a_gpu_are_defined_on_the_cpu():
    """Operands on the GPU are moved to the CPU, and others to meta, so that their devices still differ."""
    there = "call input=float32[1x1x3x3]@cuda weight=float32[1x1x2x2]@cuda"
    assert definition(Call.parse(there)).accepted
    beside = definition(Call.parse(f"{there} bias=float32[1]"))
    assert (beside.error, beside.message) == (ValueError, "bias is on device meta, but must be on weight's device, cpu")
    assert not definition(Call.parse(there.replace("@cuda weight", "@cuda:1 weight"))).accepted


def test_what_makes_no_claim_is_not_held_to_it():
    """The law judges only subjects that claim to check their arguments."""
    plain = search(ERRORS, TorchSubject("plain", conv2d), dtype="float32", profile="smoke")
    assert plain.status is Status.PASS, "asked directly, it is judged by the law"
    assert "argument_checks" not in TorchSubject("plain", conv2d).claims.procedures

    class Own(Subject):
        name = "own"

        def forward(self, case: Any, operands: Any) -> torch.Tensor:  # noqa: ARG002  # as every subject
            raise AssertionError("it is not called")

    for line in (VALID, INVALID):
        assert ERRORS(Own(), Call.parse(line)).status is Status.UNSUPPORTED


def changing(change: Callable[[torch.Tensor], Any], error: Exception) -> Callable[..., Any]:
    """A function that changes its weight and raises."""

    def conv(_: torch.Tensor, weight: torch.Tensor, *__: Any, **___: Any) -> torch.Tensor:
        change(weight)
        raise error

    return conv


@pytest.mark.parametrize("line", [VALID, INVALID, f"{INVALID} bias=None stride=torch.tensor(1)"])
@pytest.mark.parametrize("error", [ValueError("no"), NotImplementedError("later")])
@pytest.mark.parametrize(
    "change",
    [
        lambda weight: weight.zero_(),
        lambda weight: weight.copy_(torch.where(weight == 0, -0.0, weight)),  # equal values, other bits
        lambda weight: weight.squeeze_(0),
        lambda weight: weight.transpose_(2, 3),
        lambda weight: setattr(weight, "data", weight.double()),
    ],
)
def test_a_refused_call_leaves_its_operands_alone(line: str, error: Exception, change: Callable[[torch.Tensor], Any]):
    """After a refused call, the operands have the same bits, shape, strides and dtype as before."""
    verdict = judged(line, changing(change, error))
    said = f"changed its weight, though it refused the call: {type(error).__name__}: {error}"
    assert (verdict.status, verdict.message) == (Status.FAIL, said)


def test_operands_on_meta_and_objects_that_are_no_tensors_cannot_be_changed():
    """A refusal counts for operands without values too; a changed shape of a tensor on meta is still noticed."""
    for line in (f"{INVALID} bias=numpy.array([1.0])", f"{VALID}@meta groups=0", "call input=None weight=1"):
        assert judged(line, raising(ValueError("no"))).status is Status.PASS
    verdict = judged(f"{VALID}@meta groups=0", changing(lambda w: w.squeeze_(0), ValueError("no")))
    assert verdict.message == "changed its weight, though it refused the call: ValueError: no"


def test_every_way_to_break_a_call_comes_in_a_gate(monkeypatch: pytest.MonkeyPatch):
    """The gate's cases cover all ways to break a call, and no way has more than a tenth of the cases."""
    drawn: Counter[str] = Counter()
    monkeypatch.setattr(strategy, "event", lambda said: drawn.update([said.removeprefix("call: ")]))
    law = replace(ERRORS, check=lambda _, call: Verdict(Status.PASS, call))
    cases = sum(search(law, resolve("toeplitz"), dtype=dtype).cases for dtype in law.dtypes)
    assert drawn.keys() == {*breaks.BREAKS, "valid"}
    assert max(drawn[name] for name in breaks.BREAKS) <= cases / 10


@pytest.mark.parametrize(
    ("said", "simplest"),
    [
        ("stride=1.0", "stride=1.0"),
        ("groups=True", "groups=True"),
        ("numpy.int64", "stride=numpy.int64(1)"),
        (str(2**63), f"stride={2**63}"),
    ],
)
def test_a_broken_call_shrinks_to_what_breaks_it(said: str, simplest: str):
    """The smallest call with one broken argument has operands of one element and at most one other argument."""
    with no_constants_of_modules():
        found = find(
            calls(), lambda call: said in str(call), settings=settings(PROFILES["gate"].settings(), max_examples=3000)
        )
    words = str(found).split()
    assert words[:3] == ["call", "input=float32[1x1x1x1]", "weight=float32[1x1x1x1]"]
    assert simplest in words
    assert len(words) <= 5


def test_in_a_worker():
    """A result on meta, a refusal and a crash all reach the judge, which continues after each."""
    with Sandbox() as isolation:
        ours = IsolatedSubject(isolation, "toeplitz")
        meta = ours.answer(Call.parse("input=float32[1x1x3x3]@meta weight=float32[1x1x2x2]@meta"))
        assert meta.result is not None
        assert meta.result.is_meta
        assert meta.result.shape == (1, 1, 2, 2)
        refused = ours.answer(Call.parse(INVALID))
        assert (refused.status, refused.message) == ("refused", "ValueError: groups=0 must be >= 1")
        dies = IsolatedSubject(isolation, "tests.faults.arguments:aborts_without_dilation")
        assert ERRORS(dies, Call.parse(f"{VALID} dilation=0")).status is Status.CRASH
        assert ERRORS(dies, Call.parse(f"{VALID} dilation=2 padding=1")).status is Status.PASS


def test_the_worker_of_what_accepts_too_much_is_replaced():
    """A worker that accepted an invalid call is replaced, because it may have written out of bounds."""
    restarts = []
    subject = TorchSubject("mine", lambda *_, **__: torch.zeros(1, 1, 2, 2), checks_arguments=True)
    subject.restart = lambda: restarts.append(1)  # type: ignore[method-assign]
    ERRORS(subject, Call.parse(f"{VALID} stride=True"))
    assert restarts == [1]
    ERRORS(subject, Call.parse(VALID))
    assert restarts == [1]


def test_a_call_has_a_replay_form(tmp_path: Any):
    """The line that a failure prints can be replayed and shown, alone or from a file that also holds cases."""
    path = tmp_path / "cases.txt"
    path.write_text(f"{VALID}\ninput=1x1x3x3 weight=1x1x1x1 law=forward-exact # a case\n", encoding="utf-8")
    runner = CliRunner()
    result = runner.invoke(cli.app, ["replay", "--file", str(path), "--subject", "toeplitz", "--inline", "--runs", "1"])
    assert result.exit_code == 0, result.output
    assert f"PASS toeplitz, errors\n  case:   {VALID}\n" in result.output
    shown = runner.invoke(cli.app, ["show", INVALID]).output
    assert "must be   refused: ValueError: groups=0 must be >= 1\n" in shown
    assert runner.invoke(cli.app, ["replay", f"{VALID} strid=2"]).exit_code == 2


def test_a_line_says_by_its_first_word_what_it_is():
    """A line that begins with ``call`` is a call, and every other line is a case."""
    assert isinstance(parse_line(VALID), Call)
    assert isinstance(parse_line("input=1x1x3x3 weight=1x1x1x1"), Case)
    with pytest.raises(ValueError, match="law=stride must be errors for a call"):
        Call.parse(VALID).replace(law="stride")


def test_a_case_is_nothing_for_the_law_and_a_call_nothing_for_others():
    """The law of errors does not support cases."""
    case = Case.parse("input=1x1x3x3 weight=1x1x1x1")
    assert ERRORS(TorchSubject("mine", conv2d), case).status is Status.UNSUPPORTED


def test_an_adopted_call_speaks_for_itself_alone():
    """The entry that ``--write-known`` makes of a call matches that call and no other."""
    from toeplitz_core.testing.findings.known_failures.known import KnownFailures

    subject = TorchSubject("mine", lambda *_, **__: torch.zeros(1, 1, 2, 2), checks_arguments=True)
    result = search(ERRORS, subject, dtype="float32")
    (entry,) = KnownFailures().adopt([result], "today").entries
    assert isinstance(entry, Entry)
    assert entry.condition.holds(entry.example)
    assert isinstance(entry.example, Call)
    assert not entry.condition.holds(replace(entry.example, groups="7"))


def test_the_judge_searches_with_one_thread():
    """The judge uses one thread next to a worker and all threads for an inline subject, and restores the number."""
    seen: list[int] = []
    law = replace(ERRORS, check=lambda _, call: (seen.append(torch.get_num_threads()), Verdict(Status.PASS, call))[1])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Sandbox() as isolation:
            for subject in (IsolatedSubject(isolation, "toeplitz"), resolve("toeplitz")):
                Bench([subject], [law], profile="smoke", examples=1).result()
                assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 2]


def test_an_example_that_does_not_return_is_run_only_if_staleness_fails_the_run():
    """A listed hang is checked for staleness only if staleness fails the run, because the check takes a timeout."""
    ran: list[Call] = []
    law = replace(ERRORS, check=lambda _, call: (ran.append(call), Verdict(Status.PASS, call))[1])
    entry = Entry("hangs", ("toeplitz",), ("errors",), Condition("groups_numbers == (7, 7)"),
                  Call.parse(f"{VALID} groups=7"), "It hangs.", status=Status.TIMEOUT)  # fmt: skip
    known = KnownFailures((entry,))
    bench = Bench([resolve("toeplitz")], [law], profile="smoke", examples=1, known=known)
    results = [bench.result()]
    ran.clear()
    assert hanging(bench.plan) == ["hangs"]
    assert (stale(bench.plan, bench.pool, results), ran) == ([], [])
    assert [entry.why for entry in stale(bench.plan, bench.pool, results, slow=True)] == ["its example holds"]
    assert set(ran) == {entry.example}
