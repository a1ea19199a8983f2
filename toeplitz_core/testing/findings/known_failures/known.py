"""Lists of known failures: load, match and extend them."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from toeplitz_core.testing.case.conditions import necessary
from toeplitz_core.testing.findings.known_failures.entry import Entry, installed_version
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Verdict
from toeplitz_core.testing.subjects import SUBJECTS


@dataclass(frozen=True, slots=True)
class KnownFailures:
    """A list of known failures. A failure counts for the first entry that matches it.

    Parameters
    ----------
    entries : tuple of Entry
        The known failures, in the order in which they are tried.
    """

    entries: tuple[Entry, ...] = ()

    def __post_init__(self) -> None:
        names = [entry.name for entry in self.entries]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"name='{twice[0]}' must be the name of one entry only")

    @classmethod
    def load(cls, path: str | Path, *, laws: Collection[str] | None = None) -> KnownFailures:
        """Load the list in a TOML file; ``laws`` are the laws that entries may name. See also :meth:`of_files`.

        Raises
        ------
        ValueError
            With the file, the number of the entry, the key, its value and the rule.
        """
        try:
            tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{path}: {error}") from None
        if unknown := [key for key in tables if key != "failure"]:
            raise ValueError(f"{path}: unknown key '{unknown[0]}'; legal: [[failure]]")
        listed = tables.get("failure", [])
        if not isinstance(listed, list) or not all(isinstance(table, dict) for table in listed):
            raise ValueError(f"{path}: failure must be tables: [[failure]]")
        entries = []
        for number, table in enumerate(listed, start=1):
            try:
                entries.append(Entry.parse(table, number, laws))
            except ValueError as error:
                raise ValueError(f"{path}: failure {number}: {error}") from None
        try:
            return cls(tuple(entries))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def of_files(cls, paths: Iterable[str | Path], *, laws: Collection[str] | None = None) -> KnownFailures:
        """Load several TOML files as one list; no two entries may have the same name."""
        return cls(tuple(entry for path in paths for entry in cls.load(path, laws=laws).entries))

    def match(self, subject: str, verdict: Verdict) -> Entry | None:
        """The entry that a failing verdict counts for, or None."""
        return next((entry for entry in self.entries if entry.speaks_for(subject, verdict)), None)

    def of_elsewhere(self, subject: str, verdict: Verdict) -> Entry | None:
        """The entry that a failing verdict would count for with other versions or on another processor; or None."""
        return next((e for e in self.entries if not e.applies and e.describes(subject, verdict)), None)

    def adopt(self, results: Iterable[Result], date: str, taken: Collection[str] = ()) -> KnownFailures:
        """The list with a new entry for each failure of the results that no entry matches yet.

        ``date`` goes into the reason of the entries. An entry for a library is limited to its installed version. No new
        entry has one of the names ``taken``, which other lists have.
        """
        grown = self
        for result, found in [(each, failure) for each in results for failure in each.failures]:
            if not found.status.is_failure or grown.match(result.subject, found) is not None:
                continue
            law = found.case.law or result.law  # of the wrong call, if that is not the law which found it
            entry = Entry(
                name=_free_name(
                    f"{result.subject}-{law}-{result.dtype}", {*taken, *(entry.name for entry in grown.entries)}
                ),
                subjects=(result.subject,),
                laws=(law,),
                condition=necessary(found.case),
                example=found.case,
                reason=f"adopted on {date}: {found.message or found.status}",
                versions=_versions(result.subject),
                status=found.status,
            )
            grown = KnownFailures((*grown.entries, entry))
        return grown


def _versions(subject: str) -> tuple[tuple[str, str], ...]:
    """The library that a registered subject is named after (torch for torch-channels-last), with its version."""
    package = subject.partition("-")[0]
    version = installed_version(package) if subject in SUBJECTS else None
    return () if version is None else ((package, f"=={Version(version).public}"),)


def _free_name(wanted: str, taken: Collection[str]) -> str:
    numbered = (f"{wanted}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in numbered if name not in taken)
