"""Remember the failures of a run, to try them first in the next: as lines, in a Hypothesis database.

:func:`opened` chooses the database, any of Hypothesis's. Hypothesis itself would store its own choices there. Their
meaning changes when a strategy changes. With a target, Hypothesis would also spend the remaining cases of a law on
shrinking cases that pass.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from hypothesis.database import (
    DirectoryBasedExampleDatabase,
    ExampleDatabase,
    MultiplexedDatabase,
    ReadOnlyDatabase,
)

from toeplitz_core.testing.case.call import Call, parse_line
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.causes.catalogue import UNKNOWN
from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.laws.result import Step
from toeplitz_core.testing.support.files import cache_directory
from toeplitz_core.testing.support.places import READ_ONLY, REDIS

# What separates a case line from its comment, as in files of cases.
_COMMENT = " # "
# Redis forgets what nobody has read for this long. Hypothesis's own limit is shorter than a campaign.
_KEPT = timedelta(days=3650)
# Seconds for an answer of Redis.
_PATIENCE = 5.0


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

    def add(self, cases: Collection[Case | Call]) -> None:
        """Remember these cases too.

        Raises
        ------
        OSError
            If the database does not have them then. Not every database raises if it cannot be written.
        """
        _save(self.database, self._key, {str(case).encode() for case in cases})

    def drop(self, cases: Collection[Case | Call]) -> None:
        """Forget these cases."""
        for case in cases:
            self.database.delete(self._key, str(case).encode())


@dataclass(frozen=True, slots=True)
class KnownFindings:
    """The findings of a subject that were reported in earlier runs: case lines, each with a comment.

    Parameters
    ----------
    subject : str
    database : ExampleDatabase
    """

    subject: str
    database: ExampleDatabase

    @property
    def _key(self) -> bytes:
        return f"toeplitz-core findings {self.subject}".encode()

    def has(self, finding: Finding) -> bool:
        """Whether a finding was reported: same subject, cause and symptom, and a common need.

        Findings without needs are the same bug if their cause is known, or if their case is the same.
        """
        for value in self.database.fetch(self._key):
            line, _, comment = value.decode(errors="replace").partition(_COMMENT)
            try:
                told = json.loads(comment)
                same, needs = told["id"] == finding.id.partition("-")[0], set(told["needs"])
            except (ValueError, KeyError, TypeError):  # another version wrote it
                continue
            alike = finding.cause != UNKNOWN or line == str(finding.failure.case)
            if same and (needs & set(finding.needs) or (not needs and not finding.needs and alike)):
                return True
        return False

    def add(self, finding: Finding) -> None:
        """Remember a finding; ``OSError`` as in :meth:`Remembered.add`."""
        comment = json.dumps({"id": finding.id.partition("-")[0], "needs": list(finding.needs)})
        _save(self.database, self._key, {f"{finding.failure.case}{_COMMENT}{comment}".encode()})


def opened(places: Collection[str]) -> ExampleDatabase:
    """The database at these places; the default is in the user's cache directory.

    Raises
    ------
    ValueError
        If a place cannot be used.
    """
    found = [_opened(place) for place in places]
    return MultiplexedDatabase(*found) if found else default_database()


def _opened(place: str) -> ExampleDatabase:
    if place.startswith(READ_ONLY):
        return ReadOnlyDatabase(DirectoryBasedExampleDatabase(place.removeprefix(READ_ONLY)))
    if not place.startswith(REDIS):
        return DirectoryBasedExampleDatabase(place)
    try:
        import redis  # noqa: PLC0415  # only this place needs it
        from hypothesis.extra.redis import RedisExampleDatabase  # noqa: PLC0415  # it imports redis
    except ImportError:
        said = "python -m pip install 'toeplitz-core[redis]'"
        raise ValueError(f"memory={place!r} needs the package redis: {said}") from None
    try:
        server = redis.Redis.from_url(place, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE)
        server.ping()
    except (redis.RedisError, ValueError) as error:
        raise ValueError(f"memory={place!r} must be the address of a Redis database: {error}") from None
    return RedisExampleDatabase(server, expire_after=_KEPT, key_prefix=b"toeplitz-core:")


def _save(database: ExampleDatabase, key: bytes, values: Collection[bytes]) -> None:
    for value in values:
        database.save(key, value)
    if not set(values) <= set(database.fetch(key)):
        raise OSError("what was written cannot be read again; the disk may be full, or the place read-only")
