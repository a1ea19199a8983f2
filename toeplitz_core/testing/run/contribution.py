"""What each test of a pytest session adds to the record of the session. It may come from another process."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.findings.gathering import Gathering
from toeplitz_core.testing.findings.known_failures.entry import Entry
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.run.exit_code import ExitCode
from toeplitz_core.testing.run.record import Record, failure_document, read_failure, read_result, result_document
from toeplitz_core.testing.run.session import Session, shown_options
from toeplitz_core.testing.search.tally import merged_results
from toeplitz_core.testing.subjects.interface import Implementation


@dataclass(frozen=True, slots=True)
class Contribution:
    """The part of one test in the record of its session.

    Parameters
    ----------
    result : Result, optional
        None if the test ended by an error.
    findings : tuple of Finding
        The findings that the failures of the result belong to, with these failures as their only sightings.
    replays : mapping of str to str
        The command that replays each finding, by its id, or the reason why none can.
    known : tuple of Entry
        The known failures that the result matched.
    options : mapping
        The options of the test, as reports show them.
    required_devices : tuple of str
        Devices that the options of the test name.
    error : str
        The error of our own, or of importing the subject, that ended the test.
    """

    result: Result | None = None
    findings: tuple[Finding, ...] = ()
    replays: Mapping[str, str] = field(default_factory=dict)
    known: tuple[Entry, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    required_devices: tuple[str, ...] = ()
    error: str = ""

    @classmethod
    def of(cls, session: Session, result: Result, replay: Callable[[Finding], str]) -> Contribution:
        """That of a result of this session. ``replay`` returns the command for a finding."""
        sights = [(result.step, str(failure.case)) for failure in result.failures]
        found = [(each, tuple(s for s in sights if s in each.sightings)) for each in session.gathering.findings]
        findings = tuple(replace(finding, sightings=seen) for finding, seen in found if seen)
        return cls(
            result,
            findings,
            {finding.id: replay(finding) for finding in findings},
            tuple(entry for entry in session.plan.known.entries if result.known[entry.name]),
            shown_options(session.options, session.plan),
            session.options.device,
        )

    def document(self) -> dict[str, Any]:
        """The contribution as JSON values."""
        if self.result is None:
            return {"error": self.error}
        return {
            **result_document(self.result),
            "findings": [self._finding_document(finding) for finding in self.findings],
            "entries": [str(entry) for entry in self.known],
            "options": dict(self.options),
            "required_devices": list(self.required_devices),
        }

    def _finding_document(self, finding: Finding) -> dict[str, Any]:
        return {
            "failure": {"status": finding.status.value, **failure_document(finding.subject, finding.failure)},
            "cause": finding.cause,
            "evidence": finding.evidence,
            "needs": list(finding.needs),
            "note": finding.note,
            "number": finding.number,
            "cases": [case for _, case in finding.sightings],
            "replay": self.replays[finding.id],
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Contribution:
        """Read a contribution back from :meth:`document`."""
        if "error" in document:
            return cls(error=document["error"])
        result = read_result(document)
        findings = tuple(_read_finding(result.step, found) for found in document["findings"])
        return cls(
            result,
            findings,
            {one.id: found["replay"] for one, found in zip(findings, document["findings"], strict=True)},
            tuple(Entry.parse(tomllib.loads(text)["failure"][0], 1) for text in document["entries"]),
            document["options"],
            tuple(document["required_devices"]),
        )


def _read_finding(step: Step, document: Mapping[str, Any]) -> Finding:
    return Finding(
        step.subject,
        read_failure(document["failure"]),
        document["cause"],
        document["evidence"],
        tuple(document["needs"]),
        tuple((step, case) for case in document["cases"]),
        document["note"],
        document["number"],
    )


def joined(contributions: Iterable[Contribution], first: Sequence[Step] = ()) -> Record:
    """One record of the contributions of all tests, as if they had been one run that was completed.

    Findings with the same ``id`` are one. A failure without a finding, in a test that was cut short, makes a finding
    that was not examined.

    Parameters
    ----------
    first : sequence of Step
        The steps whose results come first, in this order.
    """
    contributions = [*contributions]
    ran = [each for each in contributions if each.result is not None]
    results = _merged([each.result for each in ran if each.result is not None], first)
    order = {result.step: number for number, result in enumerate(results)}
    known = {entry.name: entry for each in ran for entry in each.known}
    record = Record(
        results,
        ExitCode.ALL_HOLD,
        error=next((each.error for each in contributions if each.error), ""),
        options=_common([each.options for each in ran]) | _names(results),
        required_devices=tuple(dict.fromkeys(name for each in ran for name in each.required_devices)),
        known=KnownFailures(tuple(known.values())),
        findings=_one_of_each((finding for each in ran for finding in each.findings), order),
    )
    no_subjects: Mapping[str, Implementation] = {}  # none is called
    unexamined = Gathering(no_subjects.__getitem__, LAWS)
    for result in results:
        for failure in result.failures:
            if record.finding_of(result.step, failure) is None:
                unexamined.add(result.step, failure, briefly=True)
    return replace(record, findings=_one_of_each((*record.findings, *unexamined.findings), order))


def _merged(results: Sequence[Result], first: Sequence[Step]) -> list[Result]:
    """One result per step, in an order that does not depend on when each test ended: the steps ``first`` come first.

    Several tests may have judged the same step.
    """
    found: dict[Step, list[Result]] = {}
    for result in results:
        found.setdefault(result.step, []).append(result)
    order = [step for step in first if step in found]
    ran = {step: [r for r in of_step if r.cases] or of_step[-1:] for step, of_step in found.items()}
    return [merged_results(ran[step]) for step in dict.fromkeys([*order, *sorted(ran, key=_place)])]


def _place(step: Step) -> tuple[str, str, int, int]:
    """Where a step stands in a run of all laws and dtypes."""
    return step.subject, step.device, list(LAWS).index(step.law), CASE_DTYPES.index(step.dtype)


def _one_of_each(findings: Iterable[Finding], order: Mapping[Step, int]) -> tuple[Finding, ...]:
    """One finding for each id, with the sightings of all, the gravest first and then in the order of the steps."""
    found: dict[str, Finding] = {}
    for finding in sorted(findings, key=lambda finding: order[finding.steps[0]]):
        same = found.get(finding.id)
        sightings = finding.sightings if same is None else tuple(dict.fromkeys((*same.sightings, *finding.sightings)))
        found[finding.id] = replace(same or finding, sightings=sightings)
    ordered = (finding.in_order(order) for finding in found.values())
    return tuple(sorted(ordered, key=lambda finding: finding.gravity))


def _common(options: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Options of several tests: those on which all agree, and None for the others."""
    names = dict.fromkeys(name for each in options for name in each)
    values = {name: [each.get(name) for each in options] for name in names}
    return {name: found[0] if all(value == found[0] for value in found) else None for name, found in values.items()}


def _names(results: Sequence[Result]) -> dict[str, Any]:
    """What was run, as options."""
    keys = {"subjects": "subject", "laws": "law", "dtypes": "dtype", "devices": "device"}
    return {name: list(dict.fromkeys(getattr(r, key) for r in results)) for name, key in keys.items()}
