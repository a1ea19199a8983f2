"""The card of a finding: all that a reader needs to understand it and to run it again."""

from __future__ import annotations

from dataclasses import dataclass

from toeplitz_core.testing.findings.causes.catalogue import UNKNOWN, definition
from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.findings.reproducer.apart import Script
from toeplitz_core.testing.laws.difference import Sample
from toeplitz_core.testing.reports.finding_text import sentence
from toeplitz_core.testing.reports.page.error_map import error_map
from toeplitz_core.testing.reports.page.grid import Grid
from toeplitz_core.testing.reports.page.matrix_pictures import MatrixPictures, matrix_pictures
from toeplitz_core.testing.reports.page.receptive_field import receptive_field
from toeplitz_core.testing.reports.page.text import shown
from toeplitz_core.testing.run.record import Record, replay_command

# Of a heading and of a cell of the index, in characters.
_BRIEF = 160


@dataclass(frozen=True, slots=True)
class Card:
    """A finding, as a page shows it.

    Parameters
    ----------
    number : int
        What the tables name it by: ``F1`` for 1.
    id, subject, status, cause : str
    definition, evidence : str
        What the cause is, and what supports it, in sentences; the definition is empty for an unknown cause.
    message : str
        What is wrong.
    brief : str
        The beginning of the message.
    case, replay : str
        The smallest case as a line, and the command that runs it again.
    facts : tuple of (str, str)
        What else is known: a label and a text.
    samples : tuple of Sample
        Wrong elements with their values.
    matrices : MatrixPictures, optional
    no_matrices : str
        Why there are no matrices.
    pictures : tuple of Grid
        The error map and the receptive field, as far as there are any.
    script : Script
    traceback, printed : str
    accepted, is_new : bool
        Whether it is in the baseline; whether the baseline lacks it.
    """

    number: int
    id: str
    subject: str
    status: str
    cause: str
    definition: str
    evidence: str
    message: str
    brief: str
    case: str
    replay: str
    facts: tuple[tuple[str, str], ...]
    samples: tuple[Sample, ...]
    matrices: MatrixPictures | None
    no_matrices: str
    pictures: tuple[Grid, ...]
    script: Script
    traceback: str
    printed: str
    accepted: bool = False
    is_new: bool = False


def card(number: int, finding: Finding, record: Record, script: Script, *, is_new: bool = False) -> Card:
    """The card of a finding."""
    failure, name = finding.failure, f"f{number}"
    difference = failure.difference
    pictures = (error_map(f"{name}-map", finding), receptive_field(f"{name}-field", finding))
    evidence = sentence(shown(finding.evidence)) if finding.evidence else ""
    repeated = failure.message.startswith(finding.evidence) and finding.cause != UNKNOWN
    message = shown(failure.message.strip())
    first = message.partition("\n")[0]
    return Card(
        number,
        finding.id,
        finding.subject,
        finding.status.value,
        finding.cause,
        "" if finding.cause == UNKNOWN else definition(finding.cause),
        "" if repeated else evidence,
        message,
        first if len(first) <= _BRIEF else f"{first[:_BRIEF]} ...",
        shown(str(failure.case)),
        shown(replay_command(finding.subject, failure)),
        tuple((label, shown(text)) for label, text in _facts(finding) if text),
        () if difference is None else tuple(sample for sample in difference.samples if sample.actual),
        None if finding.matrices is None else matrix_pictures(name, finding.matrices),
        shown(finding.no_matrices),
        tuple(picture for picture in pictures if picture is not None),
        script,
        shown(failure.traceback.strip("\n")),
        shown(failure.printed.strip()),
        accepted=finding.id in record.accepted,
        is_new=is_new,
    )


def _facts(finding: Finding) -> list[tuple[str, str]]:
    failure = finding.failure
    where = "" if failure.difference is None else failure.difference.where
    return [
        ("needs", ", ".join(finding.needs)),
        ("where", where),
        ("laws", ", ".join(finding.laws)),
        ("dtypes", ", ".join(finding.dtypes)),
        ("devices", ", ".join(finding.devices)),
        ("judged", f"by {failure.assumed}" * bool(failure.assumed)),
        ("also", finding.note),
        ("id", finding.id),
    ]
