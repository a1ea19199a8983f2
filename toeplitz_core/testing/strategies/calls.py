"""Strategies for calls of conv2d: valid ones, and broken ones.

A broken call begins as a valid one; then one or two entries of :data:`BREAKS` replace some of its arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter

from hypothesis import event
from hypothesis import strategies as st

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.strategies.choices import weighted
from toeplitz_core.testing.strategies.geometries import geometries
from toeplitz_core.testing.strategies.invalid_arguments import BREAKS, CONVOLVED, PER_AXIS, SPARE_PIXELS, Base, Changes

# Limit on the multiplications of one image: argument checks do not depend on size, so small calls are enough.
_MAX_PRODUCTS_OF_CALLS = 2**8


def small(geometry: ConvGeometry) -> ConvGeometry:
    """The geometry with an input that is at most ``SPARE_PIXELS`` larger than the first output needs."""
    g = geometry
    axes = zip(g.input_size, g.kernel_extent, g.pads, strict=True)
    size = tuple(min(n, max(1, e - before - after) + SPARE_PIXELS) for n, e, (before, after) in axes)
    return ConvGeometry(
        g.in_channels, g.out_channels, size, g.kernel_size, g.stride, g.padding, g.dilation, g.groups
    )  # fmt: skip


# Created once, because creating a strategy is slow.
_SMALL = geometries(max_products=_MAX_PRODUCTS_OF_CALLS).map(small)


@st.composite
def bases(draw: st.DrawFn, dtypes: Sequence[str], device: str) -> Base:
    """Small valid calls."""
    return Base(
        geometry=draw(_SMALL),
        batch=draw(st.sampled_from((1, None, 2))),
        dtype=draw(st.sampled_from(dtypes)),
        bias=draw(st.booleans()),
        device=device,
    )


def _written(draw: st.DrawFn, values: tuple[int, ...] | str) -> str:
    """A parameter with one value per axis as text: a tuple or list; also an int or one entry if the axes agree."""
    if isinstance(values, str):
        return repr(values)
    ways: list[object] = [values, list(values)]
    if len(set(values)) == 1:
        ways = [values[0], *ways, values[:1], list(values[:1])]
    return repr(draw(st.sampled_from(ways)))


@st.composite
def valid_calls(draw: st.DrawFn, base: Base) -> Call:
    """Valid calls, each in one of its spellings."""
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
        if changes.keys().isdisjoint(further):  # a second break of an argument would replace the first, or undo a bound
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

    Each way is equally frequent, no matter how many variants it has, so that a few calls reveal an argument that is not
    checked.

    Parameters
    ----------
    breaks : strategy for keys of :data:`BREAKS`, optional
        The ways to break a call; each call has at least one. By default all ways are drawn, and valid calls too.
    together : keys of :data:`BREAKS`
        Ways that are always applied, before the others.
    dtypes : sequence of str
        Dtypes to choose from, the simplest first. All operands have the chosen one, unless a break changes it.
    device : str
        The device of all operands, unless a break changes it.

    Examples
    --------
    >>> from hypothesis import find
    >>> print(find(calls(breaks=st.just("input: no channels")), lambda call: True))
    call input=float32[1x0x1x1] weight=float32[1x0x1x1]
    """
    number = weighted((3, (0,)), (14, (1,)), (3, (2,))) if breaks is None else weighted((3, (1,)), (1, (2,)))
    names = st.sampled_from(tuple(BREAKS)) if breaks is None else breaks
    drawn = _calls(names, number, tuple(together), tuple(dtypes), device)
    # After an example, Hypothesis tries several variations of it that copy draws between equal strategies. The same way
    # to break a call would then come many times in a row, and others not at all. Hypothesis does not vary the elements
    # of a unique list, not even of a list with one element.
    return st.lists(drawn, min_size=1, max_size=1, unique=True).map(itemgetter(0))
