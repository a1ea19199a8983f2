"""A run as a value: what every machine-readable report is made from."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import hypothesis
import numpy as np
import torch

import toeplitz_core
from toeplitz_core.testing.findings.known import KnownFailures
from toeplitz_core.testing.findings.staleness import Stale
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status

# Cases that prove nothing about a subject: what could not have told right from wrong, and what it refused.
UNPROVEN = (Status.MISTRUSTED, Status.UNSUPPORTED)

Ending = Literal["completed", "stopped at the first failure", "interrupted", "error"]


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
    known : KnownFailures
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
    ended: Ending = "completed"
    error: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    required_devices: Collection[str] = ()
    known: KnownFailures = field(default_factory=KnownFailures)
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


def exit_code(
    results: Sequence[Result], *, required_devices: Collection[str] = (), refused_stale: Collection[Stale] = ()
) -> int:
    """1 a law fails; 3 nothing proven, a required device is missing, or a stale entry is refused; 0 all laws hold.

    Nothing is proven of a law if too few cases could be judged, and of a subject if it supports no law at all. A law or
    a dtype that a subject does not support at all is not one that it claims.
    """
    if any(result.status.is_failure for result in results):
        return 1
    absent = any(r.status is Status.NOT_RUN and r.device in required_devices for r in results)
    ran = [r for r in results if r.status is not Status.NOT_RUN]
    proven = {r.subject for r in ran if r.status in (Status.PASS, Status.KNOWN)}
    unproven = not ran or any(r.nothing_proven or r.subject not in proven for r in ran)
    return 3 if absent or unproven or refused_stale else 0
