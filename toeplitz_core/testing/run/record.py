"""A run as a value: what every machine-readable report is made from."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import hypothesis
import numpy as np
import torch

import toeplitz_core
from toeplitz_core.testing.laws.verdict import Status

if TYPE_CHECKING:
    from toeplitz_core.testing.findings.known import KnownFailures, Stale
    from toeplitz_core.testing.search.search import Result

# Cases that prove nothing about a subject: what could not have told right from wrong, and what it refused.
UNPROVEN = (Status.MISTRUSTED, Status.UNSUPPORTED)

Ended = Literal["completed", "stopped at the first failure", "interrupted", "error"]


@dataclass(frozen=True, slots=True)
class Record:
    """What came of a run.

    Parameters
    ----------
    results : sequence of Result
        One for each step of the plan that was reached.
    exit_code : int
        Of the command.
    ended : str
        How the run ended; ``error`` says which of our own errors ended it, if one did.
    options : mapping
        What was asked for: profile, examples, seed, ...
    required_devices : collection of str
        Devices that were asked for by name.
    known : KnownFailures, optional
        The list that the run was given.
    stale : sequence of Stale
        Its entries that are not needed any more.
    unreached : sequence of Result
        One that was not run for each other step of the plan.
    rounds : int, optional
        How many rounds were completed in the time that was given.
    """

    results: Sequence[Result]
    exit_code: int
    ended: Ended = "completed"
    error: str = ""
    options: Mapping[str, object] | None = None
    required_devices: Collection[str] = ()
    known: KnownFailures | None = None
    stale: Sequence[Stale] = ()
    unreached: Sequence[Result] = ()
    rounds: int | None = None

    @property
    def statuses(self) -> Counter[Status]:
        """Of the results, unreached ones included."""
        return Counter(result.status for result in (*self.results, *self.unreached))

    @property
    def counts(self) -> Counter[Status]:
        """Of the cases, of all results together."""
        return sum((result.counts for result in self.results), Counter[Status]())

    @property
    def matched(self) -> Counter[str]:
        """Cases that each entry of the list spoke for, by its name."""
        return sum((result.known for result in self.results), Counter[str]())


def environment() -> dict[str, str]:
    """What a result may depend on: versions and platform."""
    return {
        "toeplitz_core": toeplitz_core.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "hypothesis": hypothesis.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
    }


def replay_command(subject: str, case: object) -> str:
    """The command that runs a case again."""
    return f'python -m toeplitz_core replay "{case}" --subject {subject}'
