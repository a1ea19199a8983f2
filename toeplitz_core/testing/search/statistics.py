"""Statistics of a search: labels of each case, which ``--hypothesis-show-statistics`` counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from hypothesis import event

from toeplitz_core.testing.case.attributes import is_all_padding
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.laws.verdict import Status, Verdict

REGIONS: dict[str, Callable[[Case], bool]] = {
    "no batch": lambda c: c.batch is None,
    "empty batch": lambda c: c.batch == 0,
    "batch of 15 and more": lambda c: (c.batch or 0) >= 15,
    "1x1 kernel": lambda c: max(c.geometry.kernel_size) == 1,
    "stride": lambda c: max(c.geometry.stride) > 1,
    "stride beyond the kernel": lambda c: any(
        s > e for s, e in zip(c.geometry.stride, c.geometry.kernel_extent, strict=True)
    ),
    "dilation": lambda c: max(c.geometry.dilation) > 1,
    "depthwise": lambda c: c.groups > 1 and c.weight[1] == 1,
    "groups of several channels": lambda c: c.groups > 1 and c.weight[1] > 1,
    "padding": lambda c: any(any(pads) for pads in c.geometry.pads),
    "a window wholly in padding": is_all_padding,
    "one result": lambda c: c.geometry.positions == 1,
    "other strides than contiguous": lambda c: bool(c.layouts),
}


def regions(case: Case) -> list[str]:
    """The labels of the regions that a case lies in.

    Examples
    --------
    >>> from toeplitz_core.testing.case.case import Case
    >>> regions(Case.parse("input=3x5x5 weight=3x1x1x1 groups=3 stride=2"))
    ['no batch', '1x1 kernel', 'stride', 'stride beyond the kernel', 'depthwise']
    """
    return [name for name, holds in REGIONS.items() if holds(case)]


def products_in_words(case: Case) -> str:
    """How many products are summed for one output outside the padding, rounded up to a power of ten.

    Examples
    --------
    >>> from toeplitz_core.testing.case.case import Case
    >>> products_in_words(Case.parse("input=1x4x5x5 weight=1x4x3x3"))
    'up to 100 products'
    """
    count = math.prod(case.weight[1:])
    return f"up to {10 ** len(str(count - 1))} products" if count > 1 else "1 product"


def note(verdict: Verdict, kernels: Collection[str]) -> None:
    """Report the labels of a case to Hypothesis: status, kernel, data, regime and regions."""
    event(f"status: {verdict.status}")
    for kernel in sorted({verdict.kernel, *kernels} - {""}):
        event(f"kernel: {kernel}")
    if isinstance(verdict.case, Case):  # the strategy for calls reports its own events
        event(f"data: {verdict.case.data}")
        if verdict.status in (Status.PASS, Status.MISTRUSTED):
            event(f"regime: {_regime(verdict, verdict.case)}")
        for region in regions(verdict.case):
            event(f"region: {region}")


def _regime(verdict: Verdict, case: Case) -> str:
    """How the results were judged (exactly or by the bound), and how many products each sums."""
    if verdict.ratio is None and 0 in case.output_shape:
        return "empty"
    return f"{'exact' if verdict.ratio is None else 'bound'}, {products_in_words(case)}"
