"""``check`` for Python: the command for notebooks and other tools."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console

from toeplitz_core.testing.reports.files.report_files import report_files
from toeplitz_core.testing.reports.terminal import TerminalReport
from toeplitz_core.testing.run.events import Consumer
from toeplitz_core.testing.run.journal import Resumed
from toeplitz_core.testing.run.options import by_key, merged_options
from toeplitz_core.testing.run.pyproject import TABLE, VARIABLE, project
from toeplitz_core.testing.run.record import Record
from toeplitz_core.testing.run.session import Session
from toeplitz_core.testing.subjects import Subject, named_subjects
from toeplitz_core.testing.support import interrupts

# Options that a resumed run may be given.
_OF_THE_REST = ("resume", "jobs", "executor", "json", "junit", "markdown", "html", "write_baseline", "verbose")


def check(
    subject: Callable[..., Any] | Subject | str | Sequence[Callable[..., Any] | Subject | str] | None = None,
    *,
    quiet: bool = False,
    **options: Any,
) -> Record:
    """Search for cases on which the laws fail, as ``toeplitz-core check`` does.

    Parameters
    ----------
    subject : callable, Subject, str, or a sequence of them, optional
        Names, as for the command, or implementations. An implementation that another process can import runs in a
        worker; any other runs in this process. The default is what the environment or ``pyproject.toml`` names.
    quiet : bool
        Whether to print nothing.
    **options
        The options of the command, with underscores: ``law=["matrix"]``, ``fail_fast=True``. Options that are not
        given are read from ``[tool.toeplitz_core]``.

    Returns
    -------
    Record
        The ``results`` of the run, its ``exit_code``, and how it ended.

    Raises
    ------
    ValueError
        If an option is wrong, with its value and the rule; or if a subject cannot be imported.

    Examples
    --------
    >>> record = check("torch", law="forward-exact", dtype="float32", device="cpu", examples=5, quiet=True)
    >>> record.exit_code, [result.status.value for result in record.results]
    (<ExitCode.ALL_HOLD: 0>, ['pass'])
    """
    given = by_key(options)
    found = None if subject is None else named_subjects(subject)
    if found is not None:
        if "subject" in given:
            raise ValueError("the first argument and 'subjects' are the same option: give only one of them")
        given["subject"] = tuple(found)
    consoles = (None, None) if quiet else (console(), console(stderr=True))
    return carry_out(given, found, *consoles)


def carry_out(
    given: Mapping[str, Any],
    subjects: Mapping[str, Subject | None] | None,
    out: Console | None,
    errors: Console | None,
) -> Record:
    """Run a check, print it to the consoles that are given, and write its reports.

    Raises
    ------
    ValueError
        As in :func:`check`.
    """
    resumed = None
    if "resume" in given:
        if others := ", ".join(sorted(set(given) - {*_OF_THE_REST})):
            raise ValueError(
                f"resume={given['resume']} uses the options of the journal, so it cannot be combined with {others}"
            )
        resumed = Resumed.read(given["resume"])
        options = merged_options(given, chosen(resumed.options))
    else:
        options = merged_options(given, project())
    if not options.subject:
        raise ValueError(
            "no subject: name one, as in 'check torch' or 'check package.module:callable', or set "
            f"{VARIABLE}, or the key 'subject' of [{TABLE}] in pyproject.toml; 'toeplitz-core subjects' lists the "
            "names"
        )
    consumers: list[Consumer] = [*report_files(options)]
    # If the JSON goes to standard output, nothing else may go there.
    aside = contextlib.redirect_stdout(sys.stderr) if options.json == "-" else contextlib.nullcontext()
    session = Session(options, subjects)
    with interrupts.noted(), contextlib.closing(session), aside:
        with contextlib.suppress(KeyboardInterrupt):  # the run then ends at once, and writes its reports
            session.start()
        if out is not None and errors is not None:
            consumers.insert(0, TerminalReport(out, errors))
        return session.run(*consumers, resumed=resumed)


def chosen(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were chosen: without None and empty lists. A seed of 0 and a flag that is off are kept."""
    return {key: value for key, value in options.items() if value is not None and value != []}


class _Console(Console):
    """A console whose reader may close the pipe. The run then ends as if interrupted, and writes its files."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        # Without this, flushing the buffer would fail again when the interpreter exits.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.file.fileno())
        os.close(null)
        interrupts.request()


def console(*, stderr: bool = False) -> Console:
    """A console for reports. In a log it is 160 columns wide: rich would assume 80 and fold the table."""
    found = _Console(stderr=stderr, emoji=False)
    return found if found.is_terminal else _Console(stderr=stderr, width=160, emoji=False)
