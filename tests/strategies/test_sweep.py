"""A sweep checks every convolution near the smallest one, the nearest first, and ends with the first that fails."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.helpers.running import Bench, law_of, search
from toeplitz_core import conv2d
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.conditions import Condition
from toeplitz_core.testing.findings.known_failures.entry import Entry
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.search import law_cases as drawing
from toeplitz_core.testing.search.effort import PROFILES, Search, Sweep
from toeplitz_core.testing.search.search import LawError
from toeplitz_core.testing.search.tally import Tally
from toeplitz_core.testing.strategies.sweep import convolutions, most_products, number_of_convolutions
from toeplitz_core.testing.subjects import TorchSubject
from toeplitz_core.testing.support.limits import MOST_STEPS

EXACT = LAWS["forward-exact"]
# What a step may increase by one, per axis.
COUNTED = ("batch", "h", "w", "kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw", "groups", "inputs", "outputs")
# Switches, each used at most once, and what it cannot be combined with.
SWITCHES = {"bias": (), "unbatched": ("batch",), "same": ("ph", "pw", "valid"), "valid": ("ph", "pw", "same")}


def enumerated(steps: int) -> set[str]:
    """The lines of all convolutions at this distance: choose what each step changes and drop invalid combinations."""
    lines = set()
    for chosen in itertools.combinations_with_replacement((*COUNTED, *SWITCHES), steps):
        n = Counter(chosen)
        if any(
            n[switch] > 1 or (n[switch] and any(n[other] for other in without)) for switch, without in SWITCHES.items()
        ):
            continue
        if n["same"] and (n["sh"] or n["sw"]):
            continue
        spans = [(1 + n[f"d{axis}"]) * n[f"k{axis}"] + 1 for axis in "hw"]
        padded = [1 + n[axis] + 2 * n[f"p{axis}"] for axis in "hw"]
        if not n["same"] and any(span > pixels for span, pixels in zip(spans, padded, strict=True)):
            continue
        groups, inputs, outputs = (1 + n[name] for name in ("groups", "inputs", "outputs"))
        batch = "" if n["unbatched"] else f"{1 + n['batch']}x"
        padding = "same" if n["same"] else "valid" if n["valid"] else f"{n['ph']}x{n['pw']}"
        line = (
            f"input={batch}{groups * inputs}x{1 + n['h']}x{1 + n['w']} "
            f"weight={groups * outputs}x{inputs}x{1 + n['kh']}x{1 + n['kw']} stride={1 + n['sh']}x{1 + n['sw']} "
            f"padding={padding} dilation={1 + n['dh']}x{1 + n['dw']} groups={groups}{' bias' * n['bias']}"
        )
        lines.add(str(Case.parse(line)))
    return lines


def test_every_convolution_is_there_once_and_the_nearest_are_first():
    """Convolutions come in the order of their steps, each once, and agree with an independent enumeration."""
    swept = [str(case) for case in convolutions(3)]
    for steps in range(4):
        count = number_of_convolutions(steps - 1) if steps else 0
        these, swept = swept[: number_of_convolutions(steps) - count], swept[number_of_convolutions(steps) - count :]
        assert len(these) == len(set(these))
        assert set(these) == enumerated(steps)
    assert swept == []
    assert [number_of_convolutions(steps) for steps in range(4)] == [1, 17, 147, 872]


def swept(check: Callable[[Case], Status], steps: int = 2, **options: object) -> Result:
    """The result of a sweep with a made-up law whose verdicts the function gives."""
    law = replace(EXACT, name="made-up", check=lambda _, case: Verdict(check(case), case))
    return search(law, TorchSubject("it", conv2d), dtype="float32", sweep=steps, **options)


@pytest.mark.parametrize(
    ("wrong", "steps", "line"),
    [
        (lambda _: True, 0, "input=1x1x1x1 weight=1x1x1x1"),
        (lambda case: case.batch is None, 1, "input=1x1x1 weight=1x1x1x1"),
        (lambda case: case.groups > 1, 1, "input=1x2x1x1 weight=2x1x1x1 groups=2"),
        (lambda case: case.bias and case.stride[1] > 1, 2, "input=1x1x1x1 weight=1x1x1x1 stride=1x2 bias"),
        (
            lambda case: case.padding == "same" and case.weight[2] == case.dilation[0] == 2,
            3,
            "input=1x1x1x1 weight=1x1x2x1 padding=same dilation=2x1",
        ),
        (lambda case: case.weight[3] > case.input[-1] > 1, 4, "input=1x1x1x2 weight=1x1x1x3 padding=0x1"),
    ],
)
def test_a_fault_is_found_with_its_smallest_case(wrong: Callable[[Case], bool], steps: int, line: str):
    """A shorter sweep does not find the fault; every longer one fails first at the same smallest case."""
    missed = number_of_convolutions(steps - 1) if steps else 0
    for number in range(max(0, steps - 1), steps + 2):
        result = swept(lambda case: Status.FAIL if wrong(case) else Status.PASS, number)
        if number < steps:
            assert (result.failure, result.cases) == (None, missed)
            continue
        assert result.failure is not None
        assert str(result.failure.case.replace(law=None, data="integers", seed=0)) == line
        assert result.counts[Status.FAIL] == 1
        assert missed < result.cases <= number_of_convolutions(steps)


def adds_to_strided_columns(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """A convolution whose results are 1 too large if a row has two or more outputs and a stride."""
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    return y + (stride[-1] > 1 and y.shape[-1] > 1)


@pytest.mark.parametrize(
    ("name", "line"), [("forward-exact", "stride=1x2 padding=0x1"), ("stride", "stride=2 padding=0x1")]
)
def test_an_implementation_is_judged_by_the_law(name: str, line: str):
    """A sweep finds a planted fault at the smallest case on which the law detects it, and that line fails again."""
    law, subject = LAWS[name], TorchSubject("planted", adds_to_strided_columns)
    result = search(law, subject, dtype="float32", sweep=3)
    assert result.failure is not None
    case = result.failure.case
    assert str(case.replace(law=None, data="integers", seed=0)) == f"input=1x1x1x1 weight=1x1x1x1 {line}"
    assert law(subject, Case.parse(str(case))).status is Status.FAIL


def test_data_is_each_recipe_in_turn():
    """Each convolution gets the next recipe of the dtype and a new seed."""
    for dtype in ("float32", "int64"):
        cases = list(drawing.swept(LAWS["contract"], convolutions(1), dtype, "cpu"))
        recipes = ("normal", "integers") if dtype == "float32" else ("integers",)
        assert [case.data for case in cases] == list(itertools.islice(itertools.cycle(recipes), 17))
        assert [case.seed for case in cases] == list(range(17))
        assert {(case.dtype, case.layouts) for case in cases} == {(dtype, ())}


def test_cases_that_a_law_says_nothing_about_are_made_so_that_it_does():
    """Cases that a law adapts to the same case come only once, and cases that need no change stay as they are."""
    cases = [c.replace(seed=0) for c in drawing.swept(LAWS["groups"], convolutions(2), "float32", "cpu")]
    assert len(cases) == len(set(cases))
    assert min(case.groups for case in cases) == 2
    assert set(cases) >= {case for case in convolutions(2) if case.groups > 1}


def bench(*laws: Law, steps: int | None = 1, **options: Any) -> Bench:
    """A sweep of our own conv2d."""
    return Bench([TorchSubject("right", conv2d)], laws, sweep=steps, **options)


def test_laws_without_a_sweep_are_not_run():
    """A sweep leaves out the law of errors and states the reason; other runs include it."""
    swept = bench(EXACT, LAWS["errors"])
    results, plan = swept.run().came, swept.plan
    assert [(r.law, r.status, r.cases) for r in results] == [("forward-exact", Status.PASS, 17)]
    reason = "it is checked on calls, whose arguments may be anything; a sweep has only convolutions"
    assert plan.left_out == [f"errors: {reason}"]
    assert [(r.law, r.status, r.message) for r in plan.unreached(results, "?")] == [("errors", Status.NOT_RUN, reason)]
    assert [step.law for step in replace(plan, effort=Search(PROFILES["gate"])).steps] == ["forward-exact", "errors"]


def test_what_is_too_large_for_a_law_is_left_out_and_counted():
    """A sweep leaves out cases beyond a law's limit and counts them; no sweep reaches the limits of our own laws."""
    held = replace(LAWS["matrix"], max_products=1)
    swept = bench(held)
    (result,) = swept.run().came
    large = sum(case.geometry.nnz > 1 for case in convolutions(1))
    assert 0 < large == 17 - result.cases
    assert swept.plan.left_out == [f"matrix: {large} cases with more than 1 products"]
    assert bench(LAWS["matrix"]).plan.left_out == []
    limits = [law.max_products for law in LAWS.values() if law.max_products is not None]
    assert min(limits) > most_products(MOST_STEPS)


