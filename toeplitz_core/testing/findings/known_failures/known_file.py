"""The file of a list of known failures, which ``--write-known`` updates in place."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toeplitz_core.testing.findings.known_failures.entry import Entry
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.support.files import check_writable, write_atomically

_HEADER = """\
# Failures that are known, for `toeplitz-core check --known`.
# toeplitz_core/testing/findings/known_failures/entry.py explains the keys,
# toeplitz_core/testing/case/attributes.py the names in a condition.
"""


class KnownFile:
    """A TOML file with a list of known failures. It need not exist yet.

    Parameters
    ----------
    path : str or path

    Raises
    ------
    ValueError
        If the file cannot be written or has no valid list, or if tomlkit is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            import tomlkit  # noqa: F401, PLC0415  # only this class needs it
        except ImportError:
            raise ValueError(
                "write-known needs tomlkit, which is not installed: pip install 'toeplitz-core[testing]'"
            ) from None
        self.path = check_writable(path)
        # The list at the start, and as it is now.
        self.before = self.known = self._read()[1]

    def _read(self) -> tuple[str, KnownFailures]:
        """The text of the file, with its line ends, and its list."""
        if not self.path.is_file() or not self.path.stat().st_size:
            return _HEADER, KnownFailures()
        known = KnownFailures.load(self.path, laws=LAWS)
        with self.path.open(encoding="utf-8", newline="") as file:
            text = file.read()
        if known.entries and "".join(_parts(text)) != _parsed(text).as_string():
            raise ValueError(f"{self.path}: failure must be tables, [[failure]], so that the file can be updated")
        return text, known

    def update(self, known: KnownFailures) -> None:
        """Add the entries of a list that the file lacks, remove those that are no longer in the list, keep the rest.

        What somebody else has changed in the file meanwhile is kept too.
        """
        added = [entry for entry in known.entries if entry not in self.known.entries]
        removed = [entry for entry in self.known.entries if entry not in known.entries]
        text, there = self._read()
        numbers = [number for number, entry in enumerate(there.entries) if entry in removed]
        write_atomically(self.path, _extended(_without(text, numbers), added))
        self.known = known


def _parsed(text: str) -> Any:
    import tomlkit  # noqa: PLC0415  # only this class needs it

    return tomlkit.parse(text)


def _parts(text: str) -> list[str]:
    """The text in parts: what stands above the first entry, that entry, what stands between it and the next, ...

    What stands above an entry are comments and blank lines. The number of parts is odd. The last one stands at the end.
    """
    body = _parsed(text).body
    above = "".join(item.as_string() for key, item in body if key is None)
    tables = [table for key, item in body if key is not None and hasattr(item, "body") for table in item.body]
    parts = [above]
    for table in tables:
        head = f"{table.trivia.indent}[[failure]]{table.trivia.comment_ws}{table.trivia.comment}{table.trivia.trail}"
        entry, tail = head + table.as_string(), "".join(reversed([*_tail(table)]))
        parts += [entry.removesuffix(tail), tail]
    return parts


def _tail(table: Any) -> Iterator[str]:
    """The comments and blank lines after the last key of a table, the last one first."""
    for key, item in reversed(table.value.body):
        if key is not None:
            if hasattr(item, "is_super_table"):  # [failure.versions]
                yield from _tail(item)
            return
        yield item.as_string()


def _without(text: str, numbers: list[int]) -> str:
    """The text without the entries with these numbers, from 0 on."""
    parts = _parts(text) if numbers else [text]
    for number in reversed(numbers):
        around = slice(2 * number, 2 * number + 3)
        above, _, below = (part.splitlines(keepends=True) for part in parts[around])
        lines = _without_comments(above, below, first=number == 0)
        if around.stop == len(parts):  # what was added at the end and is removed leaves no blank lines there
            lines = lines[: len(lines) - len([*itertools.takewhile(_is_blank, reversed(lines))])]
        parts[around] = ["".join(lines)]
    return "".join(parts)


def _without_comments(above: list[str], below: list[str], *, first: bool) -> list[str]:
    """The lines above and below an entry, without the comments that are about it: no blank line is between.

    A comment with which the file begins is about the file, and one right above the next entry is about that.
    """
    own = len([*itertools.takewhile(_is_comment, reversed(above))])
    if not (first and own == len(above)):
        above = above[: len(above) - own]
    below = [*itertools.dropwhile(_is_comment, below)] or below
    if not above or _is_blank(above[-1]):  # one blank line is enough
        below = [*itertools.dropwhile(_is_blank, below)]
    return above + below


def _is_blank(line: str) -> bool:
    return not line.strip()


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _extended(text: str, added: list[Entry]) -> str:
    """The text with more entries at its end."""
    end = "\r\n" if "\r\n" in text else "\n"
    text += "" if text.endswith("\n") or not text else end
    return end.join((text, *(str(entry).replace("\n", end) for entry in added)))
