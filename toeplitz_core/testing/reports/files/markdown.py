"""A run, or the comparison of two, as Markdown: for the summary of a CI job, or a comment on a pull request."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.laws.verdict import EXCUSED, Status
from toeplitz_core.testing.reports.compared import comparison_facts, verdict_line
from toeplitz_core.testing.reports.finding_text import cause_in_words
from toeplitz_core.testing.reports.headline import claimed_of, subjects_of, verdict_in_words
from toeplitz_core.testing.reports.text import printable
from toeplitz_core.testing.run.comparison.comparison import Comparison, Limits
from toeplitz_core.testing.run.record import Record, replay_command, versions_and_platform
from toeplitz_core.testing.support.spelling import counted, listed

# More findings than this are only counted: GitHub takes at most a megabyte, and nobody reads more.
_FINDINGS = 20
# Characters of a message.
_LONGEST = 500
# Characters that Markdown or HTML would read.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def run_markdown(record: Record, comparison: Comparison | None = None) -> str:
    """A run: ten lines if all is well."""
    return "\n".join(_run(record, comparison)) + "\n"


def _run(record: Record, comparison: Comparison | None) -> Iterator[str]:
    yield f"### toeplitz-core: {_escaped(listed(subjects_of(record)))}: {verdict_in_words(record)}"
    yield ""
    claimed = claimed_of(record)
    held = sum(result.status in (Status.PASS, *EXCUSED) for result in claimed)
    laws = counted(list(dict.fromkeys(result.law for result in claimed)), "law", most=1)
    dtypes = ", ".join(dict.fromkeys(result.dtype for result in claimed))
    where = f" (each law with each dtype): {laws}; {dtypes}" if claimed else ""
    yield f"{record.counts.total()} cases; {held} of {len(claimed)} hold{where}."
    for number, finding in enumerate(record.findings[:_FINDINGS], start=1):
        yield from _finding(number, finding, accepted=finding.id in record.accepted)
    if more := len(record.findings) - _FINDINGS:
        yield from ("", f"{more} more findings are in the other reports.") if more > 0 else ()
    if record.error:
        yield from ("", f"Error of toeplitz-core: {_escaped(record.error)}")
    if comparison is not None:
        yield from ("", *_comparison(comparison, Limits()))
    yield from ("", *_unproven(record))
    versions = versions_and_platform()
    programs = f"torch {versions['torch']}, toeplitz-core {versions['toeplitz_core']}, Python {versions['python']}"
    yield f"{programs}; `{record.options.get('command', '')}`"


def _finding(number: int, finding: Finding, *, accepted: bool) -> Iterator[str]:
    known = " (in the baseline)" if accepted else ""
    yield ""
    yield f"**F{number} {_escaped(finding.cause)}**: {_escaped(finding.subject)} ({finding.status}){known}"
    yield f"- {_escaped(cause_in_words(finding, named=False))}"
    yield f"- wrong: {_escaped(finding.failure.message.partition(chr(10))[0])}"
    if finding.needs:
        yield f"- needs: {_escaped(', '.join(finding.needs))}"
    yield f"- in: {counted(list(finding.laws), 'law')}; {', '.join(finding.dtypes)}; {', '.join(finding.devices)}"
    yield f"- `{replay_command(finding.subject, finding.failure)}`"


def _unproven(record: Record) -> Iterator[str]:
    """What was not checked, counted."""
    missing: dict[str, list[str]] = {}
    for result in (*record.results, *record.unreached):
        if result.status in (Status.UNSUPPORTED, Status.NOT_RUN, Status.MISTRUSTED):
            missing.setdefault(result.status.value, []).append(result.message)
    said = [f"{len(why)} {word}{_reasons(why)}" for word, why in missing.items()]
    excused = {"known": record.matched, "shared with torch": record.shared}
    said += [f"{len(entries)} {word}" for word, entries in excused.items() if entries]
    if less := record.too_little_judged:
        yield f"Judged too little: {_escaped(less)}."
    if said:
        yield f"Not checked, or excused: {', '.join(said)}."


def _reasons(why: list[str]) -> str:
    """The most frequent reason, and how many others there are."""
    (first, _), *others = Counter(filter(None, why)).most_common() or [("", 0)]
    if not first:
        return ""
    more = f", and {len(others)} other reason" + "s" * (len(others) > 1) if others else ""
    return f" ({_escaped(first.partition(chr(10))[0])}{more})"


def comparison_markdown(comparison: Comparison, limits: Limits) -> str:
    """A comparison of two runs."""
    return "\n".join(_comparison(comparison, limits)) + "\n"


def _comparison(comparison: Comparison, limits: Limits) -> Iterator[str]:
    yield f"**Compared with {_escaped(comparison.old.name)}: {_escaped(verdict_line(comparison, limits))}**"
    for label, texts in comparison_facts(comparison):
        if label == "compared" or not texts:
            continue
        yield ""
        yield f"{label}:"
        for text in texts[:_FINDINGS]:
            first, *rest = text.split("\n")
            yield " ".join((f"- {_escaped(first)}", *(f"`{line.strip().removeprefix('case: ')}`" for line in rest)))
        if len(texts) > _FINDINGS:
            yield f"- and {len(texts) - _FINDINGS} more"


def _escaped(text: str) -> str:
    """A text of a bounded length that neither Markdown nor a terminal takes for commands."""
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
    return _SPECIAL.sub(r"\\\1", printable(text))
