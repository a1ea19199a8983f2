"""The colours of the page: every text has the contrast that WCAG 2.2 asks for, in both schemes."""

from __future__ import annotations

import importlib.resources
import re

import pytest

STYLE = (importlib.resources.files("toeplitz_core.testing.reports.page") / "templates" / "style.css").read_text("utf-8")
# Text on a background: at least 4.5 (success criterion 1.4.3, level AA).
TEXTS = [
    *((ink, ground) for ink in ("ink", "soft", "link") for ground in ("page", "panel", "sunken")),
    *((ink, "panel") for ink in ("good", "bad")),
    ("ink", "bad-soft"),
    *(("on-good", ground) for ground in ("good-bg", "good0", "good1", "good2", "good3")),
    ("on-bad", "bad-bg"),
    ("on-known", "known-bg"),
    ("on-doubt", "doubt-bg"),
    ("on-off", "off-bg"),
    ("on-new", "new-bg"),
    ("on-other", "other"),
    *(("on-low", f"v{shade}") for shade in range(5)),
    *(("on-high", f"v{shade}") for shade in range(5, 9)),
]
# Frames, borders of fields and the focus: at least 3 (criterion 1.4.11).
SHAPES = [("strong-rule", "panel"), ("strong-rule", "page"), ("focus", "page"), ("focus", "panel"), ("frame", "panel")]


def colours(scheme: str) -> dict[str, str]:
    """The named colours of a scheme; the dark one changes some of the light ones."""
    light, dark = re.findall(r":root \{(.*?)\n\s*\}", STYLE, flags=re.DOTALL)[:2]
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light))
    return found | (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", dark)) if scheme == "dark" else {})


def luminance(colour: str) -> float:
    """The relative luminance (WCAG 2.2, definition)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2, definition)."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_shapes_have_contrast(scheme: str):
    """Texts have a contrast of 4.5 with what is behind them, and shapes one of 3."""
    found = colours(scheme)
    weak = {
        pair: round(ratio, 2)
        for pairs, least in ((TEXTS, 4.5), (SHAPES, 3.0))
        for pair in pairs
        if (ratio := contrast(*(found[name] for name in pair))) < least
    }
    assert weak == {}


def test_contrast_is_that_of_the_standard():
    """Black on white has 21, and the grey #767676 just passes for text."""
    assert contrast("#000000", "#ffffff") == 21
    assert round(contrast("#767676", "#ffffff"), 2) == 4.54


def test_every_colour_that_is_used_is_defined():
    """Each variable in the style sheet is defined, and each colour is in the first two blocks."""
    used, defined = set(re.findall(r"var\(--([\w-]+)\)", STYLE)), set(re.findall(r"--([\w-]+):", STYLE))
    assert used <= defined
