"""The remarks after the tables of a run: what was refused, mistrusted or not run, and how results were judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console

from toeplitz_core.testing.findings.shared import in_words
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import EXCUSED, Status
from toeplitz_core.testing.reports.text import STYLES, prose
from toeplitz_core.testing.run.record import Record
from toeplitz_core.testing.subjects.outcome import FORWARD_ONLY
from toeplitz_core.testing.support.spelling import cases_of, counted

# A subject may give a different reason, or declare a different arithmetic, for each case. The JSON report has them all.
MOST_LINES = 6
_STYLES = {status.value: STYLES[status] for status in EXCUSED}


class Remark(NamedTuple):
    """A remark on a run.

    Parameters
    ----------
    kind : str
        What it is about, such as ``not run``.
    text : str
    link : str
        An address that says more; empty without one.
    """

    kind: str
    text: str
    link: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def print_remarks(console: Console, results: Sequence[Result], left_out: Sequence[str] = ()) -> None:
    """Print what was not proven, refused or not run, with the reasons, and by which arithmetic results were judged."""
    for remark in remarks(results, left_out):
        prose(console, str(remark))


def remarks(results: Sequence[Result], left_out: Sequence[str] = (), *, most: int = MOST_LINES) -> Iterator[Remark]:
    """What was not proven, refused or not run, with the reasons, and by which arithmetic results were judged.

    Parameters
    ----------
    left_out : sequence of str
        What was not run, with the reasons.
    most : int
        The largest number of remarks of one kind, where each case may have another reason.
    """
    ran = [r for r in results if r.status is not Status.NOT_RUN]
    who = _who(ran)
    unproven = [
        Remark(r.status.value, f"{r.subject} {r.law} {r.dtype} {r.device}: {r.message}")
        for r in ran
        if r.nothing_proven
    ]
    yield from _most(unproven, "nothing proven", most)
    for line in _forward_only(who, ran):
        yield Remark(FORWARD_ONLY.rstrip(": "), line)
    wholly = [(r, r.message) for r in ran if r.status is Status.UNSUPPORTED and not r.nothing_proven]
    wholly = [(r, message) for r, message in wholly if not message.startswith(FORWARD_ONLY)]
    partly = [(r, r.refused) for r in ran if 0 < r.counts[Status.UNSUPPORTED] < r.cases]
    for kind, refusals in (("unsupported", wholly), ("unsupported in part", partly)):
        yield from _most([Remark(kind, line) for line in _by_reason(who, refusals)], kind, most)
    if doubtful := [r for r in ran if r.counts[Status.MISTRUSTED]]:
        count, cases = sum(r.counts[Status.MISTRUSTED] for r in doubtful), sum(r.cases for r in ran)
        share = f"{count} of {cases_of(cases)} could not have told right from wrong"
        yield Remark("mistrusted", f"{share}: {_names(doubtful, 'law')}")
    absent = {(r.subject, r.device): r.message for r in results if r.status is Status.NOT_RUN}
    for line in (*(f"{subject} on {device}: {reason}" for (subject, device), reason in absent.items()), *left_out):
        yield Remark("not run", line)
    for line in _left_out(who, ran):
        yield Remark("left out", line)
    for line in _signed_zeros(who, ran):
        yield Remark("signed zeros", line)
    for one, result in {(r.subject, r.device): r for r in reversed(ran) if r.slow}.items():
        yield Remark("slow", f"{who[one]}{result.slow}")
    if judged := _assumed(results, most):
        yield Remark("judged by", judged)


def _who(results: Sequence[Result]) -> dict[tuple[str, str], str]:
    """The words for each subject on a device in a remark; empty if there is only one."""
    there = dict.fromkeys((r.subject, r.device) for r in results)
    return {one: f"{one[0]} on {one[1]}: " if len(there) > 1 else "" for one in there}


def _names(results: Sequence[Result], of: str) -> str:
    return counted(list(dict.fromkeys(getattr(r, of) for r in results)), of)


def _left_out(who: dict[tuple[str, str], str], ran: Sequence[Result]) -> Iterator[str]:
    """For each subject that crashes or hangs, how many cases were not tried because they would not return either."""
    for one in dict.fromkeys((r.subject, r.device) for r in ran if r.left_out):
        results = [r for r in ran if (r.subject, r.device) == one and r.left_out]
        cases = cases_of(sum(r.left_out for r in results))
        yield f"{who[one]}{cases} not tried, because they meet what a crash or a hang needs: {_names(results, 'law')}"


def _signed_zeros(who: dict[tuple[str, str], str], ran: Sequence[Result]) -> Iterator[str]:
    """For each subject with such zeros, the number of zeros that differ in sign from a sum in index order."""
    for one in dict.fromkeys((r.subject, r.device) for r in ran if r.zero_signs):
        of_subject = [r for r in ran if (r.subject, r.device) == one]
        other, zeros = sum(r.zero_signs for r in of_subject), sum(r.zeros for r in of_subject)
        yield f"{who[one]}{other} of {zeros} differ from a sum in index order; not judged"


def _forward_only(who: dict[tuple[str, str], str], ran: Sequence[Result]) -> Iterator[str]:
    """For each subject without gradients, a line with the reason and the number of laws that were not checked.

    It names the dtypes if the subject has gradients in others.
    """
    found: dict[tuple[str, str], list[Result]] = {}
    for r in ran:
        if r.status is Status.UNSUPPORTED and r.message.startswith(FORWARD_ONLY):
            found.setdefault((r.subject, r.device), []).append(r)
    for one, results in found.items():
        laws = {r.law for r in results}
        others = (r for r in ran if (r.subject, r.device) == one and r.law in laws and r not in results)
        dtypes = f"{_names(results, 'dtype')}: " * any(r.status is not Status.UNSUPPORTED for r in others)
        reason = results[0].message.removeprefix(FORWARD_ONLY)
        yield (
            f"{who[one]}{dtypes}{reason}; {len(laws)} law{'s' * (len(laws) > 1)} of derivatives not "
            "checked (--differentiable makes this a failure)"
        )


def _by_reason(who: dict[tuple[str, str], str], refusals: Sequence[tuple[Result, str]]) -> list[str]:
    """One line for each reason of a refusal; with the share of refused cases, if other cases were judged."""
    reasons: dict[tuple[tuple[str, str], str], list[Result]] = {}
    for r, reason in refusals:
        reasons.setdefault(((r.subject, r.device), reason), []).append(r)
    lines = []
    for (one, reason), results in reasons.items():
        refused, cases = sum(r.counts[Status.UNSUPPORTED] for r in results), sum(r.cases for r in results)
        share = f"{refused} of {cases_of(cases)}: " if refused < cases else ""
        lines.append(f"{who[one]}{_names(results, 'law')}; {_names(results, 'dtype')}: {share}{reason}")
    return lines


def _most(found: Sequence[Remark], kind: str, most: int) -> Iterator[Remark]:
    """The first remarks of a kind, and how many more there are."""
    yield from found[:most]
    if len(found) > most:
        yield Remark(kind, f"{len(found) - most} more lines: see --json")


def _assumed(results: Sequence[Result], most: int) -> str:
    """The arithmetics that results were judged by, each with the subjects and dtypes; the most frequent first."""
    judged: dict[str, dict[str, Counter[str]]] = {}
    for result in results:
        for arithmetic, count in result.assumed.items():
            judged.setdefault(arithmetic, {}).setdefault(result.subject, Counter())[result.dtype] += count
    several = len({result.subject for result in results if result.assumed}) > 1
    said = []
    for arithmetic, subjects in sorted(judged.items(), key=lambda item: -sum(c.total() for c in item[1].values())):
        of = "; ".join(f"{subject} {', '.join(d)}" if several else ", ".join(d) for subject, d in subjects.items())
        said.append(f"{arithmetic} ({of})")
    more = len(said) - most
    return ", ".join(said[:most]) + (f", and {more} more: see --json" if more > 0 else "")


def print_known(console: Console, record: Record) -> None:
    """Print the known and the shared failures, with counts and reasons, and the stale entries."""
    for remark in known_remarks(record):
        prose(console, str(remark), style=_STYLES.get(remark.kind))


def known_remarks(record: Record) -> Iterator[Remark]:
    """The known and the shared failures, with counts and reasons, and the stale entries."""
    for entry in record.known.entries:
        if count := record.matched[entry.name]:
            yield Remark("known", f"{entry.name}: {cases_of(count)}: {entry.reason}", entry.link)
    for name, count in sorted(record.shared.items()):
        yield Remark("shared", f"{in_words(name)}: {cases_of(count)}")
    for stale in record.stale:
        yield Remark("stale", f"{stale.entry.name} for {stale.subject}: {stale.why}")
