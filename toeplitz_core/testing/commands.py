"""What the commands do. They need torch, which their declarations, help texts and completions do not."""

from __future__ import annotations

import contextlib
import errno
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import typer

from toeplitz_core.testing.case.dtypes import CASE_DTYPES, ROUNDED_DTYPES
from toeplitz_core.testing.checking import carry_out, chosen, console
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.findings.replay import parse, read_cases
from toeplitz_core.testing.findings.reproducer.exported import exported
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.oracle.arithmetics import ARITHMETICS
from toeplitz_core.testing.reports.cases.replayed_cases import debug, replay_all
from toeplitz_core.testing.reports.cases.show import show_case
from toeplitz_core.testing.reports.compared import comparison_lines
from toeplitz_core.testing.reports.files.json import JsonReport
from toeplitz_core.testing.reports.files.markdown import comparison_markdown
from toeplitz_core.testing.reports.terminal import OUR_ERROR
from toeplitz_core.testing.reports.text import filled, laws_table, plain
from toeplitz_core.testing.run.comparison.comparison import DEFAULT, Limits, compared
from toeplitz_core.testing.run.comparison.facts import Facts
from toeplitz_core.testing.run.execution.subject_pool import SubjectPool
from toeplitz_core.testing.run.exit_code import ExitCode
from toeplitz_core.testing.run.options import Options, merged_options
from toeplitz_core.testing.run.pyproject import project
from toeplitz_core.testing.subjects import SUBJECTS, Implementation, Subject, check_name, check_undeclared
from toeplitz_core.testing.subjects.entry_points import dangling, described_entry, passed_over, plugged_in
from toeplitz_core.testing.support.files import NotWrittenError, check_writable, write_atomically
from toeplitz_core.testing.support.spelling import listed

# Errors of the machine, such as a full disk, for which nobody's code is to blame.
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)


def check(options: Mapping[str, Any]) -> None:
    """Run ``check`` and exit."""
    given = chosen(options)
    out = console(stderr=given.get("json") == "-")
    raise typer.Exit(_usage(carry_out, given, None, out, console(stderr=True)).exit_code)


def replay(
    case: str | None, file: str | None, given: Mapping[str, Any], *, runs: int, json: str | None, pdb: bool
) -> None:
    """Run ``replay`` and exit. ``given`` has the options that it shares with ``check``."""
    if (case is None) == (file is None):
        raise _wrong_usage("give either CASE or --file FILE")
    if pdb and file is not None:
        raise _wrong_usage("--pdb is for one CASE, not for --file")
    if runs < 1:
        raise _wrong_usage(f"runs={runs} must be a whole number >= 1")
    cases = [_usage(parse, case)] if case is not None else _usage(read_cases, file)
    table = {key: value for key, value in _usage(project).items() if key in given}
    options = _usage(merged_options, chosen(given), table, {"subject": ("torch",)})
    listed = _usage(lambda: KnownFailures.of_files(options.known, laws=LAWS))
    if len(options.subject) > 1:
        raise _wrong_usage(f"{', '.join(options.subject)}: replay takes one subject; choose it with --subject")
    report = None if json is None else _usage(JsonReport, json)
    # If the JSON goes to standard output, nothing else may go there.
    aside = contextlib.redirect_stdout(sys.stderr) if json == "-" else contextlib.nullcontext()
    with aside, _started(options.subject[0], options) as tested:
        if pdb and isinstance(tested, Subject):
            raise typer.Exit(debug(console(), cases[0], tested))
        out = console(stderr=json == "-")
        strict, flags = options.strict, options.flags
        code = replay_all(out, cases, tested, runs=runs, known=listed, strict=strict, report=report, flags=flags)
    raise typer.Exit(code)


def export(case: str, given: Mapping[str, Any], output: str | None) -> None:
    """Run ``export``. ``given`` has the options that it shares with ``check``."""
    parsed = _usage(parse, case)
    table = {key: value for key, value in _usage(project).items() if key in given}
    options = _usage(merged_options, chosen(given), table, {"subject": ("torch",)})
    if len(options.subject) > 1:
        raise typer.BadParameter(f"{', '.join(options.subject)}: export takes one subject; choose it with --subject")
    path = None if output is None else _usage(check_writable, output)
    with _started(options.subject[0], options) as tested:
        found = _usage(exported, parsed, tested, options.declared)
    if not found.failed:
        plain(console(stderr=True), "The case holds here, so the script exits with 0.")
    elif not found.shown:
        plain(console(stderr=True), "The case fails here, but the script does not: the failure may need other calls.")
    if path is None:
        typer.echo(found.text, nl=False)
    else:
        _usage(write_atomically, path, found.text)


