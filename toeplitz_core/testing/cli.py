"""The command line, ``toeplitz-core``. Python code can do everything that it does.

Here are the declarations, so that help texts and completions take no torch. ``commands.py`` has what the commands do.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from typing import Annotated, Any

import typer

import toeplitz_core
from toeplitz_core.testing.run.options import OPTIONS
from toeplitz_core.testing.run.pyproject import TABLE, VARIABLE
from toeplitz_core.testing.support import interrupts
from toeplitz_core.testing.support.limits import ENOUGH, RUNS
from toeplitz_core.testing.support.modules import without
from toeplitz_core.testing.support.option import Option

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

_SUBJECT = f"The subject, as for check. The default is torch, unless {VARIABLE} or pyproject.toml names one."

app = typer.Typer(
    help="Check implementations of conv2d against the matrix of the convolution.",
    no_args_is_help=True,
    add_completion=True,
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
        sys.exit(130)
    except Exception as error:  # noqa: BLE001  # whatever it is
        _commands().failed(error)
        sys.exit(4)


def _commands() -> ModuleType:
    try:
        from toeplitz_core.testing import commands  # noqa: PLC0415  # it imports torch
    except ModuleNotFoundError as error:
        sys.exit(without(error))
    return commands


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
    _commands().check(options)


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
    given = {
        "subject": subject,
        "known": known,
        "strict": strict,
        "arithmetic": arithmetic,
        "timeout": timeout,
        "inline": pdb or inline,
        "differentiable": differentiable,
    }
    _commands().replay(case, file, given, runs=runs, json=json, pdb=pdb)


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
    given = {"subject": subject, "arithmetic": arithmetic, "timeout": timeout, "inline": inline}
    _commands().export(case, given, output)


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
    _commands().compare(old, new, fail_on, markdown)


@app.command()
def show(
    case: Annotated[str, typer.Argument(metavar="CASE", help="The case, as the report of a failure prints it.")],
    subject: Annotated[
        str | None, typer.Option(metavar="SUBJECT", help="Also show what this subject returns, and where it differs.")
    ] = None,
) -> None:
    """Explain a case: its geometry, its data, the expected result, and the matrix if it is small."""
    _commands().show(case, subject)


@app.command()
def subjects() -> None:
    """List the subjects that can be checked by name, and say which are not installed."""
    _commands().subjects()


@app.command()
def arithmetics() -> None:
    """List the names for --arithmetic: how an implementation may compute, and for which dtypes."""
    _commands().arithmetics()


@app.command()
def laws(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a Markdown table that also says what breaks each law.")
    ] = False,
) -> None:
    """List the laws with their statements."""
    _commands().laws(markdown=markdown)
