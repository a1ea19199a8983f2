"""Planted faults and unusual but correct convolutions, on which the suite itself is tested."""

from tests.faults.table import CORRECT, FAULTS, Fault

__all__ = ["CORRECT", "FAULTS", "Fault"]
