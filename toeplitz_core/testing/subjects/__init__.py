"""Implementations under test, one file per back end."""

from toeplitz_core.testing.subjects.base import Subject
from toeplitz_core.testing.subjects.resolver import SUBJECTS, resolve
from toeplitz_core.testing.subjects.torch_eager import TorchSubject

__all__ = ["SUBJECTS", "Subject", "TorchSubject", "resolve"]
