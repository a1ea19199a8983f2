"""The reports that a run writes to files."""

from __future__ import annotations

from toeplitz_core.testing.reports.json import JsonReport
from toeplitz_core.testing.reports.junit import JunitReport
from toeplitz_core.testing.reports.markdown import MarkdownReport
from toeplitz_core.testing.run.events import Consumer
from toeplitz_core.testing.run.options import Options


def report_files(options: Options) -> list[Consumer]:
    """The consumers of events that write the files of these options."""
    files: list[Consumer] = []
    if options.json is not None:
        files.append(JsonReport(options.json))
    if options.junit is not None:
        files.append(JunitReport(options.junit))
    if options.markdown is not None:
        files.append(MarkdownReport(options.markdown))
    return files
