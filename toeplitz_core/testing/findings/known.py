"""Known failures: a list in TOML of what is allowed to fail, each entry as narrow as the finding allows.

.. code-block:: toml

    [[failure]]
    name = "channels-last-segfault"         # optional; "failure 1" otherwise
    subject = "torch-channels-last"         # exact, or a list of names
    versions = { torch = "==2.13.*" }       # optional; PEP 440, per package, all of them
    law = "forward-exact"                   # or a list of laws; the example is judged by the first that ran
    status = "crash"                        # optional; "fail", "crash" or "timeout", any of them otherwise
    message = "returned shape"              # optional; what the message of the failure contains
    condition = "groups > 1 and max(stride) > 1"  # over conditions.ATTRIBUTES, or CALL_ATTRIBUTES for a call
    example = "input=1x2x3x3 weight=2x1x1x1 stride=2 groups=2"
    reason = "One sentence."
    link = "https://github.com/pytorch/pytorch/issues/1"  # optional
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from toeplitz_core.testing.case.call import Call, parse_line
from toeplitz_core.testing.case.case import DTYPES, Case
from toeplitz_core.testing.findings.conditions import Condition, necessary
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.support.files import write_atomically
from toeplitz_core.testing.support.spelling import legal_words

if TYPE_CHECKING:
    from toeplitz_core.testing.search.search import Result

_FAILURES = tuple(status.value for status in Status if status.is_failure)
_HEADER = """\
# Failures that are known, for `toeplitz-core check --known`. toeplitz_core/testing/known.py explains the keys,
# toeplitz_core/testing/conditions.py the names in a condition.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A known failure. The keys are explained at the head of this module.

    Raises
    ------
    ValueError
        With the key, its value and the rule.
    """

    name: str
    subjects: tuple[str, ...]
    laws: tuple[str, ...]
    condition: Condition
    example: Case | Call
    reason: str
    versions: tuple[tuple[str, str], ...] = ()
    status: Status | None = None
    message: str = ""
    link: str = ""

    def __post_init__(self) -> None:
        for key in ("name", "reason"):
            if not getattr(self, key).strip():
                raise ValueError(f"{key}='' must not be empty")
        for key, names in (("subject", self.subjects), ("law", self.laws)):
            if not names or not all(name.strip() for name in names):
                raise ValueError(f"{key}={list(names)} must be one name or more, none of them empty")
        if self.status is not None and not self.status.is_failure:
            raise ValueError(f"status='{self.status}' must be one of {', '.join(_FAILURES)}")
        for package, specifier in self.versions:
            try:
                SpecifierSet(specifier)
            except InvalidSpecifier:
                raise ValueError(
                    f"versions.{package}='{specifier}' must be a PEP 440 specifier such as '==2.13.*'"
                ) from None
        if self.example.law not in (None, *self.laws):
            raise ValueError(f"example='{self.example}' must name law={' or '.join(self.laws)}, or none")
        if not self.condition.holds(self.example):
            raise ValueError(f"condition='{self.condition.text}' must hold for the example '{self.example}'")

    @classmethod
    def parse(cls, table: Mapping[str, Any], number: int, laws: Collection[str] | None = None) -> Entry:
        """The entry of a TOML table; ``laws`` are those that it may name."""
        for key in table:
            if key not in _KEYS:
                raise ValueError(f"unknown key '{key}'; {legal_words(key, _KEYS)}")
        if missing := [key for key in ("subject", "law", "condition", "example", "reason") if key not in table]:
            raise ValueError(f"key '{missing[0]}' is missing")
        for key, value in table.items():
            if not isinstance(value, _KEYS[key]):
                raise ValueError(f"{key}={value!r} must be a {' or a '.join(_WORDS[kind] for kind in _KEYS[key])}")  # noqa: TRY004  # an error in a file, like the others
        subjects, held = ([v] if isinstance(v := table[key], str) else v for key in ("subject", "law"))
        versions = table.get("versions", {})
        for key, values in (("subject", subjects), ("law", held), ("versions", versions.values())):
            if wrong := [value for value in values if not isinstance(value, str)]:
                raise ValueError(f"{key}: {wrong[0]!r} must be a string")
        if laws is not None and (unknown := [name for name in held if name not in laws]):
            raise ValueError(f"law='{unknown[0]}': {legal_words(unknown[0], laws)}")
        if table.get("status", _FAILURES[0]) not in _FAILURES:
            raise ValueError(f"status='{table['status']}': {legal_words(table['status'], _FAILURES)}")
        return cls(
            name=table.get("name", f"failure {number}"),
            subjects=tuple(subjects),
            laws=tuple(held),
            condition=_named("condition", Condition, table["condition"]),
            example=_named("example", parse_line, table["example"]),
            reason=table["reason"],
            versions=tuple(versions.items()),
            status=Status(table["status"]) if "status" in table else None,
            message=table.get("message", ""),
            link=table.get("link", ""),
        )

    @property
    def applies(self) -> bool:
        """Whether the entry is meant for the versions that are installed."""
        return all(
            (version := _installed(package)) is not None and SpecifierSet(specifier).contains(version, prereleases=True)
            for package, specifier in self.versions
        )

    def speaks_for(self, subject: str, verdict: Verdict) -> bool:
        """Whether it is this failure that a verdict shows."""
        return (
            verdict.status.is_failure
            and subject in self.subjects
            and verdict.case.law in self.laws
            and self.status in (None, verdict.status)
            and self.message in verdict.message
            and self.applies
            and self.condition.holds(verdict.case)
        )

    def __str__(self) -> str:
        """The entry as TOML."""
        subject, law = (names[0] if len(names) == 1 else list(names) for names in (self.subjects, self.laws))
        versions = ", ".join(f"{_key(package)} = {_quoted(text)}" for package, text in self.versions)
        lines = [f"name = {_quoted(self.name)}", f"subject = {_quoted(subject)}"]
        lines += [f"versions = {{ {versions} }}"] * bool(versions)
        lines.append(f"law = {_quoted(law)}")
        lines += [f"status = {_quoted(self.status.value)}"] if self.status is not None else []
        lines += [f"message = {_quoted(self.message)}"] * bool(self.message)
        lines += [
            f"condition = {_quoted(self.condition.text)}",
            f"example = {_quoted(str(self.example.replace(law=None)))}",
            f"reason = {_quoted(self.reason)}",
        ]
        lines += [f"link = {_quoted(self.link)}"] * bool(self.link)
        return "\n".join(("[[failure]]", *lines, ""))


_KEYS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "subject": (str, list),
    "versions": (dict,),
    "law": (str, list),
    "status": (str,),
    "message": (str,),
    "condition": (str,),
    "example": (str,),
    "reason": (str,),
    "link": (str,),
}
_WORDS: dict[type, str] = {str: "string", list: "list", dict: "table"}


@dataclass(frozen=True, slots=True)
class Stale:
    """An entry that the subject no longer needs, with the subject and why."""

    entry: Entry
    subject: str
    why: str


@dataclass(frozen=True, slots=True)
class KnownFailures:
    """A list of known failures; the first entry that speaks for a failure is the one it counts for."""

    entries: tuple[Entry, ...] = ()

    def __post_init__(self) -> None:
        names = [entry.name for entry in self.entries]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"name='{twice[0]}' must be the name of one entry only")

    @classmethod
    def load(cls, path: str | Path, *, laws: Collection[str] | None = None) -> KnownFailures:
        """The list in a TOML file; ``laws`` are those that entries may name. :meth:`of_files` takes several.

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
            raise ValueError(f"{path}: unknown key '{unknown[0]}'; Legal: [[failure]]")
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
        """The lists in some TOML files as one; a name must be that of one entry of one of them."""
        return cls(tuple(entry for path in paths for entry in cls.load(path, laws=laws).entries))

    def match(self, subject: str, verdict: Verdict) -> Entry | None:
        """The entry that a failing verdict counts for, or None."""
        return next((entry for entry in self.entries if entry.speaks_for(subject, verdict)), None)

    def adopt(self, results: Iterable[Result], date: str) -> KnownFailures:
        """The list with an entry more for the failure of each result that it does not speak for yet.

        ``date`` is what the entry's reason gives. An entry for a library is for the installed version of it alone.
        """
        grown = self
        for result in results:
            found = result.failure
            if found is None or not found.status.is_failure or grown.match(result.subject, found) is not None:
                continue
            entry = Entry(
                name=_free_name(f"{result.subject}-{result.law}-{result.dtype}", grown.entries),
                subjects=(result.subject,),
                laws=(result.law,),
                condition=necessary(found.case),
                example=found.case,
                reason=f"adopted on {date}: {found.message or found.status}",
                versions=_versions(result.subject),
                status=found.status,
            )
            grown = KnownFailures((*grown.entries, entry))
        return grown

    def write(self, path: str | Path) -> None:
        """Write the list so that it loads again. A file that is there keeps what it says, and gets what it lacks."""
        path = Path(path)
        text, there = _HEADER, KnownFailures()
        if path.exists() and path.stat().st_size:
            text, there = path.read_text(encoding="utf-8"), KnownFailures.load(path)
        names = {entry.name for entry in there.entries}
        lacking = [str(entry) for entry in self.entries if entry.name not in names]
        write_atomically(path, "\n".join((text, *lacking)) if lacking or not there.entries else text)

    def stale(
        self,
        results: Iterable[Result],
        replays: Callable[[str, Case | Call], Iterator[Verdict]],
        takes: Callable[[Case | Call], bool] = lambda _: True,
    ) -> list[Stale]:
        """The entries that are not needed any more, of those that the run could have met.

        The example of an entry is for the first of its laws that takes it; under others it may hold. An entry is looked
        at where a result is of its subject, that law, and its example's dtype and device. It is stale if its example
        holds, in each of its replays; or if nothing is matched by it, neither its example nor a case of the run.

        Parameters
        ----------
        replays : callable
            The verdicts of a subject, by name, on a case that names its law, run again and again: one at least. No more
            are taken than it needs.
        takes : callable
            Whether a case is one for the law that it names.
        """
        ran = [r for r in results if r.status is not Status.NOT_RUN and r.cases]
        steps = {(r.subject, r.law, r.dtype, r.device) for r in ran}
        found = []
        for entry in self.entries:
            named = (entry.example.replace(law=law) for law in entry.laws if entry.example.law in (None, law))
            example = next((case for case in named if takes(case)), None)
            if example is None or not entry.applies:
                continue
            for subject in entry.subjects:
                if steps & _places(subject, example):
                    met = any(entry.name in r.known for r in ran if r.subject == subject)
                    if (why := _why_stale(entry, subject, replays(subject, example), met=met)) is not None:
                        found.append(Stale(entry, subject, why))
        return found


