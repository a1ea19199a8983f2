"""The reports that a run writes to files."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from toeplitz_core.testing.reports.files.json import JsonReport
from toeplitz_core.testing.reports.files.junit import to_junit
from toeplitz_core.testing.reports.files.markdown import run_markdown
from toeplitz_core.testing.run.comparison.facts import Facts
from toeplitz_core.testing.run.events import Consumer, Ended, Event
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.support.files import check_writable, write_atomically


class ReportFile:
    """Write a report to a file when the run ends.

    Parameters
    ----------
    path : str
    text : callable
        Makes the text of the file from the end of the run. If it is empty, no file is written.

    Raises
    ------
    ValueError
        If the file cannot be written.
    """

    def __init__(self, path: str, text: Callable[[Ended], str]) -> None:
        self._path = check_writable(path)
        self._text = text

    def __call__(self, event: Event) -> None:
        """Write the report if the event is the end of the run."""
        if isinstance(event, Ended) and (text := self._text(event)):
            write_atomically(self._path, text)


def report_files(options: Options) -> list[Consumer]:
    """The consumers of events that write the files of these options.

    Raises
    ------
    ValueError
        If a file cannot be written, or if a package is missing that makes it.
    """
    files: list[Consumer] = []
    if options.json is not None:
        files.append(JsonReport(options.json))
    if options.junit is not None:
        files.append(ReportFile(options.junit, lambda ended: to_junit(ended.record, ended.comparison)))
    if options.markdown is not None:
        files.append(ReportFile(options.markdown, lambda ended: run_markdown(ended.record, ended.comparison)))
    if options.html is not None:
        files.append(html_file(options.html))
    if options.write_baseline is not None:
        files.append(ReportFile(options.write_baseline, _baseline))
    return files


def html_file(path: str) -> ReportFile:
    """The page of a run.

    Raises
    ------
    ValueError
        If the file cannot be written, or jinja2 is missing.
    """
    if find_spec("jinja2") is None:
        raise ValueError(f"html={path!r} needs jinja2: python -m pip install 'toeplitz_core[html]'")
    return ReportFile(path, _page)


def _page(ended: Ended) -> str:
    """The page of a run."""
    from toeplitz_core.testing.reports.page.page import page  # noqa: PLC0415  # it needs jinja2, which is optional

    return page(ended.record, ended.comparison, ended.left_out)


def _baseline(ended: Ended) -> str:
    """The baseline of a complete run; empty for one that was cut short, which would lack some of its steps."""
    return Facts.of(ended.record).baseline() if ended.record.ended == "completed" else ""
