"""Time two pieces of work in turn, and print ratios: a shared machine makes absolute times mean little."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Seconds that the pairs of one ratio take, and the fewest pairs.
SECONDS, FEWEST = 1.0, 5
# Results that are held before fresh memory is returned to the system.
HELD = 20

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of results: a title, a sentence on what is compared, heads, rows."""

    title: str
    about: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        """The table as Markdown."""
        lines = [self.heads, ["---"] * len(self.heads), *self.rows]
        return "\n".join([f"### {self.title}", "", self.about, "", *(f"| {' | '.join(line)} |" for line in lines), ""])


def ratio(ours: Work, theirs: Work, *, fresh: bool = False, seconds: float = SECONDS) -> str:
    """The ratio of the medians, and in brackets the middle half of the ratios of pairs.

    ``fresh`` memory is mapped anew, because all earlier results are still held; otherwise it was freed just before.
    """
    low, high, one, other = measured(ours, theirs, fresh=fresh, seconds=seconds)
    return f"{one / other:.2f} ({low:.2f} to {high:.2f})"


def measured(ours: Work, theirs: Work, *, fresh: bool, seconds: float) -> tuple[float, float, float, float]:
    """The quartiles of the ratios of pairs, and the median seconds of both sides."""
    held: list[object] = []
    pairs: list[tuple[float, float]] = []
    ours(), theirs()
    end = time.perf_counter() + seconds
    while len(pairs) < FEWEST or time.perf_counter() < end:
        one, other = (taken(work, held) for work in ((ours, theirs) if len(pairs) % 2 else (theirs, ours)))
        pairs.append((one, other) if len(pairs) % 2 else (other, one))
        if not fresh:
            held.clear()
        elif len(held) > HELD:
            held.clear()
            trim()
    low, _, high = statistics.quantiles([a / b for a, b in pairs], n=4)
    first, second = (statistics.median(side) for side in zip(*pairs, strict=True))
    return low, high, first, second


def taken(work: Work, held: list[object]) -> float:
    """The seconds that a piece of work takes; its result is held."""
    begin = time.perf_counter()
    held.append(work())
    return time.perf_counter() - begin


def seconds_of(work: Work, *, seconds: float = 0.5) -> float:
    """The median seconds of a piece of work, for what has no peer."""
    work()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < FEWEST or time.perf_counter() < end:
        times.append(taken(work, []))
    return statistics.median(times)


def trim() -> None:
    """Return freed memory to the system, so that it is mapped anew."""
    if hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
