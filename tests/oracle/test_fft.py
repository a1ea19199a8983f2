"""The bound of an FFT against simulations: none exceeds it, and a direct bound would be too small."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.convolutions import KINDS, ROUND, Numbers, bounds, data, exactly
from tests.helpers.rationals import rational_array
from toeplitz_core import ConvGeometry
from toeplitz_core.testing.oracle.algorithms import Fft


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
    found = np.array(by_fft(tile, rational_array(x), rational_array(stuffed)), dtype=object)
    error = abs(found - exactly(rational_array(x), rational_array(stuffed)))[:: g.stride[0]]
    assert (error <= rational_array(bounds(g, x, weight, Fft(tile)))[0]).all()


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
    found = np.array(by_fft(8, rational_array(x), rational_array(weight[0])), dtype=object)
    error = abs(found - exactly(rational_array(x), rational_array(weight[0])))
    direct, own = (rational_array(bounds(g, x, weight, *algorithms))[0] for algorithms in ((), (Fft(8),)))
    assert (error > 100 * direct).any()
    assert (error <= own).all()
