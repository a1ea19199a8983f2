"""The oracle agrees with rational arithmetic on the definition of a convolution, entry by entry."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.definition import entries_by_definition
from tests.helpers.operands import COMPLEX, DTYPES, FLOATS, integers, seeds, small_geometries
from tests.helpers.rationals import rationals
from toeplitz_core import ConvGeometry
from toeplitz_core.bound import FLOAT64, Arithmetic
from toeplitz_core.testing.oracle.expected import Expected
from toeplitz_core.testing.oracle.results import expected
from toeplitz_core.testing.strategies.geometries import geometries


def operands(
    g: ConvGeometry, dtype: torch.dtype, *, seed: int, batch: int = 2, spread: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random input, weight and bias of a dtype, times powers of two between ``2^-spread`` and ``2^spread``."""
    generator = torch.Generator().manual_seed(seed)

    def values(*shape: int) -> torch.Tensor:
        if dtype == torch.int64:
            return integers(shape, dtype, seed=int(torch.randint(2**31, (), generator=generator)), limit=1000)
        wide = torch.complex128 if dtype.is_complex else torch.float64
        exponents = torch.randint(-spread, spread + 1, shape, generator=generator)
        return (torch.randn(shape, dtype=wide, generator=generator) * 2.0**exponents).to(dtype)

    return values(batch, g.in_channels, *g.input_size), values(*g.weight_shape), values(g.out_channels)


