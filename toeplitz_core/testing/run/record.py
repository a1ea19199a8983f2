"""The record of a run, as a value and as dictionaries. Every report is made from it."""

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
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.findings.known_failures.staleness import Stale
from toeplitz_core.testing.laws.accuracy import Accuracy
from toeplitz_core.testing.laws.difference import Difference
from toeplitz_core.testing.laws.result import Result, Step, wholly_refused
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.subjects.outcome import OUTPUT
from toeplitz_core.testing.subjects.symptom import Symptom

# The statuses of cases that prove nothing about a subject.
UNPROVEN = (Status.MISTRUSTED, Status.UNSUPPORTED)

Ending = Literal["completed", "stopped at the first failure", "interrupted", "error"]


@dataclass(frozen=True, slots=True)
class Timing:
    """When a run began, and how long it took.

    Parameters
    ----------
    date : str
        When it began, in UTC, as ISO 8601 has it.
    seconds : float
        How long it took, with the search for causes.
    steps : mapping of Step to float
        The seconds of each step, all its rounds together. Steps of parallel processes overlap. Those that an earlier
        part of a resumed run has judged are not there.
    began : mapping of Step to str
        When each step began, as the date.
    """

    date: str = ""
    seconds: float = 0.0
    steps: Mapping[Step, float] = field(default_factory=dict)
    began: Mapping[Step, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """The results of a run, and how it ended.

    Parameters
    ----------
    results : sequence of Result
        One for each step that was run.
    exit_code : int
        The exit code of the command.
    ended : str
        How the run ended.
    error : str
        The error of our own that ended the run, if any.
    options : mapping
        The options of the run: profile, examples, seed, ...
    required_devices : collection of str
        Devices that were named.
    known : KnownFailures
        The known failures that the run was given.
    stale : sequence of Stale
        Entries of that list that are no longer needed.
    unreached : sequence of Result
        A result with the status ``not-run`` for each other step.
    rounds : int, optional
        Number of completed rounds; None without ``time``.
    findings : sequence of Finding
        The bugs behind the failures, the gravest first.
    accuracy : sequence of Accuracy
        The errors on the same operands in every run; for subjects whose law ``forward-bound`` is checked.
    accepted : collection of str
        The ids of findings that stand in the baseline, so that they do not fail the run.
    remembered : collection of str
        The ids of findings that an earlier run with the same memory has reported. They fail the run all the same.
    timing : Timing
        When the run began, and how long it and its steps took.
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
    findings: Sequence[Finding] = ()
    accuracy: Sequence[Accuracy] = ()
    accepted: Collection[str] = ()
    remembered: Collection[str] = ()
    timing: Timing = field(default_factory=Timing)

    def finding_of(self, step: Step, failure: Verdict) -> Finding | None:
        """The finding that a failure belongs to; None without one."""
        number = self.number_of(step, failure)
        return None if number is None else self.findings[number - 1]

    def number_of(self, step: Step, failure: Verdict) -> int | None:
        """The number of the finding that a failure belongs to, from 1 on; None without one."""
        numbered = enumerate(self.findings, start=1)
        return next((number for number, finding in numbered if finding.covers(step, failure)), None)

    def is_accepted(self, result: Result) -> bool:
        """Whether all failures of a result belong to findings of the baseline."""
        findings = [self.finding_of(result.step, failure) for failure in result.failures]
        return bool(findings) and all(found is not None and found.id in self.accepted for found in findings)

    @property
    def judged(self) -> Mapping[str, float]:
        """The share of the cases of each subject that proved something, where a law was not refused as a whole."""
        counts: dict[str, Counter[Status]] = {}
        for result in self.results:
            if result.cases and not (result.status is Status.UNSUPPORTED and wholly_refused(result.counts)):
                counts.setdefault(result.subject, Counter()).update(result.counts)
        return {
            subject: 1 - sum(found[status] for status in UNPROVEN) / found.total() for subject, found in counts.items()
        }

    @property
    def too_little_judged(self) -> str:
        """Which subjects had too few of their cases judged, in words; empty if none had, or if nobody asked."""
        wanted = self.options.get("min_judged")
        if not isinstance(wanted, int | float):
            return ""
        said = [f"{name} {share:.0%}" for name, share in self.judged.items() if share < wanted]
        return f"{', '.join(said)} of the cases, and min-judged={wanted} asks for more" if said else ""

    @property
    def statuses(self) -> Counter[Status]:
        """Number of results with each status, unreached ones included."""
        return Counter(result.status for result in (*self.results, *self.unreached))

    @property
    def counts(self) -> Counter[Status]:
        """Number of cases with each status, over all results."""
        return sum((result.counts for result in self.results), Counter[Status]())

    @property
    def matched(self) -> Counter[str]:
        """Number of cases that matched each known failure, by the name of its entry."""
        return sum((result.known for result in self.results), Counter[str]())

    @property
    def shared(self) -> Counter[str]:
        """Number of cases that torch itself fails too, by the name of the entry for torch."""
        return sum((result.shared for result in self.results), Counter[str]())


def versions_and_platform() -> dict[str, str]:
    """The versions and the platform, on which results may depend."""
    return {
        "toeplitz_core": toeplitz_core.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "hypothesis": hypothesis.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
    }


def replay_command(subject: str, failure: Verdict) -> str:
    """The command that replays the case of a verdict, judged as it was."""
    chosen = "".join(f" {word}" for word in (*(f"--arithmetic {word}" for word in failure.chosen), *failure.flags))
    return f'python -m toeplitz_core replay "{failure.case}" --subject {subject}{chosen}'


def result_document(result: Result) -> dict[str, Any]:
    """A result as a dictionary, as in the schema of the JSON report."""
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
        "shared": dict(result.shared),
        "assumed": dict(result.assumed),
        "zeros": result.zeros,
        "zero_signs": result.zero_signs,
        "refused": result.refused or None,
    }
    if result.refuses:
        found["refuses"] = list(result.refuses)
    if result.outside:
        found["outside"] = result.outside
    if result.left_out:
        found["left_out"] = result.left_out
    if result.failure is not None:
        found |= failure_document(result.subject, result.failure)
    if result.others:
        found["others"] = [
            {"status": other.status.value, **failure_document(result.subject, other)} for other in result.others
        ]
    return found


def finding_document(finding: Finding) -> dict[str, Any]:
    """A finding as a dictionary, as in the schema of the JSON report."""
    failure = finding.failure
    where = "" if failure.difference is None else failure.difference.where
    return {
        "id": finding.id,
        "status": finding.status.value,
        "subjects": [finding.subject],
        "laws": list(finding.laws),
        "dtypes": list(finding.dtypes),
        "devices": list(finding.devices),
        "case": str(failure.case),
        "message": failure.message,
        "cause": finding.cause,
        "evidence": finding.evidence,
        "needs": list(finding.needs),
        "where": where or None,
        "note": finding.note or None,
        "matrices": None if finding.matrices is None else finding.matrices.document(),
        "no_matrices": finding.no_matrices or None,
        "replay": replay_command(finding.subject, failure),
        "traceback": failure.traceback or None,
    }


def failure_document(subject: str, failure: Verdict) -> dict[str, Any]:
    """A failing verdict as a dictionary, as in the schema of the JSON report, without its status."""
    return {
        "case": str(failure.case),
        "message": failure.message,
        "symptom": failure.symptom.value,
        "quantity": failure.quantity,
        "call": None if failure.call is None else str(failure.call),
        "cause": None,
        "finding": None,
        "replay": replay_command(subject, failure),
        "ratio": number(failure.ratio),
        "index": None if failure.index is None else list(failure.index),
        "printed": failure.printed,
        "judged": failure.assumed or None,
        "traceback": failure.traceback or None,
        "difference": None if failure.difference is None else failure.difference.document(),
        "arithmetic": list(failure.chosen),
        "flags": list(failure.flags),
    }


def read_result(document: Mapping[str, Any]) -> Result:
    """Read a result back from its dictionary.

    Raises
    ------
    ValueError, KeyError
        If the dictionary is not a result.
    """
    status, ratio = Status(document["status"]), document["max_ratio"]
    failure = read_failure(document) if "case" in document else None
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
        tuple(read_failure(other) for other in document.get("others", ())),
        document.get("outside", 0),
        shared=Counter(document.get("shared", {})),
        refuses=tuple(document.get("refuses", ())),
        left_out=document.get("left_out", 0),
    )


def read_failure(document: Mapping[str, Any]) -> Verdict:
    """Read a failing verdict back from its dictionary, to which its status was added."""
    ratio = document["ratio"]
    return Verdict(
        Status(document["status"]),
        parse_line(document["case"]),
        document["message"],
        None if ratio is None else float(ratio),
        None if document["index"] is None else tuple(document["index"]),
        printed=document["printed"],
        assumed=document.get("judged") or "",
        traceback=document.get("traceback") or "",
        difference=Difference.read(document["difference"]) if document.get("difference") else None,
        chosen=tuple(document.get("arithmetic", ())),
        symptom=Symptom(document.get("symptom", Symptom.OTHER)),
        quantity=document.get("quantity", OUTPUT.of),
        call=Case.parse(document["call"]) if document.get("call") else None,
        flags=tuple(document.get("flags", ())),
    )


def counted(counts: Counter[Status]) -> dict[str, int]:
    """The counts of all statuses, zeros included."""
    return {status.value: counts[status] for status in Status}


def number(value: float | None) -> float | str | None:
    """A number for JSON. JSON has no infinity and no NaN; both become ``"inf"``, so that they are not read as small."""
    return "inf" if value is not None and not math.isfinite(value) else value
