"""Measure the throughput of an executor with 1, 2 and 4 workers on this machine.

Usage: python -m benchmarks.workers [dask|processes] [SECONDS]

It prints the judged cases per second of each number of workers, and how many times those of one worker that is. More
workers than cores cannot be faster. The search is that of ``check toeplitz --time SECONDS``.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from concurrent.futures import Executor, ProcessPoolExecutor

from toeplitz_core.testing.checking import check

ASKED = {"law": ["forward-exact", "forward-bound"], "dtype": ["float32", "float64"], "device": "cpu", "examples": 200}
WORKERS = (1, 2, 4)


def processes() -> Executor:
    """An executor of the standard library with as many processes as the variable says."""
    count = int(os.environ["TOEPLITZ_BENCH_WORKERS"])
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))


def measured(executor: str, count: int, seconds: float) -> float:
    """Judged cases per second. A first run starts the workers."""
    asked = {**ASKED, "subject": "toeplitz", "quiet": True, "jobs": count, "executor": executor}
    check(**asked | {"examples": 1})
    record = check(**asked, time=seconds)
    return sum(result.cases for result in record.results) / record.timing.seconds


def main(kind: str = "processes", seconds: float = 20.0) -> None:
    """Measure, and print the results."""
    first = 0.0
    for count in WORKERS:
        if kind == "dask":
            from distributed import LocalCluster  # noqa: PLC0415  # only one of the two kinds needs it

            with LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None) as cluster:
                rate = measured(cluster.scheduler_address.replace("tcp://", "dask://"), count, seconds)
        else:
            os.environ["TOEPLITZ_BENCH_WORKERS"] = str(count)
            rate = measured("benchmarks.workers:processes", count, seconds)
        first = first or rate
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        print(
            f"{kind}, {count} workers on {cores} cores: {rate:.0f} cases a second, {rate / first:.2f} times one worker"
        )


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(float, sys.argv[2:3]))
