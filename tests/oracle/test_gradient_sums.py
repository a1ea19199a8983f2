"""Gradients in twice float64's precision agree with rational arithmetic on the definition of a convolution."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.definition import entries_by_definition
from tests.helpers.operands import distinct, seeds, small_geometries
from toeplitz_core import ConvGeometry
from toeplitz_core.bound import FLOAT64, Arithmetic
from toeplitz_core.products import by_image
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.gradient_operands import draw_with_gradient
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.data.real_numbers import FILLS
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.oracle import gradient_sums
from toeplitz_core.testing.oracle.expected_gradients import expected_gradients
from toeplitz_core.testing.oracle.gradient_sums import bias_gradient, input_gradient, weight_gradient
from toeplitz_core.testing.subjects import TorchSubject

U = Fraction(FLOAT64.unit_roundoff)


def _read(g: ConvGeometry) -> Iterator[tuple[int, int, int]]:
    """The row, the column and the flat index of the weight of each entry of ``T``."""
    numbered = distinct(g.weight_shape)
    entries = entries_by_definition(numbered, g.input_size, g.stride, g.padding, g.dilation, g.groups)
    for (row, column), number in entries.items():
        yield row, column, int(number) - 1


def _factors(case: Case, operands: Operands) -> dict[str, list[list[tuple[complex, complex]]]]:
    """The pairs of factors whose products each gradient sums; the first factor is conjugated."""
    g = case.geometry
    images = len(by_image(g, operands.input))
    weight = operands.weight.flatten().tolist()
    x, y = (t.reshape(images, -1 if images else 0).tolist() for t in (operands.input, operands.gradient))
    columns = g.matrix_shape[1]
    terms: dict[str, list[list[tuple[complex, complex]]]] = {
        "input": [[] for _ in range(images * columns)],
        "weight": [[] for _ in weight],
        "bias": [[(1, y[n][o * g.positions + p]) for n in range(images) for p in range(g.positions)]
                 for o in range(g.out_channels)],
    }  # fmt: skip
    for row, column, tap in _read(g):
        for n in range(images):
            terms["input"][n * columns + column].append((weight[tap].conjugate(), y[n][row]))
            terms["weight"][tap].append((x[n][column].conjugate(), y[n][row]))
    return terms


def exact(factors: list[tuple[complex, complex]]) -> list[list[tuple[Fraction, Fraction]]]:
    """The factors of the real products in each part of a sum: one list for real numbers, two for complex ones."""
    if not any(isinstance(factor, complex) for pair in factors for factor in pair):
        return [[(Fraction(a), Fraction(b)) for a, b in factors]]
    re, im = [], []
    for a, b in factors:
        ar, ai, br, bi = (Fraction(v) for v in (a.real, a.imag, b.real, b.imag))
        re += [(ar, br), (-ai, bi)]
        im += [(ar, bi), (ai, br)]
    return [re, im]


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@settings(max_examples=30)
@given(
    g=small_geometries(),
    batch=st.sampled_from((1, 2, None, 3)),
    data=st.sampled_from(tuple(FILLS)),
    seed=seeds(),
)
def test_gradients_are_those_of_rational_arithmetic(
    dtype: str, g: ConvGeometry, batch: int | None, data: str, seed: int
) -> None:
    """Value plus residual is off by at most ``(n + 1)^2 2^-104`` times the sum of magnitudes: far below any bound."""
    case = Case.of(g, batch, dtype=dtype, bias=True, data=data, seed=seed)
    operands = draw_with_gradient(case)
    for name, wanted in expected_gradients(case, operands).items():
        assert wanted.residual is not None
        parts = 2 if wanted.is_complex else 1
        value, residual = (t.reshape(-1, parts).tolist() for t in (wanted.value, wanted.residual))
        rows = _factors(case, operands)[name]
        assert len(rows) == len(value)
        for factors, v, r in zip(rows, value, residual, strict=True):
            sums = exact(factors) if factors else [[]] * parts
            for part, products in enumerate(sums):
                off = abs(Fraction(v[part]) + Fraction(r[part]) - sum((a * b for a, b in products), Fraction(0)))
                magnitude = sum((abs(a * b) for a, b in products), Fraction(0))
                assert off <= (len(products) + 1) ** 2 * U**2 * 4 * magnitude, name


@settings(max_examples=30)
@given(g=small_geometries(), seed=seeds())
def test_bound_of_a_gradient_is_that_of_its_roundings(g: ConvGeometry, seed: int) -> None:
    """For float64 the bound is ``((1 + u)^n - 1) S``; the oracle's own error adds almost nothing."""
    case = Case.of(g, 2, dtype="float64", bias=True, data="normal", seed=seed)
    operands = draw_with_gradient(case)
    for name, wanted in expected_gradients(case, operands).items():
        bound = wanted.bound(Arithmetic.of_dtype(torch.float64), has_bias=False).flatten().tolist()
        for factors, allowed in zip(_factors(case, operands)[name], bound, strict=True):
            magnitude = sum((abs(Fraction(a) * Fraction(b)) for a, b in factors), Fraction(0))
            own = ((1 + U) ** len(factors) - 1) * magnitude
            assert Fraction(allowed) <= own * (1 + Fraction(2) ** -30) + Fraction(2) ** -1060
            assert Fraction(allowed) >= own * (1 - U * (len(factors) + 2))


