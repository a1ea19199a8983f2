"""Data recipes: exact where stated, the same on every machine, and unlikely to miss an error."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toeplitz_core import ConvGeometry, conv2d
from toeplitz_core.bound import Arithmetic, format_of
from toeplitz_core.products import forward
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES, DTYPES
from toeplitz_core.testing.case.layouts import LAYOUTS, apply_layout
from toeplitz_core.testing.case.recipe_table import RECIPES
from toeplitz_core.testing.data import recipes
from toeplitz_core.testing.data.operands import Bits, Operands
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.oracle.expected import Expected
from toeplitz_core.testing.oracle.results import expected
from toeplitz_core.testing.strategies.cases import cases
from toeplitz_core.testing.strategies.geometries import geometries
from toeplitz_core.testing.subjects import TorchSubject

EXACT = tuple(name for name, recipe in RECIPES.items() if recipe.is_drawn and recipe.kind in ("storage", "accumulator"))
REAL = tuple(name for name, recipe in RECIPES.items() if recipe.kind == "real")
# Recipes whose sums cannot overflow.
TAME = tuple(name for name in REAL if name != "overflow")
FLOATING = tuple(name for name in CASE_DTYPES if name != "int64")
SMALL = geometries(max_products=2**12)


def tensors(operands: Operands) -> list[torch.Tensor]:
    """Input, weight and, if there is one, the bias."""
    return [t for t in (operands.input, operands.weight, operands.bias) if t is not None]


def same(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors have the same numbers; NaN equals NaN."""
    return first.shape == second.shape and bool(((first == second) | (first.isnan() & second.isnan())).all())


def limit_of(case: Case) -> int:
    """The largest sum of magnitudes that a recipe allows."""
    if case.dtype == "int64":
        return 2**53 - 1 if RECIPES[case.data].kind == "storage" else 2**62 - 1
    if RECIPES[case.data].kind == "storage":
        return 2 ** format_of(case.torch_dtype).precision - 1
    accumulator = Arithmetic.of_dtype(case.torch_dtype).accumulator
    return min(2**accumulator.precision - 1, int(torch.finfo(case.torch_dtype).max))


def magnitudes(case: Case, operands: Operands) -> torch.Tensor:
    """``S`` in int64; for complex data, a bound on Gauss's sums."""

    def size(values: torch.Tensor) -> torch.Tensor:
        return (values.real.abs() + values.imag.abs() if values.is_complex() else values.abs()).long()

    g = case.geometry
    s = forward(g, size(operands.weight), size(operands.input).reshape(-1, g.in_channels, g.pixels))
    if operands.bias is not None:
        s = s + size(operands.bias)[:, None]
    return 2 * s if operands.input.is_complex() else s


def test_recipes_are_those_that_cases_may_name() -> None:
    """The recipes that draw data are those that a case may name, in the same order."""
    assert tuple(recipes._DRAWS) == tuple(RECIPES)


@pytest.mark.parametrize("dtype", CASE_DTYPES)
@pytest.mark.parametrize("data", EXACT)
@settings(max_examples=25)
@given(drawn=st.data())
def test_exact_recipes_stay_within_what_their_format_holds(data: str, dtype: str, drawn: st.DataObject) -> None:
    """All values are whole numbers, no weight is zero, and every sum of magnitudes is within the exact range."""
    case = drawn.draw(cases(geometry=SMALL, dtypes=(dtype,), recipes=(data,)))
    operands = draw(case)
    for values in tensors(operands):
        assert values.dtype == case.torch_dtype
        parts = torch.view_as_real(values) if values.is_complex() else values
        assert torch.equal(parts.double(), parts.double().round())
    weight = torch.view_as_real(operands.weight) if operands.weight.is_complex() else operands.weight
    assert (weight != 0).all()
    largest = magnitudes(case, operands)
    assert not largest.numel() or int(largest.max()) <= limit_of(case)
    assert 0 <= operands.miss_probability <= 1


