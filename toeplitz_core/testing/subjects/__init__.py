"""Implementations under test, one file per back end."""

from toeplitz_core.testing.subjects.arrays import ArraySubject
from toeplitz_core.testing.subjects.entry_points import plugged_in
from toeplitz_core.testing.subjects.interface import Absent, Outcome, Runner, Subject, placed
from toeplitz_core.testing.subjects.names import absent, as_subject, check_name, environment, resolve
from toeplitz_core.testing.subjects.pytorch.variants import TorchSubject
from toeplitz_core.testing.subjects.registry import SUBJECTS

__all__ = [
    "SUBJECTS",
    "Absent",
    "ArraySubject",
    "Outcome",
    "Runner",
    "Subject",
    "TorchSubject",
    "absent",
    "as_subject",
    "check_name",
    "environment",
    "placed",
    "plugged_in",
    "resolve",
]
