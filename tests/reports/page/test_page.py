"""The page of a run: a well-formed document that loads nothing, whatever the run is and whatever subjects say."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from dataclasses import replace

import pytest

from tests.helpers.html import Document
from tests.reports.page.runs import finding, run, written
from tests.reports.records import RECORD
from toeplitz_core.testing.findings.reproducer.apart import Script
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.reports.page.page import page
from toeplitz_core.testing.run.comparison.comparison import compared
from toeplitz_core.testing.run.comparison.facts import Facts
from toeplitz_core.testing.run.record import Record
from toeplitz_core.testing.subjects.symptom import Symptom

RUNS = {
    "nothing was run": Record([], exit_code=3),
    "all holds": replace(RECORD, results=RECORD.results[:2], exit_code=0, stale=()),
    "every status": RECORD,
    "interrupted": replace(run([finding()]), ended="interrupted", exit_code=130, unreached=RECORD.results[-1:]),
    "an error of our own": replace(run([finding()]), ended="error", exit_code=4, error="LawError: <x>"),
    "1 finding": run([finding()]),
    "200 findings": run([finding(number) for number in range(1, 201)]),
}


@pytest.fixture(scope="module", params=RUNS)
def document(request: pytest.FixtureRequest) -> Document:
    """The page of each run in turn."""
    return Document(written(RUNS[request.param]))


def test_ids_are_unique_and_links_lead_somewhere(document: Document):
    """No two elements have one id, and each link, label and description names one that exists."""
    ids = document.values("id")
    assert len(ids) == len(set(ids))
    named = [href[1:] for href in document.values("href") if href.startswith("#")]
    named += document.values("aria-labelledby") + document.values("for") + document.values("data-copy")
    assert set(named) <= set(ids)


def test_nothing_is_loaded(document: Document):
    """No element has an address outside of the document, and no style or program is in an attribute."""
    assert [attributes["href"] for _, attributes in document.of("link")] == ["data:,"]
    assert document.values("src") == document.values("style") == document.values("srcset") == []
    assert not [name for _, attributes in document.elements for name in attributes if name.startswith("on")]


def test_headings_are_in_order(document: Document):
    """There is one heading of level 1, and no level is left out below it."""
    levels = [int(tag[1]) for tag, _ in document.of("h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))


def test_tables_and_pictures_have_names(document: Document):
    """Each table has a caption, each cell of a heading a scope, each picture a title and a role."""
    assert len(document.of("table")) == len(document.of("caption"))
    assert all(attributes.get("scope") in ("col", "row") for _, attributes in document.of("th"))
    pictures = document.of("svg")
    assert all(attributes["role"] == "img" for _, attributes in pictures)
    assert len(document.of("title")) == len(pictures) + 1
    landmarks = [tag for tag, _ in document.of("main", "nav", "header")]
    assert sorted(landmarks) == ["header", "main", "nav"]
    assert document.elements[0] == ("html", {"lang": "en"})


def test_only_our_style_and_program_are_allowed():
    """The policy of the page allows the one inline style and the one program by their hashes, and nothing else."""
    text = written(RECORD)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    for tag, kind in (("style", "style-src"), ("script", "script-src")):
        (inline,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy.replace("&#39;", "'")
    assert policy.startswith("default-src 'none';")
    assert "url(" not in text
    assert "@import" not in text


HOSTILE = (
    "</script><script>alert(1)</script> \"quoted\" 'too' &amp; <b onclick=x> {{ 7 * 7 }} {% raw %} "
    "\x00\x1b[31m\x7f \ud800 \u202egnp.exe \ufffe \U0001f9e8 \u2028 ]]> -->"
)


def test_what_a_subject_says_is_only_text():
    """Markup, templates, controls, surrogates and emoji in a message are text, and the file can be encoded."""
    changes = {"message": HOSTILE, "printed": HOSTILE, "traceback": HOSTILE, "evidence": HOSTILE, "note": HOSTILE}
    name = HOSTILE.replace("\ud800", "")  # a name can be encoded: the id of a finding is its hash
    found = finding(**changes, subject=name, needs=(HOSTILE,), cause="unknown", no_matrices=HOSTILE, matrices=None)
    record = replace(run([found]), options={"command": HOSTILE, HOSTILE: [HOSTILE]}, error=HOSTILE)
    text = page(record, left_out=[HOSTILE], write=lambda found: [Script(why=HOSTILE)] * len(found))
    assert text.encode("utf-8").decode("utf-8") == text
    document = Document(text)
    assert len(document.of("script")) == 1
    assert not document.of("b onclick")
    assert "{{ 7 * 7 }} {% raw %}" in document.text
    assert r"\x00\x1b[31m\x7f \ud800 \u202egnp.exe" in document.text
    assert "\U0001f9e8" in document.text
    assert document.text.count("alert(1)") > 8


def test_megabytes_are_cut():
    """Messages, output and tracebacks of megabytes leave a page that a browser can show."""
    long = "<" * 3_000_000
    record = run([finding(message=long, printed=long, traceback=long, evidence=long, no_matrices=long)])
    text = written(replace(record, error=long))
    assert len(text) < 400_000
    assert "characters left out" in text


def test_too_many_findings_are_counted(monkeypatch: pytest.MonkeyPatch):
    """Findings beyond a limit have no card, and no cell leads to one; their number is said."""
    monkeypatch.setattr("toeplitz_core.testing.reports.page.view.FINDINGS", 10)
    document = Document(written(run([finding(number) for number in range(1, 16)])))
    assert len(document.of("article")) == 10
    assert "5 more findings are in the JSON report." in document.text
    assert "F11" in document.text
    assert "#F11" not in document.values("href")


def test_a_card_has_all_of_its_finding():
    """A card shows cause, evidence, needs, where, matrices, maps, replay line, script, traceback, output and note."""
    document = Document(written(run([finding()])))
    for said in (
        "Rows and columns of the kernel are swapped.", "Predicts every number for 5 random inputs.", "stride > 1",
        "out[0, 1, 1, 1]=3, but should be 1", "output channel 1 of 2, columns 3.. of 6", "holds without oneDNN",
        "by sums in float32", "The entries that differ, as text", "What the worst element reads",
        "Where the result is wrong", 'replay "input=1x1x3x3', "import torch", "helper(weight)", "hello",
    ):  # fmt: skip
        assert said in document.text, said


@pytest.mark.parametrize("symptom", [Symptom.CRASH, Symptom.HANG])
def test_a_finding_without_numbers_has_no_pictures(symptom: Symptom):
    """A crash or a hang has a card without pictures."""
    changes = {"status": Status.CRASH, "symptom": symptom, "difference": None, "index": None, "matrices": None}
    document = Document(written(run([finding(**changes)])))
    assert document.of("article")
    assert not document.of("svg")


def test_a_baseline_is_compared():
    """With a baseline, cards say which findings are new, and accuracy stands next to that of the baseline."""
    old, new = run([finding(1)], accuracy=run([]).accuracy), run([finding(1), finding(2)])
    facts = Facts.of(new)
    comparison = compared(replace(Facts.of(old), steps=facts.steps), facts)
    document = Document(written(replace(new, accepted={new.findings[0].id}), comparison=comparison))
    assert document.text.count("new finding") == 2
    pills = [attributes for tag, attributes in document.of("span") if str(attributes.get("class")).startswith("pill")]
    assert [pill["class"] for pill in pills] == ["pill bad", "pill known", "pill bad", "pill new"]
    assert "1 times" in document.text
    assert "fails: 1 new finding" in document.text


def test_addresses_of_issues_are_links():
    """Each address in a remark is a link, and nothing else in its text becomes markup."""
    text = written(RECORD, left_out=["law x: see https://example.org/<b>?a=1&b='2'"])
    links = [href for href in Document(text).values("href") if href.startswith("http")]
    assert "https://x.org" in links
    assert "https://example.org/" in links
    assert "&lt;b&gt;?a=1&amp;b=" in text


def test_what_was_not_judged_is_said_with_its_reason():
    """Unsupported, mistrusted, known, shared, stale and not run have their reasons on the page."""
    text = Document(written(RECORD, left_out=["law x: the plan has it not"])).text
    for said in (
        "forward-bound is not for int64", "could not have told right from wrong", "It is so.",
        "torch itself fails this", "torch sees no CUDA device", "its example holds",
        "law x: the plan has it not", "sums in float32",
    ):  # fmt: skip
        assert said in text, said
