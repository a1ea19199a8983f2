"""How long processes take to start, beside Python itself and the import of torch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

from benchmarks.pairs import Table, measured
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.subjects import environment

LINE = "check torch --profile smoke --law forward-exact --dtype float32 --jobs 1 --examples 1"


def process(*command: str, **variables: str) -> None:
    """Run Python with a command."""
    environment = os.environ | variables
    subprocess.run([sys.executable, *command], env=environment, capture_output=True, check=False)


def of_startup() -> Table:
    """Each command beside Python, or beside the import of torch."""
    module = ("-m", "toeplitz_core")
    nothing, torch = ("-c", "pass"), ("-c", "import torch")
    pairs = [
        ("import our conv2d", ("-c", "from toeplitz_core import conv2d"), "import torch", torch, {}),
        ("--help", (*module, "--help"), "python -c pass", nothing, {}),
        ("check --help", (*module, "check", "--help"), "python -c pass", nothing, {}),
        ("--version", (*module, "--version"), "python -c pass", nothing, {}),
        (
            "a completion",
            module,
            "python -c pass",
            nothing,
            {"_TOEPLITZ_CORE_COMPLETE": "complete_bash", "COMP_WORDS": "toeplitz-core che", "COMP_CWORD": "1"},
        ),
        ("check, one case", (*module, *LINE.split()), "import torch", torch, {}),
    ]
    rows = []
    for name, command, peer_name, peer, variables in pairs:
        low, high, ours, theirs = measured(
            partial(process, *command, **variables), partial(process, *peer), fresh=False, seconds=6.0
        )
        spread = f"{ours / theirs:.2f} ({low:.2f} to {high:.2f})"
        rows.append([name, peer_name, f"{ours:.2f}", f"{ours - theirs:.2f}", spread])
    return Table(
        "Start-up",
        "Processes from their start to their end. The aims: the import of our functions adds at most 0.06 s to "
        "`import torch`; `--help`, `--version` and completions take under 0.3 s; a check has its first verdict within "
        "3 s.",
        ["command", "beside", "s", "s beyond it", "ratio"],
        rows,
    )


def of_workers() -> Table:
    """The time that a worker takes from a warm fork server."""
    case = Case.parse("input=1x1x4x4 weight=1x1x3x3")
    operands, times = draw(case), []
    with Sandbox(timeout=60) as sandbox:
        for _ in range(21):
            begin = time.perf_counter()
            worker = IsolatedSubject(sandbox, "torch", environment("torch"))
            worker.run(case, operands)
            times.append(time.perf_counter() - begin)
            worker.close()
    times = sorted(times[1:])  # the first starts the server
    return Table(
        "A worker",
        "From the request for a worker of a warm fork server to the result of its first call. The aim is 20 ms.",
        ["ms, median", "ms, middle half"],
        [[f"{times[10] * 1e3:.1f}", f"{times[5] * 1e3:.1f} to {times[15] * 1e3:.1f}"]],
    )


def tables() -> Iterator[Table]:
    """All tables of start-up."""
    yield of_startup()
    yield of_workers()
