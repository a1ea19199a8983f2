"""Write a run as one HTML document that needs no other file and no network."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from functools import partial
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.findings.reproducer.apart import Script, scripts
from toeplitz_core.testing.reports.page.text import finalized
from toeplitz_core.testing.reports.page.view import view
from toeplitz_core.testing.run.comparison.comparison import Comparison
from toeplitz_core.testing.run.record import Record
from toeplitz_core.testing.subjects.declared import Declared

_ADDRESS = re.compile(r"(https?://[^\s<>\"'()]+)")


def page(
    record: Record,
    comparison: Comparison | None = None,
    left_out: Sequence[str] = (),
    *,
    write: Callable[[Sequence[Finding]], Sequence[Script]] | None = None,
) -> str:
    """A run as an HTML document.

    Parameters
    ----------
    record : Record
    comparison : Comparison, optional
        How the run differs from its baseline.
    left_out : sequence of str
        What was not run, with the reasons.
    write : callable, optional
        Takes the findings and returns a script for each. The default writes them in another process.
    """
    write = partial(scripts, declared=_declared(record)) if write is None else write
    style, program = (Markup(_file(name)) for name in ("style.css", "page.js"))
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        finalize=finalized,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["linked"] = _linked
    template = environment.get_template("page.html")
    hashes = {"style_hash": _hash(style), "program_hash": _hash(program)}
    return template.render(v=view(record, comparison, left_out, write), style=style, program=program, **hashes)


def _file(name: str) -> str:
    return (resources.files(__package__) / "templates" / name).read_text("utf-8")


def _hash(text: str) -> str:
    """The source expression by which a Content-Security-Policy allows an inline text (W3C, CSP 3, section 2.3.1)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _linked(text: str) -> Markup:
    """A text in which addresses are links. Only a reader who follows one loads anything."""
    parts = _ADDRESS.split(str(finalized(text)))
    link = Markup('<a href="{0}" rel="noreferrer">{0}</a>')
    return Markup("").join(link.format(part) if at % 2 else part for at, part in enumerate(parts))


def _declared(record: Record) -> Declared:
    """What the options of the run declare about its subjects."""
    arithmetic = record.options.get("arithmetic", ())
    chosen = tuple(map(str, arithmetic)) if isinstance(arithmetic, list | tuple) else ()
    return Declared(bool(record.options.get("differentiable")), (), chosen)
