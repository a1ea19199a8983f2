"""The receptive field of the worst element: which pixels it reads, by index arithmetic."""

from __future__ import annotations

import math

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.causes.reading import channels_of, taps_of
from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.reports.page.grid import Cell, Grid
from toeplitz_core.testing.subjects.outcome import OUTPUT

# The largest picture: larger ones show only the surroundings of what is read, or nothing.
_MOST, _MARGIN = 24, 1
# The number of indices that are listed.
_LISTED = 8


def receptive_field(name: str, finding: Finding) -> Grid | None:
    """What the worst element of a result reads; None if it is not an element of a plain result."""
    failure = finding.failure
    case = failure.call or failure.case
    if not isinstance(case, Case) or failure.quantity != OUTPUT.of or failure.index is None:
        return None
    shape = case.output_shape
    index = failure.index[: len(shape)]
    if case.geometry.rank != 2 or len(index) < len(shape) or any(a >= n for a, n in zip(index, shape, strict=True)):
        return None
    g = case.geometry
    taps = [taps_of(g, axis)[index[axis - 2]].tolist() for axis in (0, 1)]
    windows = [
        _window(read, before, size + after)
        for read, size, (before, after) in zip(taps, g.input_size, g.pads, strict=True)
    ]
    if any(len(window) > _MOST for window in windows) or not all(map(len, windows)):
        return None
    numbers = {(row, column): at for at, (row, column) in enumerate((r, c) for r in taps[0] for c in taps[1])}
    cells = []
    for row in windows[0]:
        inside = [0 <= row < g.input_size[0] and 0 <= column < g.input_size[1] for column in windows[1]]
        cells.append(
            [_cell(numbers.get((row, column)), within) for column, within in zip(windows[1], inside, strict=True)]
        )
    outside = sum(not (0 <= r < g.input_size[0] and 0 <= c < g.input_size[1]) for r, c in numbers)
    channels = channels_of(g)[index[-3]].tolist()
    element = f"out[{', '.join(map(str, index))}]"
    said = (
        f"{element} reads {_named('row', taps[0])} and {_named('column', taps[1])} of "
        f"{_named('input channel', channels)}. A number is a tap of the kernel, row by row."
    )
    said += f" {outside} of {math.prod(g.kernel_size)} taps read padding." * bool(outside)
    heading = "What the worst element reads"
    labels = [tuple(map(str, window)) for window in windows]
    return Grid(name, said, said, cells, labels[0], labels[1], heading=heading)


def _window(read: list[int], before: int, end: int) -> range:
    """The rows or columns to draw: all with the padding, or those around what is read."""
    if end + before <= _MOST:
        return range(-before, end)
    return range(max(-before, min(read) - _MARGIN), min(end, max(read) + 1 + _MARGIN))


def _cell(tap: int | None, inside: bool) -> Cell:
    if tap is None:
        return Cell("pixel" if inside else "padding", "" if inside else "0")
    return Cell("read" if inside else "readpadding", str(tap + 1))


def _named(word: str, numbers: list[int]) -> str:
    """Numbers after their word, which has an s if they are many."""
    return f"{word}{'s' * (len(numbers) != 1)} {_listed(numbers)}"


def _listed(numbers: list[int]) -> str:
    if len(numbers) <= _LISTED:
        return ", ".join(map(str, numbers)) or "none"
    return f"{', '.join(map(str, numbers[: _LISTED - 1]))}, ... {numbers[-1]}"
