"""Text that a page can hold, whatever a subject says."""

from __future__ import annotations

import re

from toeplitz_core.testing.support.spelling import head_and_tail

# Texts of subjects may have megabytes. The JSON report has more of them.
MOST = 6000
# No other text is longer than this; only scripts are long.
_LONGEST = 200_000
# Characters that HTML forbids or that a browser would not show: controls, surrogates, noncharacters, and those that
# change the direction of the text around them.
_UNSHOWN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufeff\ufffe\uffff]"
)


def shown(text: str, limit: int = MOST) -> str:
    r"""A text of bounded length, with escapes for characters that cannot be shown.

    Examples
    --------
    >>> shown("a\x1b[31m <b>\ud800"), shown("abcdefgh", 4)
    ('a\\x1b[31m <b>\\ud800', 'ab\n[... 4 characters left out ...]\ngh')
    """
    return _UNSHOWN.sub(lambda found: found[0].encode("unicode_escape").decode(), head_and_tail(text, limit))


def finalized(value: object) -> object:
    """A value as a template writes it, before its characters are escaped."""
    if value is None:
        return ""
    return shown(value, _LONGEST) if isinstance(value, str) and not hasattr(value, "__html__") else value