def test_an_error_beyond_one_rounding_is_found() -> None:
    """A gradient with a single product fails if it is off by one unit in the last place."""

    class _OneUp(torch.autograd.Function):
        @staticmethod
        def forward(_: object, values: torch.Tensor) -> torch.Tensor:
            return values.clone()

        @staticmethod
        def backward(_: object, grad: torch.Tensor) -> torch.Tensor:
            return grad.nextafter(2 * grad)

    def conv2d(x: torch.Tensor, *rest: object) -> torch.Tensor:
        return torch.nn.functional.conv2d(_OneUp.apply(x), *rest)

    case = Case.parse("input=1x1x5x5 weight=1x1x1x1 dtype=float64 data=normal")
    assert LAWS["gradients-bound"](TorchSubject("right", torch.nn.functional.conv2d), case).status is Status.PASS
    assert LAWS["gradients-bound"](TorchSubject("wrong", conv2d), case).status is Status.FAIL


@pytest.mark.parametrize("line", [
    "input=0x2x3x3 weight=4x1x2x2 groups=2 bias dtype=float64",
    "input=2x2x3x3 weight=4x1x1x1 padding=5 stride=11 groups=2 bias dtype=complex128",
    "input=2x2x1x4 weight=2x2x1x3 padding=4x9 stride=9x7 dilation=1x5 bias dtype=float64",
    "input=6x2x9 weight=4x6x3x3 padding=same dilation=3x1 dtype=complex128",
])  # fmt: skip
def test_gradients_of_little_that_is_read(line: str) -> None:
    """Empty batches, unread pixels and taps without pixels have zero gradients of the right shapes."""
    case = Case.parse(line)
    g, operands, factors = case.geometry, draw_with_gradient(case), _factors(case, draw_with_gradient(case))
    x, y = by_image(g, operands.input).conj().resolve_conj(), by_image(g, operands.gradient)
    weight = operands.weight.conj().resolve_conj()
    found = {
        "input": (input_gradient(g, weight, y), (len(x), g.in_channels, g.pixels)),
        "weight": (weight_gradient(g, x, y), case.weight),
        "bias": (bias_gradient(y), case.weight[:1]),
    }
    parts = 2 if y.is_complex() else 1
    for name, ((value, residual), shape) in found.items():
        assert value.shape == residual.shape == shape + (2,) * (parts - 1)
        sums = [sum((a * b for a, b in row), 0j) for row in factors[name]]
        assert value.reshape(len(sums), parts).tolist() == [[s.real, s.imag][:parts] for s in sums]
        assert not residual.any()


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients summed in blocks of a few rows are the same."""
    case = Case.parse("input=2x4x7x6 weight=6x2x3x2 stride=2x1 padding=1 groups=2 dtype=float64 data=wide")
    operands = draw_with_gradient(case)
    whole = expected_gradients(case, operands)
    monkeypatch.setattr(gradient_sums, "_BLOCK", 50)
    for name, pieces in expected_gradients(case, operands).items():
        assert pieces.residual is not None
        assert torch.equal(pieces.value, whole[name].value)
        assert torch.equal(pieces.residual, whole[name].residual)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_whole_numbers_are_summed_plainly(dtype: str) -> None:
    """Whole numbers whose sums float64 holds are summed in plain float64, exactly."""
    case = Case.parse(f"input=2x4x7x6 weight=6x2x3x2 stride=2x1 padding=1 groups=2 bias dtype={dtype} data=accumulator")
    for name, wanted in expected_gradients(case, operands := draw_with_gradient(case)).items():
        assert wanted.residual is None
        value = wanted.value.reshape(-1, 2 if wanted.is_complex else 1).tolist()
        for row, v in zip(_factors(case, operands)[name], value, strict=True):
            sums = exact(row)
            assert [Fraction(part) for part in v] == [sum((a * b for a, b in terms), Fraction(0)) for terms in sums]
