"""The command line, ``toeplitz-core``. Python code can do everything that it does."""

from __future__ import annotations

import contextlib
import errno
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

import toeplitz_core
from toeplitz_core.testing.case.dtypes import CASE_DTYPES, ROUNDED_DTYPES
from toeplitz_core.testing.checking import carry_out, chosen, console
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.findings.replay import ENOUGH, RUNS, parse, read_cases
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
from toeplitz_core.testing.run.options import OPTIONS, Options, merged_options
from toeplitz_core.testing.run.pyproject import TABLE, VARIABLE, project
from toeplitz_core.testing.subjects import SUBJECTS, Implementation, Subject, check_name, check_undeclared
from toeplitz_core.testing.subjects.entry_points import dangling, described_entry, passed_over, plugged_in
from toeplitz_core.testing.support import interrupts
from toeplitz_core.testing.support.files import NotWrittenError, check_writable, write_atomically
from toeplitz_core.testing.support.option import Option
from toeplitz_core.testing.support.spelling import listed

_RUNS = (
    "Number of runs of each case; every other run is in a fresh process. The case fails if any run fails. There are "
    f"fewer runs if a call does not return in time, or if the runs have taken {ENOUGH:g} s."
)

_PDB = (
    "Debug CASE: one run in this process, then Python's debugger. It is in the frame of the subject that raised, or "
    "stops at each call of the subject if a result is wrong. q quits. A crash ends the command."
)

_FAIL_ON = (
    "What ends with 1, separated by commas: findings (new ones), support (less than before), accuracy:FACTOR (errors "
    "grew by more than this factor), time:FACTOR (so did the time). Repeatable. The default is findings,support."
)

# Errors of the machine, such as a full disk, for which nobody's code is to blame.
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)

# The options that replay shares with check. Others do not apply to it.
_OF_REPLAY = ("subject", "known", "strict", "arithmetic", "timeout", "inline", "differentiable")

# The options that export shares with check.
_OF_EXPORT = ("subject", "arithmetic", "timeout", "inline")

_SUBJECT = f"The subject, as for check. The default is torch, unless {VARIABLE} or pyproject.toml names one."

app = typer.Typer(
    help="Check implementations of conv2d against the matrix of the convolution.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # errors quote cases and parameters such as stride[1], to be copied: no boxes, no markup
)


def main() -> None:
    """Entry point of the command line."""
    try:
        app(prog_name="toeplitz-core")
    except SystemExit:
        interrupts.ignore()  # the exit code is settled; Python only has to exit
        raise
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as error:  # noqa: BLE001  # most exceptions that get here are bugs of ours
        errors = console(stderr=True)
        if isinstance(error, NotWrittenError) or (isinstance(error, OSError) and error.errno in _OF_THE_MACHINE):
            plain(errors, f"error: {error}")
        else:
            plain(errors, traceback.format_exc().rstrip())
            plain(errors, OUR_ERROR)
        sys.exit(ExitCode.OUR_ERROR)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"toeplitz-core {toeplitz_core.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,  # handled by its callback
) -> None:
    pass


def _check(**options: Any) -> None:
    """Search for a case on which a law fails, and print the smallest one.

    A project can set other defaults in the table [tool.toeplitz_core] of its pyproject.toml.

    Exit codes: 0 all laws hold, 1 a law fails, 2 wrong usage, 3 nothing is proven, or a required device is missing, or
    an entry of the known failures is stale (with --fail-stale), 4 an error of toeplitz-core itself, 130 interrupted.
    """
    given = chosen(options)
    out = console(stderr=given.get("json") == "-")
    raise typer.Exit(_usage(carry_out, given, None, out, console(stderr=True)).exit_code)


