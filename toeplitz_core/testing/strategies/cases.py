"""Strategies for cases: a geometry, a batch, layouts, a recipe and a seed."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence

from hypothesis import strategies as st

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.layouts import ALL_LAYOUTS, layouts_of
from toeplitz_core.testing.strategies.geometries import MAX_PRODUCTS, geometries, weighted


def layouts(axes: int, *, legal: Collection[str], operand: str = "input") -> st.SearchStrategy[str | None]:
    """Layouts of an operand with this number of axes; None leaves the choice to the subject."""
    names = tuple(name for name, (_, _, ranks) in layouts_of(operand).items() if axes in ranks and name in legal)
    if not names:
        return st.none()
    # Most gradients that reach a convolution directly are those of a sum: one repeated number.
    often = ((1, ("repeated",)),) if "repeated" in names else ()
    place = ("input", "weight", "grad", "bias").index(operand) % 3  # a bias has other layouts, so it may share a place
    return weighted((3, (None,)), (2, names), *often, place=place)


_all_geometries = functools.cache(geometries)


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
    g = draw(_all_geometries() if geometry is None else geometry)
    # Some libraries switch algorithms at batches around 16; others forget the empty batch.
    batch = draw(weighted((8, (1,)), (5, (2, 3)), (2, (None,)), (1, (0,)), (3, (15, 16, 17, 32))))
    if batch and batch * max(g.nnz, g.in_channels * g.pixels, g.out_channels * g.positions) > 2 * MAX_PRODUCTS:
        batch = 1
    has_bias = draw(st.booleans())
    axes = g.rank + (1 if batch is None else 2)
    chosen = {
        "input": draw(layouts(axes, legal=legal_layouts)),
        "weight": draw(layouts(g.rank + 2, legal=legal_layouts, operand="weight")),
        "bias": draw(layouts(1, legal=legal_layouts, operand="bias")) if has_bias else None,
        "grad": draw(layouts(axes, legal=legal_layouts, operand="grad")) if gradient else None,
    }
    return Case.of(
        g,
        batch,
        bias=has_bias,
        dtype=draw(st.sampled_from(dtypes)) if len(dtypes) > 1 else dtypes[0],
        layouts=tuple((operand, layout) for operand, layout in chosen.items() if layout is not None),
        device=device,
        data=draw(st.sampled_from(recipes)) if len(recipes) > 1 else recipes[0],
        seed=draw(st.integers(0, 2**16 - 1)),
    )
