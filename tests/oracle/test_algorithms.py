"""The bounds of Winograd, FFT and matrix units against simulations, and against NNPACK."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.accumulators import Rounding
from tests.laws.test_verdict import Planted
from toeplitz_core import ConvGeometry
from toeplitz_core.bound import BFLOAT16, FLOAT32, Algorithm, Arithmetic
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws.families.forward import forward_verdict
from toeplitz_core.testing.laws.verdict import Status, compare_bound
from toeplitz_core.testing.oracle.algorithms import Fft, MatrixUnits, Winograd, winograd_matrices
from toeplitz_core.testing.oracle.results import expected
from toeplitz_core.testing.subjects.pytorch.arithmetic import NNPACK, TF32_ROUNDING, torch_cpu, torch_cuda

SINGLE = Arithmetic(FLOAT32, FLOAT32)
ROUND = Rounding(FLOAT32)
Numbers = np.ndarray  # of Fractions
Rounded = Callable[[Fraction], Fraction]


def bounds(g: ConvGeometry, x: torch.Tensor, weight: torch.Tensor, *algorithms: Algorithm) -> torch.Tensor:
    """The bound of the oracle for float32 arithmetic."""
    arithmetic = replace(SINGLE, algorithms=algorithms)
    return expected(g, x, weight, None, algorithms=algorithms).bound(arithmetic, has_bias=False)


def rationals(values: torch.Tensor) -> Numbers:
    """The elements as exact rational numbers, in the same shape."""
    return np.array([Fraction(v) for v in values.flatten().tolist()], dtype=object).reshape(values.shape)


def data(shape: tuple[int, ...], kind: str, shuffle: random.Random) -> torch.Tensor:
    """Numbers of a kind that makes rounding errors large."""
    count = math.prod(shape)
    if kind == "constant":
        values = [1 + shuffle.random()] * count
    elif kind == "alternating":
        values = [(-1) ** i * (1 + shuffle.random() * 2**-8) for i in range(count)]
    elif kind == "wide":
        values = [shuffle.uniform(-1, 1) * 2.0 ** shuffle.randint(-20, 20) for _ in range(count)]
    elif kind == "spike":  # one large number among tiny ones in its tile
        values = [shuffle.uniform(-1, 1) * 2.0**-20 for _ in range(count)]
        if count:
            values[shuffle.randrange(count)] = shuffle.uniform(1, 2)
    elif kind == "tiny":
        values = [shuffle.uniform(-1, 1) * 2.0**-75 for _ in range(count)]
    else:
        values = [shuffle.uniform(-1, 1) for _ in range(count)]
    return torch.tensor(values, dtype=torch.float32).reshape(shape)


KINDS = st.sampled_from(("normal", "constant", "alternating", "wide", "spike", "tiny"))


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


def exactly(x: Numbers, weight: Numbers) -> Numbers:
    """The exact convolution of one image and one output channel, from the definition."""
    size = [n - k + 1 for n, k in zip(x.shape[1:], weight.shape[1:], strict=True)]
    result = np.full(size, Fraction(0), dtype=object)
    for place in np.ndindex(*size):
        window = tuple(slice(p, p + k) for p, k in zip(place, weight.shape[1:], strict=True))
        result[place] = (x[(slice(None), *window)] * weight).sum()
    return result


@pytest.mark.parametrize("outputs", [2, 4, 6])
@pytest.mark.parametrize("rank", [1, 2])
def test_winograd_is_the_convolution(outputs: int, rank: int) -> None:
    """Without rounding, the Winograd matrices give the convolution exactly."""
    shuffle = random.Random(rank)
    x, weight = (rationals(data(shape, "normal", shuffle)) for shape in ((2, *[9] * rank), (2, *[3] * rank)))
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
    found = by_winograd(outputs, rationals(x), rationals(weight[0]), origin)
    error = abs(found - exactly(rationals(x), rationals(weight[0])))
    assert (error <= rationals(bounds(g, x, weight, Winograd(outputs)))[0]).all()


@pytest.mark.parametrize("outputs", [2, 4, 6])
def test_winograd_needs_more_than_a_direct_bound(outputs: int) -> None:
    """A pixel with a tiny weight can destroy all digits of an output in the same tile."""
    g = ConvGeometry(1, 1, (outputs + 2,), (3,))
    x, weight = torch.full((1, outputs + 2), 2.0**-20), torch.tensor([[[0.7, 2.0**-24, 1.1]]])
    x[0, 2] = 1.3
    error = abs(
        by_winograd(outputs, rationals(x), rationals(weight[0]), (0,)) - exactly(rationals(x), rationals(weight[0]))
    )
    direct, own = (rationals(bounds(g, x, weight, *algorithms))[0] for algorithms in ((), (Winograd(outputs),)))
    assert (error > 100 * direct).any()
    assert (error <= own).all()


def twiddles(points: int) -> list[tuple[Fraction, Fraction]]:
    """``exp(-2 pi i k / points)``, rounded to float32."""
    angles = [2 * math.pi * k / points for k in range(points)]
    return [(ROUND(Fraction(math.cos(a))), ROUND(Fraction(-math.sin(a)))) for a in angles]


Complex = tuple[Fraction, Fraction]


def times(a: Complex, b: Complex) -> Complex:
    """A product of complex numbers by four real products, each step rounded."""
    return ROUND(ROUND(a[0] * b[0]) - ROUND(a[1] * b[1])), ROUND(ROUND(a[0] * b[1]) + ROUND(a[1] * b[0]))


def plus(a: Complex, b: Complex, sign: int = 1) -> Complex:
    """A rounded sum or difference."""
    return ROUND(a[0] + sign * b[0]), ROUND(a[1] + sign * b[1])


def fourier(values: list[Complex], *, inverse: bool = False) -> list[Complex]:
    """The radix-2 transform, without the division by the number of points."""
    points = len(values)
    if points == 1:
        return values
    even, odd = fourier(values[::2], inverse=inverse), fourier(values[1::2], inverse=inverse)
    factors = [(c, -s if inverse else s) for c, s in twiddles(points)]
    turned = [times(f, v) for f, v in zip(factors, odd, strict=False)]
    return [plus(a, b) for a, b in zip(even, turned, strict=True)] + [
        plus(a, b, -1) for a, b in zip(even, turned, strict=True)
    ]


def by_fft(tile: int, x: Numbers, weight: Numbers) -> list[Fraction]:
    """A one-dimensional convolution of (channels, size) that fits into a tile, rounded at every step."""

    def spectrum(row: Numbers) -> list[Complex]:
        return fourier([(v, Fraction(0)) for v in [*row, *[Fraction(0)] * (tile - len(row))]])

    total = [(Fraction(0), Fraction(0))] * tile
    for pixels, taps in zip(x, weight, strict=True):
        products = [times(a, (b[0], -b[1])) for a, b in zip(spectrum(pixels), spectrum(taps), strict=True)]
        total = [plus(a, b) for a, b in zip(total, products, strict=True)]
    result = fourier(total, inverse=True)
    return [re / tile for re, _ in result[: x.shape[1] - weight.shape[1] + 1]]


@pytest.mark.parametrize("tile", [8, 16, 32])
@settings(max_examples=15)
@given(kinds=st.tuples(KINDS, KINDS), seed=st.integers(0, 2**16), channels=st.integers(1, 3))
def test_no_fft_exceeds_its_bound(tile: int, kinds: tuple[str, str], seed: int, channels: int) -> None:
    """An FFT rounded at every step, twiddle factors included, stays within its bound, also strided or dilated."""
    shuffle = random.Random(seed)
    size = shuffle.randint(1, tile)
    taps = shuffle.randint(1, size)
    dilation = shuffle.randint(1, max(1, (size - 1) // max(1, taps - 1)))
    g = ConvGeometry(channels, 1, (size,), (taps,), shuffle.randint(1, 3), 0, dilation)
    x, weight = data((channels, size), kinds[0], shuffle), data((1, channels, taps), kinds[1], shuffle)
    stuffed = weight.new_zeros(channels, *g.kernel_extent)
    stuffed[:, ::dilation] = weight[0]
    found = np.array(by_fft(tile, rationals(x), rationals(stuffed)), dtype=object)
    error = abs(found - exactly(rationals(x), rationals(stuffed)))[:: g.stride[0]]
    assert (error <= rationals(bounds(g, x, weight, Fft(tile)))[0]).all()


@pytest.mark.parametrize(("stride", "dilation"), [((1, 1), (2, 3)), ((2, 3), (1, 1)), ((3, 1), (2, 1))])
def test_an_fft_of_a_dilated_kernel_is_one_of_the_kernel_with_zeros(
    stride: tuple[int, int], dilation: tuple[int, int]
) -> None:
    """The bound of a dilated kernel is that of the kernel stuffed with zeros, at the strided positions."""
    g = ConvGeometry(2, 2, (9, 10), (2, 3), stride, 1, dilation, groups=2)
    shuffle = random.Random(0)
    x = data((3, 2, 9, 10), "wide", shuffle)
    # Whole numbers, one channel per group: sums of squares are exact in any order, and each result has one product.
    weight = torch.tensor([shuffle.randint(-9, 9) for _ in range(12)], dtype=torch.float64).view(g.weight_shape)
    stuffed = weight.new_zeros(2, 1, *g.kernel_extent)
    stuffed[..., :: dilation[0], :: dilation[1]] = weight
    dense = ConvGeometry(2, 2, (9, 10), g.kernel_extent, 1, 1, 1, groups=2)
    for tile in (8, 16):
        found, wanted = (
            Fft(tile).sums(geometry, x.flatten(2).double(), taps) for geometry, taps in ((g, weight), (dense, stuffed))
        )
        assert found is not None
        assert wanted is not None
        assert torch.equal(found.roundings, wanted.roundings)
        for own, plain in ((found.magnitude, wanted.magnitude), (found.underflows, wanted.underflows)):
            assert own is not None
            assert plain is not None
            kept = plain.unflatten(2, dense.output_size)[..., :: stride[0], :: stride[1]].flatten(2)
            assert torch.equal(own, kept)


@pytest.mark.parametrize("tile", [2, 4, 8, 16, 2**20])
def test_the_norm_of_an_fft_is_that_of_the_worst_tile(tile: int) -> None:
    """The norm is the largest of all tiles that contain the output; a tile longer than the image contains all of it."""
    g = ConvGeometry(1, 1, (7, 4), (2, 1), padding=(1, 0))
    # Whole numbers up to 16, a power of two, so that scaling is exact: only the root and its product are rounded.
    x = torch.arange(28.0, dtype=torch.float64).flip(0) ** 2 % 17
    assert x.max() == 16
    padded = torch.nn.functional.pad(x.reshape(7, 4), (0, 0, 1, 1)) ** 2
    reach = min(tile, 16)

    def energy(i: int, j: int) -> float:
        begins = product(range(i + 2 - reach, i + 1), range(j + 1 - reach, j + 1))
        return max(float(padded[max(a, 0) : a + reach, max(b, 0) : b + reach].sum()) for a, b in begins)

    wanted = torch.tensor([energy(i, j) for i in range(8) for j in range(4)], dtype=torch.float64)
    weight = torch.tensor([3.0, 4.0], dtype=torch.float64).reshape(1, 1, 2, 1)  # its norm is 5
    sums = Fft(tile).sums(g, x.reshape(1, 1, 28), weight)
    assert sums is not None
    assert torch.equal(sums.magnitude, (5 * wanted.sqrt()).reshape(1, 1, 32))


def test_an_fft_needs_more_than_a_direct_bound() -> None:
    """A pixel that an output does not read can destroy all its digits if both are in the same tile."""
    x, weight = torch.full((1, 8), 2.0**-20), torch.tensor([[[0.7, 0.9, 1.1]]])
    x[0, -1] = 1.3
    g = ConvGeometry(1, 1, (8,), (3,))
    found = np.array(by_fft(8, rationals(x), rationals(weight[0])), dtype=object)
    error = abs(found - exactly(rationals(x), rationals(weight[0])))
    direct, own = (rationals(bounds(g, x, weight, *algorithms))[0] for algorithms in ((), (Fft(8),)))
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


@contextmanager
def without_onednn(*, nnpack: bool) -> Iterator[None]:
    """Let torch compute without oneDNN, with or without NNPACK."""
    with warnings.catch_warnings():
        # Setting oneDNN's flags warns that this hardware has no TF32.
        warnings.simplefilter("ignore")
        with torch.backends.mkldnn.flags(enabled=False), torch.backends.nnpack.flags(enabled=nnpack):
            yield


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
    found = by_matrix_units(*hardware, rationals(x), rationals(weight[0]))
    algorithm = MatrixUnits() if assumed is None else MatrixUnits(*assumed)
    bound = bounds(ConvGeometry(channels, 1, (2, 2), (2, 2)), x, weight, algorithm)
    assert abs(found - exactly(rationals(x), rationals(weight[0])).item()) <= Fraction(float(bound))


def test_matrix_units_attain_a_share_of_their_bound() -> None:
    """Numbers just below a unit of the largest are all lost: the error is at least a quarter of the bound."""
    channels = 64
    x = torch.full((channels, 1), 2.0**-23 * (2 - 2.0**-22))
    x[0] = 2 - 2.0**-23
    weight = torch.ones(1, channels, 1)
    g = ConvGeometry(channels, 1, (1,), (1,))
    error = abs(
        by_matrix_units(4, 0, rationals(x), rationals(weight[0])) - exactly(rationals(x), rationals(weight[0])).item()
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


@pytest.mark.skipif(not torch.backends.nnpack.is_available(), reason="this torch has no NNPACK")
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (8, 3), (16, 16)])
@pytest.mark.parametrize("data_name", ["normal", "wide", "constant", "alternating", "subnormal"])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_nnpack_is_within_its_bound(kernel: tuple[int, int], data_name: str, dtype: str) -> None:
    """With NNPACK, torch stays within the bound of its algorithms; without it, within the direct bound."""
    case = Case((16, 3, 19, 18), (2, 3, *kernel), padding=1, bias=True, dtype=dtype, data=data_name, seed=1)
    operands = draw(case)
    for enabled in (True, False):
        with without_onednn(nnpack=enabled):
            y = torch.nn.functional.conv2d(operands.input, operands.weight, operands.bias, padding=1)
        arithmetic = torch_cpu(case, onednn=False, nnpack=enabled)
        assert bool(arithmetic.algorithms) is enabled
        reference = expected(
            case.geometry, operands.input, operands.weight, operands.bias, algorithms=arithmetic.algorithms
        )
        values = torch.view_as_real(y) if y.is_complex() else y
        comparison = compare_bound(
            (values.double() - reference.value).abs(), reference.bound(arithmetic, has_bias=True)
        )
        assert comparison is not None
        assert comparison.ratio <= 1


@pytest.mark.skipif(not torch.backends.nnpack.is_available(), reason="this torch has no NNPACK")
def test_nnpack_is_beyond_the_direct_bound() -> None:
    """The error of NNPACK's Winograd exceeds the direct bound."""
    case = Case((16, 3, 19, 18), (2, 3, 3, 3), data="normal", seed=1)
    operands = draw(case)
    with without_onednn(nnpack=True):
        y = torch.nn.functional.conv2d(operands.input, operands.weight)
    reference = expected(case.geometry, operands.input, operands.weight, None)
    bound = reference.bound(SINGLE, has_bias=False)
    comparison = compare_bound((y.double() - reference.value).abs(), bound)
    assert comparison is not None
    assert comparison.ratio > 2