@pytest.mark.parametrize("data", RECIPES)
@settings(max_examples=25)
@given(drawn=st.data())
def test_data_is_the_same_every_time(data: str, drawn: st.DataObject) -> None:
    """The same case has the same numbers each time it is drawn."""
    case = drawn.draw(cases(geometry=SMALL, dtypes=FLOATING, recipes=(data,)))
    for first, second in zip(tensors(draw(case)), tensors(draw(case)), strict=True):
        assert same(first, second)


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("data", TAME)
@settings(max_examples=25)
@given(drawn=st.data())
def test_real_recipes_never_overflow(data: str, dtype: str, drawn: st.DataObject) -> None:
    """Operands are finite, and no sum of magnitudes reaches half of the largest number."""
    case = drawn.draw(cases(geometry=SMALL, dtypes=(dtype,), recipes=(data,)))
    operands = draw(case)
    assert all(torch.isfinite(values).all() for values in tensors(operands))
    magnitude = expected(case.geometry, operands.input, operands.weight, operands.bias).magnitude
    assert (magnitude < torch.finfo(case.torch_dtype).max / 2).all()


def test_sums_that_would_overflow_are_scaled_down() -> None:
    """If float16 could not hold the sums of wide numbers, the input is scaled down by a power of two."""
    case = Case((1, 512, 4, 4), (2, 512, 3, 3), dtype="float16", data="wide", seed=3)
    operands = draw(case)
    magnitude = expected(case.geometry, operands.input, operands.weight, None).magnitude
    assert 2**12 < float(magnitude.max()) < 2**15


@pytest.mark.parametrize("data", RECIPES)
@settings(max_examples=40)
@given(drawn=st.data())
def test_layouts_hold_the_values_that_were_drawn(data: str, drawn: st.DataObject) -> None:
    """Applying the case's layouts does not change the drawn values: an expanded operand already repeats its slice."""
    legal = drawn.draw(st.sampled_from((tuple(LAYOUTS), ("expanded",))))
    case = drawn.draw(cases(geometry=SMALL, dtypes=("bfloat16", "float32"), recipes=(data,), legal_layouts=legal))
    operands = draw(case)
    for name in ("input", "weight", "bias"):
        if (named := case.layout(name)) is not None:
            values = getattr(operands, name)
            assert same(apply_layout(values, named), values)


def test_a_thinned_expanded_input_repeats_its_slice() -> None:
    """Thinning keeps the same pixels in every image of an expanded batch."""
    case = Case((4, 64, 6, 6), (8, 64, 3, 3), dtype="bfloat16", layouts=(("input", "expanded"),))
    x = draw(case).input
    assert (x == 0).float().mean() > 0.5
    assert torch.equal(x, x[:1].expand(x.shape))


def test_streams_of_operands_are_independent() -> None:
    """Operands of equal shape, neighbouring seeds and the two parts of complex numbers have independent numbers."""
    case = Case((2, 3, 4, 4), (2, 3, 4, 4), dtype="complex64", data="normal")
    drawn, beside = draw(case), draw(case.replace(seed=1))
    parts = [t.flatten() for o in (drawn, beside) for v in (o.input, o.weight) for t in (v.real, v.imag)]
    for i, a in enumerate(parts):
        for b in parts[:i]:
            assert (a == b).float().mean() < 0.05
            assert abs(float(torch.corrcoef(torch.stack((a, b)))[0, 1])) < 0.35


# Input, weight and bias of one case, which must stay the same on all machines and in all releases.
CASE = Case((1, 2, 1, 2), (2, 2, 1, 2), bias=True, seed=7)
GOLDEN: dict[str, tuple[list[float], list[float], list[float]]] = {
    "integers": ([137.0, 3037.0, 3023.0, -824.0], [547.0, -631.0, -981.0, 520.0], [-2701390.0, 3077082.0]),
    "accumulator": ([137.0, 3037.0, 3023.0, -824.0], [547.0, -631.0, -981.0, 520.0], [-2701390.0, 3077082.0]),
    "probe": ([6219.0, 7841.0, 7833.0, 5683.0], [381.0, 393.0, 451.0, 375.0], [2470379.0, 3914999.0]),
    "probe-weight": ([445.0, 561.0, 561.0, 405.0], [5317.0, 5505.0, 6289.0, 5257.0], [2470379.0, 3914999.0]),
    "normal": (
        [0.9453507661819458, 0.49764683842658997, 0.44947174191474915, -1.1607073545455933],
        [1.5269111394882202, 0.8962015509605408, -0.09857561439275742, -1.8466142416000366],
        [0.1896742880344391, 0.37868866324424744],
    ),
    "wide": (
        [1982544.25, 130455.1328125, 29456.580078125, -9508.5146484375],
        [100067.6484375, 14683.3662109375, -100.9414291381836, -1890.9329833984375],
        [24.278308868408203, 2.3113321731216274e-05],
    ),
    "constant": (
        [1.5187143087387085, 1.5187143087387085, 1.5187143087387085, 1.5187143087387085],
        [1.298378348350525, 1.298378348350525, 1.298378348350525, 1.298378348350525],
        [1.177969217300415, 1.177969217300415],
    ),
    "alternating": (
        [1.0036927461624146, -1.0019439458847046, 1.001755714416504, -0.9954659938812256],
        [1.0059645175933838, -1.0035008192062378, 0.999614953994751, -0.9927866458892822],
        [1.000740885734558, -1.0014792680740356],
    ),
}


