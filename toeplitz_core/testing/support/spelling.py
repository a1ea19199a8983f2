"""Suggestions for misspelt words, and the spelling of lists, numbers of cases and long texts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def legal_words(word: str, legal: Iterable[str], aliases: Mapping[str, str] | None = None) -> str:
    """The legal words, for a message about an illegal one; a suggestion comes first if a word is near.

    Parameters
    ----------
    aliases : mapping, optional
        Other names of legal words that a comparison of letters would not find.

    Examples
    --------
    >>> legal_words("paddin", ("stride", "padding"))
    "did you mean 'padding'? legal: stride, padding"
    """
    legal = tuple(legal)
    return f"{nearest_word(word, legal, aliases)}legal: {', '.join(legal)}"


def nearest_word(word: str, legal: Iterable[str], aliases: Mapping[str, str] | None = None) -> str:
    """A question that suggests the nearest word, followed by a blank; empty if no word is near."""
    legal = tuple(legal)
    meant = (aliases or {}).get(word)
    close = [meant] if meant in legal else difflib.get_close_matches(word, legal, n=1)
    return f"did you mean '{close[0]}'? " if close else ""


def named(words: str, name: str, table: Mapping[str, _T], aliases: Mapping[str, str] | None = None) -> _T:
    """The entry of a table by its name.

    Raises
    ------
    ValueError
        If the name is unknown. The message has ``words``, the nearest name and all legal names.
    """
    if name not in table:
        raise ValueError(f"{words} is unknown; {legal_words(name, table, aliases)}")
    return table[name]


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def counted(words: Sequence[str], noun: str, most: int = 3) -> str:
    """The words, or if there are more than ``most``, their number and the first.

    Examples
    --------
    >>> counted(["stride", "padding"], "law"), counted(["stride", "padding", "groups", "dilation"], "law")
    ('stride, padding', '4 laws, first stride')
    """
    return ", ".join(words) if len(words) <= most else f"{len(words)} {noun}s, first {words[0]}"


def cases_of(count: int) -> str:
    """``1 case``, ``2 cases``."""
    return f"{count} case{'s' * (count != 1)}"


def head_and_tail(text: str, limit: int) -> str:
    r"""A text of more than ``limit`` characters without its middle; the beginning and the end say most.

    Examples
    --------
    >>> head_and_tail("to be, or not to be", 8)
    'to b\n[... 11 characters left out ...]\no be'
    """
    left_out = len(text) - limit
    half = limit // 2
    if left_out <= 0:
        return text
    return f"{text[:half]}\n[... {left_out} characters left out ...]\n{text[len(text) - limit + half :]}"
