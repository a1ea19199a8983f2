"""``toeplitz-core``: a thin driver. Whatever it does can be called from Python."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, TypeVar

import torch
import typer
from rich.console import Console
from rich.progress import Progress

import toeplitz_core
from toeplitz_core.memory import available_bytes
from toeplitz_core.testing.case import DTYPES, Case, check_device
from toeplitz_core.testing.isolation import TIMEOUT, Isolation, SubjectError
from toeplitz_core.testing.known import KnownFailures, Stale
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.layouts import LAYOUTS
from toeplitz_core.testing.options import named
from toeplitz_core.testing.outputs import Asked, Outputs
from toeplitz_core.testing.profiles import PROFILES
from toeplitz_core.testing.reports.terminal import (
    header,
    plain,
    print_failure,
    print_known,
    print_results,
    print_step,
    print_verdict,
)
from toeplitz_core.testing.run import SAFE_LAYOUTS, UNSAFE_LAYOUTS, UNSAFE_REASON, Plan, exit_code, not_run
from toeplitz_core.testing.search import Interrupted, Result
from toeplitz_core.testing.subjects import (
    SUBJECTS,
    Absent,
    Runner,
    absent,
    check_name,
    environment,
    plugged_in,
    resolve,
)
from toeplitz_core.testing.verdict import Status

_SUBJECT = "A name that 'subjects' lists, or package.module:callable with F.conv2d's signature."
_KNOWN = "Known failures (TOML): they are counted, and do not fail the run."
_INLINE = "Call the subject in this process: for debuggers and coverage. A crash ends everything."

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
        _own_error()
        sys.exit(4)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"toeplitz-core {toeplitz_core.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


@app.command()
def check(
    subject: Annotated[list[str], typer.Argument(help=_SUBJECT)],
    law: Annotated[list[str] | None, typer.Option(help="Only this law (repeatable).")] = None,
    profile: Annotated[str, typer.Option(help=f"Effort: {', '.join(PROFILES)}.")] = "gate",
    examples: Annotated[
        int | None, typer.Option(min=1, help="Cases per law and dtype, instead of the profile's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the search: the same seed gives the same cases.")] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="cpu, cuda, cuda:1 ... (repeatable); absent ones then fail.")
    ] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="Only this dtype (repeatable).")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that one call may take.")] = TIMEOUT,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first failure.")] = False,
    inline: Annotated[bool, typer.Option("--inline", help=_INLINE)] = False,
    known: Annotated[str | None, typer.Option(metavar="FILE", help=_KNOWN)] = None,
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

    Exit codes: 0 all laws hold, 1 a law fails, 2 usage, 3 nothing proven or a required device is absent (or, with
    --fail-stale, a known entry is stale), 4 an error of toeplitz-core itself, 130 interrupted.
    """
    outputs = _usage(Outputs, json=json, junit=junit, write_known=write_known)
    if fail_stale and known is None:
        raise typer.BadParameter("--fail-stale needs --known FILE")
    listed = None if known is None else _usage(lambda path: KnownFailures.load(path, laws=LAWS), known)
    laws_held = [_named(f"--law {name}", name, LAWS) for name in dict.fromkeys(law or LAWS)]
    dtypes = list({name: _named(f"--dtype {name}", name, DTYPES) for name in dtype or DTYPES})
    devices = [_usage(check_device, name) for name in dict.fromkeys(device or ("cpu", "cuda"))]
    effort = _named(f"--profile {profile}", profile, PROFILES)
    # Nothing but the JSON goes where the JSON goes.
    aside = contextlib.redirect_stdout(sys.stderr) if json == "-" else contextlib.nullcontext()
    with aside, _runners(subject, timeout=timeout, inline=inline) as runners:
        plan = Plan(
            subjects=runners,
            laws=laws_held,
            dtypes=dtypes,
            devices=devices,
            profile=effort,
            examples=examples,
            seed=seed,
            fail_fast=fail_fast,
            layouts=SAFE_LAYOUTS if inline else tuple(LAYOUTS),
            known=listed,
        )
        asked = Asked(plan, required_devices=device or (), fail_stale=fail_stale, inline=inline, timeout=timeout)
        code = _carried_out(asked, _console(), outputs)
    raise typer.Exit(code)


def _carried_out(asked: Asked, console: Console, outputs: Outputs) -> int:
    """Run the plan, print and write what came of it, whatever ends it; the exit code."""
    plan = asked.plan
    plain(console, header(plan))
    results: list[Result] = []
    stale: list[Stale] = []
    code = None
    followed = False
    error = stopped = ""
    try:
        _follow(plan, console, results)
        followed = True
        stopped = "stopped at the first failure" if plan.unreached(results, "") else ""
        stale = plan.stale(results)
        if outputs.adopting is not None:
            adopted = outputs.adopt(plan, results)
            plain(console, f"adopted: {adopted} entries, written to {outputs.write_known}")
    except KeyboardInterrupt as interrupt:
        code, stopped = 130, "interrupted"
        if isinstance(interrupt, Interrupted) and not followed:  # else it is of a result that is there
            results.append(interrupt.result)
            print_failure(console, interrupt.result)
    except Exception as raised:  # noqa: BLE001  # whatever it is, what was found before it is printed
        code, stopped = 4, "an error of toeplitz-core"
        error = f"{type(raised).__name__}: {raised}"
        _own_error()
    left_out = [*plan.without, *(f"layout {layout}: {UNSAFE_REASON}" for layout in UNSAFE_LAYOUTS if asked.inline)]
    if missed := len(plan.steps) - len(results):
        left_out.append(f"{missed} of {len(plan.steps)} (each law with each dtype): {stopped}")
    print_results(console, results, left_out)
    if code is None:
        refused = stale if asked.fail_stale else ()
        code = exit_code(results, required_devices=asked.required_devices, refused_stale=refused)
    record = asked.record(results, code, stopped=stopped, error=error, stale=stale)
    print_known(console, record)
    outputs.write(record)
    return code


