"""Print the tables of a run, and the remarks after them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from toeplitz_core.testing.case.dtypes import CASE_DTYPES, DTYPES
from toeplitz_core.testing.findings.shared import in_words
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.reports.text import STYLES, plain
from toeplitz_core.testing.run.record import UNPROVEN, Record
from toeplitz_core.testing.subjects.outcome import FORWARD_ONLY
from toeplitz_core.testing.support.spelling import cases_of


def print_results(console: Console, results: Sequence[Result], left_out: Sequence[str] = ()) -> None:
    """Print a table for each subject, then what was refused and what was not run, with the reasons."""
    ran = [r for r in results if r.status is not Status.NOT_RUN]
    if shown := [r for r in ran if r.cases or r.status is not Status.UNSUPPORTED]:
        for title, table in _tables(shown):
            plain(console, title)
            console.print(table)
        if any(r.status is Status.PASS and r.max_ratio is not None for r in shown):
            plain(console, "A number is the largest error in units of the bound. More than 1 is wrong.")
    total = sum(r.cases for r in ran)
    holding = sum(r.status is Status.PASS for r in ran)
    known = sum(r.status is Status.KNOWN for r in ran)
    shared = sum(r.status is Status.SHARED for r in ran)
    listed = f"; {known} more fail only in known ways" if known else ""
    listed += f"; {shared} more fail only where torch itself fails" if shared else ""
    claimed = sum(r.status is not Status.UNSUPPORTED or r.nothing_proven for r in ran)
    plain(console, f"{cases_of(total)}; {holding} of {claimed} hold{listed} (each law with each dtype).")
    for line in _signed_zeros(ran):
        plain(console, f"signed zeros: {line}")
    for r in ran:
        if r.nothing_proven:
            plain(console, f"{r.status}: {r.subject} {r.law} {r.dtype} {r.device}: {r.message}")
    for line in _forward_only(ran):
        plain(console, line)
    wholly = [(r, r.message) for r in ran if r.status is Status.UNSUPPORTED and not r.nothing_proven]
    wholly = [(r, message) for r, message in wholly if not message.startswith(FORWARD_ONLY)]
    for line in _by_reason(wholly):
        plain(console, f"unsupported: {line}")
    partly = [(r, r.refused) for r in ran if 0 < r.counts[Status.UNSUPPORTED] < r.cases]
    _print_most(console, [f"unsupported in part: {line}" for line in _by_reason(partly)], "unsupported in part")
    absent = {(r.subject, r.device): r.message for r in results if r.status is Status.NOT_RUN}
    for line in (*(f"{subject} on {device}: {reason}" for (subject, device), reason in absent.items()), *left_out):
        plain(console, f"not run: {line}")


def _signed_zeros(ran: Sequence[Result]) -> Iterator[str]:
    """For each subject, a line with the number of zeros that differ in sign from a sum in index order."""
    for subject, device in dict.fromkeys((r.subject, r.device) for r in ran if r.zeros):
        of_subject = [r for r in ran if (r.subject, r.device) == (subject, device)]
        other, zeros = sum(r.zero_signs for r in of_subject), sum(r.zeros for r in of_subject)
        yield (
            f"{subject} on {device}: {other} of {zeros} zero results differ in sign from IEEE's sum in index order; "
            "not judged"
        )


def _forward_only(ran: Sequence[Result]) -> Iterator[str]:
    """For each subject without gradients, a line with the reason and the number of laws that were not checked."""
    found: dict[tuple[str, str], list[Result]] = {}
    for r in ran:
        if r.status is Status.UNSUPPORTED and r.message.startswith(FORWARD_ONLY):
            found.setdefault((r.subject, r.device), []).append(r)
    for (subject, device), results in found.items():
        laws = len({r.law for r in results})
        reason = results[0].message.removeprefix(FORWARD_ONLY)
        yield (
            f"{FORWARD_ONLY}{subject} on {device}: {reason}; {laws} law{'s' * (laws > 1)} of derivatives not checked "
            "(--differentiable makes this a failure)"
        )


def _by_reason(refusals: Sequence[tuple[Result, str]]) -> list[str]:
    """One line for each reason of a refusal; with the share of refused cases, if other cases were judged."""
    reasons: dict[tuple[str, str, str], list[Result]] = {}
    for r, reason in refusals:
        reasons.setdefault((r.subject, r.device, reason), []).append(r)
    lines = []
    for (subject, device, reason), results in reasons.items():
        laws, dtypes = (", ".join(dict.fromkeys(getattr(r, name) for r in results)) for name in ("law", "dtype"))
        refused, cases = sum(r.counts[Status.UNSUPPORTED] for r in results), sum(r.cases for r in results)
        share = f"{refused} of {cases_of(cases)}: " if refused < cases else ""
        lines.append(f"{subject} on {device}: {laws}, {dtypes}: {share}{reason}")
    return lines


# A subject may give a different reason, or declare a different arithmetic, for each case. The JSON report has them all.
MOST_LINES = 12


def _print_most(console: Console, lines: Sequence[str], kind: str) -> None:
    for line in lines[:MOST_LINES]:
        plain(console, line)
    if len(lines) > MOST_LINES:
        plain(console, f"{kind}: {len(lines) - MOST_LINES} more lines: see --json")


def print_assumed(console: Console, results: Sequence[Result]) -> None:
    """Print one line for each arithmetic that results were judged by, with the subjects and dtypes."""
    judged: dict[str, dict[str, Counter[str]]] = {}
    for result in results:
        for arithmetic, count in result.assumed.items():
            judged.setdefault(arithmetic, {}).setdefault(result.subject, Counter())[result.dtype] += count
    lines = []
    for arithmetic, subjects in sorted(judged.items(), key=lambda item: -sum(c.total() for c in item[1].values())):
        who = "; ".join(f"{subject} {', '.join(dtypes)}" for subject, dtypes in subjects.items())
        lines.append(f"judged by {arithmetic}: {who}")
    _print_most(console, lines, "judged by")


# These columns are shown even if all their cells are empty.
_ALWAYS_SHOWN = (Status.MISTRUSTED,)


def _tables(ran: Sequence[Result]) -> Iterator[tuple[str, Table]]:
    """A table for each subject and device, with a row for each law and a column for each dtype."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for r in ran:
        groups.setdefault((r.subject, r.device), []).append(r)
    for (subject, device), results in groups.items():
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
        dtypes = [dtype for dtype in CASE_DTYPES if any(r.dtype == dtype for r in results)]
        table.add_column(" law", no_wrap=True)
        # Columns are narrow, so that a table with all dtypes fits into 80 characters.
        for heading in (*(DTYPES[dtype].aliases[0] for dtype in dtypes), "cases"):
            table.add_column(heading, justify="right", no_wrap=True)
        shared = [status for status in UNPROVEN if status in _ALWAYS_SHOWN or any(r.counts[status] for r in results)]
        for status in shared:  # on 80 columns, these headings are folded
            table.add_column(status, justify="right", min_width=4, overflow="fold")
        for law in dict.fromkeys(r.law for r in results):
            row = {r.dtype: r for r in results if r.law == law}
            counts = sum((r.counts for r in row.values()), Counter[Status]())
            cells = (_cell(row[dtype]) if dtype in row else "" for dtype in dtypes)
            shares = (_share(counts[status], counts.total()) for status in shared)
            table.add_row(f" {escape(law)}", *cells, str(counts.total()), *shares)
        yield f"Checked against T x + b: {subject} on {device}", table


