"""What conditions of a failure are about: numbers of a case, relations between them, and choices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from toeplitz_core.testing.case.attributes import ATTRIBUTES
from toeplitz_core.testing.case.case import Case

_OF_AXES = {2: ("height", "width")}
_SIZES = {"output_size": "output", "input_size": "input", "kernel_size": "kernel"}
_STEPS = ("stride", "dilation")
_OF_EACH_AXIS = "zip(input_size, padding, kernel_size, dilation, stride)"
_ROOM = f"any(n + p[0] + p[1] > (k - 1) * d + 1 for n, p, k, d, s in {_OF_EACH_AXIS})"
_STEPS_IN_ROOM = _ROOM.replace("any(", "any(s > 1 and ")


class Expression(NamedTuple):
    """A number of a case.

    Parameters
    ----------
    text : str
        The number in a condition.
    words : str
        The number in reports.
    of : callable
        Computes it for a case.
    least : int
        Its least possible value.
    """

    text: str
    words: str
    of: Callable[[Case], int]
    least: int = 1


class Flag(NamedTuple):
    """A choice of a case: its text in a condition, its words in reports, and its value for a case."""

    text: str
    words: str
    of: Callable[[Case], Any]


class Relation(NamedTuple):
    """A relation in a case: its text as a condition, its words in reports, and whether a case has it."""

    text: str
    words: str
    holds: Callable[[Case], bool]


def expressions(case: Case) -> tuple[list[Expression], list[Expression], list[Expression]]:
    """Numbers of cases with as many axes as this one, the plainest first: single ones, extremes, and products."""
    rank = case.geometry.rank
    plain = [Expression(name, name, ATTRIBUTES[name].of) for name in ("batch", "groups", "group_channels")]
    plain.append(Expression("out_channels", "out_channels", ATTRIBUTES["out_channels"].of))
    for name in (*_SIZES, *_STEPS):
        plain += [
            Expression(f"{name}[{axis}]", _axis_in_words(name, axis, rank), _entry(name, axis)) for axis in range(rank)
        ]
    plain += [Expression(f"padding[{axis}][0]", f"padding[{axis}]", _pad(axis, 0), 0) for axis in range(rank)]
    related = [
        Expression("in_channels", "in_channels", ATTRIBUTES["in_channels"].of),
        Expression("out_channels // groups", "out_channels / groups", lambda case: case.weight[0] // case.groups),
    ]
    for name in (*_SIZES, *_STEPS):
        words = _SIZES.get(name, name)
        related.append(Expression(f"max({name})", f"largest {words}", _over_axes(max, name)))
        related.append(Expression(f"min({name})", f"smallest {words}", _over_axes(min, name)))
    sides = [f"padding[{axis}][{side}]" for axis in range(rank) for side in (0, 1)]
    related.append(
        Expression(f"max({', '.join(sides)})", "largest padding", lambda case: max(map(max, case.geometry.pads)), 0)
    )
    products = [
        Expression(
            " * ".join(f"{name}[{axis}]" for axis in range(rank)), f"number of {words}", _over_axes(_product, name)
        )
        for name, words in (("kernel_size", "taps"), ("output_size", "outputs per channel"), ("input_size", "pixels"))
    ]
    taps = products[0]
    products.append(
        Expression(f"group_channels * {taps.text}", "products per output", lambda case: case.weight[1] * taps.of(case))
    )
    outputs = products[1]
    products.append(
        Expression(
            f"out_channels * {outputs.text}", "outputs per image", lambda case: case.weight[0] * outputs.of(case)
        )
    )
    products.append(Expression("nnz", "products per image", ATTRIBUTES["nnz"].of, 0))
    return plain, related, products


def flags(case: Case) -> list[Flag]:
    """The choices that may matter to a case."""
    return [
        Flag("dtype", "dtype", ATTRIBUTES["dtype"].of),
        Flag("bias", "bias", ATTRIBUTES["bias"].of),
        Flag("batched", "batch axis", ATTRIBUTES["batched"].of),
        *(
            Flag(f"layout_{operand}", f"{operand} layout", ATTRIBUTES[f"layout_{operand}"].of)
            for operand, _ in case.layouts
        ),
        Flag("data", "data", ATTRIBUTES["data"].of),
    ]


def relations(rank: int) -> Iterator[Relation]:
    """Relations between the numbers of a case."""
    for name in (*_STEPS, "kernel_size", "output_size", "input_size"):
        words = [_axis_in_words(name, axis, rank) for axis in range(rank)]
        yield from (
            Relation(f"{name}[{a}] {sign} {name}[{b}]", f"{words[a]} {sign} {words[b]}", _compared(name, a, b, sign))
            for a in range(rank)
            for b in range(a + 1, rank)
            for sign in ("!=", "==")
        )
    for a in range(rank):
        for b in range(a + 1, rank):
            yield Relation(f"padding[{a}] != padding[{b}]", f"padding[{a}] != padding[{b}]", _pads_differ(a, b))
    yield Relation("depthwise", "depthwise", ATTRIBUTES["depthwise"].of)
    yield Relation("out_channels > groups", "out_channels > groups", lambda case: case.weight[0] > case.groups)
    yield Relation(
        "any(p[0] != p[1] for p in padding)",
        "unequal padding on the two sides of an axis",
        lambda case: any(before != after for before, after in case.geometry.pads),
    )
    yield Relation("padding_name == 'same'", "padding 'same'", lambda case: case.padding == "same")
    yield Relation("all_padding", "a window that lies wholly in padding", ATTRIBUTES["all_padding"].of)
    yield Relation(
        "any(idle_taps)", "a tap that reads only padding", lambda case: any(ATTRIBUTES["idle_taps"].of(case))
    )
    yield Relation(_ROOM, "an image larger than the kernel", lambda case: any(map(bool, _room(case))))
    yield Relation(
        _STEPS_IN_ROOM,
        "stride > 1 where the image is larger than the kernel",
        lambda case: any(step > 1 and room for step, room in zip(case.geometry.stride, _room(case), strict=True)),
    )
    for sign in ("<", ">"):
        yield Relation(
            f"any(s {sign} k for s, k in zip(stride, kernel_size))",
            f"stride {sign} kernel on some axis",
            _step_and_taps(sign),
        )


def _room(case: Case) -> tuple[int, ...]:
    """The pixels and zeros of each axis beyond one window."""
    g = case.geometry
    return tuple(size - extent for size, extent in zip(g.padded_size, g.kernel_extent, strict=True))


def _axis_in_words(name: str, axis: int, rank: int) -> str:
    if name in _SIZES and rank in _OF_AXES:
        return f"{_SIZES[name]} {_OF_AXES[rank][axis]}"
    return f"{name}[{axis}]"


def _entry(name: str, axis: int) -> Callable[[Case], int]:
    return lambda case: int(getattr(case.geometry, name)[axis])


def _pad(axis: int, side: int) -> Callable[[Case], int]:
    return lambda case: case.geometry.pads[axis][side]


def _over_axes(function: Callable[[tuple[int, ...]], int], name: str) -> Callable[[Case], int]:
    return lambda case: function(getattr(case.geometry, name))


def _product(values: tuple[int, ...]) -> int:
    found = 1
    for value in values:
        found *= value
    return found


def _compared(name: str, a: int, b: int, sign: str) -> Callable[[Case], bool]:
    def holds(case: Case) -> bool:
        values = getattr(case.geometry, name)
        return bool((values[a] == values[b]) is (sign == "=="))

    return holds


def _pads_differ(a: int, b: int) -> Callable[[Case], bool]:
    return lambda case: case.geometry.pads[a] != case.geometry.pads[b]


def _step_and_taps(sign: str) -> Callable[[Case], bool]:
    def holds(case: Case) -> bool:
        pairs = zip(case.geometry.stride, case.geometry.kernel_size, strict=True)
        return any(step < taps if sign == "<" else step > taps for step, taps in pairs)

    return holds
