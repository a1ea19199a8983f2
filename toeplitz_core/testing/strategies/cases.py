"""Strategies for cases: a geometry, a batch, layouts, a recipe and a seed."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence

from hypothesis import strategies as st

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.layouts import ALL_LAYOUTS, layouts_of
from toeplitz_core.testing.strategies.choices import SEEDS, Choose, packed, singly, table
from toeplitz_core.testing.strategies.geometries import MAX_PRODUCTS, chosen_geometry

# Some libraries switch algorithms at batches around 16; others forget the empty batch.
_BATCHES = table((8, (1,)), (5, (2, 3)), (2, (None,)), (1, (0,)), (3, (15, 16, 17, 32)))
_SEEDS = st.integers(0, SEEDS - 1)


@functools.cache
def _layouts(axes: int, legal: Collection[str], operand: str) -> tuple[str | None, ...]:
    """The table of layouts of an operand with this number of axes; None leaves the choice to the subject."""
    names = tuple(name for name, (_, _, ranks) in layouts_of(operand).items() if axes in ranks and name in legal)
    if not names:
        return (None,)
    # Most gradients that reach a convolution directly are those of a sum: one repeated number.
    often = ((1, ("repeated",)),) if "repeated" in names else ()
    return table((3, (None,)), (2, names), *often)


@st.composite
def cases(
    draw: st.DrawFn,
    *,
    geometry: st.SearchStrategy[ConvGeometry] | None = None,
    dtypes: Sequence[str] = ("float32",),
    recipes: Sequence[str] = ("integers",),
    legal_layouts: Collection[str] = ALL_LAYOUTS,
    device: str = "cpu",
    gradient: bool = False,
) -> Case:
    """Valid cases.

    Parameters
    ----------
    geometry : strategy of ConvGeometry, optional
        :func:`geometries` if not given.
    dtypes, recipes : sequences of str
        Dtypes and recipes to choose from, the simplest first.
    legal_layouts : collection of str
        Memory layouts to choose from, independently for input, weight, bias and the gradient of the result.
    device : str
    gradient : bool
        Whether to draw a layout for the gradient of the result. It matters only to laws that read this gradient.

    Examples
    --------
    >>> from hypothesis import find
    >>> str(find(cases(), lambda case: case.bias))
    'input=1x1x1x1 weight=1x1x1x1 bias'
    """
    choose = singly(draw)
    g = chosen_geometry(choose) if geometry is None else draw(geometry)
    return _chosen_case(choose, g, draw(_SEEDS), dtypes, recipes, tuple(legal_layouts), device, gradient=gradient)


@st.composite
def quick_cases(
    draw: st.DrawFn,
    *,
    max_products: int = MAX_PRODUCTS,
    dtypes: Sequence[str] = ("float32",),
    recipes: Sequence[str] = ("integers",),
    legal_layouts: Collection[str] = ALL_LAYOUTS,
    device: str = "cpu",
    gradient: bool = False,
) -> Case:
    """The cases of :func:`cases`, as often, in half of the time. Hypothesis shrinks them badly.

    ``max_products`` is the limit of :func:`geometries`; the other parameters are those of :func:`cases`.
    """
    choose, seed = packed(draw)
    g = chosen_geometry(choose, max_products=max_products)
    return _chosen_case(choose, g, seed, dtypes, recipes, tuple(legal_layouts), device, gradient=gradient)


def _chosen_case(
    choose: Choose,
    g: ConvGeometry,
    seed: int,
    dtypes: Sequence[str],
    recipes: Sequence[str],
    legal: tuple[str, ...],
    device: str,
    *,
    gradient: bool,
) -> Case:
    batch = choose(_BATCHES)
    if batch and batch * max(g.nnz, g.in_channels * g.pixels, g.out_channels * g.positions) > 2 * MAX_PRODUCTS:
        batch = 1
    has_bias, dtype, data = choose((False, True)), choose(tuple(dtypes)), choose(tuple(recipes))
    axes = g.rank + (1 if batch is None else 2)
    # The layouts come last, so that all else is the same where other layouts are legal.
    chosen = {
        "input": choose(_layouts(axes, legal, "input")),
        "weight": choose(_layouts(g.rank + 2, legal, "weight"), 1),
        "bias": choose(_layouts(1, legal, "bias")) if has_bias else None,
        "grad": choose(_layouts(axes, legal, "grad"), 2) if gradient else None,
    }
    layouts = tuple((operand, layout) for operand, layout in chosen.items() if layout is not None)
    return Case.of(g, batch, bias=has_bias, dtype=dtype, layouts=layouts, device=device, data=data, seed=seed)
