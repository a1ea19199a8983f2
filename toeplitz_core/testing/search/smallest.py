"""The smallest case that still fails: each parameter in turn, until no change makes the case smaller."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.case.recipe_table import RECIPES
from toeplitz_core.testing.search.changes import PER_AXIS, Asked, OutOfCallsError, changed

# Dtypes and recipes, the simplest first.
_DTYPES = tuple(dict.fromkeys(("float32", "float64", *CASE_DTYPES)))
_RECIPES = tuple(dict.fromkeys(("integers", "impulse", "accumulator", "normal", *RECIPES)))
# This many of the smallest values of a parameter are tried before the values between are bisected.
_FIRST = 3
# Below a smallest value that was found by bisection, values at these distances are tried: a failure may occur at every
# second value, or only where a block of this size is not full.
_PERIODS = (2, 4, 8, 16, 32)


class Ladder(NamedTuple):
    """Cases in order, the smallest first.

    Parameters
    ----------
    rungs : int
        Their number.
    rung : callable
        The case on the rung of this number; None if it is not valid.
    bisected : bool
        Whether the cases are so alike that one which fails makes larger ones likely to fail.
    """

    rungs: int
    rung: Callable[[int], Case | None]
    bisected: bool = True


def smallest(case: Case, fails: Callable[[Case], bool | None], *, calls: int, dtypes: Sequence[str] = _DTYPES) -> Case:
    """The smallest case found that fails as this one does. The law and the device stay.

    Every parameter, layout, dtype and recipe in turn takes its smallest value for which the case still fails. Where a
    parameter cannot change alone, others change with it: the image with the kernel, or one axis with the other. This is
    repeated until nothing changes. The result depends on nothing but the arguments.

    Parameters
    ----------
    case : Case
        A case that fails.
    fails : callable
        Whether a case fails in the same way. It is called at most once for each case.
    calls : int
        The limit on the calls of ``fails``.
    dtypes : sequence of str
        The dtypes that are tried, the simplest first.

    Examples
    --------
    >>> case = Case.parse("input=2x64x8x33 weight=34x32x1x3 stride=2 groups=2 bias")
    >>> def fails(case):
    ...     return case.weight[0] > 16 and case.geometry.output_size[1] > 4
    >>> print(smallest(case, fails, calls=300))
    input=1x1x1x5 weight=17x1x1x1
    """
    descent = _Descent(case, Asked(fails, calls))
    with contextlib.suppress(OutOfCallsError):
        before = None
        while before != descent.best:
            before = descent.best
            for move in _moves(case, dtypes):
                descent.down(move(descent.best))
    return descent.best


class _Descent:
    """The smallest failing case so far."""

    def __init__(self, case: Case, asked: Asked[Case]) -> None:
        self.best = case
        self._asked = asked

    def down(self, ladder: Ladder) -> None:
        """Go to the lowest rung of a ladder that fails, as far as a few calls tell."""
        count, rung, bisected = ladder
        for number in range(min(_FIRST, count) if bisected else count):
            if self._takes(rung(number)):
                return
        if not bisected:
            return
        low, high = _FIRST - 1, count  # rungs from ``high`` on fail, if failures do not depend on more than the size
        while high - low > 1:
            middle = (low + high) // 2
            if self._takes(rung(middle)):
                high = middle
            else:
                low = middle
        for period in _PERIODS:
            while high - period >= _FIRST and self._takes(rung(high - period)):
                high -= period

    def _takes(self, case: Case | None) -> bool:
        """Whether a case is smaller than the best one and fails; then it is the best one."""
        if case is None or _cost(case) >= _cost(self.best) or not self._asked(case):
            return False
        self.best = case
        return True


def _cost(case: Case) -> tuple[int, int]:
    """How far a case is from the simplest one. It decreases with each step, so that the steps end."""
    g = case.geometry
    pads = sum(before + after for before, after in g.pads)
    steps = sum(g.stride) + sum(g.dilation) - 2 * g.rank
    # A pixel of the image costs less than a zero of the padding or a step of the stride, which it may replace.
    sizes = sum(g.input_size) + 2 * sum(g.kernel_size) + 3 * pads + 3 * steps + 3 * isinstance(case.padding, str)
    # None and 0 are special cases, so they are not simpler than 1.
    counts = (case.batch or 4) + 3 * case.groups + (g.in_channels or 4) + g.out_channels
    choices = 3 * case.bias + 3 * len(case.layouts) + 5 * _DTYPES.index(case.dtype) + 5 * _RECIPES.index(case.data)
    return sizes + counts + choices, case.seed


def _moves(case: Case, dtypes: Sequence[str]) -> Iterator[Callable[[Case], Ladder]]:
    """The ladders to go down, each as a function of the case from which it starts."""
    yield partial(_choices, "layouts", ((),))
    yield _plain
    axes: tuple[int | None, ...] = (*range(case.geometry.rank), None)
    for same_outputs in (True, False):
        for axis in axes:
            for names in (*((name,) for name in PER_AXIS), ("kernel_size", "stride")):
                yield partial(_axis, names, axis, same_outputs)
    for axis in axes:
        yield partial(_axis, ("input_size",), axis, False)
    for name in (*PER_AXIS, "input_size"):
        yield partial(_less, name)
    yield partial(_choices, "batch", (1,))
    yield partial(_counts, ("batch",))
    yield _groups
    yield _merged_groups
    for names in (("group_channels",), ("out_channels",), ("group_channels", "out_channels")):
        yield partial(_counts, names)
    yield partial(_choices, "bias", (False,))
    for operand, _ in case.layouts:
        yield partial(_without_layout, operand)
    yield partial(_choices, "data", _RECIPES)
    yield partial(_choices, "dtype", dtypes)
    yield partial(_choices, "seed", (0, 1, 2))


def _choices(name: str, values: Sequence[Any], case: Case) -> Ladder:
    """A parameter with each of some values."""
    return Ladder(len(values), lambda number: changed(case, **{name: values[number]}), bisected=False)


def _without_layout(operand: str, case: Case) -> Ladder:
    """The case without the layout of an operand."""
    return Ladder(1, lambda _: changed(case, layouts=tuple(item for item in case.layouts if item[0] != operand)))


def _plain(case: Case) -> Ladder:
    """The case with one tap, one group and nothing else that is special, with as many outputs and then with one."""
    ones = (1,) * case.geometry.rank
    plain: dict[str, Any] = {"kernel_size": ones, "stride": ones, "dilation": ones, "padding": (0,) * len(ones)}
    few: dict[str, Any] = {"groups": 1, "group_channels": 1}
    rungs: tuple[dict[str, Any], ...] = (plain | few, plain, few)
    return Ladder(len(rungs), lambda number: changed(case, same_outputs=number < 2, **rungs[number]))


def _axis(names: Sequence[str], axis: int | None, same_outputs: bool, case: Case) -> Ladder:
    """Parameters of one axis, or of every axis if ``axis`` is None, from their least value up to below the present."""
    g = case.geometry
    now: dict[str, tuple[int, ...]] = {name: _numbers(case, name) for name in names}
    least = 0 if "padding" in names else 1
    chosen = range(g.rank) if axis is None else (axis,)
    start = [least] * g.rank
    if "input_size" in names:  # smaller images are invalid
        windows = zip(g.kernel_extent, g.pads, strict=True)
        start = [max(1, extent - before - after) for extent, (before, after) in windows]
    first = min(start[at] for at in chosen)
    count = max(values[at] for values in now.values() for at in chosen) - first
    count += isinstance(case.padding, str) and "padding" in names  # the present amounts, as numbers

    def rung(number: int) -> Case | None:
        to = first + number
        values = {
            name: tuple(max(start[at], min(n, to)) if at in chosen else n for at, n in enumerate(numbers))
            for name, numbers in now.items()
        }
        return changed(case, same_outputs=same_outputs, **values)

    return Ladder(count, rung)


def _less(name: str, case: Case) -> Ladder:
    """A parameter less by the same number on every axis, so that differences stay."""
    now = _numbers(case, name)
    count = max(now) - (name != "padding")

    def rung(number: int) -> Case | None:
        less: dict[str, Any] = {name: tuple(n - (count - number) for n in now)}
        return changed(case, **less)

    return Ladder(count, rung)


def _numbers(case: Case, name: str) -> tuple[int, ...]:
    """The values of a parameter per axis; of the padding, the zeros before the image."""
    if name == "padding":
        return tuple(before for before, _ in case.geometry.pads)
    values: tuple[int, ...] = getattr(case.geometry, name)
    return values


def _counts(names: Sequence[str], case: Case) -> Ladder:
    """The batch, or channels, from 1 up to below the present number."""
    now = {"batch": case.batch or 1, "group_channels": case.weight[1], "out_channels": case.weight[0]}
    # Output channels are a multiple of the groups.
    unit = {"out_channels": case.groups}
    most = max(now[name] // unit.get(name, 1) for name in names)

    def rung(number: int) -> Case | None:
        fewer: dict[str, Any] = {name: min(now[name], (number + 1) * unit.get(name, 1)) for name in names}
        return changed(case, **fewer)

    return Ladder(most - 1, rung)


def _groups(case: Case) -> Ladder:
    """Fewer groups, each with as many channels as before."""
    outputs = case.weight[0] // case.groups

    def rung(number: int) -> Case | None:
        return changed(case, groups=number + 1, out_channels=(number + 1) * outputs)

    return Ladder(case.groups - 1, rung)


def _merged_groups(case: Case) -> Ladder:
    """Fewer groups with as many channels altogether as before; first without more channels in each."""
    fewer = [number for number in range(1, case.groups) if case.groups % number == 0]

    def rung(number: int) -> Case | None:
        groups = fewer[number // 2]
        channels = case.weight[1] * (1 if number % 2 == 0 else case.groups // groups)
        return changed(case, groups=groups, group_channels=channels)

    return Ladder(2 * len(fewer), rung)
