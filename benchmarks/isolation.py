"""Measure the cost of isolation: judge the same cases in this process and in a worker, in turn.

Usage: python benchmarks/isolation.py [CASES] [SUBJECT]

It prints the milliseconds per case, and the cost of isolation as a share of a Hypothesis example (draw, call and
verdict). The aim is less than 30%.
"""

from __future__ import annotations

import statistics
import sys
import time

from hypothesis import HealthCheck, given, seed, settings

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.run.plan import SAFE_LAYOUTS
from toeplitz_core.testing.strategies.cases import cases
from toeplitz_core.testing.subjects import Implementation, environment, resolve

LAW = LAWS["forward-bound"]
ROUNDS = 5


def drawn(count: int) -> tuple[list[Case], float]:
    """Draw ``count`` cases; return them and the seconds per draw."""
    found: list[Case] = []
    strategy = cases(recipes=LAW.recipes, legal_layouts=SAFE_LAYOUTS)
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    kept = settings(max_examples=count, database=None, deadline=None, suppress_health_check=checks)

    def kept_case(case: Case) -> None:
        found.append(case)

    begin = time.perf_counter()
    seed(0)(kept(given(case=strategy)(kept_case)))()
    return found, (time.perf_counter() - begin) / len(found)


def judged(subject: Implementation, case: Case) -> float:
    """The seconds that one verdict takes."""
    begin = time.perf_counter()
    LAW(subject, case)
    return time.perf_counter() - begin


def main(count: int = 500, name: str = "torch") -> None:
    """Measure, and print the result."""
    found, draw = drawn(count)
    with Sandbox(timeout=60) as sandbox:
        inline, worker = resolve(name), IsolatedSubject(sandbox, name, environment(name))
        for case in found[:20]:  # warm up: first calls are slow for other reasons
            judged(inline, case), judged(worker, case)
        times = [(judged(inline, case), judged(worker, case)) for case in found for _ in range(ROUNDS)]
    here, there = (statistics.fmean(values) for values in zip(*times, strict=True))
    extra = statistics.fmean(there - here for here, there in times)
    middle = statistics.median(there - here for here, there in times)
    print(f"{len(found)} cases of {LAW.name}, subject {name}, each {ROUNDS} times, in turn; milliseconds per case:")
    print(f"  draw      {draw * 1e3:6.2f}")
    print(f"  inline    {here * 1e3:6.2f}")
    print(f"  isolated  {there * 1e3:6.2f}")
    print(f"  cost      {extra * 1e3:6.2f}  (median {middle * 1e3:.2f})")
    print(f"isolation takes {extra / (draw + there):.0%} of an example")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500, *sys.argv[2:3])
