"""The bound in padding, and where a result may overflow."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import pytest
import torch

from tests.helpers.operands import COMPLEX, FLOATS
from toeplitz_core import ConvGeometry
from toeplitz_core.bound import BFLOAT16, FLOAT16, FLOAT32, Arithmetic, format_of
from toeplitz_core.testing.case.dtypes import DTYPES as NAMED
from toeplitz_core.testing.oracle.arithmetics import BFLOAT16_ROUNDING
from toeplitz_core.testing.oracle.results import expected


@pytest.mark.parametrize("dtype", [*FLOATS, *COMPLEX])
def test_windows_of_padding_are_exactly_the_bias(dtype: torch.dtype) -> None:
    """In a window wholly in padding the bound is 0, except for the imaginary part, which Gauss's differences round."""
    g = ConvGeometry(1, 1, (1, 1), (1, 1), padding=(1, 1))
    x, weight = torch.full((1, 1, 1, 1), 0.7, dtype=dtype), torch.full((1, 1, 1, 1), 0.3, dtype=dtype)
    bias = torch.tensor([0.1 + 0.2j if dtype.is_complex else 0.1]).to(dtype)
    reference = expected(g, x, weight, bias)
    bound = reference.bound(Arithmetic.of_dtype(dtype), has_bias=True)
    padding = reference.products == 0
    assert int(padding.sum()) == (16 if dtype.is_complex else 8)
    if dtype.is_complex:
        assert (bound[..., 1] > 0).all()
        bound, padding = bound[..., 0], padding[..., 0]
        assert (reference.value[..., 0][padding] == bias.real.double()).all()
    else:
        assert (reference.value[padding] == bias.double()).all()
    assert (bound[padding] == 0).all()
    assert (bound[~padding] > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_a_bias_in_padding_may_be_rounded(dtype: torch.dtype) -> None:
    """If bias or result are rounded to a narrower format, the bound in a window of padding allows one rounding."""
    g = ConvGeometry(1, 1, (1, 1), (1, 1), padding=(1, 1))
    ones = torch.ones(1, 1, 1, 1, dtype=dtype)
    half_way = 1 + 2.0**-8
    bias = torch.tensor([complex(half_way, half_way) if dtype.is_complex else half_way], dtype=dtype)
    reference = expected(g, ones, ones, bias)
    padding = reference.products == 0
    single = Arithmetic(FLOAT32, FLOAT32)
    for arithmetic in (replace(single, bias_rounding=BFLOAT16_ROUNDING), replace(single, output=BFLOAT16)):
        bound = reference.bound(arithmetic, has_bias=True)
        bound, found = (bound[..., 0], padding[..., 0]) if dtype.is_complex else (bound, padding)
        assert (bound[found] >= 2.0**-8).all()
        assert (bound[found] <= 1.01 * 2.0**-8).all()


@pytest.mark.parametrize("dtype", [*FLOATS, *COMPLEX])
def test_a_flush_may_take_a_bias_in_padding(dtype: torch.dtype) -> None:
    """If subnormals are flushed, only a subnormal bias may be lost in a window of padding."""
    g = ConvGeometry(1, 2, (1, 1), (1, 1), padding=(1, 1))
    tiny = torch.finfo(dtype).smallest_normal / 2
    bias = torch.tensor([tiny, 1.0], dtype=torch.float64).to(dtype)
    reference = expected(g, torch.ones(1, 1, 1, 1, dtype=dtype), torch.ones(2, 1, 1, 1, dtype=dtype), bias)
    bound = reference.bound(Arithmetic.of_dtype(dtype).flushing(), has_bias=True)
    bound = bound[..., 0] if dtype.is_complex else bound
    assert bound[0, 0, 0, 0] == tiny
    assert bound[0, 1, 0, 0] == 0


# Sums near the largest float32, 3.4e38, and near the largest float16, 65504 (which rounds to infinity from 65520).
@pytest.mark.parametrize(
    ("dtype", "x", "bias", "right", "wrong"),
    [
        ("float32", [3e38, 3e38], 0.0, [inf], [-inf]),
        ("float32", [3e38, 3e38, -3e38], 0.0, [3e38, inf, nan], [2e38, -inf]),
        ("float32", [3e38, 3e38, -3e38, -3e38], 0.0, [0.0, inf, -inf, nan], [2e38]),
        ("float32", [1e38, 1e38], 0.0, [2e38], [inf, nan, -inf]),
        ("float32", [-3e38, -3e38], 0.0, [-inf], [1e38]),
        ("float16", [65504.0, 15.0], 0.0, [65504.0], [-inf, nan, 65472.0]),
        ("float16", [65504.0, 32.0], 0.0, [inf], [-inf, nan, 0.0]),
        ("float16", [65504.0, 65504.0], -65504.0, [65504.0], [-inf, nan]),
        ("float16", [60000.0, 1.0], 0.0, [60000.0], [inf, nan, -inf]),
        ("float16", [-65504.0, -100.0], 0.0, [-inf], [inf, nan, 1.0]),
        ("bfloat16", [3e38, 3e38, -3e38], 0.0, [inf, nan], [1e38, -inf]),
        ("float64", [1.5e308, 1.5e308], 0.0, [inf], [-1e308]),
        ("float64", [1.5e308, 1.5e308, -1.5e308], 0.0, [1.5e308, inf, nan], [1e308, -inf]),
        ("float64", [1e308, 0.5e308], 0.0, [1.5e308], [inf, nan, -inf, 1e308]),
    ],
)
def test_overflow_is_right_only_where_it_can_happen(
    dtype: str, x: list[float], bias: float, right: list[float], wrong: list[float]
) -> None:
    """Infinities and NaN are excused only where the accumulator, or the output with this sign, may overflow."""
    kind = NAMED[dtype].torch
    pixels = torch.tensor(x, dtype=torch.float64).to(kind).view(1, 1, 1, -1)
    g = ConvGeometry(1, 1, (1, len(x)), (1, len(x)))
    offset = torch.tensor([bias], dtype=torch.float64).to(kind)
    reference = expected(g, pixels, torch.ones(1, 1, 1, len(x), dtype=kind), offset)
    arithmetic = Arithmetic.of_dtype(kind)
    bound = reference.bound(arithmetic, has_bias=True)
    overflow = reference.overflow(arithmetic, bound, has_bias=True)
    for values, good in ((right, True), (wrong, False)):
        for value in values:
            actual = torch.tensor(value, dtype=torch.float64).to(kind).view(1, 1, 1, 1)
            near = (reference.in_units(actual) - reference.value).abs() <= bound
            assert bool(overflow.excuses(actual) | near) is good, value


def test_gauss_may_overflow_by_the_sum_of_parts() -> None:
    """If real and imaginary part of an operand add up to infinity, every result is excused."""
    g = ConvGeometry(1, 1, (1, 1), (1, 1))
    weight = torch.full((1, 1, 1, 1), 2.0**-10, dtype=torch.complex64)
    for size, excused in ((3e38, True), (1e38, False)):
        reference = expected(g, torch.full((1, 1, 1, 1), complex(size, size)).to(torch.complex64), weight, None)
        arithmetic = Arithmetic.of_dtype(torch.complex64)
        bound = reference.bound(arithmetic, has_bias=False)
        assert bool(reference.overflow(arithmetic, bound, has_bias=False).nan.any()) is excused


def test_a_rounded_partial_result_may_overflow() -> None:
    """A bias prevents an overflow only if it is added before the rounding to the narrower format."""
    g = ConvGeometry(1, 1, (1, 2), (1, 2))
    x = torch.full((1, 1, 1, 2), 65504.0).half()
    reference = expected(g, x, torch.ones(1, 1, 1, 2).half(), torch.tensor([-65504.0]).half())
    for arithmetic, excused in (
        (Arithmetic.of_dtype(torch.float16), False),
        (Arithmetic(FLOAT32, FLOAT16, bias_after_rounding=True), True),
        (Arithmetic(FLOAT32, FLOAT16, partial_format=FLOAT16, partial_sums=2), True),
        (Arithmetic(FLOAT16, FLOAT16), True),
    ):
        bound = reference.bound(arithmetic, has_bias=True)
        assert bool(reference.overflow(arithmetic, bound, has_bias=True).positive) is excused


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.float64])
@pytest.mark.parametrize("operand", ["input", "weight", "bias"])
def test_an_operand_may_be_rounded_to_infinity(dtype: torch.dtype, operand: str) -> None:
    """If operands are rounded, every result of an operand with the largest exponent is excused, and no other."""
    g = ConvGeometry(1, 2, (1, 2), (1, 1), padding=(0, 1))
    rounding = Arithmetic(format_of(dtype), format_of(dtype), input_rounding=2.0**-8, bias_rounding=2.0**-8)
    top = 2.0 ** format_of(dtype).max_exponent
    # Affected outputs: those that read the second pixel, or all of the second channel, padding included.
    reads = {"input": [[0, 0, 1, 0], [0, 0, 1, 0]]}.get(operand, [[0, 0, 0, 0], [1, 1, 1, 1]])
    for size, arithmetic, excused in ((top, rounding, True), (top / 2, rounding, False), (top, None, False)):
        given = {
            "input": torch.zeros(1, 1, 1, 2, dtype=dtype),
            "weight": torch.zeros(2, 1, 1, 1, dtype=dtype),
            "bias": torch.zeros(2, dtype=dtype),
        }
        given[operand].view(-1)[1] = complex(0, -size) if dtype.is_complex else -size
        for outputs in (None, torch.tensor([6, 2, 1])):
            reference = expected(g, given["input"], given["weight"], given["bias"], outputs=outputs)
            declared = arithmetic or Arithmetic.of_dtype(dtype)
            bound = reference.bound(declared, has_bias=True)
            overflow = reference.overflow(declared, bound, has_bias=True)
            found = overflow.excuses(torch.full(bound.shape, nan))
            found = found.all(-1) if dtype.is_complex else found
            wanted = torch.tensor(reads).bool().flatten() & excused
            assert torch.equal(found.flatten(), wanted if outputs is None else wanted[outputs])


def test_an_infinite_part_excuses_nan_in_the_other() -> None:
    """If the imaginary part may be infinite, the real part may be NaN, even if it cannot overflow itself."""
    g = ConvGeometry(1, 1, (1, 1), (1, 1))
    arithmetic = Arithmetic.of_dtype(torch.complex64)
    for size, excused in ((1.5e38, True), (2.0, False)):
        x = torch.full((1, 1, 1, 1), complex(size, size), dtype=torch.complex64)
        reference = expected(g, x, torch.full((1, 1, 1, 1), 1 + 1j, dtype=torch.complex64), None)
        bound = reference.bound(arithmetic, has_bias=False)
        found = reference.overflow(arithmetic, bound, has_bias=False)
        assert not found.anything[..., 0].any()
        assert bool(found.excuses(torch.full(bound.shape, nan))[..., 0].any()) is excused