class Rational:
    """The fields of an ``Expected`` in rational numbers, as lists over (batch, out_channels, positions)."""

    def __init__(self, g: ConvGeometry, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        rows = g.matrix_shape[0]
        self.value, self.magnitude, self.products = [], [], []
        entries = entries_by_definition(weight, g.input_size, g.stride, g.padding, g.dilation, g.groups)
        for image in x.flatten(1):
            offsets = [Fraction(0)] * g.out_channels if bias is None else [Fraction(b) for b in bias.tolist()]
            value = [offsets[row // g.positions] for row in range(rows)]
            size, count = [abs(v) for v in value], [0] * rows
            pixels = image.tolist()
            for (row, column), tap in entries.items():
                product = Fraction(tap) * Fraction(pixels[column])
                value[row] += product
                size[row] += abs(product)
                count[row] += 1
            self.value += value
            self.magnitude += size
            self.products += count


def lost(reference: Expected, exact: list[Fraction]) -> list[Fraction]:
    """The error of value plus residual."""
    value = rationals(reference.value)
    rest = [Fraction(0)] * len(value) if reference.residual is None else rationals(reference.residual)
    return [abs(v + r - e) for v, r, e in zip(value, rest, exact, strict=True)]


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("dtype", FLOATS)
@settings(max_examples=25)
@given(g=small_geometries(), seed=seeds(), spread=st.sampled_from((0, 3, 30)))
def test_values_are_those_of_rational_arithmetic(
    dtype: torch.dtype, has_bias: bool, g: ConvGeometry, seed: int, spread: int
) -> None:
    """Value plus residual is off by at most ``(n + 8) 2^-52 S``; for float64, by at most ``(n + 1)^2 2^-104 S``."""
    x, weight, bias = operands(
        g, dtype, seed=seed, batch=1, spread=min(spread, 3) if dtype == torch.float16 else spread
    )
    offset = bias if has_bias else None
    reference, exact = expected(g, x, weight, offset), Rational(g, x, weight, offset)
    assert reference.products.flatten().tolist() == exact.products
    unit = Fraction(2) ** (-104 if dtype == torch.float64 else -52)
    for off, n, size, magnitude in zip(
        lost(reference, exact.value), exact.products, exact.magnitude, rationals(reference.magnitude), strict=True
    ):
        assert off <= ((n + 1) ** 2 if dtype == torch.float64 else n + 8) * unit * size
        assert abs(magnitude - size) <= (n + 1) * Fraction(2) ** -53 * size


def test_plain_float64_would_miss_what_the_residual_holds() -> None:
    """If float64 data cancels, a plain float64 sum has no correct digit, but the compensated sum is exact."""
    g = ConvGeometry(1, 1, (1, 3), (1, 3))
    x = torch.tensor([1.0, 2.0**-60, -1.0], dtype=torch.float64).view(1, 1, 1, 3)
    weight = torch.tensor([1 + 2.0**-30, 1.0, 1 + 2.0**-30], dtype=torch.float64).view(1, 1, 1, 3)
    x[..., 2] -= 2.0**-40
    exact = Rational(g, x, weight, None).value[0]
    plain = Fraction(float((x * weight).sum()))
    reference = expected(g, x, weight, None)
    assert abs(plain - exact) > Fraction(2) ** -62
    assert lost(reference, [exact]) == [0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@given(g=small_geometries(), seed=seeds())
def test_whole_numbers_come_out_exactly(dtype: torch.dtype, g: ConvGeometry, seed: int) -> None:
    """Sums of whole numbers are exact, even if no narrower dtype can hold them."""
    x = integers((1, g.in_channels, *g.input_size), dtype, seed=seed, limit=127)
    weight = integers(g.weight_shape, dtype, seed=seed + 1, limit=127)
    bias = integers((g.out_channels,), dtype, seed=seed + 2, limit=127)
    reference, exact = expected(g, x, weight, bias), Rational(g, x, weight, bias)
    assert rationals(reference.value) == exact.value
    assert rationals(reference.magnitude) == exact.magnitude


@given(g=small_geometries(), seed=seeds())
def test_int64_is_exact_beyond_float64(g: ConvGeometry, seed: int) -> None:
    """Integers are summed as int64, also beyond the range in which float64 is exact."""
    x, weight, bias = operands(g, torch.int64, seed=seed)
    x = x + 2**50
    reference = expected(g, x, weight, bias)
    assert reference.value.dtype == torch.int64
    assert reference.value.flatten().tolist() == Rational(g, x, weight, bias).value


@pytest.mark.parametrize("dtype", COMPLEX)
@settings(max_examples=25)
@given(g=small_geometries(), seed=seeds(), has_bias=st.booleans())
def test_complex_parts_are_those_of_rational_arithmetic(
    dtype: torch.dtype, g: ConvGeometry, seed: int, has_bias: bool
) -> None:
    """The parts, their magnitudes by Gauss and the number of products agree with rational arithmetic."""
    x, weight, bias = operands(g, dtype, seed=seed, batch=1)
    reference = expected(g, x, weight, bias if has_bias else None)
    parts = [(x.real, weight.real), (x.imag, weight.imag), (x.real, weight.imag), (x.imag, weight.real)]
    offsets = (bias.real, None, bias.imag, None) if has_bias else (None,) * 4
    rr, ii, ri, ir = (Rational(g, a, b, c) for (a, b), c in zip(parts, offsets, strict=True))
    sums = Rational(g, *(t.real.double().abs() + t.imag.double().abs() for t in (x, weight)), None)
    # rr.magnitude and ri.magnitude already include |br| and |bi|.
    br = rationals(reference.bias[..., 0])
    exact = {
        0: (
            [a - b for a, b in zip(rr.value, ii.value, strict=True)],
            [a + b for a, b in zip(rr.magnitude, ii.magnitude, strict=True)],
        ),
        1: (
            [a + b for a, b in zip(ri.value, ir.value, strict=True)],
            [
                c + a + b + d + e
                for c, a, b, d, e in zip(
                    sums.magnitude,
                    rr.magnitude,
                    ii.magnitude,
                    br,
                    rationals(reference.offset[..., 1].abs()),
                    strict=True,
                )
            ],
        ),
    }
    assert reference.is_complex
    assert reference.products[..., 0].flatten().tolist() == rr.products
    assert reference.products[..., 1].flatten().tolist() == rr.products
    for part, (value, size) in exact.items():
        got = rationals(reference.value[..., part])
        rest = [0] * len(got) if reference.residual is None else rationals(reference.residual[..., part])
        magnitude = rationals(reference.magnitude[..., part])
        for v, r, m, e, s, n in zip(got, rest, magnitude, value, size, rr.products, strict=True):
            assert abs(v + r - e) <= (n + 8) * Fraction(2) ** -52 * s * (1 if dtype == torch.complex64 else 2**-40)
            assert abs(m - s) <= (n + 8) * Fraction(2) ** -52 * s


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=30)
@given(g=geometries(max_products=2**12), seed=seeds(), batch=st.integers(1, 3), has_bias=st.booleans())
def test_chosen_outputs_are_those_of_the_whole(
    dtype: torch.dtype, g: ConvGeometry, seed: int, batch: int, has_bias: bool
) -> None:
    """The values, magnitudes and counts of chosen outputs equal those entries of the whole result."""
    x, weight, bias = operands(g, dtype, seed=seed, batch=batch)
    if dtype != torch.int64:  # whole numbers, so that both sums are exact
        x, weight, bias = (
            (t * 8).round() if not t.is_complex() else torch.view_as_complex((torch.view_as_real(t) * 8).round())
            for t in (x, weight, bias)
        )
    offset = bias if has_bias else None
    whole = expected(g, x, weight, offset)
    total = batch * g.matrix_shape[0]
    outputs = torch.randint(total, (7,), generator=torch.Generator().manual_seed(seed))
    chosen = expected(g, x, weight, offset, outputs=outputs)
    for name in ("value", "residual", "magnitude", "products", "bias", "offset"):
        all_of, some = getattr(whole, name), getattr(chosen, name)
        if all_of is None:
            assert some is None
            continue
        tail = (2,) if dtype.is_complex else ()
        assert torch.equal(some, all_of.reshape(total, *tail)[outputs])


@pytest.mark.parametrize("dtype", DTYPES)
@given(g=small_geometries(), seed=seeds())
def test_a_batch_is_its_images(dtype: torch.dtype, g: ConvGeometry, seed: int) -> None:
    """Each image of a batch has the same result as alone without a batch; an empty batch has an empty result."""
    x, weight, bias = operands(g, dtype, seed=seed)
    whole = expected(g, x, weight, bias)
    tail = (2,) if dtype.is_complex else ()
    shape = (g.out_channels, *g.output_size, *tail)
    assert whole.value.shape == (2, *shape)
    for image, value in zip(x, whole.value, strict=True):
        alone = expected(g, image, weight, bias)
        assert alone.value.shape == shape
        assert torch.equal(alone.value, value)
    empty = expected(g, x[:0], weight, bias)
    assert empty.value.shape == empty.magnitude.shape == (0, *shape)


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_channels_the_result_is_the_bias(dtype: torch.dtype) -> None:
    """Without input channels the result is exactly the bias."""
    g = ConvGeometry(0, 3, (2, 2), (2, 2), padding=1)
    bias = torch.tensor([1, -2, 3]).to(dtype)
    reference = expected(g, torch.zeros(2, 0, 2, 2, dtype=dtype), torch.zeros(3, 0, 2, 2, dtype=dtype), bias)
    values = torch.view_as_complex(reference.value) if dtype.is_complex else reference.value
    assert torch.equal(values.to(dtype), bias[:, None, None].expand(2, 3, 3, 3))
    assert not reference.products.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@settings(max_examples=40)
@given(g=small_geometries(), seed=seeds())
def test_subnormal_operands_are_accounted_for(dtype: torch.dtype, g: ConvGeometry, seed: int) -> None:
    """``subnormal`` is the growth of the sum of magnitudes when every subnormal operand doubles; None without any."""
    limit = torch.finfo(dtype).smallest_normal
    tensors = [t.double() for t in operands(g, dtype, seed=seed, batch=1)]
    normal = expected(g, *(t.sign() * (t.abs() + 0.1).to(dtype) for t in tensors))
    assert normal.subnormal is None
    generator = torch.Generator().manual_seed(seed)
    x, w, b = ((t * limit ** torch.randint(2, t.shape, generator=generator)).to(dtype) for t in tensors)
    doubled = [torch.where(t.abs() < limit, 2 * t.double(), t.double()) for t in (x, w, b)]
    before, after = Rational(g, x, w, b).magnitude, Rational(g, *doubled).magnitude
    found = expected(g, x, w, b).subnormal
    growth = [Fraction(0)] * len(before) if found is None else rationals(found)
    for a, z, grown in zip(before, after, growth, strict=True):
        assert abs((z - a) - grown) <= Fraction(2) ** -48 * (z - a)


@settings(max_examples=40)
@given(g=small_geometries(), seed=seeds(), exponent=st.integers(500, 545))
def test_float64_underflow_of_the_oracle_is_accounted_for(g: ConvGeometry, seed: int, exponent: int) -> None:
    """If float64 products underflow, the bound includes the oracle's own error."""
    x, weight, bias = operands(g, torch.float64, seed=seed, batch=1)
    x, weight, bias = x * 2.0**-exponent, weight * 2.0**-exponent, bias * 2.0**-1060
    reference, exact = expected(g, x, weight, bias), Rational(g, x, weight, bias)
    bound = rationals(reference.bound(Arithmetic.of_dtype(torch.float64), has_bias=True))
    eta = Fraction(FLOAT64.smallest_subnormal)
    for off, n, allowed, size in zip(lost(reference, exact.value), exact.products, bound, exact.magnitude, strict=True):
        assert off <= 4 * n * eta + (n + 1) ** 2 * Fraction(2) ** -104 * size
        assert allowed >= (n + 1 if n else 0) * Fraction(2) ** -54 * size + 4 * n * eta


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@settings(max_examples=40)
@given(g=small_geometries(), seed=seeds(), up=st.integers(300, 1000), down=st.integers(-100, 1000))
def test_large_float64_does_not_overflow_the_oracle(
    dtype: torch.dtype, g: ConvGeometry, seed: int, up: int, down: int
) -> None:
    """Results that overflow float64 are given in units of a power of two, with the usual precision."""
    x, weight, bias = operands(g, dtype, seed=seed, batch=1)
    x, weight, bias = x * 2.0**up, weight * 2.0**down, bias * 2.0**1000
    reference = expected(g, x, weight, bias)
    scale = Fraction(2) ** reference.exponent
    if dtype.is_complex:
        rr, ii = (Rational(g, getattr(x, p), getattr(weight, p), b) for p, b in (("real", bias.real), ("imag", None)))
        value = [a - b for a, b in zip(rr.value, ii.value, strict=True)]
        size = [a + b for a, b in zip(rr.magnitude, ii.magnitude, strict=True)]
        got, rest = (rationals(t[..., 0]) for t in (reference.value, reference.residual))
    else:
        exact = Rational(g, x, weight, bias)
        value, size = exact.value, exact.magnitude
        got, rest = (rationals(t) for t in (reference.value, reference.residual))
    for v, r, wanted, s in zip(got, rest, value, size, strict=True):
        assert abs((v + r) * scale - wanted) <= Fraction(2) ** -90 * s
