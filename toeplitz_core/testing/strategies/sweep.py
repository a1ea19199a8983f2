"""A sweep: every convolution near the smallest one, the nearest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.case.case import Case

# Maps n to the values of a parameter that are n steps from its smallest value.
_Values = Callable[[int], Sequence[Any]]


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
    for distance in range(steps + 1):
        for batch, size, kernel, stride, padding, dilation, groups, inputs, outputs, bias in _at(distance, _PARAMETERS):
            try:
                geometry = ConvGeometry(
                    groups * inputs, groups * outputs, size, kernel, stride, padding, dilation, groups
                )
            except ValueError:  # not a valid convolution
                continue
            yield Case.of(geometry, batch, bias=bias)


def number_of_convolutions(steps: int) -> int:
    """The number of convolutions that are at most ``steps`` steps from the smallest."""
    return sum(1 for _ in convolutions(steps))


def _at(distance: int, parameters: Sequence[_Values]) -> Iterator[tuple[Any, ...]]:
    """All values of the parameters that are ``distance`` steps from the smallest in total; the last vary first."""
    if not parameters:
        yield from () if distance else ((),)
        return
    for steps in range(distance + 1):
        for value in parameters[0](steps):
            for others in _at(distance - steps, parameters[1:]):
                yield value, *others


def _counts(steps: int) -> tuple[int]:
    return (1 + steps,)


def _pairs(steps: int) -> list[tuple[int, int]]:
    """Pairs of height and width."""
    return [(1 + height, 1 + steps - height) for height in range(steps + 1)]


def _batches(steps: int) -> tuple[int | None, ...]:
    return (2, None) if steps == 1 else (1 + steps,)


def _paddings(steps: int) -> list[tuple[int, int] | str]:
    words = ("same", "valid") if steps == 1 else ()
    return [*((height, steps - height) for height in range(steps + 1)), *words]


def _bias(steps: int) -> tuple[bool, ...]:
    return ((False,), (True,))[steps] if steps < 2 else ()


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