def _why_stale(entry: Entry, subject: str, replays: Iterator[Verdict], *, met: bool) -> str | None:
    """Why an entry is stale, if it is."""
    verdict = next(replays)
    while verdict.status is Status.PASS and (again := next(replays, None)) is not None:
        verdict = again
    if verdict.status is Status.PASS:
        return "its example holds"
    if met or entry.speaks_for(subject, verdict):
        return None
    return f"it matches nothing; its example ends as {verdict.status}: {verdict.message}".removesuffix(": ")


def _places(subject: str, example: Case | Call) -> set[tuple[str, str, str, str]]:
    """The steps that could meet an example. A call may have any dtypes, whatever a step begins with."""
    dtypes = (example.dtype,) if isinstance(example, Case) else tuple(DTYPES)
    return {(subject, str(example.law), dtype, example.device) for dtype in dtypes}


def _named(key: str, build: Callable[[str], Any], text: str) -> Any:
    try:
        return build(text)
    except ValueError as error:
        raise ValueError(f"{key}='{text}': {error}") from None


@functools.cache
def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions(subject: str) -> tuple[tuple[str, str], ...]:
    """The installed version of the library that a registered subject is named after: torch-channels-last is torch."""
    package = subject.partition("-")[0]
    version = None if ":" in subject else _installed(package)
    return () if version is None else ((package, f"=={Version(version).public}"),)


def _free_name(wanted: str, entries: Collection[Entry]) -> str:
    taken = {entry.name for entry in entries}
    numbered = (f"{wanted}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in numbered if name not in taken)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _quoted(value: str | list[str]) -> str:
    # JSON's strings are TOML's, but for DEL, which TOML wants escaped, and for halves of a character, which it has not.
    text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)
