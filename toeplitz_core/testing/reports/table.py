"""Print the tables of a run, and its last line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from toeplitz_core.testing.case.dtypes import CASE_DTYPES, DTYPES
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.reports.text import STYLES, WIDTH, plain, prose
from toeplitz_core.testing.run.record import UNPROVEN, Record
from toeplitz_core.testing.support.spelling import cases_of


def print_tables(console: Console, record: Record) -> None:
    """Print a table for each subject and device. The cells of laws that fail name their findings."""
    ran = [r for r in record.results if r.status is not Status.NOT_RUN]
    if shown := [r for r in ran if r.cases or r.status is not Status.UNSUPPORTED]:
        for title, tables in _tables(record, shown):
            plain(console, title)
            console.print(next((table for table in tables if _width(console, table) <= WIDTH), tables[-1]))
        if any(r.status is Status.PASS and r.max_ratio is not None for r in shown):
            plain(console, "A number is the largest error in units of the bound. More than 1 is wrong.")


def print_summary(console: Console, results: Sequence[Result]) -> None:
    """Print the last line: the number of cases, and how many laws hold."""
    ran = [r for r in results if r.status is not Status.NOT_RUN]
    holding = sum(r.status is Status.PASS for r in ran)
    known = sum(r.status is Status.KNOWN for r in ran)
    shared = sum(r.status is Status.SHARED for r in ran)
    listed = f"; {known} more fail only in known ways" if known else ""
    listed += f"; {shared} more fail only where torch itself fails" if shared else ""
    claimed = sum(r.status is not Status.UNSUPPORTED or r.nothing_proven for r in ran)
    total = sum(r.cases for r in ran)
    prose(console, f"{cases_of(total)}; {holding} of {claimed} hold{listed} (each law with each dtype).")


def _width(console: Console, table: Table) -> int:
    return Measurement.get(console, console.options.update(width=10 * WIDTH), table).maximum


def _tables(record: Record, ran: Sequence[Result]) -> Iterator[tuple[str, list[Table]]]:
    """For each subject and device its table, in full and with fewer and fewer columns, because long words need room."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for r in ran:
        groups.setdefault((r.subject, r.device), []).append(r)
    for (subject, device), results in groups.items():
        more = (("cases", "judged"), ("judged",), ())
        yield (
            f"Checked against T x + b: {subject} on {device}",
            [_table(record, results, headings) for headings in more],
        )


def _table(record: Record, results: Sequence[Result], more: Sequence[str]) -> Table:
    """A row for each law, with a column for each dtype, and those after them."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
    dtypes = [dtype for dtype in CASE_DTYPES if any(r.dtype == dtype for r in results)]
    table.add_column(" law", no_wrap=True)
    # Columns are narrow, so that a table with all dtypes fits into 80 characters.
    for heading in (*(DTYPES[dtype].aliases[0] for dtype in dtypes), *more):
        table.add_column(heading, justify="right", no_wrap=True)
    for law in dict.fromkeys(r.law for r in results):
        row = {r.dtype: r for r in results if r.law == law}
        counts = sum((r.counts for r in row.values()), Counter[Status]())
        judged = counts.total() - sum(counts[status] for status in UNPROVEN)
        cells = [_cell(record, row[dtype]) if dtype in row else "" for dtype in dtypes]
        last = {"cases": str(counts.total()), "judged": share(judged, counts.total())}
        table.add_row(f" {escape(law)}", *cells, *(last[heading] for heading in more))
    return table


def share(part: int, whole: int) -> str:
    """A share in whole percent, rounded down, so that only all is 100%."""
    if not whole:
        return "-"
    return f"{100 * part // whole}%" if 100 * part >= whole or not part else "<1%"


def _cell(record: Record, r: Result) -> str:
    """The largest error in units of the bound, or ``exact``; the finding of a failure; else its status."""
    numbers = dict.fromkeys(number for f in r.failures if (number := record.number_of(r.step, f)) is not None)
    if r.status.is_failure and numbers:
        first, *others = numbers
        return f"[{STYLES[r.status]}]F{first}{'+' * bool(others)}[/]"
    if r.status is not Status.PASS:
        words = {Status.UNSUPPORTED: "-" if not r.nothing_proven else "none", Status.MISTRUSTED: "none"}
        word = words.get(r.status, r.status.upper() if r.status.is_failure else r.status)
        return f"[{STYLES.get(r.status, 'dim')}]{word}[/]"
    return "exact" if r.max_ratio is None else f"{r.max_ratio:.3f}"