def test_known_implementations_have_their_arithmetic() -> None:
    """The arithmetics of torch have the documented formats, algorithms, rounded inputs and flushes."""

    def case(dtype: str, batch: int = 16) -> Case:
        return Case((batch, 1, 5, 5), (1, 1, 3, 3), dtype=dtype)

    for dtype in ("float64", "float32", "float16", "complex64", "complex128"):
        assert torch_cpu(case(dtype)) == Arithmetic.of_dtype(case(dtype).torch_dtype)
    assert torch_cpu(case("bfloat16")).flushes
    assert not torch_cpu(case("bfloat16"), onednn=False).flushes
    assert torch_cpu(case("float32"), onednn=False).algorithms == NNPACK
    assert torch_cpu(case("float32"), onednn=False).flushes
    assert not torch_cpu(case("float32", batch=15), onednn=False).algorithms
    for changes in ({"stride": 2}, {"dilation": 2}):
        other = case("float32").replace(**changes)
        assert torch_cpu(other, onednn=False) == torch_cuda(other, tf32=False) == replace(SINGLE, flushes=True)
    assert not torch_cpu(case("float64"), onednn=False).algorithms
    assert torch_cuda(case("float32")).input_rounding == TF32_ROUNDING
    assert torch_cuda(case("float32"), tf32=False).input_rounding == 0
    assert Winograd(6) in torch_cuda(case("float32"), tf32=False).algorithms
    assert torch_cuda(case("float16").replace(bias=True)).bias_after_rounding
    assert not torch_cuda(case("float16")).bias_after_rounding
    assert torch_cuda(case("float64")) == Arithmetic.of_dtype(torch.float64)


