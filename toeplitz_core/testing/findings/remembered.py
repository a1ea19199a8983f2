"""Remember the failures of a run, to try them first in the next: as lines, in a Hypothesis database.

Only :func:`default_database` chooses the database. Any of Hypothesis's databases can take its place (read-only,
multiplexed, GitHub artifacts, Redis). Hypothesis itself would store its own choices there. Their meaning changes when
a strategy changes. With a target, Hypothesis would also spend the remaining cases of a law on shrinking cases that
pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass

from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase

from toeplitz_core.testing.case.call import Call, parse_line
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.laws.result import Step
from toeplitz_core.testing.support.files import cache_directory


def default_database() -> ExampleDatabase:
    """A database in the user's cache directory."""
    return DirectoryBasedExampleDatabase(cache_directory() / "failures")


@dataclass(frozen=True, slots=True)
class Remembered:
    """The cases that failed for a step.

    Parameters
    ----------
    step : Step
        The subject, law, dtype and device whose cases are stored.
    database : ExampleDatabase
        Hypothesis's storage, in which the cases are kept between runs.
    """

    step: Step
    database: ExampleDatabase

    @property
    def _key(self) -> bytes:
        return f"toeplitz-core {self.step.subject} {self.step.law} {self.step.dtype} {self.step.device}".encode()

    def recall(self) -> list[Case | Call]:
        """The remembered cases that can be read, in the order of their lines."""
        found = []
        for value in sorted(self.database.fetch(self._key)):
            with contextlib.suppress(ValueError):  # also UnicodeDecodeError: another version wrote it
                found.append(parse_line(value.decode()))
        return found

    def keep(self, cases: Collection[Case | Call]) -> None:
        """Remember these cases and no others. If the database cannot be written, only the report has them."""
        with contextlib.suppress(OSError):
            kept = {str(case).encode() for case in cases}
            for value in set(self.database.fetch(self._key)) - kept:
                self.database.delete(self._key, value)
            for value in kept:
                self.database.save(self._key, value)