def _share(part: int, whole: int) -> str:
    if not part:
        return "-"
    return f"{part / whole:.0%}" if 200 * part >= whole else "<1%"


def _cell(r: Result) -> str:
    """The largest error in units of the bound, or ``exact``; for a result that is not a pass, its status."""
    if r.status is not Status.PASS:
        words = {Status.UNSUPPORTED: "-" if not r.nothing_proven else "none", Status.MISTRUSTED: "none"}
        word = words.get(r.status, r.status.upper() if r.status.is_failure else r.status)
        return f"[{STYLES.get(r.status, 'dim')}]{word}[/]"
    return "exact" if r.max_ratio is None else f"{r.max_ratio:.3f}"


def print_known(console: Console, record: Record) -> None:
    """Print the known and the shared failures, with counts and reasons, and the stale entries."""
    for entry in record.known.entries:
        if count := record.matched[entry.name]:
            plain(console, f"known: {entry.name}: {cases_of(count)}: {entry.reason}", style=STYLES[Status.KNOWN])
    for name, count in sorted(record.shared.items()):
        plain(console, f"shared: {in_words(name)}: {cases_of(count)}", style=STYLES[Status.SHARED])
    for stale in record.stale:
        plain(console, f"stale: {stale.entry.name} for {stale.subject}: {stale.why}")