@pytest.mark.parametrize(
    "arithmetic",
    [
        replace(SINGLE, algorithms=(Winograd(6),)),
        replace(SINGLE, algorithms=(Fft(16),)),
        replace(SINGLE, input_rounding=TF32_ROUNDING),
        replace(SINGLE, accumulator=BFLOAT16),
    ],
)
def test_exact_data_is_judged_by_the_bound_where_the_arithmetic_rounds_it(arithmetic: Arithmetic) -> None:
    """A whole-number result that is off by half its bound passes only if the arithmetic rounds whole numbers."""
    case = Case((1, 2, 6, 6), (1, 2, 3, 3))
    operands = draw(case)
    reference = expected(case.geometry, operands.input, operands.weight, None, algorithms=arithmetic.algorithms)
    off = (reference.value + reference.bound(arithmetic, has_bias=False) / 2).float()
    assert (off != reference.value).any()
    subject = Planted(lambda _c, _o: off, arithmetic)
    assert forward_verdict(subject, case, operands).status is Status.PASS
    subject.assumed = SINGLE
    assert forward_verdict(subject, case, operands).status is Status.FAIL
    # Matrix units add whole numbers exactly.
    subject.assumed = replace(SINGLE, algorithms=(MatrixUnits(),))
    assert forward_verdict(subject, case, operands).status is Status.FAIL


@pytest.mark.parametrize("changes", [{}, {"dilation": 2}, {"stride": 2}])
@pytest.mark.parametrize("recipe", ["integers", "normal"])
def test_a_declared_fft_is_judged_by_its_bound(recipe: str, changes: dict) -> None:
    """A declared FFT is judged by its bound for every stride and dilation, also on whole numbers, which it rounds."""
    case = Case((1, 2, 6, 7), (1, 2, 3, 3), padding=1, data=recipe).replace(**changes)
    operands = draw(case)
    fft = replace(SINGLE, algorithms=(Fft(16),))
    reference = expected(case.geometry, operands.input, operands.weight, None, algorithms=fft.algorithms)
    off = (reference.value + reference.bound(fft, has_bias=False) / 2).float()
    for arithmetic, status in ((fft, Status.PASS), (SINGLE, Status.FAIL)):
        assert forward_verdict(Planted(lambda _c, _o: off, arithmetic), case, operands).status is status
