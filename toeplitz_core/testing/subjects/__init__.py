"""Implementations under test, one file per back end."""

from toeplitz_core.testing.subjects.arrays import ArraySubject
from toeplitz_core.testing.subjects.base import Absent, Outcome, Runner, Subject, placed
from toeplitz_core.testing.subjects.plugged import plugged_in
from toeplitz_core.testing.subjects.registered import SUBJECTS
from toeplitz_core.testing.subjects.resolver import absent, as_subject, check_name, environment, resolve
from toeplitz_core.testing.subjects.torch_eager import TorchSubject

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
