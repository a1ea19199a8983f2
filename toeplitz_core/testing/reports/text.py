"""Verdicts and results as lines of text that can be copied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console

from toeplitz_core.testing.laws.difference import Difference
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.run.record import UNPROVEN, replay_command
from toeplitz_core.testing.support.spelling import cases_of

# Number of lines shown of what a subject printed, and of a traceback: the first and the last ones. The JSON report has
# more of them.
_PRINTED_LINES = 5
_TRACEBACK_LINES = 20
STYLES = {
    Status.PASS: "green",
    Status.FAIL: "bold red",
    Status.CRASH: "bold red",
    Status.TIMEOUT: "bold red",
    Status.KNOWN: "yellow",
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
    if verdict.status.is_failure:
        if verdict.difference is not None:
            lines += _difference_lines(verdict.difference)
        if verdict.assumed:
            lines.append(f"  judged: by {verdict.assumed}")
        lines += _labelled("trace:", shortened(traceback_lines(verdict.traceback), _TRACEBACK_LINES))
        words = [line for line in verdict.printed.splitlines() if line.strip()]
        lines += [f"  printed: {line}" for line in shortened(words, _PRINTED_LINES)]
        lines.append(f"  replay: {replay_command(subject, verdict.case) if replay is None else replay}")
    return lines


def _difference_lines(found: Difference) -> list[str]:
    """Where the wrong elements lie, a map of them, and more of their values than the message has."""
    lines = _labelled("where:", [found.where] if found.where else [])
    if found.map:
        lines += _labelled("map:", [f"{found.plane}: X is the worst, x wrong, . right".removeprefix(": "), *found.map])
    return lines + _labelled("values:", [str(sample) for sample in found.samples[1:]])


def _labelled(label: str, lines: Sequence[str]) -> list[str]:
    """Lines in the second column, the first one after a label."""
    return [f"  {label if number == 0 else '':<8}{line}" for number, line in enumerate(lines)]


def shortened(lines: Sequence[str], limit: int) -> list[str]:
    """At most ``limit`` lines: the first and the last ones, and between them how many are left out.

    Examples
    --------
    >>> shortened(["one", "two", "three", "four", "five"], 3)
    ['one', '... 3 lines ...', 'five']
    """
    if len(lines) <= limit:
        return list(lines)
    head = (limit - 1) // 2
    tail = limit - 1 - head
    return [*lines[:head], f"... {len(lines) - head - tail} lines ...", *lines[len(lines) - tail :]]


def traceback_lines(traceback: str) -> list[str]:
    """The frames of a traceback, without its heading and without the exception at its end, which the message has."""
    lines = traceback.splitlines()
    while lines and not lines[-1].startswith("  "):
        del lines[-1]
    return [line.removeprefix("  ") for line in lines[lines[:1] == ["Traceback (most recent call last):"] :]]


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
