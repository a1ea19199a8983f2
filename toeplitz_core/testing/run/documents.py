"""Results as dictionaries that JSON can hold, and back."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from toeplitz_core.testing.case.call import parse_line
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.run.record import replay_command


def result_document(result: Result) -> dict[str, Any]:
    """A result, as the schema of reports has them."""
    found: dict[str, Any] = {
        "subject": result.subject,
        "law": result.law,
        "dtype": result.dtype,
        "device": result.device,
        "status": result.status.value,
        "cases": result.cases,
        "counts": counted(result.counts),
        "max_ratio": number(result.max_ratio),
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
            "ratio": number(failure.ratio),
            "index": None if failure.index is None else list(failure.index),
            "printed": failure.printed,
        }
    return found


def read_result(document: Mapping[str, Any]) -> Result:
    """The result of a document.

    Raises
    ------
    ValueError, KeyError
        If it is not one.
    """
    status, ratio = Status(document["status"]), document["max_ratio"]
    failure = None
    if "case" in document:
        of_case = document["ratio"]
        failure = Verdict(
            status,
            parse_line(document["case"]),
            document["message"],
            None if of_case is None else float(of_case),
            None if document["index"] is None else tuple(document["index"]),
            printed=document["printed"],
        )
    return Result(
        Step(document["subject"], document["law"], document["dtype"], document["device"]),
        status,
        Counter({Status(name): count for name, count in document["counts"].items()}),
        None if ratio is None else float(ratio),
        failure,
        document["message"] or "",
        Counter(document["known"]),
        Counter(document["assumed"]),
        document.get("zeros", 0),
        document.get("zero_signs", 0),
        document.get("refused") or "",
    )


def counted(counts: Counter[Status]) -> dict[str, int]:
    """How many of each status."""
    return {status.value: counts[status] for status in Status}


def number(value: float | None) -> float | str | None:
    """A number as JSON can hold it: it has no infinity, and a reader must not take that for a small one or for none."""
    return "inf" if value is not None and not math.isfinite(value) else value
