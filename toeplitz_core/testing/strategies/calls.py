"""Strategies for calls of conv2d: valid ones, and broken ones.

A call is broken by construction: a valid one is drawn, and one or two entries of :data:`BREAKS` replace some of its
arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter

from hypothesis import event
from hypothesis import strategies as st

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.strategies.breaks import BREAKS, CONVOLVED, PER_AXIS, SPARE_PIXELS, Base, Changes
from toeplitz_core.testing.strategies.geometries import geometries, weighted

# Multiplications of one image: argument checks do not depend on size, so small ones serve as well.
MAX_PRODUCTS = 2**8


def small(geometry: ConvGeometry) -> ConvGeometry:
    """The geometry with few pixels beyond those that the first output needs."""
    g = geometry
    axes = zip(g.input_size, g.kernel_extent, g.pads, strict=True)
    size = tuple(min(n, max(1, e - before - after) + SPARE_PIXELS) for n, e, (before, after) in axes)
    return ConvGeometry(
        g.in_channels, g.out_channels, size, g.kernel_size, g.stride, g.padding, g.dilation, g.groups
    )  # fmt: skip


# Made once: making a strategy is slow.
_SMALL = geometries(max_products=MAX_PRODUCTS).map(small)


@st.composite
def bases(draw: st.DrawFn, dtypes: Sequence[str], device: str) -> Base:
    """Valid calls, small ones."""
    return Base(
        geometry=draw(_SMALL),
        batch=draw(st.sampled_from((1, None, 2))),
        dtype=draw(st.sampled_from(dtypes)),
        bias=draw(st.booleans()),
        device=device,
    )


def _written(draw: st.DrawFn, values: tuple[int, ...] | str) -> str:
    """A parameter with one value per axis in one of its ways: an int or one entry where the axes agree, tuple, list."""
    if isinstance(values, str):
        return repr(values)
    ways: list[object] = [values, list(values)]
    if len(set(values)) == 1:
        ways = [values[0], *ways, values[:1], list(values[:1])]
    return repr(draw(st.sampled_from(ways)))


@st.composite
def valid_calls(draw: st.DrawFn, base: Base) -> Call:
    """A valid call, in one of its spellings."""
    g = base.geometry
    parameters = {name: _written(draw, getattr(g, name)) for name in PER_AXIS}
    bias = str(base.operand("bias")) if base.bias else "None"
    return Call(str(base.operand("input")), str(base.operand("weight")), bias, groups=str(g.groups), **parameters)


@st.composite
def _calls(
    draw: st.DrawFn,
    breaks: st.SearchStrategy[str],
    number: st.SearchStrategy[int],
    together: Sequence[str],
    dtypes: Sequence[str],
    device: str,
) -> Call:
    base = draw(bases(dtypes, device))
    call = draw(valid_calls(base))
    changes: Changes = {}
    for name in (*together, *(draw(breaks) for _ in range(draw(number)))):
        further = BREAKS[name](draw, base)
        if changes.keys().isdisjoint(further):  # two breaks of one argument would be one, and could undo a bound
            changes |= further
            event(f"call: {name}")
    if not changes:
        event("call: valid")
    return replace(call, **changes)


def calls(
    *,
    breaks: st.SearchStrategy[str] | None = None,
    together: Sequence[str] = (),
    dtypes: Sequence[str] = ("float32",) * 6 + CONVOLVED,
    device: str = "cpu",
) -> st.SearchStrategy[Call]:
    """Calls of conv2d: valid, or broken in one way or two.

    Each way comes as often as any other, in however many variants: an argument that is not checked shows in few calls.

    Parameters
    ----------
    breaks : strategy for keys of :data:`BREAKS`, optional
        The ways to break a call, one of them at least. By default every way, and valid calls too.
    together : keys of :data:`BREAKS`
        Ways that are always taken, before the others.
    dtypes : sequence of str
        What all operands have, but for what breaks a call; the simplest first.
    device : str
        Where they are, likewise.

    Examples
    --------
    >>> from hypothesis import find
    >>> print(find(calls(breaks=st.just("input: no channels")), lambda call: True))
    call input=float32[1x0x1x1] weight=float32[1x0x1x1]
    """
    number = weighted((3, (0,)), (14, (1,)), (3, (2,))) if breaks is None else weighted((3, (1,)), (1, (2,)))
    names = st.sampled_from(tuple(BREAKS)) if breaks is None else breaks
    drawn = _calls(names, number, tuple(together), tuple(dtypes), device)
    # Hypothesis follows an example with several of its variations, in which draws are copied over draws from equal
    # strategies: the same way to break a call would then come many times in a row, and others not at all. It leaves
    # alone what is within a list of unique elements, even of one.
    return st.lists(drawn, min_size=1, max_size=1, unique=True).map(itemgetter(0))
