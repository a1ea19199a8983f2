"""What ``check`` does: carry out a plan, print what comes of it as it comes, and write it, whatever ends it."""

from __future__ import annotations

import contextlib
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import Progress

from toeplitz_core.testing.isolation.sandbox import SubjectError
from toeplitz_core.testing.reports.terminal import (
    header,
    options_line,
    plain,
    print_assumed,
    print_failure,
    print_known,
    print_results,
    print_step,
)
from toeplitz_core.testing.run.outputs import SPENT
from toeplitz_core.testing.run.plan import UNSAFE_LAYOUTS, UNSAFE_REASON, exit_code
from toeplitz_core.testing.run.pool import JudgeDied, Judges
from toeplitz_core.testing.run.rounds import Run
from toeplitz_core.testing.support import interrupts

if TYPE_CHECKING:
    from rich.console import Console

    from toeplitz_core.testing.findings.known import Stale
    from toeplitz_core.testing.laws.verdict import Verdict
    from toeplitz_core.testing.run.outputs import Asked, Outputs

OURS = "This is an error of toeplitz-core, not of what it tests. Please report it with the lines above."


def carry_out(asked: Asked, console: Console, errors: Console, outputs: Outputs, journal: Path | None = None) -> int:
    """Run what was asked for, print and write what came of it; the exit code.

    Parameters
    ----------
    console, errors : Console
        For what was found, and for errors of our own.
    journal : Path, optional
        The file that holds the case that is running.
    """
    plan = asked.plan
    judges = Judges(plan, jobs=asked.jobs, timeout=asked.timeout) if asked.jobs > 1 else None
    run = Run(plan, judges)
    plain(console, header(plan))
    if line := options_line(asked.options):
        plain(console, line)
    if journal is not None:
        plain(console, f"a run that is killed leaves its last case in {judges.journals if judges else journal}")
    printed: list[Verdict] = []
    stale: list[Stale] = []
    code = None
    error = stopped = ""
    try:
        with interrupts.kept(), judges or contextlib.nullcontext():
            _follow(run, console, printed)
        if len(run.results) < len(plan.steps):
            failed = plan.fail_fast and any(result.status.is_failure for result in run.results)
            stopped = "stopped at the first failure" if failed else SPENT
        stale = plan.stale(run.results, patient=asked.fail_stale)
        _adopt(console, outputs, run)
    except KeyboardInterrupt:
        code, stopped = 130, "interrupted"
        _adopt(console, outputs, run, briefly=True)
    except (JudgeDied, SubjectError) as raised:  # no line of our code is to blame
        code, stopped = 4, "an error of toeplitz-core"
        error = f"{type(raised).__name__}: {raised}"
        plain(errors, f"error: {raised}")
    except Exception as raised:  # noqa: BLE001  # whatever it is, what was found before it is printed
        code, stopped = 4, "an error of toeplitz-core"
        error = f"{type(raised).__name__}: {raised}"
        own_error(errors)
    with interrupts.ignored():  # a second one would lose the reports
        results = run.results
        for result in results:  # what an interrupt has brought up
            if result.failure is not None and not any(result.failure is verdict for verdict in printed):
                print_failure(console, result)
        left_out = [*plan.without, *(f"layout {layout}: {UNSAFE_REASON}" for layout in UNSAFE_LAYOUTS if asked.inline)]
        if not asked.fail_stale:
            left_out += [f"{name}, to see if it is stale: it does not return; --fail-stale waits" for name in plan.dear]
        if missed := len(plan.steps) - len(results):
            left_out.append(f"{missed} of {len(plan.steps)} (each law with each dtype): {stopped}")
        print_results(console, results, left_out)
        print_assumed(console, results)
        if plan.time is not None:
            plain(console, f"time: {run.rounds} rounds done in {plan.time:g} s, each with a seed of its own")
        if code is None:
            refused = stale if asked.fail_stale else ()
            code = exit_code(results, required_devices=asked.required_devices, refused_stale=refused)
        record = asked.record(run, code, stopped=stopped, error=error, stale=stale)
        print_known(console, record)
        outputs.write(record)
    return code


def _adopt(console: Console, outputs: Outputs, run: Run, *, briefly: bool = False) -> None:
    """Write what fails to the list of known failures, if there is to be one."""
    if outputs.adopting is not None:
        adopted = outputs.adopt(run.plan, run.results, briefly=briefly)
        plain(console, f"adopted: {adopted} entries, written to {outputs.write_known}")


def _follow(run: Run, console: Console, printed: list[Verdict]) -> None:
    """Run the plan, and print as results come: a bar on a terminal, lines in a log."""
    limit, begin = run.plan.time, time.monotonic()
    seen = set()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(run.plan.steps) if limit is None else limit)
        try:
            for result in run:
                interrupts.raise_asked()
                done = len(run.results) if limit is None else min(limit, time.monotonic() - begin)
                at = f"{result.law} {result.dtype}"
                progress.update(task, completed=done, description=at if limit is None else f"{run.rounds} rounds, {at}")
                step = (result.subject, result.law, result.dtype, result.device)
                news = step not in seen or result.status.is_failure  # a round after the first says little else
                if not console.is_terminal and result.cases and news:
                    print_step(console, result)
                seen.add(step)
                if result.failure is not None:
                    printed.append(result.failure)
                    print_failure(console, result)
        except BaseException:
            run.interrupt()
            raise


def own_error(errors: Console) -> None:
    """Say that the exception being handled is ours, and show where it is from."""
    plain(errors, traceback.format_exc().rstrip())
    plain(errors, OURS)
