"""The cases around a case: with another value of one parameter, and with others for a few."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.search.changes import PER_AXIS, changed

# The sizes of blocks and vectors, of which a failure may need a full one or a part.
MODULI = (2, 4, 8, 16, 32)

# A parameter of a case: its value, its least value, and the case with another value.
Varied = tuple[int, int, Callable[[int], Case | None]]


def around(case: Case) -> Iterator[Varied]:
    """The parameters to vary, one at a time and some together."""
    g = case.geometry
    for choice in _choices(case):
        yield 0, 0, lambda number, choice=choice: choice if number == 1 else None  # type: ignore[misc]
    counts = {"batch": case.batch or 1, "group_channels": max(1, case.weight[1])}
    for name, now in counts.items():
        yield now, 1, partial(_with, case, name)
    per_group = case.weight[0] // case.groups
    yield per_group, 1, lambda number: changed(case, out_channels=number * case.groups)
    yield case.groups, 1, lambda number: changed(case, groups=number, out_channels=number * per_group)
    yield case.groups, 1, lambda number: changed(case, groups=number)
    yield case.groups, 1, partial(_with_groups, case)
    for same_outputs in (True, False):
        for name in (*PER_AXIS, *["input_size"] * (not same_outputs)):
            values = _per_axis(case, name)
            least = 0 if name == "padding" else 1
            for axis, now in enumerate(values):
                yield now, least, partial(_with_axis, case, name, axis, same_outputs)
            if len(set(values)) > 1:  # the failure may need values that differ
                for value in (*values, max(values) + 1):
                    made = _with_axes(case, name, g.rank, same_outputs, value)
                    yield 0, 0, lambda number, made=made: made if number == 1 else None  # type: ignore[misc]
            else:
                yield values[0], least, partial(_with_axes, case, name, g.rank, same_outputs)
    for axis, now in enumerate(_per_axis(case, "padding")):
        yield now, 0, partial(_with_half_padding, case, axis)


def plainer(case: Case) -> Iterator[Case]:
    """The case with each parameter in turn at its plainest on all axes."""
    ones = (1,) * case.geometry.rank
    for name, values in (("dilation", ones), ("stride", ones), ("padding", (0,) * len(ones)), ("kernel_size", ones)):
        found = _with_parameter(case, name, values, True)
        if found is not None and found != case:
            yield found


def _with(case: Case, name: str, value: int) -> Case | None:
    parameters: dict[str, Any] = {name: value}
    return changed(case, **parameters)


def _with_groups(case: Case, groups: int) -> Case | None:
    """The case with another number of groups, and about as many channels altogether."""
    g = case.geometry
    channels, outputs = -(-g.in_channels // groups), -(-g.out_channels // groups)
    return changed(case, groups=groups, group_channels=channels, out_channels=outputs * groups)


def _with_axis(case: Case, name: str, axis: int, same_outputs: bool, value: int) -> Case | None:
    values = list(_per_axis(case, name))
    values[axis] = value
    return _with_parameter(case, name, tuple(values), same_outputs)


def _rest(case: Case) -> list[int]:
    """The pixels of each axis after the last window."""
    g = case.geometry
    sizes = zip(g.padded_size, g.kernel_extent, g.stride, strict=True)
    return [(size - extent) % step for size, extent, step in sizes]


def roomy(case: Case | None, more: Sequence[int]) -> Case | None:
    """The case with larger images: this many pixels more along each axis."""
    if case is None:
        return None
    sizes: dict[str, Any] = {"input_size": tuple(n + m for n, m in zip(case.geometry.input_size, more, strict=True))}
    return changed(case, **sizes)


def _with_axes(case: Case, name: str, rank: int, same_outputs: bool, value: int) -> Case | None:
    return _with_parameter(case, name, (value,) * rank, same_outputs)


def _with_parameter(case: Case, name: str, values: tuple[int, ...], same_outputs: bool) -> Case | None:
    """The case with another value; with as many outputs as before and as many pixels after the last window if asked."""
    found = changed(case, same_outputs=same_outputs, **{name: values})
    return roomy(found, _rest(case)) if same_outputs else found


def _with_half_padding(case: Case, axis: int, value: int) -> Case | None:
    """The case with a padding, and a kernel of which it is half, so that no output reads padding alone."""
    kernel, padding = list(case.geometry.kernel_size), list(_per_axis(case, "padding"))
    kernel[axis], padding[axis] = 2 * value + 1, value
    return changed(case, kernel_size=tuple(kernel), padding=tuple(padding))


def _per_axis(case: Case, name: str) -> tuple[int, ...]:
    if name == "padding":
        return tuple(before for before, _ in case.geometry.pads)
    values: tuple[int, ...] = getattr(case.geometry, name)
    return values


def _choices(case: Case) -> list[Case]:
    """The case with each other choice: bias, batch axis, layouts, dtype, recipe, and with its axes swapped."""
    without = [tuple(item for item in case.layouts if item != dropped) for dropped in case.layouts]
    others: list[dict[str, Any]] = [
        {"bias": not case.bias},
        {"batch": 1 if case.batch is None else None},
        *({"layouts": layouts} for layouts in without),
        *({"dtype": dtype} for dtype in CASE_DTYPES),
        *({"data": data} for data in ("integers", "normal")),
    ]
    swapped = {name: _per_axis(case, name)[::-1] for name in (*PER_AXIS, "input_size")}
    if isinstance(case.padding, str):
        swapped["padding"] = case.padding  # type: ignore[assignment]  # its name says what it is on each axis
        others.append({"padding": _per_axis(case, "padding")})
    found = [changed(case, **other) for other in (*others, swapped)]
    return [other for other in found if other is not None and other != case]


def mutated(case: Case, generator: np.random.Generator) -> Case | None:
    """The case with a few other parameters."""

    def near(now: int, least: int) -> int:
        block = int(generator.choice(MODULI))
        full = (now // block + 1) * block
        options = (least, least + 1, now // 2, now - 1, now + 1, 2 * now + 1, 4 * now + 2, now + 8, full, full)
        return max(least, int(options[generator.integers(len(options))]))

    parameters: dict[str, Any] = {}
    for _ in range(1 + generator.integers(5)):
        name = ("batch", "bias", "groups", "group_channels", "out_channels", "input_size", *PER_AXIS)[
            generator.integers(6 + len(PER_AXIS))
        ]
        if name == "bias":
            parameters[name] = not case.bias
        elif name in (*PER_AXIS, "input_size"):
            values = list(parameters.get(name, _per_axis(case, name)))
            axis = generator.integers(len(values))
            values[axis] = near(values[axis], 0 if name == "padding" else 1)
            parameters[name] = tuple(values)
        else:
            now = {"batch": case.batch or 1, "groups": case.groups, "group_channels": case.weight[1]}
            parameters[name] = near(now.get(name, case.weight[0] // case.groups), 1)
    groups = parameters.get("groups", case.groups)
    parameters["out_channels"] = groups * parameters.get("out_channels", case.weight[0] // case.groups)
    found = changed(case, same_outputs="input_size" not in parameters and bool(generator.integers(2)), **parameters)
    # A small image hides many failures.
    return found if generator.integers(2) else roomy(found, generator.integers(0, 6, case.geometry.rank).tolist())
