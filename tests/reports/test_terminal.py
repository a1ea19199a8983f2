"""The text that is printed for each event of a run."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from tests.reports.records import GAPS, LINE, RECORD, STEP, of_step, result
from toeplitz_core.testing.findings.known import KnownFailures
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.reports.terminal import OUR_ERROR, TerminalReport, header, options_line
from toeplitz_core.testing.reports.text import result_line
from toeplitz_core.testing.run.events import Adopted, Ended, Event, Failed, FailureFound, Started, StepEnded
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.run.plan import Plan, Task
from toeplitz_core.testing.run.record import Record

OPTIONS = Options(subject=("torch",), law=("forward-bound",), dtype=("float32",), device=("cpu",))
PLAN = Plan.of(OPTIONS, OPTIONS.subject)


def started(**options: object) -> Started:
    """The start of a run with these options."""
    given = replace(OPTIONS, **options)
    return Started(Plan.of(given, given.subject), given, "/tmp/journal.jsonl")


def ended(*results: Result, **more: object) -> Ended:
    """The end of a run."""
    return Ended(Record(results, exit_code=0, **more))


def said(*events: Event, terminal: bool = False) -> tuple[list[str], list[str]]:
    """The lines that are printed for events, and those for errors of our own."""
    out, errors = io.StringIO(), io.StringIO()
    report = TerminalReport(
        Console(file=out, width=160, force_terminal=terminal, no_color=True), Console(file=errors, width=160)
    )
    for event in events:
        report(event)
    return out.getvalue().splitlines(), errors.getvalue().splitlines()


def step_ended(found: Result, number: int = 0) -> StepEnded:
    """The end of the result's step in a round."""
    return StepEnded(Task(found.step, number), found)


def test_line_of_a_result():
    """A log has the number of cases that proved nothing, if any, and the largest error, if any."""
    who = "torch forward-bound float32 cpu"
    assert result_line(GAPS) == f"{who}: pass, 40 cases, 5 mistrusted, 20 unsupported, largest error 0.500 of the bound"
    assert result_line(result(Status.PASS, max_ratio=None)) == f"{who}: pass, 3 cases"
    assert result_line(result(Status.UNSUPPORTED, max_ratio=None)) == f"{who}: unsupported, 3 cases"
    assert "\x1b" not in result_line(of_step(GAPS, subject="\x1b[31m"))


def test_the_start_echoes_the_options_with_the_seed():
    """The start echoes options and seed, so that a typo shows and the run can be repeated."""
    lines, _ = said(started(seed=7, timeout=2.5, fail_fast=True, inline=True))
    assert lines[1] == (
        "subjects torch; laws forward-bound; devices cpu; profile gate: up to 100 cases per law and dtype, seed 7"
    )
    assert lines[2:] == ["--timeout 2.5; --fail-fast; --inline", "journal: /tmp/journal.jsonl"]
    assert ", seed 0" in header(PLAN)
    assert options_line(OPTIONS) == ""


def test_a_drawn_seed_is_printed():
    """Nightly draws a new seed and prints it."""
    event = started(profile="nightly")
    assert said(event)[0][1].endswith(f"profile nightly: up to 3000 cases per law and dtype, seed {event.plan.seed}")


@pytest.mark.parametrize(("steps", "far"), [(1, "1 step"), (2, "2 steps")])
def test_the_start_of_a_sweep_names_no_seed(steps: int, far: str):
    """A sweep checks every convolution, so it has neither profile nor seed."""
    line = said(started(sweep=steps))[0][1]
    assert f"convolutions up to {far} from the smallest, in the subject's own layouts" in line
    assert "seed" not in line
    assert "profile" not in line


def test_a_log_has_a_line_for_each_step():
    """A log has a line for each step; for later rounds only if it fails. A terminal has a progress bar instead."""
    passed, failed = result(Status.PASS), result(Status.FAIL, "wrong")
    events = [started(), step_ended(passed), step_ended(passed, 1), step_ended(failed, 2)]
    lines = [line for line in said(*events)[0] if line.startswith("torch forward-bound")]
    assert lines == [result_line(passed), result_line(failed)]
    assert result_line(passed) not in said(*events, terminal=True)[0]


def test_a_failure_is_printed_once_where_its_step_ends():
    """A failure is printed once, at the end of its step, with its case and the command that replays it."""
    failed = result(Status.FAIL, "wrong", ratio=3.5)
    lines, _ = said(started(), FailureFound(Task(STEP), failed), step_ended(failed), ended(failed))
    assert [line for line in lines if "wrong" in line] == ["FAIL torch, forward-bound: wrong"]
    at = lines.index("FAIL torch, forward-bound: wrong")
    assert lines[at + 1 : at + 4] == [
        f"  case:   {LINE} law=forward-bound",
        "  error:  3.5 of the bound",
        f'  replay: python -m toeplitz_core replay "{LINE} law=forward-bound" --subject torch',
    ]


def test_a_failure_that_was_cut_short_is_printed_at_the_end():
    """A failure of a step that was cut short is printed from the record at the end."""
    failed = result(Status.FAIL, "wrong (not shrunk to the end)")
    lines, _ = said(started(), FailureFound(Task(STEP), failed), ended(failed, ended="interrupted"))
    assert lines.count("FAIL torch, forward-bound: wrong (not shrunk to the end)") == 1
    assert lines[-1] == "to resume this run: python -m toeplitz_core check --resume /tmp/journal.jsonl"


def test_only_a_run_that_was_cut_short_can_be_resumed():
    """Only a run that was interrupted or ended by an error prints how to resume it."""
    for how, can in (("completed", False), ("stopped at the first failure", False), ("error", True)):
        lines, _ = said(started(), ended(ended=how))
        assert any("--resume" in line for line in lines) == can


def test_an_error_of_our_own_goes_to_the_errors():
    """An error of our own is printed with its traceback; other errors are printed in one line."""
    lines, errors = said(started(), Failed("LawError: x", "Traceback\nLawError: x"))
    assert errors == ["Traceback", "LawError: x", OUR_ERROR]
    assert "LawError: x" not in lines
    assert said(started(), Failed("a judge process was killed"))[1] == ["error: a judge process was killed"]


def test_the_end_says_what_else_came():
    """The end reports rounds, known failures, stale entries, what was left out, and what was adopted."""
    spent = replace(RECORD, rounds=4, ended="completed")
    lines, _ = said(started(time=2.0), Adopted("k.toml", 2), Ended(spent, ["errors: it is not swept"]))
    for line in (
        "adopted: 2 entries, written to k.toml",
        "time: 4 rounds in 2 s, each with its own seed",
        "known: listed: 3 cases: It is so.",
        "stale: listed for torch: its example holds",
        "not run: errors: it is not swept",
    ):
        assert line in lines
    assert not any(line.startswith("known: ") for line in said(started(), ended(known=KnownFailures()))[0])
