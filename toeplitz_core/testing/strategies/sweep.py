"""A sweep: every convolution near the smallest one, the nearest first."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.case.case import Case

_Array = np.ndarray[Any, np.dtype[np.int8]]
# In place of a number: no batch axis, and a padding in words.
_UNBATCHED, _SAME, _VALID = -1, -1, -2
_WORDS = {_SAME: "same", _VALID: "valid"}


def convolutions(steps: int) -> Iterator[Case]:
    """Every convolution that is at most ``steps`` steps from the smallest one, in the order of the steps.

    The smallest convolution has one image, one channel, one pixel and a kernel of one tap, with stride 1, padding 0,
    dilation 1, one group and no bias. One step is any of these changes:

    - one more image;
    - one more pixel, tap, stride, padding or dilation along one axis;
    - one more group, with as many channels as the others;
    - one more input or output channel in every group;
    - a bias;
    - no batch axis instead of one image;
    - ``"same"`` or ``"valid"`` as padding.

    Invalid combinations are left out: a kernel that spans more than the padded image, and ``"same"`` with a stride.

    Examples
    --------
    >>> for case in list(convolutions(2))[:4]:
    ...     print(case)
    input=1x1x1x1 weight=1x1x1x1
    input=1x1x1x1 weight=1x1x1x1 bias
    input=1x1x1x1 weight=2x1x1x1
    input=1x2x1x1 weight=1x2x1x1
    """
    for b, h, w, kh, kw, sh, sw, ph, pw, dh, dw, groups, inputs, outputs, bias in _rows(steps).tolist():
        geometry = ConvGeometry(
            groups * inputs, groups * outputs, (h, w), (kh, kw), (sh, sw), _WORDS.get(ph, (ph, pw)), (dh, dw), groups
        )
        yield Case.of(geometry, None if b == _UNBATCHED else b, bias=bool(bias))


def number_of_convolutions(steps: int) -> int:
    """The number of convolutions that are at most ``steps`` steps from the smallest."""
    return len(_rows(steps))


def most_products(steps: int) -> float:
    """No convolution that is at most ``steps`` steps from the smallest has more products (``nnz``) for one image.

    A tap meets a pixel at one output at most. So there are at most as many products as the product of seven numbers:
    pixels and taps along both axes, groups, and channels of both sides per group. All are 1 in the smallest
    convolution, and a step adds 1 to one of them at most. Their product is largest where they are equal.

    Examples
    --------
    >>> most_products(7)
    128.0
    """
    return (1 + steps / 7) ** 7


@functools.lru_cache(1)  # a run asks several times, always for the same steps
def _rows(steps: int) -> _Array:
    """The parameters of all convolutions, one in a row, in the order of their steps; the last columns vary first.

    They are numbers in one array, because it takes a hundred times as long to make a geometry of each and to let it
    refuse what is invalid.
    """
    rows, left = np.zeros((1, 0), dtype=np.int8), np.array([steps])
    for number, values in enumerate(_PARAMETERS):
        table = [(n, value) for n in range(steps + 1) for value in values(n)]
        taken = np.array([n for n, _ in table])
        before, chosen = np.nonzero(taken <= left[:, None])
        rows = np.hstack((rows[before], np.array([value for _, value in table], dtype=np.int8)[chosen]))
        left = left[before] - taken[chosen]
        if number == _LAST_OF_AXES:
            valid = _are_valid(rows)
            rows, left = rows[valid], left[valid]
    return rows[np.argsort(-left, kind="stable")]


def _are_valid(rows: _Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows, up to the dilation, are valid: the kernel fits into the padded image, and "same" has no stride."""
    size, kernel, stride, padding, dilation = (rows[:, first : first + 2] for first in (1, 3, 5, 7, 9))
    fits = (dilation * (kernel - 1) + 1 <= size + 2 * padding.clip(0)).all(1)
    same = padding[:, 0] == _SAME
    valid: np.ndarray[Any, np.dtype[np.bool_]] = np.where(same, (stride == 1).all(1), fits)
    return valid


# Each function returns the values of a parameter that are n steps from its smallest value.
_Values = Callable[[int], list[tuple[int, ...]]]


def _batches(steps: int) -> list[tuple[int, ...]]:
    return [(2,), (_UNBATCHED,)] if steps == 1 else [(1 + steps,)]


def _pairs(steps: int) -> list[tuple[int, ...]]:
    """Pairs of height and width."""
    return [(1 + height, 1 + steps - height) for height in range(steps + 1)]


def _paddings(steps: int) -> list[tuple[int, ...]]:
    words = [(_SAME, _SAME), (_VALID, _VALID)] if steps == 1 else []
    return [*((height, steps - height) for height in range(steps + 1)), *words]


def _counts(steps: int) -> list[tuple[int, ...]]:
    return [(1 + steps,)]


def _bias(steps: int) -> list[tuple[int, ...]]:
    return [(steps,)] if steps < 2 else []


# Batch, input size, kernel size, stride, padding, dilation, groups, input and output channels per group, bias.
_PARAMETERS: tuple[_Values, ...] = (
    _batches,
    _pairs,
    _pairs,
    _pairs,
    _paddings,
    _pairs,
    _counts,
    _counts,
    _counts,
    _bias,
)
# The dilation: with it, all is known that decides whether a convolution is valid.
_LAST_OF_AXES = 5
