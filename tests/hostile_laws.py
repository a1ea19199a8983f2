"""Laws that a judge process does not survive, or not in order. They are imported by it, and so stand in a file."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.verdict import Status, Verdict

if TYPE_CHECKING:
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.subjects import Implementation


def made_up(name: str) -> Law:
    """A law that is what the function of that name does."""
    exact = LAWS["forward-exact"]
    return Law(name, "Made up.", "Nothing.", globals()[name], exact.recipes, exact.dtypes)


def holds(_: Implementation, case: Case) -> Verdict:
    """Proves everything."""
    return Verdict(Status.PASS, case)


def fails(_: Implementation, case: Case) -> Verdict:
    """Proves the opposite."""
    return Verdict(Status.FAIL, case, "as planned")


def breaks(_: Implementation, case: Case) -> Verdict:
    """Has a bug."""
    raise ZeroDivisionError(f"a bug in a law, at {case.dtype}")


def dies(_: Implementation, case: Case) -> Verdict:
    """Runs out of memory, say."""
    os.kill(os.getpid(), signal.SIGKILL)
    return Verdict(Status.PASS, case)
