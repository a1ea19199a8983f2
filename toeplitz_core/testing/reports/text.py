"""Verdicts and results as lines of text that can be copied."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.run.record import UNPROVEN, replay_command
from toeplitz_core.testing.support.spelling import cases_of

# Number of lines shown of what a subject printed. The JSON report has all of them.
_PRINTED_LINES = 5
STYLES = {
    Status.PASS: "green",
    Status.FAIL: "bold red",
    Status.CRASH: "bold red",
    Status.TIMEOUT: "bold red",
    Status.KNOWN: "yellow",
    Status.SHARED: "yellow",
}


def result_line(result: Result) -> str:
    """One result in words: the number of cases, those that proved nothing, and the largest error."""
    said = [result.status.value, cases_of(result.cases)]
    said += [f"{result.counts[status]} {status}" for status in UNPROVEN if 0 < result.counts[status] < result.cases]
    if result.max_ratio is not None:
        said.append(f"largest error {result.max_ratio:.3f} of the bound")
    return printable(f"{result.subject} {result.law} {result.dtype} {result.device}: {', '.join(said)}")


def print_verdict(console: Console, subject: str, verdict: Verdict) -> None:
    """Print the verdict on a case: its status, what is wrong, and how to run it again."""
    heading, *lines = verdict_lines(subject, verdict)
    plain(console, heading, style=STYLES.get(verdict.status))
    for line in lines:
        plain(console, line)


def verdict_lines(subject: str, verdict: Verdict, replay: str | None = None) -> list[str]:
    """The lines that are printed for a case, heading first. They may hold any character of the subject's message.

    ``replay`` replaces the command that runs the case again.
    """
    heading = f"{verdict.status.upper()} {subject}, {verdict.case.law}"
    lines = [f"{heading}: {verdict.message}" if verdict.message else heading, f"  case:   {verdict.case}"]
    if verdict.ratio is not None:
        lines.append(f"  error:  {verdict.ratio:.4g} of the bound")
    if verdict.assumed and verdict.status.is_failure:
        lines.append(f"  judged: by {verdict.assumed}")
    if verdict.status.is_failure:
        words = [line for line in verdict.printed.splitlines() if line.strip()]
        lines += [f"  printed: {line}" for line in words[-_PRINTED_LINES:]]
        lines.append(f"  replay: {replay_command(subject, verdict.case) if replay is None else replay}")
    return lines


def plain(console: Console, text: str, *, style: str | None = None) -> None:
    """Print a line that can be copied: unfolded, and without control characters of a subject's message."""
    encoded = printable(text).encode(console.encoding, "backslashreplace").decode(console.encoding)
    console.print(encoded, style=style, markup=False, highlight=False, emoji=False, soft_wrap=True)


def printable(text: str) -> str:
    """Replace control characters, except line feeds, by escapes."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def laws_table(laws: Iterable[Law]) -> str:
    """A Markdown table with one row per law.

    Examples
    --------
    >>> from toeplitz_core.testing.laws import LAWS
    >>> print(laws_table([LAWS["stride"]]))  # doctest: +ELLIPSIS
    | law | what must hold | what breaks it, for instance |
    |---|---|---|
    | stride | With stride s, ... every s-th output ... | a code path for strides that differs from the dense one |
    """
    rows = [f"| {law.name} | {law.statement} | {law.catches} |" for law in laws]
    return "\n".join(("| law | what must hold | what breaks it, for instance |", "|---|---|---|", *rows))
