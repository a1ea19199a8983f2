"""How the cost grows with the work: slopes of log time over log size. A slope of 1 is linear growth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch

from benchmarks.pairs import Table, Work, seconds_of
from toeplitz_core import conv2d, toeplitz_matrix
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.oracle.results import expected
from toeplitz_core.testing.subjects import resolve

# From where a slope is measured: below, the fixed cost of a call hides how the rest grows.
SIZES = (2, 4, 8, 16, 32)


def csr(size: int) -> Work:
    """CSR with a number of entries in proportion to the size."""
    weight = torch.ones(16, 16, 3, 3)
    return partial(toeplitz_matrix, weight, (16, 16 * size), 1, 1, 1, 1, torch.sparse_csr)


def rows(count: int) -> Work:
    """As many rows of a large matrix, by name, in thousands."""
    weight = torch.ones(16, 16, 3, 3)
    return partial(toeplitz_matrix, weight, (256, 256), 1, 1, layout=torch.sparse_csr, rows=range(1000 * count))


def batch(images: int) -> Work:
    """The operator on as many images."""
    return partial(conv2d, torch.ones(images, 16, 32, 32), torch.ones(16, 16, 3, 3), None, 1, 1)


def channels(count: int) -> Work:
    """The operator with as many input channels, in fours."""
    return partial(conv2d, torch.ones(1, 4 * count, 32, 32), torch.ones(16, 4 * count, 3, 3), None, 1, 1)


def oracle(images: int) -> Work:
    """The expected result of as many images, with its magnitude and compensated sums."""
    case = Case.parse(f"input={images}x16x16x16 weight=16x16x3x3 padding=1 dtype=float64 data=normal")
    operands = draw(case)
    return partial(expected, case.geometry, operands.input, operands.weight, operands.bias)


def judged(count: int) -> Work:
    """As many judged cases, in tens."""
    law, subject = LAWS["forward-exact"], resolve("torch")
    case = Case.parse("input=1x2x5x5 weight=3x2x3x3 padding=1")

    def work() -> None:
        for seed in range(10 * count):
            law(subject, case.replace(seed=seed))

    return work


GROWTHS: dict[str, Callable[[int], Work]] = {
    "entries of CSR": csr,
    "rows by name": rows,
    "images of the operator": batch,
    "input channels of the operator": channels,
    "images of the expected result": oracle,
    "judged cases": judged,
}


def slope(sizes: Sequence[int], times: Sequence[float]) -> float:
    """The slope of the line of least squares through the logarithms."""
    return float(np.polyfit([math.log(size) for size in sizes], [math.log(time) for time in times], 1)[0])


def of_growth() -> Table:
    """The slope for each kind of work."""
    found = []
    for name, work_of in GROWTHS.items():
        times = [seconds_of(work_of(size)) for size in SIZES]
        found.append([name, f"{slope(SIZES, times):.2f}", *(f"{time / times[0]:.1f}" for time in times)])
    return Table(
        "Growth",
        "The slope of log time over log size, 1 being linear, and the time at each size in units of the first.",
        ["work", "slope", *(str(size) for size in SIZES)],
        found,
    )


def tables() -> Iterator[Table]:
    """All tables of growth."""
    yield of_growth()
