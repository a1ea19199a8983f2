"""``toeplitz-core``: a thin driver. Whatever it does can be called from Python."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

import toeplitz_core
from toeplitz_core.testing.case.case import DTYPES, check_device
from toeplitz_core.testing.case.layouts import ALL_LAYOUTS
from toeplitz_core.testing.findings.known import KnownFailures
from toeplitz_core.testing.isolation.sandbox import TIMEOUT
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.reports.laws import laws_table
from toeplitz_core.testing.reports.show import show_case
from toeplitz_core.testing.run.check import carry_out, own_error
from toeplitz_core.testing.run.options import (
    LEAST_SECONDS,
    MOST_TIME,
    MOST_TIMEOUT,
    TABLE,
    VARIABLE,
    default_subjects,
    named,
    read_table,
)
from toeplitz_core.testing.run.outputs import Asked, Outputs
from toeplitz_core.testing.run.plan import SAFE_LAYOUTS, Plan
from toeplitz_core.testing.run.replay import ENOUGH, RUNS, parse, read_cases, replay_all
from toeplitz_core.testing.run.runners import runners
from toeplitz_core.testing.search.profiles import PROFILES
from toeplitz_core.testing.strategies.sweep import MOST_STEPS
from toeplitz_core.testing.subjects import SUBJECTS, Runner
from toeplitz_core.testing.subjects.entry_points import dangling, described_entry, passed_over, plugged_in
from toeplitz_core.testing.support import interrupts

_SUBJECT = (
    "A name that 'subjects' lists, or package.module:callable with F.conv2d's signature; by default those of "
    f"{VARIABLE} or of [{TABLE}] in pyproject.toml."
)
_KNOWN = "Known failures (TOML): they are counted, and do not fail the run (repeatable)."
_INLINE = "Call the subject in this process: for debuggers and coverage. A crash ends everything."
_TIME = (
    "Go on for so long, and at least one step: rounds over all laws and dtypes, each of as many cases as the profile "
    "has and with a seed of its own; what fails is not searched again."
)
_SWEEP = (
    "Draw no cases, but take every convolution up to so many steps from the smallest, the nearest first. The smallest "
    "has one of all; a step is one more row or column, tap, stride, padding, dilation, image, group or channel, a "
    "bias, no batch, or a word for the padding. Operands are contiguous, unless the subject has a layout of its own. "
    "Not with --profile, --examples, --seed, --time or --write-known."
)
_TIMEOUT = "Seconds that one call may take: of a law that asks for several at once, such as gradients, all together."
_RUNS = (
    "Run each case so often, every other time in a fresh process: it fails if it fails in any. Fewer where a call does "
    f"not return in time, or once the runs have taken {ENOUGH:g} s."
)

app = typer.Typer(
    help="Does this convolution compute what it must? Hold it against the convolution's own matrix.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # errors quote cases and parameters such as stride[1], to be copied: no boxes, no markup
)


def main() -> None:
    """Entry point of the command line."""
    try:
        app(prog_name="toeplitz-core")
    except Exception:  # noqa: BLE001  # anything that gets here is an error of our own
        own_error(_console(stderr=True))
        sys.exit(4)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"toeplitz-core {toeplitz_core.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,  # noqa: ARG001  # its callback has done it
) -> None:
    if context.invoked_subcommand == "check":
        table = {key.replace("-", "_"): value for key, value in _usage(read_table, Path.cwd()).items()}
        table.pop("subject", None)  # the environment variable goes before it
        context.default_map = {"check": table}


@app.command()
def check(
    context: typer.Context,
    subject: Annotated[list[str] | None, typer.Argument(help=_SUBJECT)] = None,
    law: Annotated[list[str] | None, typer.Option(help="Only this law (repeatable).")] = None,
    profile: Annotated[str, typer.Option(help=f"Effort: {', '.join(PROFILES)}.")] = "gate",
    examples: Annotated[
        int | None, typer.Option(min=1, help="Cases per law and dtype, instead of the profile's.")
    ] = None,
    time: Annotated[float | None, typer.Option(min=LEAST_SECONDS, max=MOST_TIME, metavar="SECONDS", help=_TIME)] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the search: the same seed gives the same cases.")] = None,
    sweep: Annotated[int | None, typer.Option(min=1, max=MOST_STEPS, metavar="STEPS", help=_SWEEP)] = None,
    jobs: Annotated[
        int, typer.Option(min=0, help="Processes that search, each with workers of its own; 0 is one a core.")
    ] = 1,
    device: Annotated[
        list[str] | None, typer.Option(help="cpu, cuda, cuda:1 ... (repeatable); absent ones then fail.")
    ] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="Only this dtype (repeatable).")] = None,
    timeout: Annotated[float, typer.Option(min=LEAST_SECONDS, max=MOST_TIMEOUT, help=_TIMEOUT)] = TIMEOUT,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Start nothing after the first failure.")] = False,
    inline: Annotated[bool, typer.Option("--inline", help=_INLINE)] = False,
    known: Annotated[list[str] | None, typer.Option(metavar="FILE", help=_KNOWN)] = None,
    fail_stale: Annotated[
        bool, typer.Option("--fail-stale", help="End with 3 if an entry of the known failures is needed no longer.")
    ] = False,
    write_known: Annotated[
        str | None, typer.Option(metavar="FILE", help="Add what fails to this list of known failures.")
    ] = None,
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the results as JSON; - is the standard output.")
    ] = None,
    junit: Annotated[str | None, typer.Option(metavar="FILE", help="Write the results as JUnit XML.")] = None,
) -> None:
    """Search for a case on which a law fails, and print the smallest.

    The table [tool.toeplitz_core] of pyproject.toml has other defaults, where a project sets them.

    Exit codes: 0 all laws hold, 1 a law fails, 2 usage, 3 nothing proven or a required device is absent (or, with
    --fail-stale, a known entry is stale), 4 an error of toeplitz-core itself, 130 interrupted.
    """
    subjects = _subjects(subject)
    outputs = _usage(Outputs, json=json, junit=junit, write_known=write_known)
    if fail_stale and not known:
        raise typer.BadParameter("--fail-stale needs --known FILE")
    if sweep is not None:
        for name in ("profile", "examples", "seed", "time"):
            source = context.get_parameter_source(name)
            if source is not None and source.name == "COMMANDLINE":
                raise typer.BadParameter(f"--sweep {sweep} takes every convolution: not with --{name}")
        if write_known:  # conditions are made of cases that a search has made as simple as they can be
            raise typer.BadParameter(f"--sweep {sweep} shrinks nothing: not with --write-known")
        examples = seed = time = None  # what the table says is for a search
    jobs = jobs or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
    if inline and jobs > 1:
        raise typer.BadParameter(f"--jobs {jobs} needs processes of their own: not with --inline")
    laws_held = [_named(f"--law {name}", name, LAWS) for name in dict.fromkeys(law or LAWS)]
    dtypes = list({name: _named(f"--dtype {name}", name, DTYPES) for name in dtype or DTYPES})
    devices = [_usage(check_device, name) for name in dict.fromkeys(device or ("cpu", "cuda"))]
    effort = _named(f"--profile {profile}", profile, PROFILES)
    listed = _listed(known)
    # Nothing but the JSON goes where the JSON goes.
    aside = contextlib.redirect_stdout(sys.stderr) if json == "-" else contextlib.nullcontext()
    with aside, _started(subjects, timeout=timeout, inline=inline) as (tested, journal):
        plan = Plan(
            subjects=tested,
            laws=laws_held,
            dtypes=dtypes,
            devices=devices,
            profile=effort,
            examples=examples,
            seed=seed,
            fail_fast=fail_fast,
            layouts=SAFE_LAYOUTS if inline else ALL_LAYOUTS,
            known=listed,
            time=time,
            sweep=sweep,
        )
        asked = Asked(
            plan,
            required_devices=device or (),
            fail_stale=fail_stale,
            inline=inline,
            timeout=timeout,
            jobs=jobs,
            known=known or (),
        )
        code = carry_out(asked, _console(), _console(stderr=True), outputs, journal)
    raise typer.Exit(code)


@app.command()
def replay(
    case: Annotated[str | None, typer.Argument(help="The line that a failure printed.")] = None,
    file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Cases, one a line; what stands behind ' # ' is a comment. Instead of CASE."),
    ] = None,
    subject: Annotated[str | None, typer.Option(help="As for check; torch if there is none anywhere.")] = None,
    runs: Annotated[int, typer.Option(min=1, help=_RUNS)] = RUNS,
    known: Annotated[list[str] | None, typer.Option(metavar="FILE", help=_KNOWN)] = None,
    timeout: Annotated[float, typer.Option(min=LEAST_SECONDS, max=MOST_TIMEOUT, help=_TIMEOUT)] = TIMEOUT,
    inline: Annotated[bool, typer.Option("--inline", help=_INLINE)] = False,
) -> None:
    """Run cases again, under the law that each names or under every law that applies.

    Exit codes: 0 all pass, 1 one fails, in all of its runs or in some, 2 usage, 3 one is mistrusted or unsupported, or
    its device is absent, 4 an error of toeplitz-core itself, 130 interrupted.
    """
    if (case is None) == (file is None):
        raise typer.BadParameter("give a CASE, or --file FILE with some: one of the two")
    cases = [_usage(parse, case)] if case is not None else _usage(read_cases, file)
    listed = _listed(known)
    names = [subject] if subject is not None else (_usage(default_subjects) or ["torch"])
    if len(names) > 1:
        raise typer.BadParameter(f"{', '.join(names)}: cases are replayed for one subject: --subject NAME")
    with _started(names, timeout=timeout, inline=inline) as ((tested,), _):
        code = replay_all(_console(), cases, tested, runs=runs, known=listed)
    raise typer.Exit(code)


@app.command()
def show(case: Annotated[str, typer.Argument(help="A case, as a failure prints it.")]) -> None:
    """Show what a case means: its geometry, its data, what must come out, and its matrix where that is small."""
    typer.echo(show_case(_usage(parse, case)))


@app.command()
def subjects() -> None:
    """List the implementations that have a name, and what is not installed."""
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
def laws(
    markdown: Annotated[bool, typer.Option("--markdown", help="As a table, with what breaks each.")] = False,
) -> None:
    """List the laws and what each of them says."""
    if markdown:
        typer.echo(laws_table(LAWS.values()))
        return
    for law in LAWS.values():
        typer.echo(f"{law.name}: {law.statement}")


class _Console(Console):
    """A console whose reader may leave: the run ends like an interrupted one, and what it found is written to files."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        # What is still buffered would fail again when the interpreter ends.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.file.fileno())
        os.close(null)
        interrupts.interrupt_later()


