"""The tables of a run, and the remarks below them."""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace

from rich.console import Console

from tests.reports.records import GAPS, of_step, result
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.reports.table import MOST_LINES, print_results


def printed(*results: Result, width: int = 160) -> list[str]:
    """The lines that are printed for these results."""
    file = io.StringIO()
    print_results(Console(file=file, width=width), results)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_what_was_refused_is_in_the_table_and_its_reason_below():
    """The table has the share of refused cases also for a law that passes, and a line below has a reason."""
    said = printed(GAPS, of_step(GAPS, dtype="float64"), result(Status.PASS))
    heading = next(line.split() for line in said if line.startswith(" law"))
    assert heading == ["law", "f64", "f32", "cases", "mistrusted", "unsupported"]
    assert [line.split()[-3:] for line in said if line.startswith(" forward")] == [["43", "12%", "47%"]]
    reason = "20 of 40 cases: NotImplementedError: no bias gradient"
    assert f"unsupported in part: torch on cpu: forward-bound, float32: {reason}" in printed(GAPS)
    assert "unsupported" not in "".join(printed(result(Status.PASS, cases=1000)))


def test_a_share_is_not_rounded_to_none():
    """One case of a thousand is shown as less than 1%, and no case as a dash."""
    counts = Counter({Status.PASS: 999, Status.UNSUPPORTED: 1})
    assert [line.split()[-2:] for line in printed(result(Status.PASS, counts=counts)) if line.startswith(" f")] == [
        ["-", "<1%"]
    ]


def test_a_table_of_every_dtype_is_whole_on_80_columns():
    """On 80 columns, no name, error or share is cut off."""
    every = [of_step(GAPS, law="functional-gradients", dtype=dtype) for dtype in CASE_DTYPES]
    (row,) = (line for line in printed(*every, width=80) if line.startswith(" functional"))
    assert row.split() == ["functional-gradients", *["0.500"] * 7, "280", "12%", "50%"]
    assert len(row) <= 80


def test_reasons_of_refusals_are_limited():
    """The number of lines with reasons is limited, so that they do not fill the screen."""
    said = printed(*(of_step(replace(GAPS, refused=f"reason {number}"), law=f"law-{number}") for number in range(20)))
    assert sum(line.startswith("unsupported in part: torch on cpu: law-") for line in said) == MOST_LINES
    assert f"unsupported in part: {20 - MOST_LINES} more lines: see --json" in said
