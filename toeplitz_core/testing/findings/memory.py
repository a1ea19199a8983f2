"""What failed in one run, to be tried first in the next: lines, in a database of Hypothesis.

The database's relatives (read-only, multiplexed, of GitHub's artifacts, Redis) take its place where it is shared.
Hypothesis itself would keep its own choices there: they mean something else once a strategy has changed, and with them
it spends what is left of the cases of a law that has a target on making those smaller that hold.
"""

from __future__ import annotations

import contextlib
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
    database : ExampleDatabase
    """

    step: Step
    database: ExampleDatabase

    @property
    def _key(self) -> bytes:
        return f"toeplitz-core {self.step.subject} {self.step.law} {self.step.dtype} {self.step.device}".encode()

    def recall(self) -> list[Case | Call]:
        """The cases that can be read, in the order of their lines."""
        found = []
        for value in sorted(self.database.fetch(self._key)):
            with contextlib.suppress(ValueError):  # UnicodeDecodeError too: another version wrote it
                found.append(parse_line(value.decode()))
        return found

    def keep(self, case: Case | Call | None) -> None:
        """Remember a case, or nothing more; where nothing can be written, the report alone has it."""
        with contextlib.suppress(OSError):
            kept = b"" if case is None else str(case).encode()
            for value in set(self.database.fetch(self._key)) - {kept}:
                self.database.delete(self._key, value)
            if kept:
                self.database.save(self._key, kept)