def _console(*, stderr: bool = False) -> Console:
    # A log has no width of its own; rich would assume 80 columns and fold the table.
    console = _Console(stderr=stderr, emoji=False)
    return console if console.is_terminal else _Console(stderr=stderr, width=160, emoji=False)


def _subjects(given: Sequence[str] | None) -> Sequence[str]:
    """Those of the command line, else of the environment, else of the table."""
    if names := given or _usage(default_subjects):
        return names
    raise typer.BadParameter(
        f"no subject: name one, as in 'check torch' or 'check package.module:callable', or set {VARIABLE}, or the key "
        f"'subject' of [{TABLE}] in pyproject.toml; 'toeplitz-core subjects' lists those that have a name"
    )


def _listed(known: Sequence[str] | None) -> KnownFailures | None:
    return _usage(lambda: KnownFailures.of_files(known or (), laws=LAWS)) if known else None


@contextlib.contextmanager
def _started(names: Sequence[str], *, timeout: float, inline: bool) -> Iterator[tuple[list[Runner], Path | None]]:
    """The subjects of some names; a usage error where there is none."""
    with contextlib.ExitStack() as stack:
        try:
            started = stack.enter_context(runners(names, timeout=timeout, inline=inline))
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        yield started


T = TypeVar("T")


def _usage(function: Callable[..., T], *values: Any, **options: Any) -> T:
    """A value from the command line; what is wrong with it ends the command with the usage code."""
    try:
        return function(*values, **options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _named(words: str, name: str, table: Mapping[str, T]) -> T:
    """The entry of a table, or a usage error that quotes the words and lists what there is."""
    found: T = _usage(named, words, name, table)
    return found
