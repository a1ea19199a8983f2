"""The search finds planted faults, shrinks them, and says neither too much nor too little of what it found."""

from __future__ import annotations

import importlib
import math
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.running import search
from toeplitz_core import conv2d
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.conditions import Condition
from toeplitz_core.testing.findings.entry import Entry
from toeplitz_core.testing.findings.known import KnownFailures
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.search.search import LawError
from toeplitz_core.testing.search.tally import PROVEN_SHARE, SHRINKING_TIMEOUTS, Tally, merged
from toeplitz_core.testing.subjects import TorchSubject

EXACT = LAWS["forward-exact"]
STEP = Step("planted", "made-up", "float32", "cpu")


def hunt(function: Callable[..., torch.Tensor], *, law: Law = EXACT, examples: int = 100, **options: object) -> Result:
    """Search under the gate's settings, in float32 unless the options say otherwise."""
    options = {"dtype": "float32", "examples": examples} | options
    return search(law, TorchSubject("planted", function), **options)


def law_of(check: Callable[[Case], Status], name: str = "made-up") -> Law:
    """A law that needs no implementation: the status of each case is what the function says."""
    return Law(name, "Made up.", "Nothing.", lambda _, case: Verdict(check(case), case), EXACT.recipes, EXACT.dtypes)


def ignores_dilation(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """Reads neighbouring pixels, dilated or not, and crops to the shape that is expected."""
    size = conv2d(x, w, b, stride, padding, dilation, groups).shape
    y = conv2d(x, w, b, stride, padding, 1, groups)
    return y[..., : size[-2], : size[-1]]


def swaps_strides(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """Strides along H by what is meant for W."""
    return conv2d(x, w, b, stride[::-1], padding, dilation, groups)


def drops_last_channel(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """Leaves the last output channel zero where the number of channels is no multiple of a vector of eight."""
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    if w.shape[0] % 8:
        y.narrow(-3, w.shape[0] - 1, 1).zero_()
    return y


def pads_with_ones(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """Pads with ones where padding is given as numbers."""
    if isinstance(padding, str):
        return conv2d(x, w, b, stride, padding, dilation, groups)
    h, v = padding
    padded = torch.ones(*x.shape[:-2], x.shape[-2] + 2 * h, x.shape[-1] + 2 * v, dtype=x.dtype)
    padded[..., h : h + x.shape[-2], v : v + x.shape[-1]] = x
    return conv2d(padded, w, b, stride, 0, dilation, groups)


def returns_float64(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """Returns the right numbers in another dtype."""
    return conv2d(x, w, b, stride, padding, dilation, groups).double()


def writes_to_its_input(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """Zeroes its operands, and returns what is right for those."""
    for operand in (x, w):
        operand.zero_()
    return conv2d(x, w, b, stride, padding, dilation, groups)


def raises_when_grouped(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """Refuses groups as no implementation may that claims to support them."""
    if groups > 1:
        raise ValueError("no groups here")
    return conv2d(x, w, b, stride, padding, dilation, groups)


def exits_when_grouped(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """Ends the process, as a success, where there are groups."""
    if groups > 1:
        raise SystemExit(0)
    return conv2d(x, w, b, stride, padding, dilation, groups)


# Each fault, what must hold of its smallest case, the most numbers in that case, and what the message says.
FAULTS: dict[Callable[..., torch.Tensor], tuple[Callable[[Case], bool], int, str]] = {
    ignores_dilation: (lambda c: max(c.dilation) > 1 and c.groups == 1 and max(c.stride) == 1, 12, "but should be"),
    swaps_strides: (lambda c: c.stride[0] != c.stride[1] and max(c.weight) == 1, 6, "returned shape"),
    drops_last_channel: (lambda c: c.weight == (1, 1, 1, 1) and c.input == (1, 1, 1, 1), 2, "but should be"),
    pads_with_ones: (lambda c: sorted(c.padding) == [0, 1] and c.weight[:2] == (1, 1), 4, "but should be"),
    returns_float64: (lambda c: c.weight == (1, 1, 1, 1), 2, "returned dtype torch.float64, not torch.float32"),
    writes_to_its_input: (lambda c: c.weight == (1, 1, 1, 1), 2, "but should be"),
    raises_when_grouped: (lambda c: c.groups == 2 and c.weight == (2, 1, 1, 1), 4, "raised ValueError: no groups here"),
    exits_when_grouped: (lambda c: c.groups == 2 and c.weight == (2, 1, 1, 1), 4, "raised SystemExit: 0"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_finds_and_shrinks(fault: Callable[..., torch.Tensor]):
    """Each planted fault is found within a hundred examples, and its smallest case shows that fault and no more."""
    condition, most, said = FAULTS[fault]
    result = hunt(fault)
    assert result.status is Status.FAIL
    assert result.failure is not None
    case = result.failure.case
    assert condition(case), case
    assert math.prod(case.input) + math.prod(case.weight) <= most, case
    assert said in result.message
    assert (case.bias, case.layouts, case.seed, case.law) == (False, (), case.seed, "forward-exact")
    # The line alone is enough to see it again.
    again = EXACT(TorchSubject("planted", fault), Case.parse(str(case)))
    assert again.status is Status.FAIL


def test_right_implementation_passes():
    """The matrix itself passes every example; each is counted, and the largest error is one that was allowed."""
    result = hunt(conv2d, law=LAWS["forward-bound"], examples=60)
    assert result.status is Status.PASS
    assert result.failure is None
    assert result.cases == result.counts[Status.PASS] == 60
    assert result.max_ratio is not None
    assert 0 < result.max_ratio <= 1
    assert hunt(conv2d, examples=5).max_ratio is None


def test_shrinking_is_not_counted():
    """The counts end with the first failure: what is tried while shrinking is no case of its own."""
    called = []

    def check(case: Case) -> Status:
        called.append(case)
        return Status.FAIL if case.groups > 1 else Status.PASS

    result = hunt(conv2d, law=law_of(check))
    first = next(number for number, case in enumerate(called, start=1) if case.groups > 1)
    assert result.counts == {Status.PASS: first - 1, Status.FAIL: 1}
    assert len(called) > first


@pytest.mark.parametrize("status", [Status.UNSUPPORTED, Status.MISTRUSTED])
def test_nothing_proven_is_no_pass(status: Status):
    """A law most of whose cases are refused, or could prove nothing, ends as that; with fewer of them it passes."""
    for proven, expected in ((40, status), (100 * PROVEN_SHARE, status), (60, Status.PASS)):
        judged: list[Case] = []

        def check(case: Case, *, judged: list[Case] = judged, proven: float = proven) -> Status:
            judged.append(case)
            return Status.PASS if len(judged) <= proven else status

        result = hunt(conv2d, law=law_of(check))
        assert result.cases == 100
        assert result.status is expected
        shortage = f"nothing proven: only {proven:.0f} of 100 cases could be judged"
        assert result.message == ("" if expected is Status.PASS else shortage)


def test_refusal_is_no_failure():
    """``NotImplementedError`` is unsupported, and an implementation that raises nothing else has proven nothing."""

    def refuses(*_: object) -> torch.Tensor:
        raise NotImplementedError("some day")

    result = hunt(refuses, examples=20)
    assert result.status is Status.UNSUPPORTED
    assert result.counts == {Status.UNSUPPORTED: 20}
    assert result.message == result.refused == "NotImplementedError: some day"


def test_a_law_that_passes_says_why_cases_were_refused():
    """The reason of a refusal is kept where the others were judged, also by rounds of which only one had any."""

    def refuses_groups(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001, ANN202  # F.conv2d's signature
        if groups > 1:
            raise NotImplementedError("no groups")
        return conv2d(x, w, b, stride, padding, dilation, groups)

    result = hunt(refuses_groups)
    assert result.status is Status.PASS
    assert 0 < result.counts[Status.UNSUPPORTED] < result.cases
    assert (result.message, result.refused) == ("", "NotImplementedError: no groups")
    assert merged([result, hunt(conv2d, examples=5)]).refused == result.refused
    assert hunt(conv2d, examples=5).refused == ""


def test_dtype_that_the_law_is_not_for():
    """A law that makes no sense for a dtype is not searched, and is no pass."""
    result = hunt(conv2d, law=LAWS["forward-bound"], dtype="int64")
    assert result.status is Status.UNSUPPORTED
    assert result.cases == 0
    assert "forward-bound is not for int64" in result.message


def seen(law: str = "made-up", dtype: str = "float32", **options: object) -> list[Case]:
    """The cases of a search, without what names the law or dtype."""
    cases: list[Case] = []

    def check(case: Case) -> Status:
        cases.append(case.replace(law=None, dtype="float32", data="integers"))
        return Status.PASS

    hunt(conv2d, law=law_of(check, law), dtype=dtype, examples=40, **options)
    return cases


def test_gate_is_deterministic():
    """The gate's search gives the same cases and the same result each time."""
    assert seen() == seen()
    assert hunt(pads_with_ones) == hunt(pads_with_ones)


def test_seed_decides_the_cases():
    """The same seed gives the same cases, with any profile's settings; another seed gives others."""
    assert seen(seed=5) == seen(seed=5)
    assert seen(seed=5, profile="smoke") == seen(seed=5)
    # Every search begins with the simplest case.
    assert len(set(seen(seed=5)) & set(seen(seed=6))) <= 2


@pytest.mark.parametrize("chosen", [0, 5])
def test_laws_and_dtypes_have_their_own_cases(chosen: int):
    """Each law and each dtype is searched on cases of its own, in the gate as with a seed."""
    streams = [seen(law, dtype, seed=chosen) for law in ("made-up", "other") for dtype in ("float32", "float64")]
    for number, stream in enumerate(streams):
        for other in streams[:number]:
            assert len(set(stream) & set(other)) <= 2


def test_flaky_failure_is_reported():
    """An implementation that fails in every third call fails, and no error of Hypothesis says so instead."""
    calls = []

    def flaky(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001, ANN202  # F.conv2d's signature
        calls.append(x)
        y = conv2d(x, w, b, stride, padding, dilation, groups)
        return y + 1 if len(calls) % 3 == 0 else y

    # Whatever call of three the search ends with.
    for skipped in range(3):
        calls[:] = [torch.zeros(())] * skipped
        result = hunt(flaky)
        assert result.status is Status.FAIL
        assert result.failure is not None
        assert result.failure.message == result.message


def test_failure_that_never_comes_again_is_reported():
    """A failure in one call of all is kept with its case, and is said not to repeat."""
    calls = []

    def once(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001, ANN202  # F.conv2d's signature
        calls.append(x)
        y = conv2d(x, w, b, stride, padding, dilation, groups)
        return y.double() if len(calls) == 20 else y

    result = hunt(once)
    assert result.status is Status.FAIL
    assert result.failure is not None
    assert "returned dtype" in result.message
    assert result.message.endswith("(fails again in 0 of 10 runs)")


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
    """Whoever gave the tally has the failure that was being shrunk when Ctrl-C came, and was told of it before."""
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
    """Ctrl-C while it is counted how often a failure comes again keeps it, and an error of the law there is ours."""
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


@pytest.mark.parametrize("after", ["nothing", "a failure"])
def test_error_in_a_law_is_our_own(after: str):
    """An error in a law is no failure of the implementation, not even where that fails as well."""

    def check(case: Case) -> Status:
        if case.geometry.kernel_size == (1, 1):
            raise ZeroDivisionError("a bug in a law")
        return Status.PASS if after == "nothing" else Status.FAIL

    with pytest.raises(LawError, match="law made-up could not judge subject planted on") as caught:
        hunt(conv2d, law=law_of(check))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.case.geometry.kernel_size == (1, 1)
    assert caught.value.case.law == "made-up"
    assert str(caught.value.case) in str(caught.value)


def test_error_in_a_law_ends_the_search():
    """An error in a law is raised at the first case that shows it, and not searched on for smaller ones."""
    calls = []

    def check(case: Case) -> Status:
        calls.append(case)
        raise ZeroDivisionError

    with pytest.raises(LawError):
        hunt(conv2d, law=law_of(check))
    assert len(calls) == 1


def test_imported_modules_do_not_change_the_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The same seed gives the same cases, whatever numbers stand in modules that happen to be imported."""

    def drawn() -> list[Case]:
        cases: list[Case] = []
        hunt(conv2d, law=law_of(lambda case: cases.append(case) or Status.PASS), examples=60, seed=1)
        return cases

    before = drawn()
    (tmp_path / "somebodys.py").write_text(f"numbers = {list(range(2000, 60000, 97))}", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "somebodys", importlib.import_module("somebodys"))
    assert drawn() == before


def test_law_error_travels():
    """An error of a law survives the way from one process to another."""
    error = LawError("forward-exact", "torch", Case.parse("input=1x1x1x1 weight=1x1x1x1"))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.case) == (str(error), error.case)


def test_a_known_failure_of_infinite_error_is_no_target():
    """The search goes on past a listed failure whose error is infinite."""

    def infinite(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001, ANN202  # F.conv2d's signature
        y = conv2d(x, w, b, stride, padding, dilation, groups)
        return torch.full_like(y, torch.inf) if groups > 1 else y

    example = "input=1x2x1x1 weight=2x1x1x1 groups=2 data=normal"
    entry = Entry("listed", ("planted",), ("forward-bound",), Condition("groups > 1"), Case.parse(example), "Infinite.")
    result = search(
        LAWS["forward-bound"],
        TorchSubject("planted", infinite),
        dtype="float32",
        examples=40,
        known=KnownFailures((entry,)),
    )
    assert result.status is Status.KNOWN
    assert result.counts[Status.KNOWN]
    assert result.max_ratio is not None
    assert result.max_ratio <= 1


def test_a_hang_is_shrunk_in_few_calls():
    """A call that does not return takes the whole timeout each time: it is shrunk in few of them, and not confirmed."""
    calls: list[Case] = []

    def check(case: Case) -> Status:
        calls.append(case)
        return Status.TIMEOUT if case.geometry.out_channels > 2 else Status.PASS

    result = hunt(conv2d, law=law_of(check))
    assert result.status is Status.TIMEOUT
    assert result.failure is not None
    assert sum(case.geometry.out_channels > 2 for case in calls) <= SHRINKING_TIMEOUTS
    assert "runs)" not in result.message
    assert result.failure.message.endswith("(not shrunk to the end, which would take the timeout for each call)")


def test_a_third_refused_of_few_cases_is_no_gap():
    """Of a dozen cases a quarter has to prove something; of a hundred, more than half."""
    for examples, expected in ((12, Status.PASS), (100, Status.UNSUPPORTED)):
        judged: list[Case] = []

        def check(case: Case, *, judged: list[Case] = judged) -> Status:
            judged.append(case)
            return Status.UNSUPPORTED if len(judged) % 2 else Status.PASS

        assert hunt(conv2d, law=law_of(check), examples=examples).status is expected


@pytest.mark.parametrize("law", [law for law in LAWS.values() if "float32" in law.dtypes], ids=lambda law: law.name)
def test_gradients_of_any_strides_are_tried_where_a_law_reads_one(law: Law) -> None:
    """Cases of laws that read a gradient of the result name its layout in some cases, and those of others never."""
    seen: list[str | None] = []

    def check(_: object, case: object) -> Verdict:
        seen.append(case.layout("grad") if isinstance(case, Case) else None)
        return Verdict(Status.PASS, case)

    hunt(conv2d, law=replace(law, check=check), examples=40)
    reads = law.procedure in ("gradients", "double_backward", "functional_gradients", "vmap", "transposed")
    assert len(set(seen)) > 3 if reads else set(seen) == {None}
