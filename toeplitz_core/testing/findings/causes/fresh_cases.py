"""Other geometries that meet the necessary conditions of a case: none of its sizes is smaller."""

from __future__ import annotations

import random
from collections.abc import Iterator

from toeplitz_core.testing.case.case import Case

# How likely each size grows, and by how much.
_SHARE = 0.4
_MOST_PRODUCTS = 20_000


def grown_cases(case: Case, count: int) -> Iterator[Case]:
    """Up to this many cases with some of the sizes larger; the same ones each time."""
    numbers = random.Random(0)  # it must be the same each time
    for _ in range(count):
        grown = _grown(case, numbers)
        if grown is not None:
            yield grown


def _grown(case: Case, numbers: random.Random) -> Case | None:
    """The case with some sizes larger; None if no case has these sizes."""

    def more(value: int, *steps: int) -> int:
        return value + numbers.choice(steps) if numbers.random() < _SHARE else value

    g = case.geometry
    kernel = tuple(more(size, 1, 1, 2) for size in g.kernel_size)
    dilation = tuple(more(step, 1) for step in g.dilation)
    stride = g.stride if case.padding == "same" else tuple(more(step, 1, 2) for step in g.stride)
    padding = case.padding if isinstance(case.padding, str) else tuple(more(zeros, 1) for zeros in case.padding)
    # The image grows as the kernel does, so that there is still an output.
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    grown_by = [max(0, new - old) for new, old in zip(extents, g.kernel_extent, strict=True)]
    image = [more(size, 1, 2, 3, 5) + by for size, by in zip(g.input_size, grown_by, strict=True)]
    groups = more(case.groups, 1, 2) if g.group_channels else case.groups
    channels = more(g.group_channels, 1, 2) if g.group_channels else 0
    outputs = groups * more(g.out_channels // case.groups, 1, 2)
    front = () if case.batch is None else (more(case.batch, 1, 2),)
    try:
        grown = case.replace(
            input=(*front, groups * channels, *image),
            weight=(outputs, channels, *kernel),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            seed=numbers.randrange(2**16),
        )
    except ValueError:
        return None
    limit = max(_MOST_PRODUCTS, 4 * g.nnz * (case.batch or 1))
    return grown if grown.geometry.nnz * (grown.batch or 1) <= limit else None