# Recipes that were added later.
GOLDEN |= {
    "impulse": (
        [0.0, 1.0, 0.0, 1.0],
        [834327.0, -962726.0, -1497956.0, 793402.0],
        [497638.0, -2423795.0],
    ),
    "overflow": (
        [8.719321821821796e18, 4.5899819337729966e18, 4.145645095732904e18, -1.0705635756887507e19],
        [1.4083269506717712e19, 8.266000324515332e18, -9.091995653059379e17, -1.7032010158831567e19],
        [4.033925979775173e36, 8.053817165929919e36],
    ),
    "subnormal": (
        [1.8907015323638916, 0.9952936768531799, 0.8989434838294983, -2.3214147090911865],
        [2.2435937478581068e-39, 6.5842530683537315e-40, -1.8106177457540961e-41, -3.391688790067144e-40],
        [8.709069955778738e-42, 8.407790785948902e-45],
    ),
    "nonfinite": (
        [137.0, 3037.0, 3023.0, -824.0],
        [547.0, -631.0, -981.0, 520.0],
        [-2701390.0, 3077082.0],
    ),
    "one-hot": (
        [0.0, 0.0, 0.0, 1.0],
        [0.0, 0.0, 0.0, 0.0],
        [0.0, 1.0],
    ),
}


@pytest.mark.parametrize("dtype", CASE_DTYPES)
@settings(max_examples=25)
@given(drawn=st.data())
def test_each_channel_has_one_impulse(dtype: str, drawn: st.DataObject) -> None:
    """Each channel of an image is zero except for one pixel, which is 1; none is 1 in some of very many channels."""
    case = drawn.draw(cases(geometry=SMALL, dtypes=(dtype,), recipes=("impulse",)))
    x = draw(case).input
    pixels = x.reshape(-1, case.geometry.pixels) if x.numel() else x.reshape(0, 1)
    assert ((pixels == 0) | (pixels == 1)).all()
    few = 4 * case.geometry.group_channels * (2 if case.torch_dtype.is_complex else 1) < limit_of(case)
    assert ((pixels == 1).sum(1) == 1).all() or (not few and ((pixels == 1).sum(1) <= 1).all())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("batch", [1, 3])
def test_impulses_miss_a_wrong_tap_no_more_often_than_stated(stride: int, batch: int) -> None:
    """Over 300 seeds, a dropped tap goes unnoticed at most as often as the miss probability states."""
    case = Case((batch, 1, 5, 5), (1, 1, 3, 3), stride=stride, padding=1, data="impulse")
    missed, stated, draws = 0, 0.0, 300
    for seed in range(draws):
        operands = draw(case.replace(seed=seed))
        weight = torch.zeros(1, 1, 3, 3)
        weight[0, 0, 0, 0] = operands.weight[0, 0, 0, 0]
        missed += not forward(case.geometry, weight, operands.input.flatten(2)).any()
        stated += operands.miss_probability
    assert missed <= stated + 4 * (draws * (stated / draws) * (1 - stated / draws)) ** 0.5 + 1
    assert missed >= stated / 2


