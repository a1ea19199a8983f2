"""A finding as lines of text that can be copied."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console

from toeplitz_core.testing.findings.causes.catalogue import UNKNOWN, definition
from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.reports.text import (
    STYLES,
    WIDTH,
    filled,
    labelled,
    plain,
    shortened,
    shortened_frames,
    verdict_blocks,
    wrapped,
)
from toeplitz_core.testing.run.record import Record, replay_command
from toeplitz_core.testing.support.spelling import counted

# The largest number of lines for one finding.
LINES = 15
# Lines of the message and of the evidence, which may hold whatever an exception says.
_MESSAGE, _EVIDENCE = 3, 3


def finding_lines(
    finding: Finding, number: int | None, *, replay: str | None = None, limit: int | None = LINES
) -> list[str]:
    """The lines of a finding, heading first: its cause, its case, what it needs, where it shows, and how to see it.

    Parameters
    ----------
    number : int, optional
        The number that the tables name it by. Without one, such as in a test, which ends before the others, the heading
        has its id.
    replay : str, optional
        Replaces the command that runs the case again.
    limit : int, optional
        The largest number of lines; None for no limit. What is left out first is the map, then parts of the rest.
    """
    failure = finding.failure
    name = f"{finding.cause} ({finding.id})" if number is None else f"F{number} {finding.cause}"
    heading = f"{name}: {finding.subject} ({finding.status})"
    cause = wrapped(cause_in_words(finding, named=False), WIDTH - 10)
    message = wrapped(failure.message.strip(), WIDTH - 10)
    fixed = [f"  case:   {failure.case}"]
    if finding.needs:
        fixed += labelled("needs:", shortened(wrapped(", ".join(finding.needs), WIDTH - 10), 2))
    fixed += labelled("in:", wrapped(_seen(finding), WIDTH - 10)[:2])
    if finding.note:
        fixed += labelled("also:", shortened(wrapped(finding.note, WIDTH - 10), 2))
    last = labelled("judged:", wrapped(f"by {failure.assumed}" * bool(failure.assumed), WIDTH - 10)[:1])
    last += [f"  replay: {replay_command(finding.subject, failure) if replay is None else replay}"]
    # The cause gets the lines that nothing else needs, and then the message.
    spare = 99 if limit is None else limit - 1 - len(fixed) - len(last) - _EVIDENCE - min(len(message), _MESSAGE)
    cause = shortened(cause, _EVIDENCE + max(0, spare))
    message = shortened(message, _MESSAGE + max(0, spare - max(0, len(cause) - _EVIDENCE)))
    fixed = [*labelled("cause:", cause), *labelled("wrong:", message), *fixed]
    blocks = verdict_blocks(failure)
    room = None if limit is None else limit - 1 - len(fixed) - len(last)
    shown: list[str] = []
    for label in ("where:", "trace:", "values:", "printed:", "map:"):
        block = blocks[label]
        if room is not None:
            if label == "map:":
                block = block[: len(block) * (len(block) <= room)]
            else:
                block = (shortened_frames if label == "trace:" else shortened)(block, room)
            room -= len(block)
        shown += labelled(label, block)
    return [*filled(heading), *fixed, *shown, *last]


def cause_in_words(finding: Finding, *, named: bool = True) -> str:
    """The cause of a finding with its definition and its evidence; ``named`` begins with its identifier."""
    said = sentence(finding.evidence) if finding.cause == UNKNOWN else definition(finding.cause)
    if finding.cause != UNKNOWN and not finding.failure.message.startswith(finding.evidence):
        said += f" {sentence(finding.evidence)}"
    return f"{finding.cause}: {said}" if named else said


def _seen(finding: Finding) -> str:
    """Where the bug shows, counted if there is more than one place."""
    found = f"{counted(list(finding.laws), 'law')}; {', '.join(finding.dtypes)}"
    return f"{found}; {', '.join(finding.devices)}"


def sentence(text: str) -> str:
    """A text with a capital letter at its beginning and one full stop at its end."""
    return text[:1].upper() + text[1:].rstrip(".") + "."


def findings_heading(findings: Sequence[Finding]) -> str:
    """What stands above the findings of a run."""
    return "1 finding:" if len(findings) == 1 else f"{len(findings)} findings, the gravest first:"


def print_findings(
    console: Console, record: Record, tests_of: Callable[[Finding], int], replay_of: Callable[[Finding], str]
) -> None:
    """Print the findings of tests, which have told them already: three lines for each.

    Parameters
    ----------
    tests_of : callable
        Returns how many tests fail for a finding.
    replay_of : callable
        Returns the command that replays it.
    """
    if record.findings:
        plain(console, findings_heading(record.findings))
    for number, finding in enumerate(record.findings, start=1):
        tests = f"{(count := tests_of(finding))} test{'s' * (count != 1)}"
        heading = f"F{number} {finding.cause} ({finding.id}): {finding.subject}, {tests}"
        plain(console, heading, style=STYLES.get(finding.status))
        plain(console, f"  case:   {finding.failure.case}")
        plain(console, f"  replay: {replay_of(finding)}")
