"""The page in Chromium: narrow and wide, dark and light, by keyboard, without a program, and on paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.conftest import Browser

WIDTHS = (360, 768, 1280, 1920)
TAB, ENTER, BACKSPACE = "\ue004", "\ue007", "\ue003"
# Elements that are wider than the window, and do not lie in a box that scrolls.
TOO_WIDE = """
return [...document.body.querySelectorAll("*:not(svg *)")].filter((one) => !one.closest(".scroll, pre, .skip") &&
  one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 80))
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_page_fits_and_the_console_is_silent(browser: Browser, page: Path, width: int, scheme: str):
    """At each width and in both schemes, nothing is wider than the window, and the console is empty."""
    browser.show(page, width, scheme)
    browser.photograph(f"{page.stem}-{width}-{scheme}")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run(TOO_WIDE) == []
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run(TOO_WIDE) == []
    assert browser.complaints == []
    ground = browser.run("return getComputedStyle(document.documentElement).backgroundColor")
    assert (ground == "rgb(246, 247, 249)") == (scheme == "light")


def test_style_and_program_are_not_refused(browser: Browser, page: Path):
    """The policy of the page admits its own style and program: buttons for copying appear, and colours are set."""
    browser.show(page, 1280)
    assert browser.run("return document.querySelectorAll('button[data-copy]:not([hidden])').length") > 0
    assert browser.run("return getComputedStyle(document.querySelector('rect.v0')).fill") == "rgb(224, 236, 248)"


def test_keyboard_reaches_each_finding(browser: Browser, page: Path):
    """Tab reaches the link past the contents first, then each finding in order, with a focus that is seen."""
    browser.show(page, 1280)
    browser.press(TAB)
    assert browser.run("return document.activeElement.className") == "skip"
    browser.press(ENTER)
    assert browser.run("return document.activeElement.id") == "main"
    cards = browser.run("return [...document.querySelectorAll('.card')].map((one) => one.id)")
    browser.run("document.querySelectorAll('.card > details').forEach((one) => { one.open = false; })")
    # From the last control before the cards, or from their heading if there is none.
    browser.run(
        "const all = [...document.querySelectorAll('#findings :is(a, button, input)')], head = all.filter("
        "(one) => !one.closest('.card')).at(-1) ?? document.getElementById('h-findings');"
        "if (head.tagName === 'H2') head.tabIndex = -1; head.focus()"
    )
    reached = []
    for _ in cards:
        browser.press(TAB)
        found, outline = browser.run(
            "const one = document.activeElement; return [one.closest('.card')?.id, getComputedStyle(one).outlineStyle]"
        )
        reached.append(found)
        assert outline == "solid"
    assert reached == cards
    browser.press(ENTER)
    assert browser.run("return document.activeElement.parentElement.open")


def test_a_link_opens_its_finding(browser: Browser, page: Path):
    """A cell of the table leads to the card, which is then open and has the focus; an address with its name too."""
    browser.show(page, 768)
    last = browser.run(
        "const all = [...document.querySelectorAll('.heat a')]; all.at(-1).click(); return all.at(-1).hash"
    )
    state = "return [document.activeElement.closest('.card').id, document.activeElement.parentElement.open]"
    browser.run("return new Promise((done) => setTimeout(done, 300))")  # the address has changed, and then the card
    assert browser.run(state) == [last[1:], True]
    browser.show(page, 768, fragment=last)
    browser.run("return new Promise((done) => setTimeout(done, 300))")
    assert browser.run(state) == [last[1:], True]


def test_filter_hides_what_has_not_all_words(browser: Browser, page: Path):
    """The filter leaves the cards that have all words, says how many, and gives all back when it is emptied."""
    browser.show(page, 1280)
    if page.stem == "one":
        assert browser.run("return document.getElementById('filter')") is None
        return
    browser.run("document.getElementById('filter').focus()")
    browser.press(*"KERNEL-TRANSPOSED float16")
    count = "return document.querySelectorAll('.card:not([hidden])').length"
    left = browser.run(count)
    assert 0 < left < 20
    assert browser.run("return document.getElementById('shown').textContent") == f"{left} of 200 findings"
    browser.press(*[BACKSPACE] * 30)
    assert browser.run(count) == 200


def test_all_is_readable_without_a_program(browser: Browser, page: Path, tmp_path: Path):
    """Without JavaScript, no control is shown that does nothing, and each card can be opened."""
    text = page.read_text(encoding="utf-8").replace("script-src ", "x-script-src ")
    file = tmp_path / "silent.html"
    file.write_text(text, encoding="utf-8")
    browser.show(file, 768)
    assert browser.run("return document.querySelectorAll('button:not([hidden])').length") == 0 or page.stem == "many"
    assert browser.run("return [...document.querySelectorAll('button')].every((one) => one.offsetParent === null)")
    browser.run("document.querySelector('.card summary').focus()")
    before = browser.run("return document.querySelector('.card details').open")
    browser.press(ENTER)
    assert browser.run("return document.querySelector('.card details').open") != before
    browser.driver.get_log("browser")  # that the program was refused, as is meant here


def test_on_paper_cards_are_open_and_buttons_are_gone(browser: Browser, page: Path):
    """Printed, each card shows its body, and no button, filter or list of contents is there."""
    browser.show(page, 1280, "dark")
    browser.run("document.querySelectorAll('.card > details').forEach((one) => { one.open = false; })")
    browser.on_paper()
    hidden = "return [...document.querySelectorAll('button, .tools, .contents')].every((one) => one.offsetHeight === 0)"
    assert browser.run(hidden)
    assert browser.run("return [...document.querySelectorAll('.card .body')].every((one) => one.offsetHeight > 0)")
    assert browser.run("return getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.printed(page.stem).startswith(b"%PDF")
