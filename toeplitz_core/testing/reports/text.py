"""Verdicts and results as lines of text that can be copied."""

from __future__ import annotations

import math
import re
import textwrap
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
_HEADING_LINES = 6
# The largest number of lines for one failure in a log, where nobody can scroll back to the first of many.
LOG_LINES = 15
# The width of everything but cases and commands, which can be copied from one line.
WIDTH = 80
# A line that begins like this is there to be copied, and is not folded.
COMMAND = "python -m toeplitz_core "
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
    heading = shortened(filled(_heading(subject, verdict)), _HEADING_LINES)
    limit = None if console.is_terminal else LOG_LINES - len(heading) + 1
    for line in heading:
        plain(console, line, style=STYLES.get(verdict.status))
    for line in verdict_lines(subject, verdict, limit=limit)[1:]:
        plain(console, line)


def print_note(console: Console, label: str, text: str) -> None:
    """Print more on a verdict, folded next to a label."""
    for line in labelled(label, wrapped(text, WIDTH - 10)):
        plain(console, line)


def verdict_lines(subject: str, verdict: Verdict, replay: str | None = None, limit: int | None = None) -> list[str]:
    """The lines that are printed for a case, heading first. They may hold any character of the subject's message.

    Parameters
    ----------
    replay : str, optional
        Replaces the command that runs the case again.
    limit : int, optional
        The largest number of lines. What is left out first is the map, then parts of the traceback.
    """
    found = verdict.difference
    lines = [_heading(subject, verdict), f"  case:   {verdict.case}"]
    if verdict.ratio is not None and math.isfinite(verdict.ratio) and found is None:
        lines.append(f"  error:  {verdict.ratio:.4g} of the bound")
    if not verdict.status.is_failure:
        return lines
    last = labelled("judged:", wrapped(f"by {verdict.assumed}" * bool(verdict.assumed), WIDTH - 10))
    last.append(f"  replay: {replay_command(subject, verdict) if replay is None else replay}")
    blocks = verdict_blocks(verdict)
    if limit is not None:
        room = limit - len(lines) - len(last)
        for label in ("where:", "values:", "printed:", "trace:", "map:"):
            block = blocks[label]
            if label == "map:":
                blocks[label] = block[: len(block) * (len(block) <= room)]
            else:
                blocks[label] = (shortened_frames if label == "trace:" else shortened)(block, room)
            room -= len(blocks[label])
    for label in ("where:", "map:", "values:", "trace:"):
        lines += labelled(label, blocks[label])
    return [*lines, *(f"  printed: {line}" for line in blocks["printed:"]), *last]


def verdict_blocks(verdict: Verdict) -> dict[str, list[str]]:
    """The lines of each part of a failure by its label, without the label; each may be empty."""
    return _difference_blocks(verdict.difference) | {
        "printed:": shortened([line for line in verdict.printed.splitlines() if line.strip()], _PRINTED_LINES),
        "trace:": shortened_frames(traceback_lines(verdict.traceback), _TRACEBACK_LINES),
    }


def _heading(subject: str, verdict: Verdict) -> str:
    """Status, subject, law and message."""
    heading = f"{verdict.status.upper()} {subject}, {verdict.case.law}"
    return f"{heading}: {verdict.message}" if verdict.message else heading


def labelled(label: str, lines: Sequence[str]) -> list[str]:
    """Lines in the second column, the first one after a label."""
    return [f"  {label if at == 0 else '':<8}{line}" for at, line in enumerate(lines)]


def _difference_blocks(found: Difference | None) -> dict[str, list[str]]:
    """Where the wrong elements lie, a map of them, and more of their values than the message has; each may be empty."""
    if found is None:
        return {"where:": [], "map:": [], "values:": []}
    shown = f"{found.plane}: X is the worst, x wrong, . right".removeprefix(": ")
    return {
        "where:": wrapped(found.where, WIDTH - 10),
        "map:": [shown, *found.map] if found.map else [],
        "values:": [str(sample) for sample in found.samples[1:]],
    }


def filled(text: str) -> list[str]:
    """The lines of a text, folded between words at 80 columns; all but the first are indented."""
    first, *rest = text.split("\n")
    lines = [first, *(line if line.startswith(COMMAND) else f"    {line}".rstrip() for line in rest)]
    folded = ([line] if line.startswith(COMMAND) else wrapped(line, WIDTH, "    ") or [""] for line in lines)
    return [line for each in folded for line in each]


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """The lines of a text, folded between words."""
    if "\n" in text:
        return [folded for line in text.split("\n") for folded in wrapped(line, width, indent) or [""]]
    # Shapes and indices stay whole: textwrap does not break at a space that may not be broken.
    lines = textwrap.wrap(
        re.sub(r"(?<=\d), (?=\d)", ",\N{NO-BREAK SPACE}", text),
        width,
        subsequent_indent=indent,
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(",\N{NO-BREAK SPACE}", ", ") for line in lines]


def shortened(lines: Sequence[str], limit: int) -> list[str]:
    """At most ``limit`` lines: the first and the last ones, and between them how many are left out.

    Examples
    --------
    >>> shortened(["one", "two", "three", "four", "five"], 3)
    ['one', '... 3 lines ...', 'five']
    """
    if len(lines) <= limit or limit < 1:
        return list(lines[: max(0, limit)])
    head = (limit - 1) // 2
    tail = limit - 1 - head
    return [*lines[:head], f"... {len(lines) - head - tail} lines ...", *lines[len(lines) - tail :]]


def shortened_frames(lines: Sequence[str], limit: int) -> list[str]:
    """At most ``limit`` lines of a traceback: the file and line of the innermost frame before all else.

    Examples
    --------
    >>> lines = ["File one", "  f()", "File two", "  g()"]
    >>> shortened_frames(lines, 3), shortened_frames(lines, 1)
    (['... 2 lines ...', 'File two', '  g()'], ['File two'])
    """
    innermost = max((at for at, line in enumerate(lines) if line.startswith("File ")), default=0)
    if len(lines) <= limit:
        return list(lines)
    if limit <= len(lines) - innermost:
        return list(lines[innermost : innermost + max(0, limit)])
    return [*shortened(lines[:innermost], limit - (len(lines) - innermost)), *lines[innermost:]]


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


def prose(console: Console, text: str, *, style: str | None = None) -> None:
    """Print a text that is folded at 80 columns."""
    for line in filled(text):
        plain(console, line, style=style)


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