def compare(old: str, new: str, fail_on: list[str] | None, markdown: str | None) -> None:
    """Run ``compare`` and exit."""
    limits = _usage(Limits.of, DEFAULT if fail_on is None else ",".join(fail_on))
    path = None if markdown is None else _usage(check_writable, markdown)
    if path is not None and (markdown == "-" or path.resolve() in (Path(old).resolve(), Path(new).resolve())):
        raise _wrong_usage(f"markdown={markdown!r} must be a file of its own")
    comparison = _usage(lambda: compared(Facts.read(old), Facts.read(new)))
    if limits.time is not None and comparison.slower is None:
        raise _wrong_usage(
            "fail-on=time: one of the files has no time, as a baseline has none, or other steps were run"
        )
    if limits.accuracy is not None and not comparison.measured:
        raise _wrong_usage("fail-on=accuracy: no accuracy is in both files, measured on the same geometries")
    for line in comparison_lines(comparison, limits):
        plain(console(), line)
    if path is not None:
        _usage(write_atomically, path, comparison_markdown(comparison, limits))
    raise typer.Exit(ExitCode.FAILURE if comparison.fails(limits) else ExitCode.ALL_HOLD)


def show(case: str, subject: str | None) -> None:
    """Run ``show``."""
    parsed = _usage(parse, case)
    if subject is None:
        typer.echo(show_case(parsed))
        return
    with _started(subject, Options()) as tested:
        plain(console(), show_case(parsed, tested))


def subjects() -> None:
    """Run ``subjects``."""
    for name, registered in SUBJECTS.items():
        there = ", ".join(f"{package} {version}" for package, version in registered.versions.items())
        typer.echo(f"{name}: {registered.statement}{f' ({there})' * bool(there)}")
        if registered.absent:
            typer.echo(f"    not run: {registered.absent}")
    for name, entry in plugged_in().items():
        typer.echo(f"{name}: {described_entry(entry)}")
        if why := dangling(entry):
            typer.echo(f"    not run: {why}")
    for name, why in passed_over().items():
        typer.echo(f"'{name}' is {why}")
    typer.echo("package.module:callable: anything with the signature of torch.nn.functional.conv2d, or a Subject")


def arithmetics() -> None:
    """Run ``arithmetics``."""
    for name, arithmetic in ARITHMETICS.items():
        dtypes = "all dtypes" if arithmetic.dtypes == CASE_DTYPES else listed(arithmetic.dtypes)
        dtypes = "all dtypes but int64" if arithmetic.dtypes == ROUNDED_DTYPES else dtypes
        typer.echo(f"{name}, for {dtypes}: {arithmetic.statement}")


def laws(*, markdown: bool) -> None:
    """Run ``laws``."""
    if markdown:
        typer.echo(laws_table(LAWS.values()))
        return
    for law in LAWS.values():
        typer.echo(f"{law.name}: {law.statement}")


def failed(error: Exception) -> None:
    """Print an error that ended a command. Most of those that get so far are bugs of ours."""
    errors = console(stderr=True)
    if isinstance(error, NotWrittenError) or (isinstance(error, OSError) and error.errno in _OF_THE_MACHINE):
        plain(errors, f"error: {error}")
    else:
        plain(errors, "".join(traceback.format_exception(error)).rstrip())
        plain(errors, OUR_ERROR)


@contextlib.contextmanager
def _started(name: str, options: Options) -> Iterator[Implementation]:
    """Import the subject of this name. It is a usage error if there is no such subject."""
    _usage(check_name, name)
    _usage(check_undeclared, name, options.arithmetic)
    pool = SubjectPool(partial(Sandbox, timeout=options.timeout), inline=options.inline, declared=options.declared)
    with contextlib.closing(pool):
        yield _usage(pool.__getitem__, name)


def _wrong_usage(message: str) -> typer.BadParameter:
    """The error of wrong usage with this message, whose first line is folded; others are those of a traceback."""
    before = "Error: Invalid value: "
    text, _, frames = message.partition("\n")
    lines = [*filled(before + text), *frames.splitlines()]
    return typer.BadParameter("\n".join(lines).removeprefix(before))


_T = TypeVar("_T")


def _usage(function: Callable[..., _T], *values: Any) -> _T:
    """Call a function; a ``ValueError`` is a usage error and ends the command with 2."""
    try:
        return function(*values)
    except ValueError as error:
        raise _wrong_usage(str(error)) from None
