"""A finding: one bug of a subject, with its smallest case, its cause and what it needs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from toeplitz_core.testing.findings.matrices import Matrices
from toeplitz_core.testing.laws.result import Step
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.subjects.symptom import Symptom

_GRAVEST = (Status.CRASH, Status.TIMEOUT, Status.FAIL)


@dataclass(frozen=True, slots=True)
class Finding:
    """One bug of a subject: all failures that have one cause and one condition.

    Parameters
    ----------
    subject : str
        The name of the subject.
    failure : Verdict
        The verdict on the smallest case.
    cause : str
        An identifier of the catalogue, or ``unknown``.
    evidence : str
        What supports the cause, in a sentence.
    needs : tuple of str
        The conditions without which the bug does not show, in words; empty if every case shows it.
    sightings : tuple of (Step, str)
        The failures that come from it, in the order of the run: each step, with the line of the failing case.
    note : str
        More about the bug, such as which other variants of the subject have it; empty if there is no more.
    number : int
        1, or more for further bugs of the same subject with the same cause and symptom.
    matrices : Matrices, optional
        ``T`` and the matrix that the subject has; None without one.
    no_matrices : str
        The reason for missing matrices, in a sentence; empty with matrices, or where they would say nothing.
    """

    subject: str
    failure: Verdict
    cause: str
    evidence: str
    needs: tuple[str, ...] = ()
    sightings: tuple[tuple[Step, str], ...] = ()
    note: str = ""
    number: int = 1
    matrices: Matrices | None = None
    no_matrices: str = ""

    @property
    def id(self) -> str:
        """The same in other runs, with other seeds and other versions: it depends on subject, cause and symptom."""
        symptom = self.failure.symptom
        if symptom is Symptom.WRONG_SHAPE and self.cause != symptom.value:
            symptom = Symptom.VALUES  # the same mistake may show as another shape, or as wrong numbers
        words = f"{self.subject} {self.cause} {symptom}"
        found = hashlib.sha256(words.encode()).hexdigest()[:8]
        return found if self.number == 1 else f"{found}-{self.number}"

    @property
    def status(self) -> Status:
        return self.failure.status

    @property
    def gravity(self) -> int:
        """0 for a crash, 1 for a hang, 2 for any other failure."""
        return _GRAVEST.index(self.status)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps that fail because of it, in the order of the run."""
        return tuple(dict.fromkeys(step for step, _ in self.sightings))

    def covers(self, step: Step, failure: Verdict) -> bool:
        """Whether a failure comes from this bug."""
        return (step, str(failure.case)) in self.sightings

    @property
    def laws(self) -> tuple[str, ...]:
        """The laws that fail because of it, in the order of the run."""
        return tuple(dict.fromkeys(step.law for step in self.steps))

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtypes in which it shows, in the order of the run."""
        return tuple(dict.fromkeys(step.dtype for step in self.steps))

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices on which it shows, in the order of the run."""
        return tuple(dict.fromkeys(step.device for step in self.steps))

    def in_order(self, order: Mapping[Step, int]) -> Finding:
        """The finding, with its sightings in an order of steps."""
        return replace(self, sightings=tuple(sorted(self.sightings, key=lambda sight: order.get(sight[0], -1))))

    def also_in(self, step: Step, failure: Verdict) -> Finding:
        """The finding, with one more failure that comes from it."""
        return replace(self, sightings=(*self.sightings, (step, str(failure.case))))