@contextlib.contextmanager
def _runners(names: Sequence[str], *, timeout: float, inline: bool) -> Iterator[list[Runner]]:
    """The subjects of some names, each in a worker process unless ``inline``; a usage error where there is none."""
    checked = [_usage(check_name, name) for name in dict.fromkeys(names)]
    if inline:
        yield [Absent(name, why) if (why := absent(name)) else _usage(resolve, name) for name in checked]
        return
    with Isolation(timeout=timeout) as isolation:
        runners: list[Runner] = []
        for name in checked:
            if why := absent(name):
                runners.append(Absent(name, why))
                continue
            runner = isolation.runner(name, environment(name))
            try:
                runner.start()
            except SubjectError as error:
                raise typer.BadParameter(f"subject '{name}': {error}") from None
            runners.append(runner)
        yield runners


def _follow(plan: Plan, console: Console, results: list[Result]) -> None:
    """Run the plan, and print as results come: a bar on a terminal, lines in a log."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(plan.steps))
        for result in plan.run():
            results.append(result)
            progress.update(task, advance=1, description=f"{result.law} {result.dtype}")
            if not console.is_terminal and result.status is not Status.NOT_RUN:
                print_step(console, result)
            if result.failure is not None:
                print_failure(console, result)


def _own_error() -> None:
    """Say that the exception being handled is ours, and show where it is from."""
    traceback.print_exc()
    typer.echo(
        "This is an error of toeplitz-core, not of what it tests. Please report it with the lines above.", err=True
    )


@app.command()
def replay(
    case: Annotated[str, typer.Argument(help="The line that a failure printed.")],
    subject: Annotated[str, typer.Option(help="As for check.")] = "torch",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that one call may take.")] = TIMEOUT,
    inline: Annotated[bool, typer.Option("--inline", help=_INLINE)] = False,
) -> None:
    """Run one case again, under the law that it names or under every law that applies.

    Exit codes: 0 passes, 1 fails, 2 usage, 3 mistrusted, unsupported or no such device, 4 an error of toeplitz-core
    itself, 130 interrupted.
    """
    parsed = _usage(Case.parse, case)
    # The oracle takes several times that, in float64.
    if parsed.nbytes * 16 > (free := available_bytes(torch.device("cpu"))):
        raise typer.BadParameter(f"the case has tensors of {parsed.nbytes:,} bytes: too many for {free:,} free ones")
    applying = [law for law in LAWS.values() if parsed.data in law.recipes]
    held = [_named(f"law={parsed.law}", parsed.law, LAWS)] if parsed.law else applying
    console = _console()
    with _runners([subject], timeout=timeout, inline=inline) as (tested,):
        if (reason := not_run(tested, parsed.device)) is not None:
            plain(console, f"not run: {tested.name} on {parsed.device}: {reason}")
            raise typer.Exit(3)
        verdicts = [law(tested, parsed) for law in held]
    for verdict in verdicts:
        print_verdict(console, subject, verdict)
    if any(v.status.is_failure for v in verdicts):
        raise typer.Exit(1)
    raise typer.Exit(0 if any(v.status is Status.PASS for v in verdicts) else 3)


@app.command()
def subjects() -> None:
    """List the implementations that have a name, and what is not installed."""
    for name, registered in SUBJECTS.items():
        there = ", ".join(f"{package} {version}" for package, version in registered.versions.items())
        typer.echo(f"{name}: {registered.statement}{f' ({there})' * bool(there)}")
        if registered.absent:
            typer.echo(f"    not run: {registered.absent}")
    for name, entry in plugged_in().items():
        typer.echo(f"{name}: {entry.value}, of {entry.dist.name if entry.dist else 'an entry point'}")
    typer.echo("package.module:callable: anything with the signature of torch.nn.functional.conv2d, or a Subject")


@app.command()
def laws() -> None:
    """List the laws and what each of them says."""
    for law in LAWS.values():
        typer.echo(f"{law.name}: {law.statement}")


def _console() -> Console:
    # A log has no width of its own; rich would assume 80 columns and fold the table.
    console = Console()
    return console if console.is_terminal else Console(width=160)


T = TypeVar("T")


def _usage(function: Callable[..., T], *values: str, **options: str | None) -> T:
    """A value from the command line; what is wrong with it ends the command with the usage code."""
    try:
        return function(*values, **options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _named(words: str, name: str, table: Mapping[str, T]) -> T:
    """The entry of a table, or a usage error that quotes the words and lists what there is."""
    try:
        return named(words, name, table)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
