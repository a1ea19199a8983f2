"""The text that is printed for each event of a run."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from tests.reports.records import CASE, DIFFERENCE, GAPS, LINE, RECORD, STEP, TRACEBACK, failed, of_step, result
from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.reports.finding_text import LINES, finding_lines
from toeplitz_core.testing.reports.terminal import OUR_ERROR, TerminalReport, header, options_line
from toeplitz_core.testing.reports.text import LOG_LINES, result_line, wrapped
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


def of_failure(found: Result, *, terminal: bool = False) -> list[str]:
    """The lines that are printed for a failure that belongs to no finding."""
    lines, _ = said(started(), ended(found), terminal=terminal)
    begin = next(n for n, line in enumerate(lines) if "FAIL " in line)
    return lines[begin : next(n for n, line in enumerate(lines) if line.startswith("Checked against"))]


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
    assert lines[1:3] == [
        "subjects torch; laws forward-bound; devices cpu",
        "profile gate: up to 100 cases per law and dtype, seed 7",
    ]
    assert lines[3:] == [
        "--timeout 2.5; --fail-fast; --inline",
        "journal: /tmp/journal.jsonl (kept if cut short)",
    ]
    assert ", seed 0" in header(PLAN)
    assert options_line(OPTIONS) == ""


def test_a_drawn_seed_is_printed():
    """Nightly draws a new seed and prints it."""
    event = started(profile="nightly")
    assert f"profile nightly: up to 3000 cases per law and dtype, seed {event.plan.seed}" in said(event)[0]


@pytest.mark.parametrize(("steps", "far"), [(1, "1 step"), (2, "2 steps")])
def test_the_start_of_a_sweep_names_no_seed(steps: int, far: str):
    """A sweep checks every convolution, so it has neither profile nor seed."""
    line = " ".join(map(str.strip, said(started(sweep=steps))[0][2:4]))
    assert f"convolutions up to {far} from the smallest, in the subject's own layouts" in line
    assert "seed" not in line
    assert "profile" not in line


@pytest.mark.parametrize("terminal", [True, False])
def test_only_a_verbose_run_has_a_line_for_each_step(terminal: bool):
    """With ``verbose`` there is a line for each step; for later rounds only if it fails. Without it there is none."""
    passed, broken = result(Status.PASS), result(Status.FAIL, "wrong")
    steps = [step_ended(passed), step_ended(passed, 1), step_ended(broken, 2)]
    lines = [line.removeprefix("\x1b[2K") for line in said(started(verbose=True), *steps, terminal=terminal)[0]]
    assert [line for line in lines if "torch forward-bound float32" in line] == [
        result_line(passed),
        result_line(broken),
    ]
    assert not any("torch forward-bound float32" in line for line in said(started(), *steps, terminal=terminal)[0])


def test_a_failure_in_a_log_has_at_most_15_lines():
    """In a log a failure has at most 15 lines, the case and the command among them; a terminal has all lines."""
    printed = "\n".join(f"said {number}" for number in range(100))
    frames = [f'  File "kernels.py", line {n}, in f\n    f({n})\n' for n in range(50)]
    traceback = "".join(["Traceback (most recent call last):\n", *frames, "ValueError: x\n"])
    found = failed(
        result(Status.FAIL, "word " * 200),
        printed=printed,
        traceback=traceback,
        assumed="sums in float32",
        difference=replace(DIFFERENCE, map=("x." * 16,) * 16),
    )
    short, long = (of_failure(found, terminal=terminal) for terminal in (False, True))
    assert len(short) == LOG_LINES
    assert short[-1].startswith("  replay: ")
    assert f"  case:   {LINE} law=forward-bound" in short
    assert "  printed: said 99" in short
    assert any("x.x." in line for line in long)
    assert sum(line.startswith("          ") for line in long) > 30


def test_a_failure_says_which_elements_are_wrong():
    """A failure has the ranges of wrong elements, a map, and more values with what they should be."""
    found = failed(result(Status.FAIL, "wrong"), difference=DIFFERENCE)
    lines = of_failure(found)
    at = lines.index("  where:  output channel 1 of 2, columns 3.. of 6")
    assert lines[at + 1 : at + 5] == [
        "  map:    image 0, output channel 1: X is the worst, x wrong, . right",
        "          ...Xxx",
        "  values: out[0, 1, 0, 4]=2, not 3",
        "          out[0, 1, 0, 5]=4, not 5",
    ]


def test_a_failure_has_the_frames_of_the_subject():
    """The frames of a traceback are shown without its first and its last line, which say nothing new."""
    lines = of_failure(failed(result(Status.FAIL, "raised ValueError: x"), traceback=TRACEBACK))
    at = lines.index('  trace:  File "kernels.py", line 9, in conv2d')
    assert lines[at + 1 : at + 4] == [
        "            helper(weight)",
        '          File "kernels.py", line 5, in helper',
        '            raise ValueError("x")',
    ]
    assert lines[at + 4].startswith("  replay: ")


def test_the_lines_of_a_message_are_indented():
    """All lines of a message but the first are indented, and folded too."""
    found = result(Status.FAIL, "raised ValueError: one\ntwo " + "word " * 20 + "\n  three")
    lines = of_failure(found)
    at = lines.index("FAIL torch, forward-bound: raised ValueError: one")
    assert [line[:8] for line in lines[at + 1 : at + 4]] == ["    two ", "    word", "      th"]
    assert max(map(len, lines[at : at + 4])) <= 80


@pytest.mark.parametrize(("ratio", "lines"), [(3.5, 1), (float("inf"), 0)])
def test_an_infinite_error_is_no_line(ratio: float, lines: int):
    """The line ``error:`` is left out if it would say inf."""
    found = result(Status.FAIL, "wrong", ratio=ratio)
    assert sum(line.startswith("  error:") for line in of_failure(found)) == lines


def test_prose_is_folded_between_words_and_commands_are_not():
    """Messages and remarks are folded at 80 columns; the case and the command stay on one line each."""
    found = result(Status.FAIL, "a message of many words " * 8)
    lines, _ = said(started(law=tuple(LAWS)[:9]), step_ended(found), ended(found))
    assert any(line.startswith("  replay: ") and len(line) > 80 for line in lines)
    assert [line for line in lines if len(line) > 80 and not line.startswith("  replay: ")] == []
    assert "; 9 laws, first forward-exact" in " ".join(lines)


def test_shapes_are_not_folded():
    """A line is not folded within a shape or an index."""
    message = "returned shape (1, 1, 1, 1), not (1, 1, 1, 2)"
    found = of_step(result(Status.FAIL, message), subject="kernels:conv2d1234")
    assert "    (1, 1, 1, 2)" in of_failure(found)


def test_the_last_line_sums_up_the_run():
    """The last line of a run that was completed has the number of cases and of laws that hold."""
    lines, _ = said(started(), Ended(replace(RECORD, ended="completed")))
    apart = "1 more fail only in known ways; 1 more fail only where torch itself fails"
    assert " ".join(map(str.strip, lines[-2:])).endswith(f"hold; {apart} (each law with each dtype).")


def test_a_finding_is_told_once_before_the_table():
    """During a run, the first failure of each kind is one line; its finding has the rest, and the cell names it."""
    found = failed(result(Status.FAIL, "wrong"), difference=DIFFERENCE, assumed="sums in float32")
    assert found.failure is not None
    why, sightings = "predicts every number for 5 random inputs", ((STEP, str(CASE)),)
    needs, note = ("kernel width > 1",), "holds without oneDNN"
    finding = Finding("torch", found.failure, "kernel-flipped", why, needs, sightings, note)
    lines, _ = said(started(), step_ended(found), step_ended(found), ended(found, findings=(finding,)))
    assert lines.count("FAIL torch, forward-bound: wrong") == 1
    at = lines.index("1 finding:")
    assert lines[at + 1 : at + 4] == [
        "F1 kernel-flipped: torch (fail)",
        "  cause:  The kernel is reversed along one axis or both, as in a mathematical",
        "          convolution. Predicts every number for 5 random inputs.",
    ]
    block = lines[at + 1 : next(n for n, line in enumerate(lines) if line.startswith("Checked against"))]
    assert len(block) <= LINES
    labels = " ".join(line[2:10].strip() for line in block[1:]).split()
    assert labels == [
        "cause:",
        "wrong:",
        "case:",
        "needs:",
        "in:",
        "also:",
        "where:",
        "values:",
        "map:",
        "judged:",
        "replay:",
    ]
    assert any(line.split() == ["forward-bound", "F1", "3", "100%"] for line in lines)


def test_a_finding_does_not_repeat_its_message():
    """Where the evidence of a cause is only what went wrong, the cause is the definition alone."""
    found = failed(result(Status.FAIL, "returned shape (1,), not (2,)"))
    assert found.failure is not None
    finding = Finding("torch", found.failure, "wrong-shape", found.failure.said, (), ((STEP, str(CASE)),))
    assert finding_lines(finding, 1)[1:3] == [
        "  cause:  The result has another shape.",
        "  wrong:  returned shape (1,), not (2,)",
    ]


def test_a_failure_that_was_cut_short_is_printed_at_the_end():
    """A failure of a step that was cut short is printed from the record at the end."""
    found = result(Status.FAIL, "wrong (not shrunk to the end)")
    lines, _ = said(started(), FailureFound(Task(STEP), found), ended(found, ended="interrupted"))
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


ADOPTED = Adopted("k.toml", tuple("abcdefg"), ("gone",), 2, "--known k.toml")


def test_the_end_says_what_else_came():
    """The end reports rounds, known failures, stale entries, what was left out, and what was adopted."""
    spent = replace(RECORD, rounds=4, ended="completed")
    lines, _ = said(started(time=2.0), ADOPTED, Ended(spent, ["errors: it is not swept"]))
    for line in (
        "k.toml: 7 added, 1 removed, 2 kept",
        "  added: f",
        "  added: 1 more",
        "  removed: gone",
        "the next run with --known k.toml will be green",
        "time: 4 rounds in 2 s, each with its own seed",
        "known: listed: 3 cases: It is so.",
        "stale: listed for torch: its example holds",
        "not run: errors: it is not swept",
    ):
        assert line in lines
    assert not any(line.startswith("known: ") for line in said(started(), ended(known=KnownFailures()))[0])


def test_a_text_of_several_lines_is_folded_line_by_line():
    """Each line of a text is folded for itself, so that a line may be as long as the width."""
    text = "first\n" + "word " * 5 + "\nlast"
    assert wrapped(text, 10) == ["first", "word word", "word word", "word", "last"]
