"""The expected gradients of a convolution are exactly those of its matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, target
from hypothesis import strategies as st

from toeplitz_core import toeplitz_matrix
from toeplitz_core.bound import Arithmetic, format_of
from toeplitz_core.products import by_image, weight_adjoint
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.recipe_table import RECIPES
from toeplitz_core.testing.data.gradient_operands import draw_with_directions, draw_with_gradient
from toeplitz_core.testing.data.operands import Operands, wide
from toeplitz_core.testing.data.real_numbers import FILLS
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.families.gradients import judged_gradient
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.oracle.expected_gradients import (
    expected_by_image,
    expected_derivatives,
    expected_gradients,
)
from toeplitz_core.testing.strategies.cases import cases
from toeplitz_core.testing.strategies.geometries import geometries
from toeplitz_core.testing.subjects import resolve

SMALL = geometries(max_products=2**8)
FLOATING = ("float64", "float32", "float16", "bfloat16")
COMPLEX = ("complex128", "complex64")


def through_the_matrix(case: Case, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """``T x + b`` with a dense ``T``, differentiable in input, weight and bias."""
    g = case.geometry
    T = toeplitz_matrix(weight, g.input_size, g.stride, g.padding, g.dilation, g.groups)
    y = by_image(g, x).flatten(1) @ T.mT
    y = y.unflatten(1, (g.out_channels, g.positions))
    return (y if bias is None else y + bias[:, None]).reshape(case.output_shape)


def leaves(operands: Operands) -> list[torch.Tensor]:
    """Input, weight and bias in a wide dtype, each requiring a gradient."""
    wide = torch.complex128 if operands.input.is_complex() else torch.float64
    given = (operands.input, operands.weight, *(() if operands.bias is None else (operands.bias,)))
    return [t.to(wide, copy=True).requires_grad_() for t in given]


@given(case=cases(geometry=SMALL, dtypes=("float64", "complex128")))
@settings(max_examples=60)
def test_the_weight_adjoint_is_the_derivative_of_the_matrix(case: Case):
    """The weight adjoint equals the weight gradient that autograd computes through the dense matrix."""
    operands = draw_with_gradient(case)
    x, weight, *_ = leaves(operands)
    y = operands.gradient.to(x.dtype)
    (found,) = torch.autograd.grad((through_the_matrix(case, x, weight, None) * y).sum().real, weight)
    g = case.geometry
    mine = weight_adjoint(g, by_image(g, x.detach()), by_image(g, y))
    mine = mine.conj().resolve_conj() if mine.is_complex() else mine
    assert torch.equal(mine, found)


@pytest.mark.parametrize("dtype", [*FLOATING, *COMPLEX])
@settings(max_examples=25)
@given(drawn=st.data())
def test_expected_gradients_are_those_of_the_matrix(dtype: str, drawn: st.DataObject):
    """Each expected gradient equals autograd's through the dense matrix in float64, in every bit."""
    case = drawn.draw(cases(geometry=SMALL, dtypes=(dtype,)))
    operands = draw_with_gradient(case)
    given_ = leaves(operands)
    y = through_the_matrix(case, given_[0], given_[1], given_[2] if case.bias else None)
    found = torch.autograd.grad(y, given_, operands.gradient.to(y.dtype))
    wanted = expected_gradients(case, operands)
    assert list(wanted) == ["input", "weight", "bias"][: len(given_)]
    for value, gradient in zip(wanted.values(), found, strict=True):
        assert torch.equal(value.value, torch.view_as_real(gradient) if gradient.is_complex() else gradient)
        assert (value.value.abs() <= value.magnitude).all()


