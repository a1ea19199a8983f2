"""The bound of complex products, which torch computes by three real ones, as Gauss did."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.accumulators import ORDERS, Accumulator
from tests.helpers.rationals import rationals
from tests.helpers.sums import KINDS, Problem, Variant, bound_of, numbers_of, problems
from toeplitz_core import ConvGeometry
from toeplitz_core.bound import FLOAT32, Arithmetic, format_of
from toeplitz_core.testing.oracle.results import expected


def by_gauss(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, base: Accumulator) -> list[Fraction]:
    """Real and imaginary part of a sum of complex products by three real sums, as torch computes convolutions."""
    rounding, on_read = base.accumulator, base.operand or (lambda v: v)
    shuffle = random.Random(0)

    def parts(values: torch.Tensor) -> list[list[Fraction]]:
        re, im = ([on_read(v) for v in rationals(t)] for t in (values.real, values.imag))
        return [re, im, [rounding(a + b) for a, b in zip(re, im, strict=True)]]

    b = [[None]] * 3 if bias is None else parts(bias)
    both = list(zip(parts(x), parts(weight), (b[0], [None], b[2]), strict=True))
    first, second, third = (base(xs, ws, bs[0], shuffle) for xs, ws, bs in both)
    return [rounding(first - second), rounding(rounding(third - first) - second)]


def exact_complex(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> list[Fraction]:
    """Real and imaginary part of a sum of complex products."""
    xr, xi, wr, wi = (rationals(t) for t in (x.real, x.imag, weight.real, weight.imag))
    br, bi = (Fraction(0), Fraction(0)) if bias is None else (rationals(bias.real)[0], rationals(bias.imag)[0])
    quads = list(zip(xr, xi, wr, wi, strict=True))
    return [sum((a * c - b * d for a, b, c, d in quads), br), sum((a * d + b * c for a, b, c, d in quads), bi)]


def complex_bound(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, arithmetic: Arithmetic
) -> list[Fraction]:
    """The oracle's bounds of the real and the imaginary part of one output."""
    g = ConvGeometry(x.numel(), 1, (1,), (1,))
    reference = expected(g, x.reshape(1, -1, 1), weight.reshape(1, -1, 1), bias)
    return rationals(reference.bound(arithmetic, has_bias=bias is not None))


@pytest.mark.parametrize("flushes", [False, True])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@settings(max_examples=60)
@given(data=st.data())
def test_the_complex_bound_holds_for_three_real_products(
    dtype: torch.dtype, flushes: bool, data: st.DataObject
) -> None:
    """Real and imaginary part by Gauss stay within their bounds, even if one is far smaller than the other."""
    fmt = format_of(dtype)
    arithmetic = replace(Arithmetic.of_dtype(dtype), flushes=flushes)
    (re, shuffle), scale = data.draw(problems(fmt, most=8)), 2.0 ** -data.draw(st.integers(0, 30))
    kind = data.draw(st.sampled_from(KINDS))
    imaginary = [numbers_of(fmt, kind, len(v), shuffle) for v in (re.x, re.weight, [0])]
    real = (re.x, re.weight, [re.bias or Fraction(0)])
    x, weight, bias = (
        torch.complex(*(torch.tensor([float(v) for v in part], dtype=torch.float64) for part in (a, b))).to(dtype)
        for a, b in zip(real, imaginary, strict=True)
    )
    x = (x.real + 1j * (x.imag * scale)).to(dtype)
    bias = None if re.bias is None else bias
    base = replace(
        Variant.of(fmt, arithmetic).base,
        order=data.draw(st.sampled_from(ORDERS)),
        fused=data.draw(st.booleans()),
    )
    errors = zip(by_gauss(x, weight, bias, base), exact_complex(x, weight, bias), strict=True)
    for (computed, exact), bound in zip(errors, complex_bound(x, weight, bias, arithmetic), strict=True):
        assert abs(computed - exact) <= bound


def test_a_direct_bound_is_too_small_for_gauss() -> None:
    """For tiny imaginary parts, Gauss's error is over a thousand times the bound of direct products."""
    shuffle = random.Random(1)
    x, weight = (
        torch.tensor([complex(shuffle.uniform(1, 2), shuffle.uniform(1, 2) * 2**-20) for _ in range(8)]).to(
            torch.complex64
        )
        for _ in range(2)
    )
    arithmetic = Arithmetic.of_dtype(torch.complex64)
    computed, exact = by_gauss(x, weight, None, Variant.of(FLOAT32, arithmetic).base), exact_complex(x, weight, None)
    error = abs(computed[1] - exact[1])
    parts = [*rationals(x.real), *rationals(x.imag)], [*rationals(weight.imag), *rationals(weight.real)]
    direct = bound_of(arithmetic, Problem(tuple(parts[0]), tuple(parts[1])), FLOAT32)
    assert error > 1000 * direct
    assert error <= complex_bound(x, weight, None, arithmetic)[1]


# Input, weight, the part (1: imaginary), and the share of the bound that the error must at least reach.
GAUSS = {
    "roundings before the products and after": (
        complex(float.fromhex("0x1.00675p+0"), float.fromhex("0x1.002a02p+0")),
        complex(float.fromhex("0x1.00a14cp+0"), float.fromhex("0x1.00e22ep+0")),
        1,
        0.49,
    ),
    "underflow of two products": (2.0**-100 * (1 + 1j), 2.0**-50 * (1 - 1j), 0, 0.99),
    "underflow of three products": (2.0**-100 * (1 + 2j), 2.0**-50 * (1 + 0.5j), 1, 0.33),
    "flushed sum of parts": (2.0**-126 * (1.5 - 1j), 2.0**10 + 0j, 1, 0.16),
}


@pytest.mark.parametrize("name", GAUSS)
def test_the_complex_bound_is_within_a_factor_of_what_gauss_attains(name: str) -> None:
    """Gauss attains between a third and all of the complex bound, and a sixth if sums of parts may be flushed."""
    x, w, part, attained = GAUSS[name]
    arithmetic = replace(Arithmetic.of_dtype(torch.complex64), flushes="flushed" in name)
    inputs, weight = (torch.tensor([v], dtype=torch.complex128).to(torch.complex64) for v in (x, w))
    base = Variant.of(FLOAT32, arithmetic).base
    error = abs(by_gauss(inputs, weight, None, base)[part] - exact_complex(inputs, weight, None)[part])
    bound = complex_bound(inputs, weight, None, arithmetic)[part]
    assert Fraction(attained) * bound <= error <= bound
