"""The tables of a run, and the remarks below them."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace

import pytest
from rich.console import Console

from tests.reports.records import GAPS, of_step, result
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.reports.remarks import MOST_LINES, print_remarks
from toeplitz_core.testing.reports.table import print_summary, print_tables
from toeplitz_core.testing.run.record import Record


def printed(*results: Result, width: int = 160) -> list[str]:
    """The lines that are printed for these results."""
    file = io.StringIO()
    console = Console(file=file, width=width)
    print_tables(console, Record(results, 0))
    print_remarks(console, results)
    print_summary(console, results)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_the_share_of_judged_cases_is_in_the_table_and_what_was_refused_below():
    """The table has the share of cases that proved something, also for a law that passes; a line below has a reason."""
    said = printed(GAPS, of_step(GAPS, dtype="float64"), result(Status.PASS))
    heading = next(line.split() for line in said if line.startswith(" law"))
    assert heading == ["law", "f64", "f32", "cases", "judged"]
    assert [line.split()[-2:] for line in said if line.startswith(" forward")] == [["43", "41%"]]
    assert said[-4:] == [
        "unsupported in part: forward-bound; float32, float64: 40 of 80 cases:",
        "    NotImplementedError: no bias gradient",
        "mistrusted: 10 of 83 cases could not have told right from wrong: forward-bound",
        "83 cases; 3 of 3 hold (each law with each dtype).",
    ]
    assert "unsupported" not in "".join(printed(result(Status.PASS, cases=1000)))


def test_what_to_do_about_slow_calls_is_said_once():
    """However many steps had slow calls, one line says which value to pass."""
    slow = replace(result(Status.PASS), slow="a call took 2.0 s: --max-products 64 is quicker")
    said = [line for line in printed(slow, of_step(slow, dtype="float64")) if "max-products" in line]
    assert said == [f"slow: {slow.slow}"]


@pytest.mark.parametrize(("proven", "share"), [(0, "0%"), (1, "<1%"), (999, "99%"), (1000, "100%")])
def test_a_share_is_not_rounded_to_all_or_none(proven: int, share: str):
    """Only all cases are 100%, and only none are 0%."""
    counts = Counter({Status.PASS: proven, Status.UNSUPPORTED: 1000 - proven})
    (row,) = (line for line in printed(result(Status.PASS, counts=counts)) if line.startswith(" f"))
    assert row.split()[-1] == share


def test_a_table_of_every_dtype_is_whole_on_80_columns():
    """On 80 columns, no heading, name, error or share is cut off or folded."""
    longest = max(LAWS, key=len)
    every = [of_step(GAPS, law=longest, dtype=dtype) for dtype in CASE_DTYPES]
    said = printed(*every, width=80)
    (row,) = (line for line in said if line.startswith(f" {longest}"))
    assert row.split() == [longest, *["0.500"] * 7, "280", "37%"]
    heading = next(line for line in said if line.startswith(" law"))
    assert heading.split()[-2:] == ["cases", "judged"]
    assert max(map(len, said)) <= 80


@pytest.mark.parametrize(("status", "columns"), [(Status.SHARED, ["judged"]), (Status.TIMEOUT, [])])
def test_long_words_in_a_table_take_the_place_of_columns(status: Status, columns: list[str]):
    """If the words of all dtypes are long, the columns of cases are left out rather than more than 80 columns used."""
    longest = max(LAWS, key=len)
    said = printed(*(of_step(result(status, "wrong"), law=longest, dtype=dtype) for dtype in CASE_DTYPES))
    heading = next(line.split() for line in said if line.startswith(" law"))
    assert heading[-1 - len(columns) :] == ["i64", *columns]
    assert max(map(len, said)) <= 80


def test_the_last_line_is_folded():
    """The last line has at most 80 columns too."""
    said = printed(result(Status.PASS), result(Status.KNOWN), result(Status.SHARED))
    assert max(map(len, said)) <= 80
    assert said[-2:] == [
        "9 cases; 1 of 3 hold; 1 more fail only in known ways; 1 more fail only where",
        "    torch itself fails (each law with each dtype).",
    ]


def test_reasons_of_refusals_are_limited():
    """The number of lines with reasons is limited, so that they do not fill the screen."""
    said = printed(*(of_step(replace(GAPS, refused=f"reason {number}"), law=f"law-{number}") for number in range(20)))
    assert sum(line.startswith("unsupported in part: law-") for line in said) == MOST_LINES
    assert f"unsupported in part: {20 - MOST_LINES} more lines: see --json" in said


def test_long_lists_are_counted():
    """More than three laws or dtypes are counted, with the first of them."""
    laws = [of_step(GAPS, law=law, dtype=dtype) for law in list(LAWS)[:5] for dtype in CASE_DTYPES[:4]]
    said = " ".join(" ".join(printed(*laws)).split())
    assert f"5 laws, first {next(iter(LAWS))}; 4 dtypes, first {CASE_DTYPES[0]}: 400 of 800 cases:" in said


def test_arithmetics_are_one_remark():
    """The arithmetics that results were judged by are listed once, with their dtypes; subjects are named if several."""
    one, other = (result(Status.PASS, assumed=Counter({f"sums in {f}": 3})) for f in ("float32", "float64"))
    other = of_step(other, dtype="float64")
    assert "judged by: sums in float32 (float32), sums in float64 (float64)" in printed(one, other)
    both = printed(one, of_step(one, subject="numpy"))
    assert "judged by: sums in float32 (torch float32; numpy float32)" in both


def test_a_remark_names_the_subject_if_there_are_several():
    """With two subjects, each remark says which one it is about."""
    said = printed(GAPS, of_step(GAPS, subject="numpy", device="cuda"))
    assert sum(line.startswith("unsupported in part: torch on cpu: forward-bound") for line in said) == 1
    assert sum(line.startswith("unsupported in part: numpy on cuda: forward-bound") for line in said) == 1