def of_real_convolution(
    case: Case, x: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The gradients of a convolution of real numbers, computed in their format."""
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    found = torch.autograd.grad(through_the_matrix(case, x, weight, None), (x, weight), grad)
    return dict(zip(("input", "weight"), found, strict=True)) | {"bias": by_image(case.geometry, grad).sum((0, 2))}


def autograd_of_three_products(case: Case, operands: Operands) -> dict[str, torch.Tensor]:
    """Autograd's gradients of a convolution by Gauss's three real products, as torch computes it."""
    x, weight = (t.clone().requires_grad_() for t in (operands.input, operands.weight))
    bias = torch.zeros(len(weight), dtype=x.dtype).requires_grad_()

    def real(part: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        return through_the_matrix(case, part(x), part(weight), part(bias))

    a = real(torch.real)
    b = through_the_matrix(case, x.imag, weight.imag, None)
    c = real(lambda t: t.real + t.imag)
    found = torch.autograd.grad((a - b) + 1j * (c - a - b), (x, weight, bias), operands.gradient)
    return dict(zip(("input", "weight", "bias"), found, strict=True))


def three_products_of_conjugates(case: Case, operands: Operands) -> dict[str, torch.Tensor]:
    """Gradients by Gauss's three products of an operand's conjugate and the result's gradient."""
    x, weight, grad = operands.input.conj(), operands.weight.conj(), operands.gradient
    a = of_real_convolution(case, x.real, weight.real, grad.real)
    b = of_real_convolution(case, x.imag, weight.imag, grad.imag)
    c = of_real_convolution(case, x.real + x.imag, weight.real + weight.imag, grad.real + grad.imag)
    found = {name: torch.complex(a[name] - b[name], c[name] - a[name] - b[name]) for name in ("input", "weight")}
    return found | {"bias": torch.complex(a["bias"], b["bias"])}


def four_products(case: Case, operands: Operands) -> dict[str, torch.Tensor]:
    """Gradients by four real products: each part of an operand times each part of the result's gradient."""
    (xr, xi), (wr, wi), (gr, gi) = (
        torch.view_as_real(t).unbind(-1) for t in (operands.input, operands.weight, operands.gradient)
    )
    rr, ii, ri, ir = (of_real_convolution(case, *of) for of in ((xr, wr, gr), (xi, wi, gi), (xr, wr, gi), (xi, wi, gr)))
    found = {name: torch.complex(rr[name] + ii[name], ri[name] - ir[name]) for name in ("input", "weight")}
    return found | {"bias": torch.complex(rr["bias"], ri["bias"])}


@pytest.mark.parametrize("dtype", COMPLEX)
@pytest.mark.parametrize("way", [autograd_of_three_products, three_products_of_conjugates, four_products])
@settings(max_examples=40)
@given(drawn=st.data())
def test_gradients_of_complex_numbers_are_within_the_bound(
    way: Callable[[Case, Operands], dict[str, torch.Tensor]], dtype: str, drawn: st.DataObject
):
    """Complex gradients stay within the bound for every way to multiply, even if parts differ greatly in size."""
    case = drawn.draw(cases(geometry=SMALL, dtypes=(dtype,), recipes=tuple(FILLS)))
    operands = draw_with_gradient(case)
    wanted = expected_gradients(case, operands)
    for name, values in way(case, operands).items():
        if name in wanted:
            verdict = judged_gradient(case, Arithmetic.of_dtype(case.torch_dtype), 0.0, values, wanted[name], name)
            assert verdict.status is not Status.FAIL, verdict.message
            target(verdict.ratio or 0.0, label=name)


def test_the_bound_of_complex_gradients_is_nearly_attained():
    """For one product of specially searched numbers, the error is two thirds of the bound, so the bound is tight."""
    weight = complex(float.fromhex("0x1.0115060p+0"), float.fromhex("-0x1.c2c0880p-22"))
    grad = complex(float.fromhex("-0x1.40621c0p-22"), float.fromhex("0x1.00454a0p+0"))
    case = Case.parse("input=1x1x1x1 weight=1x1x1x1 dtype=complex64 data=normal")
    operands = draw_with_gradient(case)
    given_ = torch.full_like(operands.weight, weight), torch.full_like(operands.gradient, grad)
    operands = replace(operands, weight=given_[0], grad=given_[1])
    actual, wanted = autograd_of_three_products(case, operands)["input"], expected_gradients(case, operands)["input"]
    verdict = judged_gradient(case, Arithmetic.of_dtype(case.torch_dtype), 0.0, actual, wanted, "input")
    assert verdict.ratio == pytest.approx(0.65, abs=0.005), verdict.message


def parts(values: torch.Tensor) -> torch.Tensor:
    """Complex numbers as pairs of real numbers on a last axis."""
    return torch.view_as_real(values.resolve_conj()) if values.is_complex() else values


@pytest.mark.parametrize("dtypes", [FLOATING, COMPLEX])
@settings(max_examples=40)
@given(drawn=st.data())
def test_expected_derivatives_are_those_of_the_matrix(dtypes: tuple[str, ...], drawn: st.DataObject):
    """The gradients of gradients along directions, and the forward derivatives, are those of the matrix."""
    case = drawn.draw(cases(geometry=SMALL, dtypes=dtypes))
    operands = draw_with_directions(case)
    given_, grad = leaves(operands), wide(operands.gradient).clone().requires_grad_()
    y = through_the_matrix(case, given_[0], given_[1], given_[2] if case.bias else None)
    first = torch.autograd.grad(y, given_, grad, create_graph=True)
    along = [wide(operands.directions[name]) for name in ("input", "weight", "bias")[: len(given_)]]
    second = torch.autograd.grad(first, [*given_[:2], grad], along, materialize_grads=True, retain_graph=True)
    wanted = expected_derivatives(case, operands)
    for name, one, direction in zip(("input", "weight", "bias"), first, along, strict=False):
        (alone,) = torch.autograd.grad(one, grad, direction, materialize_grads=True, retain_graph=True)
        assert torch.equal(wanted[f"along-{name}"].value, parts(alone)), name
    for name, value in zip(("input", "weight", "grad"), second, strict=True):
        assert torch.equal(wanted[name].value, parts(value)), name


@pytest.mark.parametrize("dtypes", [FLOATING, COMPLEX])
@settings(max_examples=40)
@given(drawn=st.data())
def test_images_add_up_to_the_batch(dtypes: tuple[str, ...], drawn: st.DataObject):
    """The weight gradients of all images add up to the batch's, and each weight and bias has its own result."""
    case = drawn.draw(cases(geometry=SMALL, dtypes=dtypes))
    operands = draw_with_gradient(case)
    wanted, images = expected_gradients(case, operands), expected_by_image(case, operands)
    assert torch.equal(images["weights"].value.sum(0), wanted["weight"].value)
    bias = None if operands.bias is None else wide(operands.bias)
    x, w = wide(operands.input), wide(operands.weight)
    both = {"outputs": [(w, bias), (-w, bias)]} | (
        {} if bias is None else {"outputs-of-biases": [(w, bias), (w, -bias)]}
    )
    assert images.keys() - {"weights"} == both.keys()
    for name, pairs in both.items():
        results = [through_the_matrix(case, x, *pair) for pair in pairs]
        assert torch.equal(images[name].value, parts(torch.stack(results)))


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("data", tuple(name for name, recipe in RECIPES.items() if recipe.has_gradients))
@settings(max_examples=20)
@given(drawn=st.data())
def test_sums_of_gradients_fit(dtype: str, data: str, drawn: st.DataObject):
    """Sums of magnitudes of gradients stay within the exact range; for real data they do not overflow."""
    case = drawn.draw(cases(geometry=SMALL, dtypes=(dtype,), recipes=(data,)))
    operands = draw_with_gradient(case)
    out, accumulator = format_of(case.torch_dtype), Arithmetic.of_dtype(case.torch_dtype).accumulator
    limit = {
        "storage": 2.0**out.precision - 1,
        "accumulator": min(2.0**accumulator.precision - 1, torch.finfo(case.torch_dtype).max),
        "real": torch.finfo(case.torch_dtype).max,
    }[RECIPES[data].kind]
    for value in expected_gradients(case, operands).values():
        assert not value.magnitude.numel() or float(value.magnitude.max()) <= limit
    if data not in FILLS:
        grad = operands.gradient
        assert torch.equal(grad, grad.round())
        assert 0 <= operands.miss_probability <= 1


def test_gradients_are_drawn_from_the_seed():
    """The same case has the same gradient and directions; another seed gives different ones."""
    case = Case.parse("input=2x3x5x5 weight=4x3x3x3 bias")
    one, two, other = (
        {"grad": operands.gradient, **operands.directions}
        for operands in map(draw_with_directions, (case, case, case.replace(seed=1)))
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert all(not torch.equal(one[name], other[name]) for name in one if name != "bias")


@pytest.mark.skipif(not torch.backends.nnpack.is_available(), reason="this torch has no NNPACK")
@pytest.mark.parametrize("law", ["double-backward", "forward-mode"])
def test_what_is_transformed_in_a_derivative_is_not_judged_as_exact(law: str):
    """If a convolution within a derivative uses NNPACK, its error is not bounded, so the case is unsupported."""
    case = Case.parse(f"input=16x1x4x1 weight=1x1x4x1 law={law}")
    verdict = LAWS[law](resolve("torch-nnpack"), case)
    assert verdict.status is Status.UNSUPPORTED
    assert "Winograd" in verdict.message
    assert LAWS[law](resolve("torch-native"), case).status is Status.PASS
