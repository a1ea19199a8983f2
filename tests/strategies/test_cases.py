"""Generated geometries and cases are valid and bounded, visit the conditions of real bugs, and shrink completely."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable

import pytest
import torch
from hypothesis import HealthCheck, Phase, find, given, seed, settings
from hypothesis import strategies as st

from toeplitz_core import ConvGeometry
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.layouts import LAYOUTS, OF_GRADIENTS
from toeplitz_core.testing.search.seeding import no_constants_of_modules
from toeplitz_core.testing.strategies.cases import cases, quick_cases
from toeplitz_core.testing.strategies.geometries import BOUNDARIES, MAX_PRODUCTS, geometries

# With this sample, the standard deviation of a share of 5 % is a tenth of the share.
SAMPLE = 2000


def drawn(strategy: st.SearchStrategy, count: int) -> list:
    """The examples of a deterministic run."""
    values = []

    # Only the health check of duration is suppressed: a strategy that filters out many of its draws fails here.
    @seed(0)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(strategy)
    def collect(value: object) -> None:
        values.append(value)

    with no_constants_of_modules():  # they would change the sample with every module that is changed or imported
        collect()
    return values


# What Hypothesis can shrink, and what a search draws.
QUICK = pytest.mark.parametrize("quick", [False, True])


@functools.cache
def sampled_geometries(quick: bool = False) -> list[ConvGeometry]:
    """A sample of geometries, the same in every test."""
    return [case.geometry for case in sampled_cases(quick=True)] if quick else drawn(geometries(), SAMPLE)


@functools.cache
def sampled_cases(quick: bool = False) -> list[Case]:
    """A sample of cases, the same in every test; with ``quick``, of those that a search draws."""
    return drawn(quick_cases() if quick else cases(), SAMPLE)


@functools.cache
def sampled_gradients(quick: bool = False) -> list[Case]:
    """A sample of cases of laws that read a gradient of the result, the same in every test."""
    return drawn(quick_cases(gradient=True) if quick else cases(gradient=True), SAMPLE)


def share(holds: Iterable[bool]) -> float:
    """The share of a sample for which a condition is true."""
    values = list(holds)
    return sum(values) / len(values)


@functools.cache
def live(g: ConvGeometry, axis: int) -> tuple[tuple[int, int], ...]:
    """For each output of an axis, the first tap that reads a pixel, and the number of such taps."""
    first, count = g.live_taps(axis, torch.arange(g.output_size[axis]))
    return tuple(zip(first.tolist(), count.tolist(), strict=True))


def has_output_in_padding(g: ConvGeometry) -> bool:
    """Whether some outputs of an axis read only padding."""
    return any(count == 0 for axis in range(g.rank) for _, count in live(g, axis))


def has_dead_tap(g: ConvGeometry) -> bool:
    """Whether some tap of an axis never reads a pixel."""
    return any(
        not any(first <= tap < first + count for first, count in live(g, axis))
        for axis in range(g.rank)
        for tap in range(g.kernel_size[axis])
    )


def is_depthwise(g: ConvGeometry) -> bool:
    """Whether each of several input channels is a group."""
    return g.groups == g.in_channels > 1


def per_axis(relation: Callable[..., bool], *names: str) -> Callable[[ConvGeometry], bool]:
    """A condition: a relation between named parameters is true on some axis."""
    return lambda g: any(relation(*values) for values in zip(*(getattr(g, name) for name in names), strict=True))


def differ(name: str) -> Callable[[ConvGeometry], bool]:
    """A condition: a parameter differs between height and width."""
    return lambda g: not isinstance(getattr(g, name), str) and len(set(getattr(g, name))) > 1


def before(g: ConvGeometry) -> list[int]:
    """Padding before each axis."""
    return [pads[0] for pads in g.pads]


# Each region in which real convolutions had faults, and the least share of geometries in it. The limits are about four
# fifths of the actual shares: a test should fail if a region is lost, not if a weight is tuned.
REGIONS: dict[str, tuple[float, Callable[[ConvGeometry], bool]]] = {
    "1x1 kernel": (0.14, lambda g: g.kernel_size == (1, 1)),
    "1x1 kernel with stride": (0.09, lambda g: g.kernel_size == (1, 1) and max(g.stride) > 1),
    "1xk kernel": (0.20, lambda g: 1 in g.kernel_size and g.kernel_size != (1, 1)),
    "3x3 kernel at stride 1": (0.02, lambda g: g.kernel_size == (3, 3) and g.stride == (1, 1)),
    "stride > 1": (0.60, per_axis(lambda s: s > 1, "stride")),
    "stride 1 on every axis": (0.20, lambda g: max(g.stride) == 1),
    "stride beyond the kernel": (0.30, per_axis(lambda s, e: s > e, "stride", "kernel_extent")),
    "stride beyond a kernel of several taps": (
        0.10,
        per_axis(lambda s, e: s > e > 1, "stride", "kernel_extent"),
    ),
    "pixels that no window reads": (
        0.30,
        per_axis(lambda n, e, s: (n - e) % s > 0, "padded_size", "kernel_extent", "stride"),
    ),
    "padding >= kernel": (0.25, lambda g: any(p >= k for p, k in zip(before(g), g.kernel_size, strict=True))),
    "output column wholly in padding": (0.20, has_output_in_padding),
    "every window wholly in padding": (0.02, lambda g: g.nnz == 0),
    "tap that never meets the input": (0.15, has_dead_tap),
    "kernel larger than the input": (0.20, per_axis(lambda k, n: k > n, "kernel_size", "input_size")),
    "same": (0.12, lambda g: g.padding == "same"),
    "same with an even kernel": (0.04, lambda g: g.padding == "same" and any(k % 2 == 0 for k in g.kernel_size)),
    "same with unequal sides": (0.04, lambda g: any(a != b for a, b in g.pads)),
    "same with dilation": (0.035, lambda g: g.padding == "same" and max(g.dilation) > 1),
    "valid": (0.03, lambda g: g.padding == "valid"),
    "dilation > 1": (0.25, lambda g: max(g.dilation) > 1),
    "groups": (0.25, lambda g: g.groups > 1),
    "groups of few channels": (0.035, lambda g: g.groups > 1 and 1 < g.group_channels < 8),
    "depthwise": (0.14, is_depthwise),
    "depthwise with multiplier": (0.05, lambda g: is_depthwise(g) and g.out_channels > g.groups),
    "one input channel": (0.15, lambda g: g.in_channels == 1),
    "one output channel": (0.15, lambda g: g.out_channels == 1),
    "one channel per group": (0.33, lambda g: g.group_channels == 1),
    "few channels per group": (0.15, lambda g: g.group_channels in (2, 3, 4, 6, 7)),
    "8 channels per group": (0.05, lambda g: g.group_channels == 8),
    "channels per group beside 8 and 16": (0.10, lambda g: g.group_channels in (9, 15, 16, 17)),
    "channels beside 8, 16 and 32": (0.40, lambda g: g.in_channels in BOUNDARIES or g.out_channels in BOUNDARIES),
    "input and output channels per group differ": (
        0.55,
        lambda g: g.group_channels != g.out_channels // g.groups,
    ),
    "several input and output channels per group": (
        0.25,
        lambda g: min(g.group_channels, g.out_channels // g.groups) > 1,
    ),
    "output channels by 16, few input channels": (
        0.02,
        lambda g: g.out_channels % 16 == 0 and 1 < g.group_channels < 16,
    ),
    "output beside a tile": (0.40, per_axis(lambda n: n in BOUNDARIES, "output_size")),
    "input beside a tile": (0.25, per_axis(lambda n: n in BOUNDARIES, "input_size")),
    "1x1 output": (0.02, lambda g: g.output_size == (1, 1)),
    "tiny output": (0.12, lambda g: max(g.output_size) <= 3),
    "1x1 input": (0.02, lambda g: g.input_size == (1, 1)),
    "H and W: kernel": (0.40, differ("kernel_size")),
    "H and W: stride": (0.45, differ("stride")),
    "H and W: padding": (0.40, differ("padding")),
    "H and W: dilation": (0.20, differ("dilation")),
    "H and W: input": (0.75, differ("input_size")),
    "H and W: kernel, stride, padding and input": (
        0.15,
        lambda g: all(differ(name)(g) for name in ("kernel_size", "stride", "padding", "input_size")),
    ),
    "stride and groups": (0.17, lambda g: max(g.stride) > 1 and g.groups > 1),
    "stride, groups and dilation": (0.05, lambda g: max(g.stride) > 1 and g.groups > 1 and max(g.dilation) > 1),
    "stride, padding and dilation": (
        0.12,
        lambda g: max(g.stride) > 1 and max(before(g)) > 0 and max(g.dilation) > 1,
    ),
}


@QUICK
@pytest.mark.parametrize("name", REGIONS)
def test_geometries_visit(name: str, quick: bool):
    """Geometries visit each region in which real convolutions had faults at least as often as stated."""
    least, inside = REGIONS[name]
    assert share(map(inside, sampled_geometries(quick))) >= least


@QUICK
def test_strides_and_paddings_of_an_axis(quick: bool):
    """Per axis, the shares of stride 1 and of strides 2 and 3 are between 0.35 and 0.6; every padding is common."""
    axes = [axis for g in sampled_geometries(quick) for axis in zip(g.stride, before(g), g.kernel_extent, strict=True)]
    assert 0.35 <= share(stride == 1 for stride, _, _ in axes) <= 0.6
    assert 0.35 <= share(stride in (2, 3) for stride, _, _ in axes) <= 0.6
    assert share(stride > max(3, extent) for stride, _, extent in axes) >= 0.06
    spanning = [(padding, extent) for _, padding, extent in axes if extent > 2]
    assert 0.2 <= share(padding == 0 for padding, _ in spanning) <= 0.5
    assert share(padding == extent // 2 for padding, extent in spanning) >= 0.2
    assert share(padding == extent - 1 for padding, extent in spanning) >= 0.08
    assert share(padding >= extent for padding, extent in spanning) >= 0.1


@QUICK
def test_draws_are_not_repeated(quick: bool):
    """Few geometries are drawn twice, so that no effort is wasted."""
    assert len(set(sampled_geometries(quick))) >= 0.95 * SAMPLE


@QUICK
def test_height_and_width_are_independent(quick: bool):
    """Height and width have the same stride as often as two independent draws."""
    pairs = [g.stride for g in sampled_geometries(quick) if not isinstance(g.padding, str)]
    shares = [Counter(stride[axis] for stride in pairs) for axis in (0, 1)]
    expected = sum(shares[0][value] * shares[1][value] for value in shares[0]) / len(pairs) ** 2
    # Three standard deviations of a share of one third in a sample of 1500.
    assert abs(share(h == w for h, w in pairs) - expected) < 0.04


BATCHES: dict[str, tuple[float, Callable[[int | None], bool]]] = {
    "none: unbatched": (0.07, lambda batch: batch is None),
    "zero": (0.03, lambda batch: batch == 0),
    "one": (0.35, lambda batch: batch == 1),
    "two or three": (0.18, lambda batch: batch in (2, 3)),
    "15 and more": (0.08, lambda batch: (batch or 0) >= 15),
    "beside 16": (0.06, lambda batch: batch in (15, 16, 17)),
}


@QUICK
@pytest.mark.parametrize("name", BATCHES)
def test_cases_visit_batch(name: str, quick: bool):
    """Each kind of batch is drawn at least as often as stated."""
    least, inside = BATCHES[name]
    assert share(inside(case.batch) for case in sampled_cases(quick)) >= least


@QUICK
@pytest.mark.parametrize(
    ("operand", "layout"),
    [(o, name) for o in ("input", "weight", "bias") for name in LAYOUTS if o != "bias" or 1 in LAYOUTS[name][2]],
)
def test_cases_visit_layout(operand: str, layout: str, quick: bool):
    """Each operand has each of its layouts in at least 2 % of the cases."""
    assert share(case.layout(operand) == layout for case in sampled_cases(quick)) >= 0.02


@QUICK
@pytest.mark.parametrize("layout", [name for name, (_, _, axes) in (LAYOUTS | OF_GRADIENTS).items() if 4 in axes])
def test_gradients_visit_layout(layout: str, quick: bool):
    """The gradient of the result has each layout, in some cases as the only layout that the case names."""
    sample = sampled_gradients(quick)
    assert share(case.layout("grad") == layout for case in sample) >= 0.02
    assert any(case.layouts == (("grad", layout),) for case in sample)


@QUICK
def test_gradients_have_layouts_where_they_are_read(quick: bool):
    """Only cases for laws that read a gradient name its layout; some have no batch axis, and some repeat an image."""
    assert not any(case.layout("grad") for case in sampled_cases(quick))
    named = [case for case in sampled_gradients(quick) if case.layout("grad")]
    assert {None, 0, 1, 2} <= {case.batch for case in named}
    assert any(case.layout("grad") == "expanded" and (case.batch or 0) > 1 for case in named)


@QUICK
def test_cases_visit_conjunctions(quick: bool):
    """Conditions of real bugs occur three at a time, and 20 to 45 % of the cases name no layout."""
    sample = sampled_cases(quick)
    assert share(len(case.layouts) == 3 for case in sample) >= 0.02
    assert share(len({layout for _, layout in case.layouts}) > 1 for case in sample) >= 0.15
    assert 0.2 <= share(not case.layouts for case in sample) <= 0.45
    assert 0.4 <= share(case.bias for case in sample) <= 0.6
    conjunctions = {
        "layout, stride, groups": lambda c: c.layouts and max(c.geometry.stride) > 1 and c.geometry.groups > 1,
        "layout, tiny output, few channels": lambda c: (
            c.layouts and max(c.geometry.output_size) <= 3 and c.geometry.group_channels < 8
        ),
        "batch, dilation, bias": lambda c: (c.batch or 0) > 1 and max(c.geometry.dilation) > 1 and c.bias,
        "layout, output in padding, bias": lambda c: c.layouts and has_output_in_padding(c.geometry) and c.bias,
    }
    for name, inside in conjunctions.items():
        assert share(bool(inside(case)) for case in sample) >= 0.04, name


def test_nothing_is_filtered_out():
    """No draw is rejected, for geometries of any rank and for cases."""
    for strategy in (*(geometries(rank=rank) for rank in (1, 2, 3)), cases(), quick_cases()):
        begun: list[None] = []
        completed = drawn(st.tuples(st.builds(begun.append, st.none()), strategy), 300)
        assert len(completed) == len(begun) == 300


@given(st.data(), st.integers(1, 3), st.sampled_from([1, 2, 10, 100, 1000, MAX_PRODUCTS]))
def test_geometries_are_bounded(data: st.DataObject, rank: int, max_products: int):
    """An image has at most ``max_products`` products, and at most ``4 * max_products + 128**rank`` pixels."""
    g = data.draw(geometries(rank=rank, max_products=max_products))
    assert g.nnz <= max_products
    assert g.rank == rank
    # A kernel spans at most 16 * 7 + 1 pixels and leaves at most 5 pixels unread.
    assert g.in_channels * g.pixels <= 4 * max_products + 128**rank
    assert g.out_channels * g.positions <= 4 * max_products + 128**rank


@QUICK
def test_cases_are_bounded(quick: bool):
    """A batch has at most twice the products that one image may have, and at most four times as many pixels."""
    for case in sampled_cases(quick):
        g = case.geometry
        assert (case.batch or 1) * g.nnz <= 2 * MAX_PRODUCTS
        assert (case.batch or 1) * max(g.in_channels * g.pixels, g.out_channels * g.positions) <= 4 * MAX_PRODUCTS


@given(st.data())
def test_arguments_are_heeded(data: st.DataObject):
    """Only the requested dtypes, recipes, layouts, device and geometries are drawn, some without named padding."""
    geometry = geometries(strings=False, max_products=100)
    asked = {"dtypes": ("float64", "int64"), "recipes": ("probe",), "legal_layouts": ("offset",), "device": "cuda"}
    limited = data.draw(quick_cases(max_products=100, **asked))
    case = data.draw(st.sampled_from((data.draw(cases(geometry=geometry, **asked)), limited)))
    assert case.dtype in asked["dtypes"]
    assert case.data == "probe"
    assert {layout for _, layout in case.layouts} <= {"offset"}
    of_gradient = data.draw(cases(geometry=geometry, gradient=True, **asked))
    assert of_gradient.layout("grad") in (None, "offset")
    assert case.device == "cuda"
    assert case.geometry.nnz <= 100
    assert case is limited or not isinstance(case.padding, str)


# What is looked for, and the smallest case of it.
SHRUNK: dict[str, tuple[Callable[[Case], bool], set[str]]] = {
    "anything": (lambda _: True, {"input=1x1x1x1 weight=1x1x1x1"}),
    "stride beyond the kernel": (
        lambda c: any(s > e for s, e in zip(c.geometry.stride, c.geometry.kernel_extent, strict=True)),
        {"input=1x1x1x1 weight=1x1x1x1 stride=2x1", "input=1x1x1x1 weight=1x1x1x1 stride=1x2"},
    ),
    "window wholly in padding": (
        lambda c: has_output_in_padding(c.geometry),
        {"input=1x1x1x1 weight=1x1x1x1 padding=1x0", "input=1x1x1x1 weight=1x1x1x1 padding=0x1"},
    ),
    "groups": (lambda c: c.groups > 1, {"input=1x2x1x1 weight=2x1x1x1 groups=2"}),
    "depthwise with multiplier": (
        lambda c: is_depthwise(c.geometry) and c.geometry.out_channels > c.groups,
        {"input=1x2x1x1 weight=4x1x1x1 groups=2"},
    ),
    "kernel larger than the input": (
        lambda c: c.geometry.kernel_size[0] > c.geometry.input_size[0],
        {"input=1x1x1x1 weight=1x1x3x1 padding=1x0"},
    ),
    "even kernel and same": (
        lambda c: c.padding == "same" and c.weight[2] % 2 == 0,
        {"input=1x1x1x1 weight=1x1x2x1 padding=same"},
    ),
    "zero batch": (lambda c: c.batch == 0, {"input=0x1x1x1 weight=1x1x1x1"}),
    "large batch": (lambda c: (c.batch or 0) >= 15, {"input=15x1x1x1 weight=1x1x1x1"}),
    "unbatched": (lambda c: c.batch is None, {"input=1x1x1 weight=1x1x1x1"}),
    "bias": (lambda c: c.bias, {"input=1x1x1x1 weight=1x1x1x1 bias"}),
    "three conditions": (
        lambda c: c.layout("weight") and max(c.stride) > 1 and c.groups > 1,
        {
            f"input=1x2x1x1 weight=2x1x1x1 stride={stride} groups=2 layout.weight=contiguous"
            for stride in ("2x1", "1x2")
        },
    ),
}


def smallest(condition: Callable[[Case], bool], **options: bool) -> str:
    """The smallest case of a condition, independent of the constants in imported modules."""
    hard = settings(max_examples=5000, database=None, derandomize=True, deadline=None)
    with no_constants_of_modules():
        return str(find(cases(**options), condition, settings=hard))


def test_gradients_shrink_to_none_that_is_named():
    """The layout of a gradient is removed if it does not matter, and kept as the only layout if it does."""
    assert smallest(lambda c: c.bias, gradient=True) == "input=1x1x1x1 weight=1x1x1x1 bias"
    found = smallest(lambda c: c.layout("grad") == "expanded" and c.batch == 2, gradient=True)
    assert found == "input=2x1x1x1 weight=1x1x1x1 layout.grad=expanded"


@pytest.mark.parametrize("name", SHRUNK)
def test_shrinks_to(name: str):
    """Each condition shrinks to its smallest case."""
    condition, expected = SHRUNK[name]
    assert smallest(condition) in expected
