"""A run as the values that the templates of a page show."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.findings.reproducer.apart import Script
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.accuracy import Accuracy
from toeplitz_core.testing.laws.verdict import EXCUSED
from toeplitz_core.testing.reports.compared import comparison_facts, verdict_line
from toeplitz_core.testing.reports.headline import claimed_of, subjects_of, verdict_in_words
from toeplitz_core.testing.reports.page.card import Card, card
from toeplitz_core.testing.reports.page.heat_map import HeatMap, heat_maps
from toeplitz_core.testing.reports.page.text import shown
from toeplitz_core.testing.reports.remarks import Remark, known_remarks, remarks
from toeplitz_core.testing.run.comparison.comparison import Comparison, Drift, Limits
from toeplitz_core.testing.run.exit_code import ExitCode
from toeplitz_core.testing.run.record import Record, versions_and_platform
from toeplitz_core.testing.subjects import SUBJECTS
from toeplitz_core.testing.support.spelling import listed

# More findings than this are only counted: a browser would take long, and nobody reads more.
FINDINGS = 300
# Up to this many cards are all open at first; of more, only the first one is.
_OPEN = 3
# Remarks of one kind, and facts of one kind in a comparison.
_REMARKS, _FACTS = 40, 40
# The length of a date in ISO 8601, to the minute.
_MINUTES = 16
_TONES = {ExitCode.ALL_HOLD: "good", ExitCode.FAILURE: "bad"}
# The headings of remarks, by their kind.
_KINDS = {
    "mistrusted": "Cases that could not have told right from wrong",
    "unsupported": "Not supported by the subject",
    "unsupported in part": "Refused in part",
    "forward only": "No gradients",
    "not run": "Not run",
    "signed zeros": "Signs of zeros",
    "judged by": "Arithmetic by which results were judged",
    "known": "Known failures",
    "shared": "Failures of torch itself, which the subject shares",
    "stale": "Entries of known failures that are no longer needed",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """The accuracy of a subject in a dtype, next to that of the baseline.

    Parameters
    ----------
    new : Accuracy
    old : Accuracy, optional
        Of the baseline, on the same number of geometries; None without one.
    """

    new: Accuracy
    old: Accuracy | None = None

    @property
    def change(self) -> str:
        """How the errors of 99 percent have grown, in words; empty without a baseline."""
        return "" if self.old is None else f"{Drift(self.old, self.new).factors[1]:.3g} times"


@dataclass(frozen=True, slots=True)
class View:
    """All that a page shows.

    Parameters
    ----------
    title, verdict : str
        The subjects, and whether the laws hold.
    tone : str
        ``good``, ``bad`` or ``doubt``.
    tiles : tuple of (str, str)
        A number and what it counts.
    notice : str
        What went wrong with the run itself; empty if nothing did.
    cards : tuple of Card
    groups : mapping of str to sequence of Card
        The cards by their cause, the most frequent cause first.
    more : int
        How many findings have no card.
    open : int
        How many cards are open at first.
    tables : tuple of HeatMap
    laws : tuple of (str, str)
        The laws of the tables, each with its statement.
    measured : tuple of Measured
    baseline : str
        The name of the baseline; empty without a comparison.
    compared : tuple of (str, sequence of str)
        The facts of the comparison by their label, and last whether it fails.
    unjudged : tuple of (str, sequence of str)
        What was not judged, by a heading.
    versions, options : tuple of (str, str)
    command, date : str
    """

    title: str
    verdict: str
    tone: str
    tiles: tuple[tuple[str, str], ...]
    notice: str
    cards: tuple[Card, ...]
    groups: Mapping[str, Sequence[Card]]
    more: int
    open: int
    tables: tuple[HeatMap, ...]
    laws: tuple[tuple[str, str], ...]
    measured: tuple[Measured, ...]
    baseline: str
    compared: tuple[tuple[str, Sequence[str]], ...]
    unjudged: tuple[tuple[str, Sequence[str]], ...]
    versions: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, str], ...]
    command: str
    date: str


def view(
    record: Record,
    comparison: Comparison | None,
    left_out: Sequence[str],
    scripts: Callable[[Sequence[Finding]], Sequence[Script]],
) -> View:
    """The values of a page."""
    findings = record.findings[:FINDINGS]
    appeared = set() if comparison is None else {fact.id for fact in comparison.appeared}
    cards = tuple(
        card(number, finding, record, script, is_new=finding.id in appeared)
        for number, (finding, script) in enumerate(zip(findings, scripts(findings), strict=True), start=1)
    )
    tables = tuple(heat_maps(record))
    names = dict.fromkeys(row.law for table in tables for row in table.rows)
    return View(
        title=listed(subjects_of(record)) or "no subject",
        verdict=verdict_in_words(record),
        tone=_TONES.get(ExitCode(record.exit_code), "doubt"),
        tiles=tuple(_tiles(record)),
        notice=_notice(record),
        cards=cards,
        groups=_by_cause(cards),
        more=len(record.findings) - len(cards),
        open=_OPEN if len(cards) <= _OPEN else 1,
        tables=tables,
        laws=tuple((name, LAWS[name].statement) for name in names if name in LAWS),
        measured=tuple(_measured(record, comparison)),
        baseline="" if comparison is None else comparison.old.name,
        compared=() if comparison is None else tuple(_compared(comparison)),
        unjudged=_unjudged(record, left_out),
        versions=tuple(_versions(record).items()),
        options=tuple(
            (name.replace("_", " "), _value(value)) for name, value in record.options.items() if _told(value)
        ),
        command=shown(str(record.options.get("command", ""))),
        date=record.timing.date[:_MINUTES].replace("T", " "),
    )


def _tiles(record: Record) -> list[tuple[str, str]]:
    claimed = claimed_of(record)
    held = sum(result.status.value == "pass" or result.status in EXCUSED for result in claimed)
    count = len(record.findings)
    tiles = [
        (f"{count:,}", "finding" if count == 1 else "findings"),
        (f"{held:,} of {len(claimed):,}", "hold, each law with each dtype"),
        (f"{record.counts.total():,}", "cases"),
    ]
    if record.judged:
        tiles.append(
            (
                f"{int(100 * min(record.judged.values()))}%",
                "of the cases judged" + ", at least" * (len(record.judged) > 1),
            )
        )
    return [*tiles, (f"{record.timing.seconds:,.0f} s", "time")]


def _notice(record: Record) -> str:
    said = {"completed": ""}.get(record.ended, f"The run was cut short: {record.ended}.")
    said += f" Error of toeplitz-core: {record.error}." * bool(record.error)
    said += f" Judged too little: {record.too_little_judged}." * bool(record.too_little_judged)
    return shown(said.strip())


def _by_cause(cards: Sequence[Card]) -> Mapping[str, Sequence[Card]]:
    groups: dict[str, list[Card]] = {}
    for each in cards:
        groups.setdefault(each.cause, []).append(each)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def _measured(record: Record, comparison: Comparison | None) -> list[Measured]:
    before = {} if comparison is None else comparison.old.accuracy
    found = []
    for new in record.accuracy:
        old = before.get((new.subject, new.dtype, new.device))
        found.append(Measured(new, old if old is not None and old.geometries == new.geometries else None))
    return found


def _compared(comparison: Comparison) -> list[tuple[str, Sequence[str]]]:
    facts = [(label, list(map(shown, texts))) for label, texts in comparison_facts(comparison) if texts]
    cut = [
        (label, [*texts[:_FACTS], *[f"and {len(texts) - _FACTS} more"] * (len(texts) > _FACTS)])
        for label, texts in facts
    ]
    return [*cut, ("verdict", [verdict_line(comparison, Limits())])]


def _unjudged(record: Record, left_out: Sequence[str]) -> tuple[tuple[str, Sequence[str]], ...]:
    groups: dict[str, list[str]] = {}
    # What was not reached is in ``left_out``, counted, where that is known.
    results = record.results if left_out else (*record.results, *record.unreached)
    found: list[Remark] = [*remarks(results, left_out, most=_REMARKS), *known_remarks(record)]
    for remark in found:
        groups.setdefault(_KINDS.get(remark.kind, remark.kind.capitalize()), []).append(
            shown(f"{remark.text} {remark.link}".rstrip())
        )
    return tuple(groups.items())


def _versions(record: Record) -> dict[str, str]:
    """The versions of everything on which results may depend: also torch's libraries, and those of the subjects."""
    found = versions_and_platform() | {"instructions": torch.backends.cpu.get_cpu_capability()}
    if one_dnn := re.search(r"DNN v([\d.]+)", torch.__config__.show()):
        found["oneDNN"] = one_dnn[1]
    if torch.version.cuda is not None:
        found |= {"CUDA": torch.version.cuda, "cuDNN": str(torch.backends.cudnn.version())}
    for name in subjects_of(record):
        if name in SUBJECTS:
            found |= SUBJECTS[name].versions
    return {name.replace("_", "-"): version for name, version in found.items()}


def _told(value: object) -> bool:
    return value not in (None, False, "", [], ())


def _value(value: object) -> str:
    return shown(", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
