"""Run the benchmarks, print their tables, and write them into a page.

Usage: python -m benchmarks [GROUP ...] [--write FILE]
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from pathlib import Path

import numpy as np
import torch

GROUPS = {
    "matrix": "The matrix",
    "operator": "The operator",
    "judging": "Judging",
    "startup": "Start-up",
    "growth": "Growth",
}
# Groups that are measured with two threads as well; elsewhere, torch has one.
THREADED = ("matrix", "operator")


def measured(group: str, threads: int) -> str:
    """The tables of a group."""
    torch.set_num_threads(threads)
    parts = []
    for table in importlib.import_module(f"benchmarks.{group}").tables():
        print(table, flush=True)
        parts.append(str(table))
    return "\n".join(parts)


def main() -> None:
    """Measure, and print or write the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", nargs="*", help=f"any of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--write", type=Path, help="a Markdown page for the tables")
    given = parser.parse_args()
    if unknown := [name for name in given.group if name not in GROUPS]:
        parser.error(f"group {unknown[0]!r} must be one of {', '.join(GROUPS)}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    text = (
        "# Speed\n\n"
        "Measured by one command, `tox -e bench`, which writes this page. The two sides of a ratio alternate, within "
        "one process or in pairs of processes. A ratio is that of the medians; in brackets stands the middle half of "
        "the ratios of single pairs. Absolute times depend on the machine and on what else it does.\n\n"
        f"Python {platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__}, "
        f"{torch.backends.cpu.get_cpu_capability()}, {cores} cores.\n"
    )
    for group in given.group or GROUPS:
        for threads in (1, 2) if group in THREADED and cores > 1 else (1,):
            suffix = f", {threads} threads" if threads > 1 else ""
            heading = f"\n## {GROUPS[group]}{suffix}\n\n"
            print(heading, flush=True)
            text += heading + measured(group, threads)
    if given.write:
        given.write.write_text(text, encoding="utf-8")
        print(f"written to {given.write}", file=sys.stderr)


if __name__ == "__main__":
    main()
