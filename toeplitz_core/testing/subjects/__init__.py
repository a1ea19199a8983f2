"""Implementations under test, one file per back end."""

from toeplitz_core.testing.subjects.arrays import ArraySubject
from toeplitz_core.testing.subjects.entry_points import plugged_in
from toeplitz_core.testing.subjects.interface import Absent, Claims, Environment, Implementation, Subject
from toeplitz_core.testing.subjects.names import (
    absent,
    as_subject,
    check_name,
    check_undeclared,
    environment,
    named_subjects,
    resolve,
)
from toeplitz_core.testing.subjects.outcome import Answer, Outcome
from toeplitz_core.testing.subjects.placement import placed
from toeplitz_core.testing.subjects.pytorch.subject import TorchSubject
from toeplitz_core.testing.subjects.registry import SUBJECTS

__all__ = [
    "SUBJECTS",
    "Absent",
    "Answer",
    "ArraySubject",
    "Claims",
    "Environment",
    "Implementation",
    "Outcome",
    "Subject",
    "TorchSubject",
    "absent",
    "as_subject",
    "check_name",
    "check_undeclared",
    "environment",
    "named_subjects",
    "placed",
    "plugged_in",
    "resolve",
]
