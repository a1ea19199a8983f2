"""Two runs compared: what is new, gone, changed, less supported, less accurate or slower."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.reports.records import RECORD, STEP, of_step, result
from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.laws.accuracy import Accuracy, Errors
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.reports.compared import comparison_lines
from toeplitz_core.testing.reports.files.json import to_json
from toeplitz_core.testing.reports.files.markdown import comparison_markdown, run_markdown
from toeplitz_core.testing.run.comparison.comparison import Comparison, Limits, compared
from toeplitz_core.testing.run.comparison.facts import Facts
from toeplitz_core.testing.run.record import Record, Timing

FAILING = result(Status.FAIL, "out[0]=0, but should be 1")
OTHER = of_step(result(Status.PASS), law="stride")


def finding(cause: str = "bias-missing", *needs: str) -> Finding:
    """A finding of the failing result."""
    assert FAILING.failure is not None
    return Finding("torch", FAILING.failure, cause, "", needs).also_in(FAILING.step, FAILING.failure)


def measured(median: float, geometries: int = 12) -> Accuracy:
    """Errors in ulps with this median."""
    errors = Errors(median, 10 * median, 99.0)
    return Accuracy("torch", "float32", "cpu", geometries, 100, errors, errors)


def run(*results: Result, findings: tuple[Finding, ...] = (), **more: object) -> Record:
    """A complete run with these results."""
    return replace(RECORD, results=results, findings=findings, stale=[], **more)


RIGHT = run(result(Status.PASS), OTHER)
WRONG = run(FAILING, OTHER, findings=(finding(),))


def of(old: Record, new: Record) -> Comparison:
    """The comparison of two records."""
    return compared(Facts.of(old, "old"), Facts.of(new, "new"))


def test_the_same_run_differs_in_nothing():
    """A run equals itself, whatever time it took."""
    for record in (RIGHT, WRONG):
        slow = replace(record, timing=Timing("later", 9.0))
        comparison = of(replace(record, timing=Timing("", 6.0)), slow)
        assert not comparison.tells
        assert comparison.slower == 1.5
        assert comparison.fails(Limits.of("findings,support,accuracy:1x,time:2x")) == ()
        assert comparison.fails(Limits.of("time:1.2")) == ("the run takes 1.5 times as long, and may take 1.2 times",)


def test_findings_appear_go_and_change():
    """Findings are compared by their ids; of those that both runs have, every field is."""
    new = of(RIGHT, WRONG)
    assert [found.cause for found in new.appeared] == ["bias-missing"]
    assert new.fails(Limits()) == ("1 new finding",)
    assert new.fails(Limits.of("support")) == ()
    gone = of(WRONG, RIGHT)
    assert [found.cause for found in gone.gone] == ["bias-missing"]
    assert gone.fails(Limits()) == ()
    changed = of(WRONG, replace(WRONG, findings=(finding("bias-missing", "groups > 1"),)))
    assert [each.what for each in changed.changed] == [("needs",)]
    assert changed.fails(Limits()) == ()
    assert "changed finding: bias-missing" in "\n".join(comparison_lines(changed, Limits()))
    assert "needs +groups > 1" in " ".join(comparison_lines(changed, Limits()))


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (result(Status.UNSUPPORTED, "no float32"), "pass -> unsupported (no float32)"),
        (result(Status.MISTRUSTED, "nothing proven"), "pass -> mistrusted (nothing proven)"),
        (result(Status.PASS, refuses=("groups",)), "refuses groups"),
        (
            result(Status.PASS, counts=Counter({Status.PASS: 6, Status.UNSUPPORTED: 4})),
            "100% -> 60% of the cases judged",
        ),
    ],
)
def test_support_that_is_lost_and_gained(now: Result, words: str):
    """A step that says less than before is lost support, in the direction in which it is less."""
    right = run(result(Status.PASS, counts=Counter({Status.PASS: 10})), OTHER)
    comparison = of(right, run(now, OTHER))
    assert [each.what for each in comparison.lost] == [words]
    assert comparison.fails(Limits()) == ("less is supported",)
    back = of(run(now, OTHER), right)
    assert not back.lost
    assert len(back.gained) == 1
    assert back.fails(Limits()) == ()


def test_a_missing_device_is_no_lost_support():
    """What cannot be run here says nothing about the subject; the comparison names it."""
    now = result(Status.NOT_RUN, "torch sees no CUDA device", cases=0)
    comparison = of(RIGHT, run(now, OTHER))
    assert comparison.fails(Limits()) == ()
    assert comparison.not_compared == ("not run now: torch; cpu; float32; forward-bound (torch sees no CUDA device)",)


def test_a_bug_does_not_hide_behind_an_adopted_one():
    """A finding that needs something quite different may be another bug; a step that held fails with old ones too."""
    old, new = (
        replace(WRONG, findings=(finding("unknown", *needs),)) for needs in (("stride > 2", "bias"), ("groups > 1",))
    )
    (reason,) = of(old, new).fails(Limits())
    assert reason == "1 finding may be another bug now"
    assert "it may be another bug now" in " ".join(" ".join(comparison_lines(of(old, new), Limits())).split())
    assert of(old, new).fails(Limits.of("support")) == ()
    alike = replace(WRONG, findings=(finding("unknown", "bias", "groups > 1"),))
    assert of(old, alike).fails(Limits()) == ()
    assert FAILING.failure is not None
    failing = of_step(FAILING, law="stride")
    wider = run(FAILING, failing, findings=(finding("unknown", "bias").also_in(failing.step, FAILING.failure),))
    assert of(old, wider).fails(Limits()) == ("1 step that held fails, without a new finding",)


def test_a_search_that_fails_judges_other_cases():
    """The shares of judged cases are compared where the law holds in both runs, and only for more than a few cases."""
    few = Counter({Status.PASS: 9, Status.MISTRUSTED: 2})
    before = run(result(Status.PASS, counts=Counter({Status.PASS: 11})))
    assert not of(before, run(result(Status.PASS, counts=few))).lost
    many = Counter({Status.FAIL: 1, Status.MISTRUSTED: 99})
    assert not of(run(result(Status.PASS, counts=Counter({Status.PASS: 99}))), run(replace(FAILING, counts=many))).lost


def test_a_failure_is_no_lost_support():
    """A step that fails now says as much as before; a share that varies a little is no loss."""
    assert not of(RIGHT, WRONG).lost
    few = result(Status.PASS, counts=Counter({Status.PASS: 90, Status.MISTRUSTED: 10}))
    assert not of(RIGHT, run(few, OTHER)).lost


def test_accuracy():
    """Errors are compared in ulps, if they were measured on the same geometries; they fail only if asked."""
    old, new = (replace(RIGHT, accuracy=[measured(median)]) for median in (0.5, 1.25))
    comparison = of(old, new)
    assert [drift.factor for drift in comparison.drifts] == [2.5]
    assert comparison.fails(Limits()) == ()
    assert comparison.fails(Limits.of("accuracy:2x")) == ("errors are 2.5 times as large, and may be 2 times",)
    assert comparison.fails(Limits.of("accuracy:3x")) == ()
    assert [drift.factor for drift in of(new, old).drifts] == [pytest.approx(0.4)]
    assert not of(old, replace(RIGHT, accuracy=[measured(0.51)])).drifts
    other = of(old, replace(RIGHT, accuracy=[measured(9.0, geometries=3)]))
    assert not other.drifts
    assert not other.measured
    assert any("the accuracy of 1 dtype was" in said for said in other.not_compared)
    endless = [replace(RIGHT, accuracy=[measured(float("inf"))])] * 2
    assert of(*endless).fails(Limits.of("accuracy:1x")) == ()


def test_what_runs_do_not_share():
    """Runs are compared on what both have, and say what differs; with nothing in common, they cannot be compared."""
    more = run(result(Status.PASS), OTHER, of_step(FAILING, subject="mine:conv"), options={"seed": 7})
    comparison = of(RIGHT, more)
    assert not comparison.tells
    only = "only the new run has 1 step: mine:conv; cpu; float32; forward-bound"
    assert only in comparison.not_compared
    assert comparison_lines(comparison, Limits())[-1] == "no difference in what both have"
    assert "seed differs: 0, now 7" in comparison.not_compared
    with pytest.raises(ValueError, match="the first is of torch, the second of mine:conv"):
        of(RIGHT, run(of_step(FAILING, subject="mine:conv")))


def test_a_run_that_was_cut_short():
    """Steps that an interrupted run did not reach are no lost support, but it cannot be said that nothing is lost."""
    unreached = [of_step(result(Status.NOT_RUN, "interrupted", cases=0), law="stride")]
    cut = replace(run(result(Status.PASS)), ended="interrupted", unreached=unreached)
    assert not of(RIGHT, cut).lost
    assert "only the old run has 1 step: torch; cpu; float32; stride, because the other was cut short: interrupted" in (
        of(RIGHT, cut).not_compared
    )
    assert of(RIGHT, cut).fails(Limits()) == ("the new run was cut short: interrupted",)
    assert of(cut, RIGHT).fails(Limits()) == ()


def test_a_failure_without_a_finding():
    """A step that held and fails now fails the comparison, even if no finding says why."""
    comparison = of(RIGHT, replace(WRONG, findings=()))
    assert comparison.unexplained == (STEP,)
    assert comparison.fails(Limits()) == ("1 step that held fails, without a new finding",)
    assert not of(RIGHT, WRONG).unexplained


def test_only_shared_laws_are_compared():
    """A finding has not changed because fewer laws were run."""
    assert FAILING.failure is not None
    also = finding().also_in(OTHER.step, FAILING.failure)
    old = run(FAILING, of_step(FAILING, law="stride"), findings=(also,))
    assert not of(old, run(FAILING, findings=(finding(),))).changed


def test_facts_survive_their_files(tmp_path: Path):
    """The JSON of a run and a baseline have the facts of its record; a baseline has one sorted line for each."""
    record = replace(WRONG, accuracy=[measured(0.5), replace(measured(float("inf")), dtype="float64")])
    facts = Facts.of(record)
    (tmp_path / "run.json").write_text(to_json(record), encoding="utf-8")
    (tmp_path / "base.json").write_text(facts.baseline(), encoding="utf-8")
    for file in ("run.json", "base.json"):
        read = Facts.read(tmp_path / file)
        assert (read.findings, read.steps, read.accuracy) == (facts.findings, facts.steps, facts.accuracy)
        assert not compared(read, facts).tells
    assert json.loads(facts.baseline())["baseline_version"] == 1
    lines = [line for line in facts.baseline().splitlines() if line.startswith('{"subject": ')]
    assert len(lines) == 2 + 2
    assert lines[:2] == sorted(lines[:2])
    assert Facts.of(replace(record, results=record.results[::-1])).baseline() == facts.baseline()
    assert '"findings": []' in Facts.of(RIGHT).baseline()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"schema_version": "1.7",\n "results": [', ":2:14: no JSON, or cut short"),
        ("[]", "neither the JSON of a run"),
        ('{"schema_version": "2.0"}', "schema_version='2.0' must be 1.x"),
        ('{"baseline_version": "1"}', "baseline_version='1' must be 1"),
        ("[" * 100_000, "too many brackets"),
        ('{"baseline_version": 1, "results": [], "options": "x"}', "a field is wrong: "),
        ('{"schema_version": "1.7", "results": [], "timing": {"seconds": "x"}}', "could not convert string to float"),
        ('{"baseline_version": 2}', "baseline_version=2 must be 1"),
        ('{"schema_version": "1.7"}', "the field 'results' is missing"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path: Path, text: str, said: str):
    """A broken file is refused with its name and the place."""
    file = tmp_path / "run.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"run\.json") as raised:
        Facts.read(file)
    assert said in str(raised.value)
    with pytest.raises(ValueError, match=r"none\.json"):
        Facts.read(tmp_path / "none.json")


def test_a_newer_schema_is_read_and_said(tmp_path: Path):
    """Fields that a later version added are not read, and the comparison says so."""
    document = json.loads(to_json(RIGHT)) | {"schema_version": "1.99", "more": 1}
    (tmp_path / "run.json").write_text(json.dumps(document), encoding="utf-8")
    comparison = compared(Facts.read(tmp_path / "run.json"), Facts.of(RIGHT))
    assert any("has schema 1.99" in said for said in comparison.not_compared)


@pytest.mark.parametrize("text", ["", ",", "finding", "findings:2x", "accuracy", "time:0.5x", "accuracy:x"])
def test_what_cannot_fail_a_comparison(text: str):
    """A word that is not known, or a factor that is missing or too small, is refused."""
    with pytest.raises(ValueError, match="fail-on="):
        Limits.of(text)


@pytest.mark.parametrize("judged", ["NaN", "true", '"1.0"', "2.5"])
def test_a_share_is_a_number(tmp_path: Path, judged: str):
    """A share that is no number from 0 to 1 is refused."""
    text = Facts.of(RIGHT).baseline().replace('"judged": 1.0', f'"judged": {judged}')
    (tmp_path / "base.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"base\.json: .*judged="):
        Facts.read(tmp_path / "base.json")


def test_markdown_of_a_comparison():
    """The first line has the verdict; what a subject says cannot become markup."""
    text = comparison_markdown(of(RIGHT, WRONG), Limits())
    assert text.startswith("**Compared with old: fails: 1 new finding**\n")
    assert f"`{STEP and FAILING.failure.case}`" in text  # type: ignore[union-attr]  # it fails
    hostile = of(RIGHT, run(result(Status.UNSUPPORTED, "<b>*x*</b>"), OTHER))
    assert r"\<b\>\*x\*\</b\>" in comparison_markdown(hostile, Limits())


def test_a_summary_is_short_and_safe_whatever_a_kernel_says():
    """A long message is cut, and its control characters are spelled out."""
    assert FAILING.failure is not None
    loud = FAILING.failure.replace(message="\x1b[31mred\x00 <b> " + "long " * 100_000)
    said = run_markdown(run(replace(FAILING, failure=loud), findings=(replace(finding(), failure=loud),)))
    assert len(said) < 3000
    assert all(character.isprintable() or character == "\n" for character in said)
    assert r"\\x1b\[31mred" in said
