"""What a run was asked to do, and the files that it writes."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from toeplitz_core.testing.findings.known import KnownFailures
from toeplitz_core.testing.isolation.sandbox import TIMEOUT
from toeplitz_core.testing.reports.json import to_json
from toeplitz_core.testing.reports.junit import to_junit
from toeplitz_core.testing.run.record import Ended, Record
from toeplitz_core.testing.support.files import check_writable, write_atomically

if TYPE_CHECKING:
    from toeplitz_core.testing.findings.known import Stale
    from toeplitz_core.testing.run.plan import Plan
    from toeplitz_core.testing.run.rounds import Run
    from toeplitz_core.testing.search.search import Result

# Why steps were not reached where the time was limited.
SPENT = "the time budget was spent"


@dataclass(frozen=True, slots=True)
class Asked:
    """A plan, and what else decides how its run ends."""

    plan: Plan
    required_devices: Collection[str] = ()
    fail_stale: bool = False
    inline: bool = False
    timeout: float = TIMEOUT
    jobs: int = 1
    known: Sequence[str] = ()

    @property
    def options(self) -> dict[str, object]:
        """For reports: whatever the results depend on."""
        return {
            "subjects": [subject.name for subject in self.plan.subjects],
            "laws": [law.name for law in self.plan.laws],
            "dtypes": list(self.plan.dtypes),
            "devices": list(self.plan.devices),
            **self._effort,
            "jobs": self.jobs,
            "timeout": self.timeout,
            "known": list(self.known),
            "fail_fast": self.plan.fail_fast,
            "fail_stale": self.fail_stale,
            "inline": self.inline,
        }

    @property
    def _effort(self) -> dict[str, object]:
        """How cases were chosen: a sweep has them all, and takes nothing from a profile."""
        plan = self.plan
        drawn = plan.sweep is None
        return {
            "profile": plan.profile.name if drawn else None,
            "examples": plan.examples or plan.profile.examples if drawn else None,
            "seed": plan.seed,
            "time": plan.time,
            "sweep": plan.sweep,
        }

    def record(self, run: Run, exit_code: int, *, stopped: str, error: str, stale: Sequence[Stale]) -> Record:
        """What came of the run; ``stopped`` says why steps were not reached."""
        results = run.results
        return Record(
            results,
            exit_code,
            # A budget is spent in every run that has one: it has come to its end.
            ended="error" if error else cast("Ended", stopped if stopped not in ("", SPENT) else "completed"),
            error=error,
            options=self.options,
            required_devices=self.required_devices,
            known=self.plan.known,
            stale=stale,
            unreached=self.plan.unreached(results, stopped),
            rounds=None if self.plan.time is None else run.rounds,
        )


@dataclass(frozen=True, slots=True)
class Outputs:
    """The files that a run writes. ``json="-"`` is the standard output, as it was when this was made.

    Raises
    ------
    ValueError
        For a file that cannot be written, or a list of known failures that cannot be read, before the run.
    """

    json: str | None = None
    junit: str | None = None
    write_known: str | None = None
    adopting: KnownFailures | None = field(init=False, default=None)
    stdout: TextIO = field(init=False, default_factory=lambda: sys.stdout)

    def __post_init__(self) -> None:
        for path in (self.json, self.junit, self.write_known):
            if path is not None and not (path == "-" and path is self.json):
                check_writable(path)
        if self.write_known is not None:
            there = Path(self.write_known).is_file() and Path(self.write_known).stat().st_size
            listed = KnownFailures.load(self.write_known) if there else KnownFailures()
            object.__setattr__(self, "adopting", listed)

    def adopt(self, plan: Plan, results: Sequence[Result], *, briefly: bool = False) -> int:
        """Write what fails to the list of known failures; how many entries were added.

        ``briefly``, without a search for what fails beyond that.
        """
        assert self.adopting is not None
        assert self.write_known is not None
        grown = self.adopting
        for grown in plan.adopt(results, datetime.now(UTC).date().isoformat(), self.adopting):
            grown.write(self.write_known)
            if briefly:
                break
        return len(grown.entries) - len(self.adopting.entries)

    def write(self, record: Record) -> None:
        """Write the reports."""
        if self.json == "-":
            self.stdout.write(to_json(record))
            self.stdout.flush()
        elif self.json is not None:
            write_atomically(self.json, to_json(record))
        if self.junit is not None:
            write_atomically(self.junit, to_junit(record))
