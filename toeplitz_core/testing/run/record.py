"""What came of a run, as a value and as dictionaries: what every report is made from."""

from __future__ import annotations

import math
import platform
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import hypothesis
import numpy as np
import torch

import toeplitz_core
from toeplitz_core.testing.case.call import parse_line
from toeplitz_core.testing.findings.known import KnownFailures
from toeplitz_core.testing.findings.staleness import Stale
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status, Verdict

# Cases that prove nothing about a subject: what could not have told right from wrong, and what it refused.
UNPROVEN = (Status.MISTRUSTED, Status.UNSUPPORTED)

Ending = Literal["completed", "stopped at the first failure", "interrupted", "error"]


@dataclass(frozen=True, slots=True)
class Record:
    """What came of a run.

    Parameters
    ----------
    results : sequence of Result
        One for each step of the plan that was reached.
    exit_code : int
        Of the command.
    ended : str
        How the run ended; ``error`` says which of our own errors ended it, if one did.
    options : mapping
        What was asked for: profile, examples, seed, ...
    required_devices : collection of str
        Devices that were asked for by name.
    known : KnownFailures
        The list that the run was given.
    stale : sequence of Stale
        Its entries that are not needed any more.
    unreached : sequence of Result
        One that was not run for each other step of the plan.
    rounds : int, optional
        How many rounds were completed in the time that was given.
    """

    results: Sequence[Result]
    exit_code: int
    ended: Ending = "completed"
    error: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    required_devices: Collection[str] = ()
    known: KnownFailures = field(default_factory=KnownFailures)
    stale: Sequence[Stale] = ()
    unreached: Sequence[Result] = ()
    rounds: int | None = None

    @property
    def statuses(self) -> Counter[Status]:
        """Of the results, unreached ones included."""
        return Counter(result.status for result in (*self.results, *self.unreached))

    @property
    def counts(self) -> Counter[Status]:
        """Of the cases, of all results together."""
        return sum((result.counts for result in self.results), Counter[Status]())

    @property
    def matched(self) -> Counter[str]:
        """Cases that each entry of the list spoke for, by its name."""
        return sum((result.known for result in self.results), Counter[str]())


def environment() -> dict[str, str]:
    """What a result may depend on: versions and platform."""
    return {
        "toeplitz_core": toeplitz_core.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "hypothesis": hypothesis.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
    }


def replay_command(subject: str, case: object) -> str:
    """The command that runs a case again."""
    return f'python -m toeplitz_core replay "{case}" --subject {subject}'


def exit_code(
    results: Sequence[Result], *, required_devices: Collection[str] = (), refused_stale: Collection[Stale] = ()
) -> int:
    """1 a law fails; 3 nothing proven, a required device is missing, or a stale entry is refused; 0 all laws hold.

    Nothing is proven of a law if too few cases could be judged, and of a subject if it supports no law at all. A law or
    a dtype that a subject does not support at all is not one that it claims.
    """
    if any(result.status.is_failure for result in results):
        return 1
    absent = any(r.status is Status.NOT_RUN and r.device in required_devices for r in results)
    ran = [r for r in results if r.status is not Status.NOT_RUN]
    proven = {r.subject for r in ran if r.status in (Status.PASS, Status.KNOWN)}
    unproven = not ran or any(r.nothing_proven or r.subject not in proven for r in ran)
    return 3 if absent or unproven or refused_stale else 0


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
            "judged": failure.assumed or None,
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
            assumed=document.get("judged") or "",
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
