"""The bounds of Winograd and of matrix units against simulations."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.accumulators import Rounding
from tests.helpers.convolutions import KINDS, ROUND, Numbers, bounds, data, exactly
from tests.helpers.rationals import rational_array
from toeplitz_core import ConvGeometry
from toeplitz_core.bound import FLOAT32, Algorithm, Arithmetic
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.oracle.algorithms import Fft, MatrixUnits, Winograd, winograd_matrices
from toeplitz_core.testing.oracle.results import expected

Rounded = Callable[[Fraction], Fraction]


def transformed(matrix: Numbers, values: Numbers, rounding: Rounded) -> Numbers:
    """``matrix @ values`` along the first axis, with constants, products and sums rounded."""
    rows = []
    for row in matrix:
        total = None
        for entry, value in zip(row, values, strict=True):
            if entry:
                term = np.vectorize(lambda v, e=entry: rounding(rounding(e) * v), otypes=[object])(value)
                total = term if total is None else np.vectorize(rounding, otypes=[object])(total + term)
        rows.append(total)
    return np.array(rows, dtype=object)


def on_axes(matrix: Numbers, values: Numbers, rank: int, rounding: Rounded) -> Numbers:
    """A transform along each of the last axes."""
    for axis in range(-rank, 0):
        values = np.moveaxis(transformed(matrix, np.moveaxis(values, axis, 0), rounding), 0, axis)
    return values


def by_winograd(
    outputs: int, x: Numbers, weight: Numbers, origin: tuple[int, ...], rounding: Rounded = ROUND
) -> Numbers:
    """A Winograd convolution of one image (channels, *size) and one output channel; tiles begin before the image."""
    rank = x.ndim - 1
    out, kernel, points = (np.array(m, dtype=object) for m in winograd_matrices(outputs))
    size = [n - 2 for n in x.shape[1:]]
    result = np.full(size, Fraction(0), dtype=object)
    u = on_axes(kernel, weight, rank, rounding)
    for begin in product(*(range(-o, n, outputs) for o, n in zip(origin, size, strict=True))):
        tile = np.full((len(x), *[outputs + 2] * rank), Fraction(0), dtype=object)
        for index in np.ndindex(*tile.shape[1:]):
            place = tuple(b + i for b, i in zip(begin, index, strict=True))
            if all(0 <= p < n for p, n in zip(place, x.shape[1:], strict=True)):
                tile[(slice(None), *index)] = x[(slice(None), *place)]
        v = on_axes(points, tile, rank, rounding)
        total = np.full(v.shape[1:], Fraction(0), dtype=object)
        for a, b in zip(u, v, strict=True):
            products = np.vectorize(rounding, otypes=[object])(a * b)
            total = np.vectorize(rounding, otypes=[object])(total + products)
        y = on_axes(out, total, rank, rounding)
        for index in np.ndindex(*y.shape):
            place = tuple(b + i for b, i in zip(begin, index, strict=True))
            if all(0 <= p < n for p, n in zip(place, size, strict=True)):
                result[place] = y[index]
    return result


@pytest.mark.parametrize("outputs", [2, 4, 6])
@pytest.mark.parametrize("rank", [1, 2])
def test_winograd_is_the_convolution(outputs: int, rank: int) -> None:
    """Without rounding, the Winograd matrices give the convolution exactly."""
    shuffle = random.Random(rank)
    x, weight = (rational_array(data(shape, "normal", shuffle)) for shape in ((2, *[9] * rank), (2, *[3] * rank)))
    computed = by_winograd(outputs, x, weight, (1,) * rank, rounding=lambda v: v)
    assert (computed == exactly(x, weight)).all()


@pytest.mark.parametrize(("outputs", "amplification", "path"), [(2, 16, 22), (4, 860.4, 30), (6, 1564.6, 38)])
def test_winograd_amplifies_as_is_known(outputs: int, amplification: float, path: int) -> None:
    """In two dimensions magnitudes grow by 16, 860.4 and 1564.6, and a term meets 22, 30 and 38 roundings."""
    algorithm = Winograd(outputs)
    assert round(algorithm.amplification**2, 1) == amplification
    assert 2 * algorithm.path == path


@pytest.mark.parametrize("outputs", [2, 4, 6])
@pytest.mark.parametrize("rank", [1, 2])
@settings(max_examples=12)
@given(kinds=st.tuples(KINDS, KINDS), seed=st.integers(0, 2**16), channels=st.integers(1, 3))
def test_no_winograd_exceeds_its_bound(
    outputs: int, rank: int, kinds: tuple[str, str], seed: int, channels: int
) -> None:
    """Winograd stays within its bound, rounded at every step and with tiles at any position."""
    shuffle = random.Random(seed)
    size = [shuffle.randint(3, 9) if rank == 2 else 3 + shuffle.randrange(14) for _ in range(rank)]
    x, weight = data((channels, *size), kinds[0], shuffle), data((1, channels, *[3] * rank), kinds[1], shuffle)
    origin = tuple(shuffle.randrange(outputs) for _ in range(rank))
    g = ConvGeometry(channels, 1, tuple(size), (3,) * rank)
    found = by_winograd(outputs, rational_array(x), rational_array(weight[0]), origin)
    error = abs(found - exactly(rational_array(x), rational_array(weight[0])))
    assert (error <= rational_array(bounds(g, x, weight, Winograd(outputs)))[0]).all()


@pytest.mark.parametrize("outputs", [2, 4, 6])
def test_winograd_needs_more_than_a_direct_bound(outputs: int) -> None:
    """A pixel with a tiny weight can destroy all digits of an output in the same tile."""
    g = ConvGeometry(1, 1, (outputs + 2,), (3,))
    x, weight = torch.full((1, outputs + 2), 2.0**-20), torch.tensor([[[0.7, 2.0**-24, 1.1]]])
    x[0, 2] = 1.3
    error = abs(
        by_winograd(outputs, rational_array(x), rational_array(weight[0]), (0,))
        - exactly(rational_array(x), rational_array(weight[0]))
    )
    direct, own = (rational_array(bounds(g, x, weight, *algorithms))[0] for algorithms in ((), (Winograd(outputs),)))
    assert (error > 100 * direct).any()
    assert (error <= own).all()


def by_matrix_units(block: int, guard_bits: int, x: Numbers, weight: Numbers) -> Fraction:
    """One output of matrix units: tap after tap, blocks of channels are aligned, cut, added and truncated."""
    truncate, total = Rounding(FLOAT32, truncates=True), Fraction(0)
    for tap in np.ndindex(weight.shape[1:]):
        pixels, taps = x[(slice(None), *tap)], weight[(slice(None), *tap)]
        for begin in range(0, len(pixels), block):
            terms = [total, *(pixels[begin : begin + block] * taps[begin : begin + block])]
            largest = max(map(abs, terms))
            if not largest:
                continue
            exponent = math.floor(math.log2(largest))
            unit = Fraction(2) ** (exponent - FLOAT32.precision + 1 - guard_bits)
            total = truncate(sum((int(t / unit) * unit for t in terms), Fraction(0)))
    return total


UNITS = [(4, 0), (8, 1), (16, 2)]


@pytest.mark.parametrize("assumed", [None, *UNITS])
@pytest.mark.parametrize("hardware", UNITS)
@settings(max_examples=25)
@given(kinds=st.tuples(KINDS, KINDS), seed=st.integers(0, 2**16), channels=st.integers(1, 20))
def test_no_matrix_unit_exceeds_its_bound(
    hardware: tuple[int, int], assumed: tuple[int, int] | None, kinds: tuple[str, str], seed: int, channels: int
) -> None:
    """Matrix units with known blocks and guard bits stay within their own bound and within the default bound."""
    if assumed not in (None, hardware):
        return
    shuffle = random.Random(seed)
    x, weight = data((channels, 2, 2), kinds[0], shuffle), data((1, channels, 2, 2), kinds[1], shuffle)
    found = by_matrix_units(*hardware, rational_array(x), rational_array(weight[0]))
    algorithm = MatrixUnits() if assumed is None else MatrixUnits(*assumed)
    bound = bounds(ConvGeometry(channels, 1, (2, 2), (2, 2)), x, weight, algorithm)
    assert abs(found - exactly(rational_array(x), rational_array(weight[0])).item()) <= Fraction(float(bound))


def test_matrix_units_attain_a_share_of_their_bound() -> None:
    """Numbers just below a unit of the largest are all lost: the error is at least a quarter of the bound."""
    channels = 64
    x = torch.full((channels, 1), 2.0**-23 * (2 - 2.0**-22))
    x[0] = 2 - 2.0**-23
    weight = torch.ones(1, channels, 1)
    g = ConvGeometry(channels, 1, (1,), (1,))
    error = abs(
        by_matrix_units(4, 0, rational_array(x), rational_array(weight[0]))
        - exactly(rational_array(x), rational_array(weight[0])).item()
    )
    direct, own, unknown = (
        float(bounds(g, x, weight, *algorithms)) for algorithms in ((), (MatrixUnits(4, 0),), (MatrixUnits(),))
    )
    assert error > 0.9 * direct
    assert own / 4 < error <= own
    assert own < unknown < 6.2 * direct


@pytest.mark.parametrize("changes", [{"stride": (2, 1)}, {"dilation": (1, 2)}, {"kernel_size": (3, 5)}])
def test_winograd_is_for_three_taps_side_by_side(changes: dict) -> None:
    """Winograd does not apply with a stride, a dilation or another kernel size; FFT does if the kernel fits."""
    g = ConvGeometry(1, 1, (9, 9), **{"kernel_size": (3, 3)} | changes)
    x, weight = torch.ones(1, 1, 81).double(), torch.ones(1, 1, *g.kernel_size).double()
    assert Winograd(6).sums(g, x, weight) is None
    # An FFT applies to every kernel that fits into its tile.
    assert Fft(8).sums(g, x, weight) is not None
    assert (Fft(4).sums(g, x, weight) is None) == (max(g.kernel_extent) > 4)


def test_wrong_parameters_are_named() -> None:
    """An invalid tile, block or number of guard bits is refused with its name, its value and the rule."""
    for make, message in (
        (lambda: Winograd(3), "outputs=3 must be 2, 4 or 6"),
        (lambda: Fft(12), "tile=12 must be a power of two"),
        (lambda: MatrixUnits(0), "block=0 must be >= 1"),
        (lambda: MatrixUnits(4, -1), "guard_bits=-1 must be >= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("algorithm", [Winograd(6), Fft(16), MatrixUnits()])
def test_chosen_outputs_have_the_bounds_of_the_whole(algorithm: Algorithm, dtype: str) -> None:
    """Chosen outputs have the same bounds as in the whole result, also for complex data and empty batches."""
    case = Case((3, 4, 7, 8), (6, 2, 3, 3), padding=1, groups=2, bias=True, dtype=dtype, data="normal")
    o, arithmetic = draw(case), replace(Arithmetic.of_dtype(case.torch_dtype), algorithms=(algorithm,))
    chosen = torch.tensor([0, 5, 400, 3 * 6 * 56 - 1])
    whole, some = (
        expected(case.geometry, o.input, o.weight, o.bias, outputs=outputs, algorithms=(algorithm,)).bound(
            arithmetic, has_bias=True
        )
        for outputs in (None, chosen)
    )
    # The sums have another order, so they may differ by the slack of error_bound for its own evaluation.
    assert ((whole.reshape(-1, *whole.shape[4:])[chosen] - some).abs() <= 2.0**-40 * some).all()
    empty = expected(case.geometry, o.input[:0], o.weight, o.bias, algorithms=(algorithm,))
    assert empty.bound(arithmetic, has_bias=True).numel() == 0