@pytest.mark.parametrize("dtype", FLOATING)
def test_overflow_happens_in_some_sums(dtype: str) -> None:
    """Operands are finite; over the seeds, some of the largest sums of magnitudes overflow and others come close."""
    largest = []
    for seed in range(40):
        case = Case((1, 2, 4, 4), (3, 2, 2, 3), bias=True, dtype=dtype, data="overflow", seed=seed)
        operands = draw(case)
        assert all(torch.isfinite(values).all() for values in tensors(operands))
        reference = expected(case.geometry, operands.input, operands.weight, operands.bias)
        threshold = format_of(case.torch_dtype).overflow_threshold_in(max(reference.exponent, 1))
        largest.append(float(reference.magnitude.max()) / threshold / (1 if reference.exponent else 2))
    assert any(v > 1 for v in largest)
    assert any(0.02 < v < 1 for v in largest)
    assert all(0.02 < v < 64 for v in largest)


@pytest.mark.parametrize("dtype", FLOATING)
def test_underflow_happens_in_some_products(dtype: str) -> None:
    """Depending on the seed, the input, the weight or only their products are mostly subnormal."""
    limit, seen = format_of(DTYPES[dtype].torch).smallest_normal, set()
    for seed in range(40):
        o = draw(Case((1, 2, 4, 4), (3, 2, 2, 3), dtype=dtype, data="subnormal", seed=seed))
        x, weight = (torch.view_as_real(t) if t.is_complex() else t for t in (o.input, o.weight))
        small = [float((t.abs() < limit).float().mean()) > 0.6 for t in (x, weight)]
        seen.add("input" if small[0] else "weight" if small[1] else "products")
        assert float(x.double().abs().min()) * float(weight.double().abs().min()) < limit
        assert x.any()
        assert weight.any()
    assert seen == {"input", "weight", "products"}


@pytest.mark.parametrize("dtype", FLOATING)
def test_what_is_not_finite_is_sprinkled(dtype: str) -> None:
    """NaN and both infinities occur in every operand, zeros in input and weight; 30 to 95 % of results are finite."""
    found: dict[str, set[str]] = {"input": set(), "weight": set(), "bias": set()}
    finite = total = input_zeros = weight_zeros = 0
    for seed in range(150):
        case = Case((1, 2, 6, 6), (3, 2, 2, 2), bias=True, dtype=dtype, data="nonfinite", seed=seed)
        operands = draw(case)
        for name, kinds in found.items():
            values = getattr(operands, name)
            parts = torch.view_as_real(values) if values.is_complex() else values
            kinds |= {str(float(v)) for v in parts[~parts.isfinite()]}
            assert torch.equal(parts.nan_to_num(0, 0, 0), parts.nan_to_num(0, 0, 0).round())
        input_zeros += int((operands.input == 0).sum())
        weight_zeros += int((operands.weight == 0).sum())
        result = torch.nn.functional.conv2d(operands.input.to(torch.complex128), operands.weight.to(torch.complex128))
        finite, total = finite + int(result.isfinite().sum()), total + result.numel()
    # One weight in eight is set to zero; the exact integers have no zero weights.
    assert 0.1 < weight_zeros / (150 * operands.weight.numel()) < 0.15
    assert input_zeros / (150 * operands.input.numel()) > 0.1
    if not DTYPES[dtype].torch.is_complex:
        assert all(kinds == {"nan", "inf", "-inf"} for kinds in found.values())
        assert 0.3 < finite / total < 0.95


@pytest.mark.parametrize("data", RECIPES)
def test_data_is_what_it_has_always_been(data: str) -> None:
    """A seed means the same numbers on every machine and in every release."""
    operands = draw(CASE.replace(data=data))
    assert operands.bias is not None
    found = operands.input.flatten().tolist(), operands.weight.flatten().tolist()[:4], operands.bias.tolist()
    assert found == GOLDEN[data]


@pytest.mark.parametrize(("data", "operand"), [("probe", "input"), ("probe-weight", "weight")])
@pytest.mark.parametrize(("dtype", "kept"), [("float32", 11), ("float32", 8), ("float64", 24)])
@settings(max_examples=20)
@given(g=geometries(max_products=2**10), seed=st.integers(0, 2**16))
def test_the_probe_sees_a_rounded_operand(
    data: str, operand: str, dtype: str, kept: int, g: ConvGeometry, seed: int
) -> None:
    """Rounding the probed operand to TF32 or bfloat16 (float64: to float32) changes every result with one product.

    In a longer sum the changes may cancel, but most sums of a layer still change.
    """
    case = Case.of(g, dtype=dtype, data=data, seed=seed)
    changed, exact = rounded_result(case, operand, kept)
    assert changed[(exact.products == 1) & (exact.magnitude > 0)].all()
    layer = Case((1, 8, 8, 8), (8, 8, 3, 3), dtype=dtype, data=data, seed=seed)
    assert rounded_result(layer, operand, kept)[0].float().mean() > 0.8


