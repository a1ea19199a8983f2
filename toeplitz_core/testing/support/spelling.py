"""What was probably meant by a word that is misspelt, and how many cases are said."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# What others call a dtype, and no comparison of letters finds.
_ABBREVIATIONS = {
    **dict.fromkeys(("fp64", "f64", "double"), "float64"),
    **dict.fromkeys(("fp32", "f32", "float", "single"), "float32"),
    **dict.fromkeys(("fp16", "f16", "half"), "float16"),
    "bf16": "bfloat16",
    **dict.fromkeys(("c128", "cdouble"), "complex128"),
    **dict.fromkeys(("c64", "cfloat"), "complex64"),
    **dict.fromkeys(("i64", "int", "long"), "int64"),
}


def legal_words(word: str, legal: Iterable[str]) -> str:
    """The legal words, for a message about one that is not; first the nearest, if one is near.

    Examples
    --------
    >>> legal_words("paddin", ("stride", "padding"))
    "did you mean 'padding'? Legal: stride, padding"
    """
    legal = tuple(legal)
    return f"{nearest_word(word, legal)}Legal: {', '.join(legal)}"


def cases_of(count: int) -> str:
    """``1 case``, ``2 cases``."""
    return f"{count} case{'s' * (count != 1)}"


def nearest_word(word: str, legal: Iterable[str]) -> str:
    """A question after the nearest word, with a blank behind it; nothing if none is near."""
    legal = tuple(legal)
    meant = _ABBREVIATIONS.get(word)
    close = [meant] if meant in legal else difflib.get_close_matches(word, legal, n=1)
    return f"did you mean '{close[0]}'? " if close else ""
