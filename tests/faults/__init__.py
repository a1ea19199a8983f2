"""Convolutions that are wrong in one known way, and some that are unusual but right: what the suite is tested on."""

from tests.faults.table import CORRECT, FAULTS, Fault

__all__ = ["CORRECT", "FAULTS", "Fault"]
