"""A run as JSON; ``schema.json`` in this folder describes the document."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from toeplitz_core.testing.findings.shared import listed_for_torch
from toeplitz_core.testing.laws.accuracy import Accuracy
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.run.comparison.comparison import Comparison, Limits
from toeplitz_core.testing.run.events import Ended, Event
from toeplitz_core.testing.run.record import (
    Record,
    counted,
    finding_document,
    number,
    result_document,
    versions_and_platform,
)
from toeplitz_core.testing.support.files import check_writable, write_atomically

# The first number changes when older readers would misread the document; the second when fields are added.
SCHEMA_VERSION = "1.7"


def to_json(record: Record, comparison: Comparison | None = None) -> str:
    """The document as ASCII text that ends in a line feed."""
    return json.dumps(document(record, comparison), indent=2, allow_nan=False) + "\n"


def document(record: Record, comparison: Comparison | None = None) -> dict[str, Any]:
    """The document as dictionaries and lists."""
    return {
        "schema_version": SCHEMA_VERSION,
        "environment": versions_and_platform(),
        "options": dict(record.options),
        "timing": {
            "date": record.timing.date,
            "seconds": round(record.timing.seconds, 3),
            "steps": [{**asdict(step), "seconds": round(seconds, 3)} for step, seconds in record.timing.steps.items()],
        },
        "summary": {
            "exit_code": record.exit_code,
            "ended": record.ended,
            "error": record.error or None,
            "rounds": record.rounds,
            "results": counted(record.statuses),
            "cases": record.counts.total(),
            "counts": counted(record.counts),
        },
        "results": [_result(record, result) for result in (*record.results, *record.unreached)],
        "findings": [finding_document(finding) for finding in record.findings],
        "accuracy": [_accuracy(found) for found in record.accuracy],
        "comparison": None if comparison is None else _comparison(comparison),
        "known": _known(record) if record.known.entries else None,
        "shared": [_shared(name, count) for name, count in sorted(record.shared.items())],
    }


def _result(record: Record, result: Result) -> dict[str, Any]:
    """A result with the findings that its failures belong to."""
    found = result_document(result)
    for of_failure, failure in zip((found, *found.get("others", ())), result.failures, strict=False):
        finding = record.finding_of(result.step, failure)
        if finding is not None:
            of_failure |= {"finding": finding.id, "cause": finding.cause}
    return found


def _comparison(found: Comparison) -> dict[str, Any]:
    return {
        "baseline": found.old.name,
        "new": [finding.id for finding in found.appeared],
        "gone": [finding.id for finding in found.gone],
        "changed": [changed.new.id for changed in found.changed],
        "lost": [{**asdict(each.step), "what": each.what} for each in found.lost],
        "gained": [{**asdict(each.step), "what": each.what} for each in found.gained],
        "fails": list(found.fails(Limits())),
    }


def _accuracy(found: Accuracy) -> dict[str, Any]:
    errors = {name: {k: number(v) for k, v in asdict(getattr(found, name)).items()} for name in ("of_bound", "ulps")}
    return {**asdict(found), **errors}


def _known(record: Record) -> list[dict[str, Any]]:
    return [
        {
            "name": entry.name,
            "subjects": list(entry.subjects),
            "law": ", ".join(entry.laws),
            "applies": entry.applies,
            "cases": record.matched[entry.name],
            "reason": entry.reason,
            "link": entry.link or None,
            "stale": [{"subject": s.subject, "why": s.why} for s in record.stale if s.entry.name == entry.name],
        }
        for entry in record.known.entries
    ]


def _shared(name: str, cases: int) -> dict[str, Any]:
    entry = listed_for_torch(name)
    return {
        "name": name,
        "cases": cases,
        "reason": None if entry is None else entry.reason,
        "link": None if entry is None else entry.link or None,
    }


class JsonReport:
    """Write the record of a run as JSON when the run ends.

    Parameters
    ----------
    path : str
        ``-`` means the standard output at the time when this object is created.

    Raises
    ------
    ValueError
        If the file cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._stdout = sys.stdout
        if path != "-":
            check_writable(path)

    def __call__(self, event: Event) -> None:
        """Write the record if the event is the end of the run."""
        if not isinstance(event, Ended):
            return
        if self._path == "-":
            self._stdout.write(to_json(event.record, event.comparison))
            self._stdout.flush()
        else:
            write_atomically(self._path, to_json(event.record, event.comparison))
