"""The facts of a run that another run is compared with: from its record, its JSON, or a baseline in a repository.

A baseline is JSON with one line per fact, sorted, so that a change of it reads well in a review.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from toeplitz_core.testing.laws.accuracy import Accuracy, Errors
from toeplitz_core.testing.laws.result import Step
from toeplitz_core.testing.laws.verdict import EXCUSED, Status
from toeplitz_core.testing.run.record import (
    UNPROVEN,
    Record,
    finding_document,
    number,
    result_document,
    versions_and_platform,
)

# The first number of the schema that can be read, and the second number up to which all fields are known.
SCHEMA = (1, 7)
BASELINE = 1
# Shares of judged cases are kept to this many digits.
_DIGITS = 2


@dataclass(frozen=True, slots=True)
class FindingFact:
    """What is compared of a finding; see :class:`~toeplitz_core.testing.findings.finding.Finding`.

    Parameters
    ----------
    id, cause, status, case : str
    subjects, laws, dtypes, devices, needs : tuple of str
    """

    id: str
    subjects: tuple[str, ...]
    cause: str
    status: str
    case: str
    needs: tuple[str, ...]
    laws: tuple[str, ...]
    dtypes: tuple[str, ...]
    devices: tuple[str, ...]

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> FindingFact:
        """From its dictionary in the JSON of a run or in a baseline."""
        ident, cause, status, case = (str(document[name]) for name in ("id", "cause", "status", "case"))
        subjects, needs, laws, dtypes = (_words(document[name]) for name in ("subjects", "needs", "laws", "dtypes"))
        return cls(ident, subjects, cause, status, case, needs, laws, dtypes, _words(document.get("devices", [])))

    def within(self, steps: Collection[Step]) -> FindingFact:
        """The finding with only those laws, dtypes and devices that some of these steps have."""
        laws, dtypes, devices = ({getattr(step, name) for step in steps} for name in ("law", "dtype", "device"))
        return replace(
            self,
            laws=tuple(law for law in self.laws if law in laws),
            dtypes=tuple(dtype for dtype in self.dtypes if dtype in dtypes),
            devices=tuple(device for device in self.devices if device in devices),
        )


@dataclass(frozen=True, slots=True)
class StepFact:
    """What is compared of a step.

    Parameters
    ----------
    status : str
        As in the JSON of a run.
    judged : float
        The share of cases that proved something, from 0 to 1.
    refuses : tuple of str
        The features of cases that the subject refuses.
    why : str
        Why it was not run or not proven; empty if it was.
    cases : int
        The number of cases.
    """

    status: str
    judged: float
    refuses: tuple[str, ...] = ()
    why: str = ""
    cases: int = 0

    @property
    def holds(self) -> bool:
        """Whether the law holds."""
        return self.status == Status.PASS

    @property
    def is_supported(self) -> bool:
        """Whether the step says something about the subject: it holds or fails."""
        status = Status(self.status)
        return status in (Status.PASS, *EXCUSED) or status.is_failure

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> StepFact:
        """From the dictionary of a result in the JSON of a run, or from a line of a baseline."""
        if "judged" in document and "counts" not in document:
            judged, cases = _share(document["judged"]), int(document.get("cases", 0))
        else:
            counts = document["counts"]
            proven = sum(counts.values()) - sum(counts[status.value] for status in UNPROVEN)
            cases = sum(counts.values())
            judged = round(proven / max(1, cases), _DIGITS)
        status = str(document["status"])
        fact = cls(status, judged, _words(document.get("refuses", [])))
        why = "" if fact.is_supported else str(document.get("message") or "")
        return cls(fact.status, fact.judged, fact.refuses, why, cases)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a run says.

    Parameters
    ----------
    name : str
        The file that they come from, or a word for it.
    findings : mapping of str to FindingFact
        By id.
    steps : mapping of Step to StepFact
    accuracy : mapping of (subject, dtype, device) to Accuracy
    environment, options : mapping
        As in the JSON of a run.
    date : str
        When the run began; empty if this is not known.
    seconds : float, optional
        How long it took; None if this is not known, as in a baseline.
    newer : str
        The version of the schema if it is newer than this program, so that some fields are not read; else empty.
    ended : str
        How the run ended, as in the JSON. A run that was cut short has not reached all of its steps.
    """

    name: str
    findings: Mapping[str, FindingFact]
    steps: Mapping[Step, StepFact]
    accuracy: Mapping[tuple[str, str, str], Accuracy]
    environment: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    date: str = ""
    seconds: float | None = None
    newer: str = ""
    ended: str = "completed"

    @property
    def subjects(self) -> tuple[str, ...]:
        """The names of the subjects, in the order of the run."""
        return tuple(dict.fromkeys(step.subject for step in self.steps))

    @classmethod
    def of(cls, record: Record, name: str = "this run") -> Facts:
        """Those of a record."""
        return cls(
            name,
            {finding.id: FindingFact.read(finding_document(finding)) for finding in record.findings},
            _reached(
                {r.step: StepFact.read(result_document(r)) for r in (*record.results, *record.unreached)}, record.ended
            ),
            {(found.subject, found.dtype, found.device): found for found in record.accuracy},
            versions_and_platform(),
            record.options,
            record.timing.date,
            record.timing.seconds,
            ended=record.ended,
        )

    @classmethod
    def read(cls, path: str | Path) -> Facts:
        """Those of a file: the JSON of a run, or a baseline.

        Raises
        ------
        ValueError
            If the file cannot be read, is not such a file, or has a version that this program does not know. The
            message names the file, and the place if the JSON is broken.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: {error}") from None
        except RecursionError:
            raise ValueError(f"{path}: no JSON of this program: too many brackets in each other") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{error.lineno}:{error.colno}: no JSON, or cut short: {error.msg}") from None
        if not isinstance(document, dict) or not {"schema_version", "baseline_version"} & set(document):
            raise ValueError(
                f"{path}: neither the JSON of a run (check --json) nor a baseline (check --write-baseline)"
            )
        try:
            return cls._of_document(document, str(path))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path}: {_wrong(error)}") from None

    @classmethod
    def _of_document(cls, document: Mapping[str, Any], name: str) -> Facts:
        newer = ""
        if "baseline_version" in document:
            if document["baseline_version"] != BASELINE:
                raise ValueError(f"baseline_version={document['baseline_version']!r} must be {BASELINE}")
        else:
            version = str(document["schema_version"])
            first, _, second = version.partition(".")
            if first != str(SCHEMA[0]):
                raise ValueError(f"schema_version={version!r} must be {SCHEMA[0]}.x")
            newer = version if int(second or 0) > SCHEMA[1] else ""
        environment, options, timing = (dict(document.get(key) or {}) for key in ("environment", "options", "timing"))
        ended = str(document.get("summary", {}).get("ended", "completed"))
        seconds = timing.get("seconds")
        return cls(
            name,
            {found["id"]: FindingFact.read(found) for found in document.get("findings", ())},
            _reached({_step(found): StepFact.read(found) for found in document["results"]}, ended),
            {(f["subject"], f["dtype"], f["device"]): _accuracy(f) for f in document.get("accuracy", ())},
            environment,
            options,
            str(timing.get("date", "")),
            None if seconds is None else float(seconds),
            newer,
            ended,
        )

    def baseline(self) -> str:
        """The text of a baseline with these facts."""
        kept = {name: self.options.get(name) for name in ("profile", "examples", "seed", "where", "max_products")}
        steps = [asdict(step) | _fact(fact) for step, fact in self.steps.items()]
        accuracy = [
            {**asdict(found), "of_bound": _errors(found.of_bound), "ulps": _errors(found.ulps)}
            for found in self.accuracy.values()
        ]
        parts = [
            f'"baseline_version": {BASELINE}',
            f'"environment": {json.dumps(dict(self.environment))}',
            f'"options": {json.dumps(kept)}',
            f'"findings": [\n{_lines(map(asdict, self.findings.values()))}\n]',
            f'"results": [\n{_lines(steps)}\n]',
            f'"accuracy": [\n{_lines(accuracy)}\n]',
        ]
        return "{\n" + ",\n".join(parts).replace("[\n\n]", "[]") + "\n}\n"


def _wrong(error: Exception) -> str:
    """What is wrong with a field."""
    return f"the field {error} is missing" if isinstance(error, KeyError) else f"a field is wrong: {error}"


def _reached(steps: dict[Step, StepFact], ended: str) -> dict[Step, StepFact]:
    """The steps without those that a run which was cut short did not reach."""
    cut = ended != "completed"
    return {step: fact for step, fact in steps.items() if not (cut and fact.status == Status.NOT_RUN)}


def _words(found: object) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise TypeError(f"{found!r} must be a list of strings")
    return tuple(found)


def _share(found: object) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 1:
        raise TypeError(f"judged={found!r} must be a number from 0 to 1")
    return float(found)


def _step(document: Mapping[str, Any]) -> Step:
    return Step(document["subject"], document["law"], document["dtype"], document["device"])


def _fact(fact: StepFact) -> dict[str, Any]:
    """A step's fact as a dictionary, without what is empty."""
    return {name: value for name, value in asdict(fact).items() if name != "why" and value != ()}


def _errors(errors: Errors) -> dict[str, Any]:
    return {name: number(value) for name, value in asdict(errors).items()}


def _accuracy(document: Mapping[str, Any]) -> Accuracy:
    of_bound, ulps = (
        Errors(*(float(document[name][key]) for key in ("median", "most", "largest"))) for name in ("of_bound", "ulps")
    )
    subject, dtype, device = (str(document[name]) for name in ("subject", "dtype", "device"))
    return Accuracy(subject, dtype, device, int(document["geometries"]), int(document["elements"]), of_bound, ulps)


def _lines(facts: Iterable[Mapping[str, Any]]) -> str:
    """One line for each fact, sorted."""
    return ",\n".join(sorted(json.dumps(fact, allow_nan=False) for fact in facts))
