"""Implementations under test, one file per back end."""

from toeplitz_core.testing.subjects.base import Outcome, Runner, Subject
from toeplitz_core.testing.subjects.resolver import SUBJECTS, check_name, environment, resolve
from toeplitz_core.testing.subjects.torch_eager import TorchSubject

__all__ = ["SUBJECTS", "Outcome", "Runner", "Subject", "TorchSubject", "check_name", "environment", "resolve"]
