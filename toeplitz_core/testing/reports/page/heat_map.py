"""The table of a subject on a device: laws by dtypes, coloured by how close each result is to its bound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from toeplitz_core.testing.case.dtypes import CASE_DTYPES, DTYPES
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.reports.table import share
from toeplitz_core.testing.run.record import UNPROVEN, Record

# The upper ends of the shades of results within their bounds, in units of the bound.
_ENDS = (0.25, 0.5, 0.75)
_WORDS = {Status.UNSUPPORTED: "-", Status.MISTRUSTED: "none", Status.NOT_RUN: "not run"}


@dataclass(frozen=True, slots=True)
class Heat:
    """One cell.

    Parameters
    ----------
    text : str
        A number, a status or the name of a finding, so that nothing is said by colour alone.
    kind : str
        The class of its colours.
    words : str
        The same in words.
    finding : int, optional
        The number of the finding that it leads to.
    """

    text: str
    kind: str
    words: str
    finding: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A law with its cells, one for each dtype.

    Parameters
    ----------
    law : str
    cells : tuple of Heat or None
        None where the law was not asked about a dtype.
    cases : int
    judged : str
        The share of the cases that proved something.
    """

    law: str
    cells: tuple[Heat | None, ...]
    cases: int
    judged: str


@dataclass(frozen=True, slots=True)
class HeatMap:
    """The table of one subject on one device.

    Parameters
    ----------
    subject, device : str
    dtypes : tuple of (str, str)
        The short and the long name of each column.
    rows : tuple of Row
    """

    subject: str
    device: str
    dtypes: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]


def heat_maps(record: Record) -> Iterator[HeatMap]:
    """The tables of a run, in its order."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in (*record.results, *record.unreached):
        groups.setdefault((result.subject, result.device), []).append(result)
    for (subject, device), results in groups.items():
        if all(result.status is Status.NOT_RUN and not result.cases for result in results):
            continue  # the remarks say why
        dtypes = [dtype for dtype in CASE_DTYPES if any(result.dtype == dtype for result in results)]
        laws: dict[str, dict[str, Result]] = {}
        for result in results:
            laws.setdefault(result.law, {}).setdefault(result.dtype, result)
        rows = tuple(_row(record, law, row, dtypes) for law, row in laws.items())
        yield HeatMap(subject, device, tuple((DTYPES[dtype].aliases[0], dtype) for dtype in dtypes), rows)


def _row(record: Record, law: str, row: dict[str, Result], dtypes: list[str]) -> Row:
    counts = sum((result.counts for result in row.values()), Counter[Status]())
    judged = counts.total() - sum(counts[status] for status in UNPROVEN)
    cells = tuple(_heat(record, row[dtype]) if dtype in row else None for dtype in dtypes)
    return Row(law, cells, counts.total(), share(judged, counts.total()))


def _heat(record: Record, result: Result) -> Heat:
    numbers = dict.fromkeys(
        number for failure in result.failures if (number := record.number_of(result.step, failure)) is not None
    )
    if result.status.is_failure:
        first = next(iter(numbers), None)
        others = f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""
        accepted = record.is_accepted(result)
        said = result.status.value + ("" if first is None else f", finding {first}{others}")
        text = result.status.value.upper() if first is None else f"F{first}{'+' * (len(numbers) > 1)}"
        return Heat(text, "known" if accepted else "bad", f"{said}{', in the baseline' * accepted}", first)
    if result.status is not Status.PASS:
        none = result.status is Status.UNSUPPORTED and result.nothing_proven
        kind = {Status.KNOWN: "known", Status.SHARED: "known"}.get(
            result.status, "doubt" if result.nothing_proven else "off"
        )
        text = "none" if none else _WORDS.get(result.status, result.status.value)
        said = "nothing proven" if result.nothing_proven else result.status.value
        return Heat(text, kind, said, next(iter(numbers), None))
    if result.max_ratio is None:
        return Heat("exact", "good", "holds exactly")
    shade = sum(result.max_ratio > end for end in _ENDS)
    return Heat(f"{result.max_ratio:.3f}", f"good{shade}", "holds; the largest error in units of the bound")
