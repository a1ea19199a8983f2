"""The search finds planted faults, shrinks them, and reports them correctly."""

from __future__ import annotations

import importlib
import math
import pickle
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.running import EXACT, hunt, law_of, search
from toeplitz_core import conv2d
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.conditions import Condition
from toeplitz_core.testing.findings.known_failures.entry import Entry
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.search.search import LawError
from toeplitz_core.testing.subjects import TorchSubject


def ignores_dilation(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """Ignores the dilation, and crops the result to the expected shape."""
    size = conv2d(x, w, b, stride, padding, dilation, groups).shape
    y = conv2d(x, w, b, stride, padding, 1, groups)
    return y[..., : size[-2], : size[-1]]


def swaps_strides(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """Uses the stride along W for H, and vice versa."""
    return conv2d(x, w, b, stride[::-1], padding, dilation, groups)


def drops_last_channel(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """Leaves the last output channel zero if the number of channels is not a multiple of eight."""
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    if w.shape[0] % 8:
        y.narrow(-3, w.shape[0] - 1, 1).zero_()
    return y


def pads_with_ones(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """Pads with ones if the padding is given as numbers."""
    if isinstance(padding, str):
        return conv2d(x, w, b, stride, padding, dilation, groups)
    h, v = padding
    padded = torch.ones(*x.shape[:-2], x.shape[-2] + 2 * h, x.shape[-1] + 2 * v, dtype=x.dtype)
    padded[..., h : h + x.shape[-2], v : v + x.shape[-1]] = x
    return conv2d(padded, w, b, stride, 0, dilation, groups)


def returns_float64(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """Returns the right values in another dtype."""
    return conv2d(x, w, b, stride, padding, dilation, groups).double()


def writes_to_its_input(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """Sets its operands to zero and returns their result."""
    for operand in (x, w):
        operand.zero_()
    return conv2d(x, w, b, stride, padding, dilation, groups)


def raises_when_grouped(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """Raises an error for groups, which it claims to support."""
    if groups > 1:
        raise ValueError("no groups here")
    return conv2d(x, w, b, stride, padding, dilation, groups)


def exits_when_grouped(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """Exits with code 0 if there are groups."""
    if groups > 1:
        raise SystemExit(0)
    return conv2d(x, w, b, stride, padding, dilation, groups)


# For each fault: a condition on its smallest case, the largest number of elements in it, and text of the message.
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
    """Each planted fault is found within a hundred examples and shrinks to its smallest case."""
    condition, most, said = FAULTS[fault]
    result = hunt(fault)
    assert result.status is Status.FAIL
    assert result.failure is not None
    case = result.failure.case
    assert condition(case), case
    assert math.prod(case.input) + math.prod(case.weight) <= most, case
    assert said in result.message
    assert (case.bias, case.layouts, case.seed, case.law) == (False, (), case.seed, "forward-exact")
    # The line alone reproduces the failure.
    again = EXACT(TorchSubject("planted", fault), Case.parse(str(case)))
    assert again.status is Status.FAIL


def test_right_implementation_passes():
    """A right implementation passes every example; all are counted, and the largest ratio is at most 1."""
    result = hunt(conv2d, law=LAWS["forward-bound"], examples=60)
    assert result.status is Status.PASS
    assert result.failure is None
    assert result.cases == result.counts[Status.PASS] == 60
    assert result.max_ratio is not None
    assert 0 < result.max_ratio <= 1
    assert hunt(conv2d, examples=5).max_ratio is None


def test_dtype_that_the_law_is_not_for():
    """A law that does not apply to a dtype is not searched and does not pass."""
    result = hunt(conv2d, law=LAWS["forward-bound"], dtype="int64")
    assert result.status is Status.UNSUPPORTED
    assert result.cases == 0
    assert "forward-bound is not for int64" in result.message


def seen(law: str = "made-up", dtype: str = "float32", **options: object) -> list[Case]:
    """The cases of a search, with law, dtype and data made equal."""
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
    """The same seed gives the same cases in every profile; another seed gives other cases."""
    assert seen(seed=5) == seen(seed=5)
    assert seen(seed=5, profile="smoke") == seen(seed=5)
    # Every search begins with the simplest case.
    assert len(set(seen(seed=5)) & set(seen(seed=6))) <= 2


@pytest.mark.parametrize("chosen", [0, 5])
def test_laws_and_dtypes_have_their_own_cases(chosen: int):
    """Each law and each dtype has different cases, for every seed."""
    streams = [seen(law, dtype, seed=chosen) for law in ("made-up", "other") for dtype in ("float32", "float64")]
    for number, stream in enumerate(streams):
        for other in streams[:number]:
            assert len(set(stream) & set(other)) <= 2


def test_flaky_failure_is_reported():
    """A failure in every third call is reported as a failure, not as an error of Hypothesis."""
    calls = []

    def flaky(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001, ANN202  # F.conv2d's signature
        calls.append(x)
        y = conv2d(x, w, b, stride, padding, dilation, groups)
        return y + 1 if len(calls) % 3 == 0 else y

    # For each of the three calls that the search can end with.
    for skipped in range(3):
        calls[:] = [torch.zeros(())] * skipped
        result = hunt(flaky)
        assert result.status is Status.FAIL
        assert result.failure is not None
        assert result.failure.message == result.message


def test_failure_that_never_comes_again_is_reported():
    """A failure in a single call is kept with its case and reported as not repeating."""
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


@pytest.mark.parametrize("after", ["nothing", "a failure"])
def test_error_in_a_law_is_our_own(after: str):
    """An error in a law is a LawError, even if the implementation fails too."""

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
    """An error in a law ends the search at once, without shrinking."""
    calls = []

    def check(case: Case) -> Status:
        calls.append(case)
        raise ZeroDivisionError

    with pytest.raises(LawError):
        hunt(conv2d, law=law_of(check))
    assert len(calls) == 1


def test_imported_modules_do_not_change_the_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The same seed gives the same cases, whatever constants imported modules contain."""

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
    """A LawError can be sent from one process to another."""
    error = LawError("forward-exact", "torch", Case.parse("input=1x1x1x1 weight=1x1x1x1"))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.case) == (str(error), error.case)


def test_a_known_failure_of_infinite_error_is_no_target():
    """The search goes on after a known failure whose error is infinite."""

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


def test_a_hang_is_shrunk_and_confirmed():
    """The smallest case is called once more, with the whole timeout; what hangs less often keeps its first case."""
    calls: list[Case] = []

    def check(case: Case) -> Status:
        calls.append(case)
        return Status.TIMEOUT if case.geometry.out_channels > 2 else Status.PASS

    result = hunt(conv2d, law=law_of(check))
    assert result.status is Status.TIMEOUT
    assert result.failure is not None
    assert result.failure.case.replace(law=None) == Case.parse("input=1x1x1x1 weight=3x1x1x1")
    assert calls.count(result.failure.case) == 2
    calls.clear()

    def once(case: Case) -> Status:
        calls.append(case)
        hangs = case.geometry.out_channels > 2 and (case == calls[0] or calls.count(case) == 1)
        return Status.TIMEOUT if hangs else Status.PASS

    result = hunt(conv2d, law=law_of(once))
    first = next(case for case in calls if case.geometry.out_channels > 2)
    assert result.failure is not None
    assert result.failure.case == first


@pytest.mark.parametrize(("seconds", "status"), [(0.2, Status.PASS), (0.0, Status.TIMEOUT)])
def test_a_slow_call_is_no_hang(seconds: float, status: Status, monkeypatch: pytest.MonkeyPatch):
    """A case that did not return in time is no hang if it takes long and returns; one that is fast then hung."""
    monkeypatch.setattr("toeplitz_core.testing.search.search.SLOW", 0.1)
    calls: list[Case] = []

    def check(case: Case) -> Status:
        calls.append(case)
        if calls.count(case) == 2:
            time.sleep(seconds)
        return Status.TIMEOUT if len(calls) == 5 else Status.PASS

    assert hunt(conv2d, law=law_of(check), examples=20).status is status


@pytest.mark.parametrize("law", [law for law in LAWS.values() if "float32" in law.dtypes], ids=lambda law: law.name)
def test_gradients_of_any_strides_are_tried_where_a_law_reads_one(law: Law) -> None:
    """Only laws that read the gradient of the result have cases that name its layout."""
    seen: list[str | None] = []

    def check(_: object, case: object) -> Verdict:
        seen.append(case.layout("grad") if isinstance(case, Case) else None)
        return Verdict(Status.PASS, case)

    hunt(conv2d, law=replace(law, check=check), examples=40)
    reads = law.procedure in ("gradients", "double_backward", "functional_gradients", "vmap", "transposed")
    assert len(set(seen)) > 3 if reads else set(seen) == {None}
