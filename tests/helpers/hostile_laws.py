"""Laws that crash or fail the judge's process, which imports them from this file."""

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
    """A law whose check is the function of that name."""
    exact = LAWS["forward-exact"]
    return Law(name, "Made up.", "Nothing.", globals()[name], exact.recipes, exact.dtypes)


def holds(_: Implementation, case: Case) -> Verdict:
    """Passes every case."""
    return Verdict(Status.PASS, case)


def fails(_: Implementation, case: Case) -> Verdict:
    """Fails every case."""
    return Verdict(Status.FAIL, case, "as planned")


def breaks(_: Implementation, case: Case) -> Verdict:
    """Raises an error, like a law with a bug."""
    raise ZeroDivisionError(f"a bug in a law, at {case.dtype}")


def dies(_: Implementation, case: Case) -> Verdict:
    """Kills its process, as when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    return Verdict(Status.PASS, case)
