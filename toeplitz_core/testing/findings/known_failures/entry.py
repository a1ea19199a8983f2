"""A known failure: a TOML table that says what may fail. It should be as narrow as the finding allows.

.. code-block:: toml

    [[failure]]
    name = "channels-last-segfault"         # optional; "failure 1" otherwise
    subject = "torch-channels-last"         # exact, or a list of names
    versions = { torch = "==2.13.*" }       # optional; PEP 440 specifiers, all of which must match
    processor = "amx_bf16"                  # optional; a feature that it has, or "no amx_bf16", or a list of such
    law = "forward-exact"                   # or a list of laws; the example is judged by the first that takes it
    status = "crash"                        # optional; "fail", "crash" or "timeout"; default: any of them
    message = "returned shape"              # optional; text that the message of the failure contains
    condition = "groups > 1 and max(stride) > 1"  # over case.attributes.ATTRIBUTES, or CALL_ATTRIBUTES
    example = "input=1x2x3x3 weight=2x1x1x1 stride=2 groups=2"
    reason = "One sentence."
    link = "https://github.com/pytorch/pytorch/issues/1"  # optional
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from toeplitz_core.testing.case.call import Call, parse_line
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.conditions import Condition
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.support.processor import has
from toeplitz_core.testing.support.spelling import legal_words

_FEATURE = re.compile(r"(no )?[a-z0-9_]+")
_FAILURES = tuple(status.value for status in Status if status.is_failure)


@dataclass(frozen=True, slots=True)
class Entry:
    """A known failure. The docstring of this module explains the keys of its table.

    Parameters
    ----------
    name : str
        What reports call the failure; not empty.
    subjects, laws : tuple of str
        Names of the subjects that may fail, and of the laws that they may fail; neither is empty.
    condition : Condition
        What holds for every case that may fail.
    example : Case or Call
        A case that fails; the condition holds for it.
    reason : str
        Why the failure is accepted, in one sentence.
    versions : tuple of (package, specifier)
        PEP 440 specifiers that the installed packages must all match; empty for any versions.
    processor : tuple of str
        Features that the processor must have (``"amx_bf16"``), or must not have (``"no amx_bf16"``), by the names in
        ``torch.cpu.get_capabilities()``; empty for any processor.
    status : Status, optional
        The kind of failure; None for any kind.
    message, link : str
        Text that the message of the failure contains, and the address of a report about it; each may be empty.

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
    processor: tuple[str, ...] = ()
    status: Status | None = None
    message: str = ""
    link: str = ""

    def __post_init__(self) -> None:
        for key in ("name", "reason"):
            if not getattr(self, key).strip():
                raise ValueError(f"{key}='' must not be empty")
        for key, names in (("subject", self.subjects), ("law", self.laws)):
            if not names or not all(name.strip() for name in names):
                raise ValueError(f"{key}={list(names)} must be one or more names, none of them empty")
        if self.status is not None and not self.status.is_failure:
            raise ValueError(f"status='{self.status}' must be one of {', '.join(_FAILURES)}")
        for package, specifier in self.versions:
            try:
                SpecifierSet(specifier)
            except InvalidSpecifier:
                raise ValueError(
                    f"versions.{package}='{specifier}' must be a PEP 440 specifier such as '==2.13.*'"
                ) from None
        if wrong := [text for text in self.processor if not _FEATURE.fullmatch(text)]:
            raise ValueError(f"processor={wrong[0]!r} must be a feature such as 'amx_bf16', or 'no amx_bf16'")
        if self.example.law not in (None, *self.laws):
            raise ValueError(f"example='{self.example}' must name law={' or '.join(self.laws)}, or none")
        if not self.condition.holds(self.example):
            raise ValueError(f"condition='{self.condition.text}' must hold for the example '{self.example}'")

    @classmethod
    def parse(cls, table: Mapping[str, Any], number: int, laws: Collection[str] | None = None) -> Entry:
        """The entry of a TOML table; ``laws`` are the names that its key ``law`` may have."""
        for key in table:
            if key not in _KEYS:
                raise ValueError(f"unknown key '{key}'; {legal_words(key, _KEYS)}")
        if missing := [key for key in ("subject", "law", "condition", "example", "reason") if key not in table]:
            raise ValueError(f"key '{missing[0]}' is missing")
        for key, value in table.items():
            if not isinstance(value, _KEYS[key]):
                raise ValueError(f"{key}={value!r} must be a {' or a '.join(_WORDS[kind] for kind in _KEYS[key])}")  # noqa: TRY004  # an error in a file, like the others
        subjects, held, processor = (
            [v] if isinstance(v := table.get(key, []), str) else v for key in ("subject", "law", "processor")
        )
        versions = table.get("versions", {})
        texts = {"subject": subjects, "law": held, "processor": processor, "versions": versions.values()}
        for key, values in texts.items():
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
            processor=tuple(processor),
            status=Status(table["status"]) if "status" in table else None,
            message=table.get("message", ""),
            link=table.get("link", ""),
        )

    @property
    def applies(self) -> bool:
        """Whether the entry is for the installed versions and for this processor."""
        return not self.unmet

    def speaks_for(self, subject: str, verdict: Verdict) -> bool:
        """Whether a verdict shows this failure, in the installed versions and on this processor."""
        return self.applies and self.describes(subject, verdict)

    def describes(self, subject: str, verdict: Verdict) -> bool:
        """Whether a verdict shows this failure, in any versions and on any processor."""
        return (
            verdict.status.is_failure
            and subject in self.subjects
            and self.status in (None, verdict.status)
            and self.message in verdict.message
            and any(
                case.law in self.laws and self.condition.holds(case) for case in (verdict.case, verdict.call) if case
            )
        )

    @property
    def unmet(self) -> str:
        """The versions and the processor that the entry is for and that are not here, in words; empty if it applies."""
        versions = (
            f"{package} {specifier}, and {installed or 'none'} is installed"
            for package, specifier in self.versions
            if (installed := installed_version(package)) is None
            or not SpecifierSet(specifier).contains(installed, prereleases=True)
        )
        features = (
            f"a processor with {text}, and this one has {'it' if text.startswith('no ') else 'none'}"
            for text in self.processor
            if has(text.removeprefix("no ")) == text.startswith("no ")
        )
        return "; ".join((*versions, *features))

    def __str__(self) -> str:
        """The entry as TOML."""
        subject, law = (names[0] if len(names) == 1 else list(names) for names in (self.subjects, self.laws))
        versions = ", ".join(f"{_key(package)} = {_quoted(text)}" for package, text in self.versions)
        lines = [f"name = {_quoted(self.name)}", f"subject = {_quoted(subject)}"]
        lines += [f"versions = {{ {versions} }}"] * bool(versions)
        lines += [f"processor = {_quoted(list(self.processor))}"] * bool(self.processor)
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
    "processor": (str, list),
    "law": (str, list),
    "status": (str,),
    "message": (str,),
    "condition": (str,),
    "example": (str,),
    "reason": (str,),
    "link": (str,),
}
_WORDS: dict[type, str] = {str: "string", list: "list", dict: "table"}


def _named(key: str, build: Callable[[str], Any], text: str) -> Any:
    try:
        return build(text)
    except ValueError as error:
        raise ValueError(f"{key}='{text}': {error}") from None


@functools.cache
def installed_version(package: str) -> str | None:
    """The installed version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _quoted(value: str | list[str]) -> str:
    # JSON strings are TOML strings with two exceptions: TOML needs DEL escaped and has no surrogates.
    text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)
