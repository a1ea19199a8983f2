"""A judged case: what the draw costs, the data, the expected result and the comparison, inline and isolated."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.pairs import Table
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.oracle.results import Expected, expected
from toeplitz_core.testing.run.plan import SAFE_LAYOUTS
from toeplitz_core.testing.strategies.cases import cases
from toeplitz_core.testing.subjects import environment, resolve

LAW = LAWS["forward-exact"]
COUNT, ROUNDS = 400, 5


def per_example(strategy: st.SearchStrategy[object]) -> float:
    """The seconds that Hypothesis takes for an example, the test being empty."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    kept = settings(
        max_examples=COUNT, database=None, deadline=None, suppress_health_check=checks, phases=[Phase.generate]
    )
    test = seed(0)(kept(given(strategy)(lambda _: None)))
    begin = time.perf_counter()
    test()
    return (time.perf_counter() - begin) / COUNT


def drawn() -> list[Case]:
    """The cases that the law would judge."""
    found: list[Case] = []

    def keep(case: Case) -> None:
        found.append(case)

    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    kept = settings(
        max_examples=COUNT, database=None, deadline=None, suppress_health_check=checks, phases=[Phase.generate]
    )
    seed(0)(kept(given(cases(recipes=LAW.recipes, legal_layouts=SAFE_LAYOUTS))(keep)))()
    return found


def oracle(case: Case, operands: Operands) -> Expected:
    """The expected result of a case."""
    return expected(case.geometry, operands.input, operands.weight, operands.bias)


def of_draws() -> Table:
    """The draw of a case beside Hypothesis' own cost."""
    one, sixteen, ours = [], [], []
    strategy = cases(recipes=LAW.recipes, legal_layouts=SAFE_LAYOUTS)
    for _ in range(ROUNDS):  # in turn, because the machine's speed changes
        one.append(per_example(st.integers()))
        sixteen.append(per_example(st.tuples(*[st.integers()] * 16)))
        ours.append(per_example(strategy))
    unit = statistics.median(one)
    rows = [
        [name, f"{statistics.median(times) * 1e3:.2f}", f"{statistics.median(times) / unit:.2f}"]
        for name, times in (("one integer", one), ("sixteen integers", sixteen), ("a case of forward-exact", ours))
    ]
    return Table(
        "The draw",
        "What Hypothesis takes for an example whose test does nothing. The aim for a case is 0.7 ms.",
        ["drawn", "ms", "in units of one integer"],
        rows,
    )


def of_verdicts() -> Table:
    """The parts of a verdict beside torch's own call."""
    found = drawn()
    with Sandbox(timeout=60) as sandbox:
        inline, worker = resolve("torch"), IsolatedSubject(sandbox, "torch", environment("torch"))
        works = {
            "the call, inline": inline.run,
            "the data": lambda case, _: draw(case),
            "the expected result": oracle,
            "the verdict, inline": lambda case, _: LAW(inline, case),
            "the call, isolated": worker.run,
            "the verdict, isolated": lambda case, _: LAW(worker, case),
        }
        times: dict[str, list[float]] = {name: [] for name in works}
        for number in range(ROUNDS + 1):
            for case in found:
                operands = draw(case)
                for name, work in works.items():
                    begin = time.perf_counter()
                    work(case, operands)
                    if number:  # first calls are slow for other reasons
                        times[name].append(time.perf_counter() - begin)
    unit = statistics.median(times["the call, inline"])
    rows = [
        [
            name,
            f"{statistics.median(t) * 1e3:.2f}",
            f"{statistics.fmean(t) * 1e3:.2f}",
            f"{statistics.median(t) / unit:.1f}",
        ]
        for name, t in times.items()
    ]
    return Table(
        "A judged case",
        f"{COUNT} cases of {LAW.name} on torch, each {ROUNDS} times, all parts in turn. A verdict has its parts in it. "
        "The aims for a verdict are 0.7 ms inline and 1.1 ms isolated.",
        ["part", "ms, median", "ms, mean", "median in units of the call"],
        rows,
    )


def tables() -> Iterator[Table]:
    """All tables of judging."""
    torch.set_num_threads(1)
    yield of_draws()
    yield of_verdicts()