def _parameter(option: Option) -> inspect.Parameter:
    """Convert an option to a typer parameter. None means that it was not given, so that the project table decides."""
    kind: Any = list[str] if option.repeatable else option.kind
    more: dict[str, Any] = {"help": option.help}
    if option.name == "subject":
        more["help"] += f" The default is {VARIABLE}, or else the key 'subject' of [{TABLE}] in pyproject.toml."
        more["metavar"] = option.metavar
        return inspect.Parameter(
            option.key,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, typer.Argument(**more)],
        )
    if option.metavar:
        more["metavar"] = option.metavar
    # The range is not given to typer: its error does not say which value is wrong.
    names = [f"--{option.name}/--no-{option.name}"] if option.kind is bool else []
    names += [f"-{option.short}"] if option.short else []
    annotation: Any = Annotated[kind | None, typer.Option(*names, **more)]
    return inspect.Parameter(option.key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


_PARAMETERS = [_parameter(option) for option in OPTIONS.values()]
_check.__signature__ = inspect.Signature(_PARAMETERS)  # type: ignore[attr-defined]  # where inspect looks for it
_check.__annotations__ = {parameter.name: parameter.annotation for parameter in _PARAMETERS}
app.command("check")(_check)


@app.command("replay")
def _replay(
    case: Annotated[
        str | None, typer.Argument(metavar="CASE", help="The case, as the report of a failure prints it.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Read the cases from this file, one per line. Text after ' # ' is a comment."
        ),
    ] = None,
    subject: Annotated[str | None, typer.Option(metavar="SUBJECT", help=_SUBJECT)] = None,
    runs: Annotated[int, typer.Option(metavar="N", help=_RUNS)] = RUNS,
    known: Annotated[list[str] | None, typer.Option(metavar="FILE", help=OPTIONS["known"].help)] = None,
    strict: Annotated[bool | None, typer.Option("--strict/--no-strict", help=OPTIONS["strict"].help)] = None,
    arithmetic: Annotated[
        list[str] | None,
        typer.Option(metavar=OPTIONS["arithmetic"].metavar, help=OPTIONS["arithmetic"].help),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar=OPTIONS["timeout"].metavar, help=OPTIONS["timeout"].help)
    ] = None,
    inline: Annotated[bool | None, typer.Option("--inline/--no-inline", help=OPTIONS["inline"].help)] = None,
    json: Annotated[str | None, typer.Option(metavar="FILE", help=OPTIONS["json"].help)] = None,
    pdb: Annotated[bool, typer.Option("--pdb", help=_PDB)] = False,
    differentiable: Annotated[
        bool | None, typer.Option("--differentiable/--no-differentiable", help=OPTIONS["differentiable"].help)
    ] = None,
) -> None:
    """Run a case again, or all cases of a file. A case that names no law is run under every law that applies to it.

    The keys subject, known, strict, arithmetic, timeout, inline and differentiable of the table [tool.toeplitz_core]
    are defaults, as for check.

    Exit codes: 0 all cases pass, 1 a case fails in some run, 2 wrong usage, 3 a case is mistrusted or unsupported, or
    its device is missing, 4 an error of toeplitz-core itself, 130 interrupted.
    """
    if (case is None) == (file is None):
        raise _wrong_usage("give either CASE or --file FILE")
    if pdb and file is not None:
        raise _wrong_usage("--pdb is for one CASE, not for --file")
    if runs < 1:
        raise _wrong_usage(f"runs={runs} must be a whole number >= 1")
    cases = [_usage(parse, case)] if case is not None else _usage(read_cases, file)
    given = chosen(
        {
            "subject": subject,
            "known": known,
            "strict": strict,
            "arithmetic": arithmetic,
            "timeout": timeout,
            "inline": pdb or inline,
            "differentiable": differentiable,
        }
    )
    table = {key: value for key, value in _usage(project).items() if key in _OF_REPLAY}
    options = _usage(merged_options, given, table, {"subject": ("torch",)})
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


@app.command("export")
def _export(
    case: Annotated[str, typer.Argument(metavar="CASE", help="The case, as the report of a failure prints it.")],
    subject: Annotated[str | None, typer.Option(metavar="SUBJECT", help=_SUBJECT)] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Write the script to this file.")
    ] = None,
    arithmetic: Annotated[
        list[str] | None,
        typer.Option(metavar=OPTIONS["arithmetic"].metavar, help=OPTIONS["arithmetic"].help),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar=OPTIONS["timeout"].metavar, help=OPTIONS["timeout"].help)
    ] = None,
    inline: Annotated[bool | None, typer.Option("--inline/--no-inline", help=OPTIONS["inline"].help)] = None,
) -> None:
    """Print a script that shows the failure of a case without this package, such as for a bug report.

    The script imports only torch or NumPy and the module under test. It prints what it expects and what it gets, and
    exits with 1 while the bug exists, with 0 when it is mended, and with 2 if it cannot run.

    The keys subject, arithmetic, timeout and inline of the table [tool.toeplitz_core] are defaults, as for check.

    Exit codes: 0 the script is written, 2 wrong usage, or no script can show the failure, 4 an error of toeplitz-core
    itself, 130 interrupted.
    """
    parsed = _usage(parse, case)
    given = chosen({"subject": subject, "arithmetic": arithmetic, "timeout": timeout, "inline": inline})
    table = {key: value for key, value in _usage(project).items() if key in _OF_EXPORT}
    options = _usage(merged_options, given, table, {"subject": ("torch",)})
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


@app.command("compare")
def _compare(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The JSON of the earlier run, or a baseline.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The JSON of the later run, or a baseline.")],
    fail_on: Annotated[list[str] | None, typer.Option(metavar="KINDS", help=_FAIL_ON)] = None,
    markdown: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also write it to this file as Markdown.")
    ] = None,
) -> None:
    """Compare two runs: new findings, gone and changed ones, what is supported, accuracy and time.

    Runs are compared on the subjects, laws, dtypes and devices that both have.

    Exit codes: 0 nothing that fails, 1 something of --fail-on, 2 wrong usage, or the runs cannot be compared.
    """
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


@app.command()
def show(
    case: Annotated[str, typer.Argument(metavar="CASE", help="The case, as the report of a failure prints it.")],
    subject: Annotated[
        str | None, typer.Option(metavar="SUBJECT", help="Also show what this subject returns, and where it differs.")
    ] = None,
) -> None:
    """Explain a case: its geometry, its data, the expected result, and the matrix if it is small."""
    parsed = _usage(parse, case)
    if subject is None:
        typer.echo(show_case(parsed))
        return
    with _started(subject, Options()) as tested:
        plain(console(), show_case(parsed, tested))


@app.command()
def subjects() -> None:
    """List the subjects that can be checked by name, and say which are not installed."""
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


@app.command()
def arithmetics() -> None:
    """List the names for --arithmetic: how an implementation may compute, and for which dtypes."""
    for name, arithmetic in ARITHMETICS.items():
        dtypes = "all dtypes" if arithmetic.dtypes == CASE_DTYPES else listed(arithmetic.dtypes)
        dtypes = "all dtypes but int64" if arithmetic.dtypes == ROUNDED_DTYPES else dtypes
        typer.echo(f"{name}, for {dtypes}: {arithmetic.statement}")


@app.command()
def laws(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a Markdown table that also says what breaks each law.")
    ] = False,
) -> None:
    """List the laws with their statements."""
    if markdown:
        typer.echo(laws_table(LAWS.values()))
        return
    for law in LAWS.values():
        typer.echo(f"{law.name}: {law.statement}")


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