def rounded_result(case: Case, operand: str, kept: int) -> tuple[torch.Tensor, Expected]:
    """Which results change when an operand is rounded to ``kept`` bits, and the exact results."""
    g, operands = case.geometry, draw(case)
    values = getattr(operands, operand).double()
    mantissa, exponent = np.frexp(values.numpy())
    rounded = torch.from_numpy(np.ldexp(np.rint(mantissa * 2.0**kept), exponent - kept)).to(case.torch_dtype)
    exact = expected(g, operands.input, operands.weight, None)
    changed = replace(operands, **{operand: rounded})
    result = expected(g, changed.input, changed.weight, None)
    return result.value != exact.value, exact


@pytest.mark.parametrize(
    "line",
    [
        "input=1x1x3x3 weight=1x1x3x3",
        "input=1x1x1x1 weight=1x1x1x1 dtype=bfloat16",
        "input=1x2x3x3 weight=1x2x3x3 dtype=bfloat16",
        "input=1x16x3x3 weight=1x16x3x3 dtype=bfloat16",
        "input=1x64x3x3 weight=1x64x3x3 dtype=bfloat16",
        "input=1x64x3x3 weight=1x64x3x3 dtype=float16",
        "input=1x1x2x1 weight=1x1x2x1 dtype=complex64",
        "input=1x4x3x3 weight=1x4x3x3 data=accumulator",
        "input=1x64x3x3 weight=1x64x3x3 data=probe",
    ],
)
def test_a_dropped_tap_is_missed_no_more_often_than_stated(line: str) -> None:
    """Over 400 seeds, a dropped tap goes unnoticed at most as often as the miss probability states."""
    case, draws = Case.parse(line), 400
    missed, stated = 0, 0.0
    for seed in range(draws):
        operands = draw(case.replace(seed=seed))
        # The tap at the last pixel of the only window is missed if its product is zero.
        missed += bool(operands.input.flatten()[-1] * operands.weight.flatten()[-1] == 0)
        stated += operands.miss_probability
    # Four standard deviations, plus one for probabilities near zero.
    assert missed <= stated + 4 * (draws * (stated / draws) * (1 - stated / draws)) ** 0.5 + 1


def test_numbers_are_uniform_in_their_range() -> None:
    """Whole numbers in the range, ends included, are equally frequent; normal numbers have mean 0 and variance 1."""
    bits = Bits(Case((1, 1, 1), (1, 1, 1, 1)), "input")
    counts = np.bincount(bits.integers(70_000, -3, 3) + 3)
    assert counts.shape == (7,)
    assert np.abs(counts - 10_000).max() < 500
    normal = bits.normal(100_000)
    assert abs(normal.mean()) < 0.02
    assert abs(normal.std() - 1.01) < 0.02
    assert set(bits.signs(100)) == {-1, 1}


def test_impulses_show_one_wrong_tap_and_not_every_linear_fault():
    """A fault that adds one channel and subtracts another passes on impulses and fails on signed integers."""

    def adds_a_difference(x: torch.Tensor, weight: torch.Tensor, *rest: Any) -> torch.Tensor:
        difference = x[:, 0].sum((1, 2)) - x[:, 1].sum((1, 2))
        return conv2d(x, weight, *rest) + difference[:, None, None, None]

    subject = TorchSubject("planted", adds_a_difference)
    case = Case.parse("input=1x2x1x1 weight=1x2x1x1")
    law = LAWS["forward-exact"]
    passed, failed = (law(subject, case.replace(data=data)) for data in ("impulse", "integers"))
    assert (passed.status, failed.status) == (Status.PASS, Status.FAIL)
    assert passed.miss_probability == 0  # with one pixel, an impulse meets every tap