def test_the_limit_on_products_is_one():
    """No convolution of a sweep has more products than the limit that follows from its steps."""
    for steps in range(5):
        assert max(case.geometry.nnz for case in convolutions(steps)) <= most_products(steps)


def test_known_failures_are_counted():
    """A known failure does not end a sweep: it is counted, and the next unknown failure ends the sweep."""

    def check(case: Case) -> Status:
        return Status.FAIL if case.bias or case.groups > 2 else Status.PASS

    example = Case.parse("input=1x1x1x1 weight=1x1x1x1 bias")
    listed = KnownFailures((Entry("listed", ("it",), ("made-up",), Condition("bias"), example, "So it is."),))
    result = swept(check, steps=1, known=listed)
    assert (result.status, result.cases, result.known) == (Status.KNOWN, 17, Counter(listed=1))
    result = swept(check, known=listed)
    assert result.failure is not None
    assert result.failure.case.groups == 3
    assert 1 < result.known["listed"] == result.counts[Status.KNOWN]


def test_a_failure_that_does_not_repeat_is_said_not_to():
    """The first failure is run again, and the message says how often it fails again if not always."""
    calls: Iterator[int] = itertools.count()
    result = swept(lambda _: Status.FAIL if next(calls) == 5 else Status.PASS)
    assert (result.status, result.cases) == (Status.FAIL, 6)
    assert result.message.endswith("(fails again in 0 of 10 runs)")
    assert "runs)" not in swept(lambda case: Status.FAIL if case.bias else Status.PASS).message


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interrupt_keeps_the_failure(after: int):
    """Ctrl-C while a failure is repeated keeps it in the tally; before a failure, there is nothing to keep."""
    failed: list[Case] = []

    def check(case: Case) -> Status:
        if len(failed) == after and (failed or case.groups > 1):
            raise KeyboardInterrupt
        failed.extend([case] * (case.groups > 1))
        return Status.FAIL if case.groups > 1 else Status.PASS

    tally = Tally(Step("it", "made-up", "float32", "cpu"))
    with pytest.raises(KeyboardInterrupt):
        swept(check, tally=tally)
    assert (tally.smallest is not None) == (after > 0)
    if tally.smallest is not None:
        assert tally.smallest.case.groups == 2
        assert tally.unfinished == "not run again"


