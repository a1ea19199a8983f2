"""A run as JSON, as ``schema.json`` beside this file describes it."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run.record import environment, replay_command
from toeplitz_core.testing.search.search import Result

if TYPE_CHECKING:
    from toeplitz_core.testing.run.record import Record

# The first number changes where a reader of an older one would misunderstand; the second where fields were added.
SCHEMA_VERSION = "1.3"


def to_json(record: Record) -> str:
    """The document as text, in ASCII, with a line feed at its end."""
    return json.dumps(document(record), indent=2, allow_nan=False) + "\n"


def document(record: Record) -> dict[str, Any]:
    """The document as dictionaries and lists."""
    return {
        "schema_version": SCHEMA_VERSION,
        "environment": environment(),
        "options": dict(record.options or {}),
        "summary": {
            "exit_code": record.exit_code,
            "ended": record.ended,
            "error": record.error or None,
            "rounds": record.rounds,
            "results": _counted(record.statuses),
            "cases": record.counts.total(),
            "counts": _counted(record.counts),
        },
        "results": [result_document(result) for result in (*record.results, *record.unreached)],
        "known": None if record.known is None else _known(record),
    }


def result_document(result: Result) -> dict[str, Any]:
    """One of the results, as the schema has them."""
    found: dict[str, Any] = {
        "subject": result.subject,
        "law": result.law,
        "dtype": result.dtype,
        "device": result.device,
        "status": result.status.value,
        "cases": result.cases,
        "counts": _counted(result.counts),
        "max_ratio": _number(result.max_ratio),
        "message": result.message or None,
        "known": dict(result.known),
        "assumed": dict(result.assumed),
        "zeros": result.zeros,
        "zero_signs": result.zero_signs,
        "refused": result.refused or None,
    }
    if (failure := result.failure) is not None:
        found |= {
            "case": str(failure.case),
            "message": failure.message,
            "cause": None,
            "replay": replay_command(result.subject, failure.case),
            "ratio": _number(failure.ratio),
            "index": None if failure.index is None else list(failure.index),
            "printed": failure.printed,
        }
    return found


def read_result(document: Mapping[str, Any]) -> Result:
    """The result of a document, for tables: without the failing case."""
    ratio = document["max_ratio"]
    return Result(
        document["subject"],
        document["law"],
        document["dtype"],
        document["device"],
        Status(document["status"]),
        Counter({Status(name): count for name, count in document["counts"].items()}),
        None if ratio is None else float(ratio),
        message=document["message"] or "",
        known=Counter(document["known"]),
        assumed=Counter(document["assumed"]),
        zeros=document.get("zeros", 0),
        zero_signs=document.get("zero_signs", 0),
        refused=document.get("refused") or "",
    )


def _known(record: Record) -> list[dict[str, Any]]:
    assert record.known is not None
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


def _counted(counts: Counter[Status]) -> dict[str, int]:
    return {status.value: counts[status] for status in Status}


def _number(value: float | None) -> float | str | None:
    # JSON has no infinity, and a reader must not take it for a small number or for none.
    return "inf" if value is not None and not math.isfinite(value) else value
