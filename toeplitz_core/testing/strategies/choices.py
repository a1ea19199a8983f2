"""Choices from tables, of which a drawn value consists: each a draw of its own, or all in one wide draw."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

from hypothesis import strategies as st

_T = TypeVar("_T")

# The bits of a wide draw for choices: a case with a gradient takes about 100, and the others keep its choices nearly
# uniform.
_BITS = 176
# Numbers for seeds are below this.
SEEDS = 2**16
_WIDE = st.binary(min_size=_BITS // 8 + 2, max_size=_BITS // 8 + 2)


class Choose(Protocol):
    """Choose a value of a table; each is equally likely, and the first is the simplest.

    Hypothesis copies values between draws from equal strategies, which would tie the height to the width in most
    examples. So choices that must not be tied have different places.
    """

    def __call__(self, table: Sequence[_T], place: int = 0) -> _T:
        """Choose a value."""
        ...


@functools.cache
def table(*groups: tuple[int, tuple[_T, ...]]) -> tuple[_T, ...]:
    """The values of weighted groups, each as often as its weight asks for; the first value is the simplest."""
    size = math.lcm(*(len(values) for _, values in groups))
    copies = [weight * size // len(values) for weight, values in groups]
    unit = math.gcd(*copies)
    return tuple(v for (_, values), n in zip(groups, copies, strict=True) for v in values for _ in range(n // unit))


def weighted(*groups: tuple[int, tuple[_T, ...]], place: int = 0) -> st.SearchStrategy[_T]:
    """One value from weighted groups of values; it shrinks towards the first value of the first group.

    The strategy is one draw from a table, not a choice of strategies, because an example has dozens of choices and each
    takes time.
    """
    return _sampled(table(*groups), place)


def singly(draw: st.DrawFn) -> Choose:
    """Choices that are one draw each, so that Hypothesis can shrink each of them alone."""

    def choose(table: Sequence[_T], place: int = 0) -> _T:
        value: _T = draw(_sampled(table, place))
        return value

    return choose


def packed(draw: st.DrawFn) -> tuple[Choose, int]:
    """Choices and a seed that share one wide draw, in half of the time.

    They shrink badly: a search shrinks cases by itself. The draw is a fraction below 1, and each choice takes its next
    digit, in the base of the table's length. The last bits are the seed, so a small change of the draw, as Hypothesis
    makes to increase a target, changes only the seed.
    """
    fraction, seed = divmod(int.from_bytes(draw(_WIDE), "big"), SEEDS)  # the fraction in units of 2^-_BITS

    def choose(table: Sequence[_T], place: int = 0) -> _T:  # noqa: ARG001  # nothing is copied within one draw
        nonlocal fraction
        fraction *= len(table)
        index = fraction >> _BITS
        fraction -= index << _BITS
        return table[index]

    return choose, seed


@functools.cache
def _sampled(table: Sequence[_T], place: int) -> st.SearchStrategy[_T]:
    """A strategy for a value of a table. The table is repeated, so that each place has a strategy of its own."""
    return st.sampled_from(table if isinstance(table, range) else tuple(table) * (place + 1))