def test_an_error_in_a_law_is_our_own():
    """An error in a law ends a sweep, as it ends a search, with a LawError that has the case."""

    def check(case: Case) -> Status:
        return Status.PASS if case.batch == 1 else Status(case.batch)

    with pytest.raises(LawError) as caught:
        swept(check)
    assert caught.value.case.batch == 2


@pytest.mark.parametrize("law", ["forward-exact", "pointwise"])
def test_the_parts_of_a_sweep_are_the_sweep(law: str):
    """All parts together judge each case of the whole sweep once, in its order, duplicates left out."""
    whole = Sweep(4)
    assert whole.rounds == 8
    parts = [whole.in_round(number) for number in range(whole.rounds)]
    assert [number for part in parts for number in part.numbers] == list(whole.numbers)
    found = [
        case for part in parts for case in drawing.swept(LAWS[law], convolutions(4), "float32", "cpu", part.numbers)
    ]
    assert found == list(drawing.swept(LAWS[law], convolutions(4), "float32", "cpu"))


def test_a_sweep_in_parts_has_the_result_of_one_search():
    """The merged result of the parts, and its smallest failing case, are those of a sweep in one piece."""
    law = law_of(lambda case: Status.FAIL if case.batch == 4 else Status.PASS)
    run = Bench([TorchSubject("it", conv2d)], [law], sweep=4).run()
    assert len(run.came) > 1
    (merged,) = run.results
    alone = search(law, TorchSubject("it", conv2d), dtype="float32", sweep=4)
    assert (merged.counts, str(merged.failure.case)) == (alone.counts, str(alone.failure.case))
