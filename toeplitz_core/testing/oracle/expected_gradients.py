"""Exact gradients, and the magnitudes that bound the error of computed ones.

The formulas are in :mod:`toeplitz_core.testing.data.gradient_operands`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from toeplitz_core.products import by_image, forward, weight_adjoint
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.recipe_table import RECIPES
from toeplitz_core.testing.data.gradient_operands import conjugate, plain_derivatives, plain_gradients
from toeplitz_core.testing.data.operands import Operands, size, wide
from toeplitz_core.testing.oracle.expected import Expected
from toeplitz_core.testing.oracle.gradient_sums import (
    bias_gradient,
    bias_rows,
    input_gradient,
    input_rows,
    products,
    weight_gradient,
    weight_rows,
)

# Number of factors of chosen gradients that are widened at a time.
_CHOSEN_BLOCK = 2**20


def expected_gradients(case: Case, operands: Operands) -> dict[str, Expected]:
    """The exact gradients in input, weight and bias, in their shapes, with the magnitudes for an error bound.

    Gradients of float64 data are summed in pairs of float64, as the oracle does for results. Whole numbers do not need
    this: their sums are exact.
    """
    rounded = case.dtype in ("float64", "complex128") and RECIPES[case.data].kind == "real"
    values = _compensated(case, operands) if rounded else _plain(case, operands)
    sizes = _magnitudes(case, operands)
    ones = plain_gradients(
        case,
        *(torch.ones(shape, dtype=torch.float64) for shape in (case.input, case.weight, case.output_shape)),
    )
    found = {}
    for name, (value, residual) in values.items():
        if name == "bias" and not case.bias:
            continue

        def full(t: torch.Tensor, like: torch.Tensor = value) -> torch.Tensor:
            return t[..., None].expand(like.shape) if t.ndim < like.ndim else t

        zero = torch.zeros_like(value)
        found[name] = Expected(
            value=value,
            residual=residual,
            magnitude=sizes[name],
            products=full(ones[name]),
            bias=zero,
            offset=zero,
            subnormal=None,
            is_complex=case.torch_dtype.is_complex,
        )
    return found


def chosen_gradients(case: Case, operands: Operands, elements: Mapping[str, torch.Tensor]) -> dict[str, Expected]:
    """The exact gradients in chosen elements of input, weight and bias, each of shape (m,).

    Only the numbers that these elements depend on are widened, one element at a time if they are many.

    Parameters
    ----------
    elements : mapping of str to int64 tensor of shape (m,)
        Flat indices, by the name of the operand.
    """
    g, y = case.geometry, by_image(case.geometry, operands.gradient)
    one = torch.ones((), dtype=torch.float64)
    ones = {"input": (len(y), g.in_channels, g.pixels), "weight": case.weight, "grad": tuple(y.shape)}
    x_ones, weight_ones, y_ones = (one.expand(shape) for shape in ones.values())
    all_rows = {
        "input": (input_rows(g, operands.weight, y), input_rows(g, weight_ones, y_ones)),
        "weight": (weight_rows(g, by_image(g, operands.input), y), weight_rows(g, x_ones, y_ones)),
        "bias": (bias_rows(y), bias_rows(y_ones)),
    }
    found = {}
    for name, chosen in elements.items():
        (terms, rows), (_, counted) = all_rows[name]
        parts = []
        for block in chosen.split(max(1, _CHOSEN_BLOCK // max(1, terms))):
            a, b = (wide(t) for t in rows(block))
            a = a if name == "bias" else conjugate(a)
            parts.append(
                (*products(a, b), _size_of_products(a, b, has_factor=name != "bias"), counted(block)[0].sum(-1))
            )
        value, residual, magnitude, count = (torch.cat(each) for each in zip(*parts, strict=True))
        found[name] = Expected(
            value=value,
            residual=residual,
            magnitude=magnitude,
            products=count[:, None].expand(value.shape) if value.ndim > 1 else count,
            bias=torch.zeros_like(value),
            offset=torch.zeros_like(value),
            subnormal=None,
            is_complex=case.torch_dtype.is_complex,
        )
    return found


def _size_of_products(a: torch.Tensor, b: torch.Tensor, *, has_factor: bool) -> torch.Tensor:
    """The sums of magnitudes of products over the last axis, as :func:`_magnitudes` has them."""
    if not a.is_complex():
        return (a.abs() * b.abs()).sum(-1)
    ar, ai, br, bi = (part.abs() for t in (a, b) for part in (t.real, t.imag))
    re = ar * (br + 2 * bi) + ai * bi
    im = (2 * ar + ai) * br + (ar + 2 * ai) * bi if has_factor else bi
    return torch.stack((re.sum(-1), im.sum(-1)), dim=-1)


def _magnitudes(case: Case, operands: Operands) -> dict[str, torch.Tensor]:
    """The sums of magnitudes; a complex gradient has those of its two parts on a last axis.

    A complex gradient is a sum of products of the conjugate of ``o``, the other operand, with ``g``. If a convolution
    uses Gauss's three products (see :class:`Expected`), autograd computes its gradient as
    ``or (gr - gi) + (or + oi) gi`` and ``oi (-gr - gi) + (or + oi) gi`` (aten/src/ATen/native/Convolution.cpp). If the
    gradient is itself a convolution by Gauss's products, they are ``or gr + oi gi`` and
    ``(or - oi) (gr + gi) - or gr + oi gi``. The magnitudes of both are at most those summed here. The gradient in the
    bias has no products.
    """
    x, weight, grad = operands.input, operands.weight, operands.gradient
    if not case.torch_dtype.is_complex:
        return plain_gradients(case, size(x), size(weight), size(grad))
    (xr, xi), (wr, wi), (gr, gi) = (
        torch.view_as_real(t.to(torch.complex128)).abs().unbind(-1) for t in (x, weight, grad)
    )
    re = plain_gradients(case, xr, wr, gr + 2 * gi), plain_gradients(case, xi, wi, gi)
    im = plain_gradients(case, 2 * xr + xi, 2 * wr + wi, gr), plain_gradients(case, xr + 2 * xi, wr + 2 * wi, gi)
    found = {name: torch.stack([a[name] + b[name] for a, b in (re, im)], dim=-1) for name in ("input", "weight")}
    return found | {"bias": torch.stack([of_g["bias"] for of_g in re], dim=-1)}


def _plain(case: Case, operands: Operands) -> dict[str, tuple[torch.Tensor, None]]:
    """Gradients summed in float64, where products of narrower or whole numbers are exact; complex ones by parts."""
    x, weight, grad = (wide(t) for t in (operands.input, operands.weight, operands.gradient))
    values = plain_gradients(case, conjugate(x), conjugate(weight), grad)
    return {name: (torch.view_as_real(v) if v.is_complex() else v, None) for name, v in values.items()}


def _compensated(case: Case, operands: Operands) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Gradients summed in pairs of float64: value and residual, with complex parts on a last axis."""
    g = case.geometry
    x, weight = conjugate(by_image(g, operands.input)), conjugate(operands.weight)
    y = by_image(g, operands.gradient)
    of_input = [t.reshape(*case.input, *(2,) * case.torch_dtype.is_complex) for t in input_gradient(g, weight, y)]
    return {
        "input": (of_input[0], of_input[1]),
        "weight": weight_gradient(g, x, y),
        "bias": bias_gradient(y),
    }


def expected_derivatives(case: Case, operands: Operands) -> dict[str, Expected]:
    """The derivatives of ``grad . (gradients along directions)`` in input, weight and ``grad``.

    The derivative in ``grad`` is that of the result along the directions: ``T dx + dT x + db``. Each term is also
    returned by itself: it is the derivative along the direction of one operand alone.
    """
    directions, grad = operands.directions, operands.gradient
    values = plain_derivatives(
        case,
        wide(operands.input),
        wide(operands.weight),
        wide(grad),
        {name: wide(direction) for name, direction in directions.items()},
    )
    sizes = plain_derivatives(
        case,
        size(operands.input),
        size(operands.weight),
        size(grad),
        {name: size(direction) for name, direction in directions.items()},
    )
    return {name: _exactly(value, sizes[name]) for name, value in values.items()}


def expected_by_image(case: Case, operands: Operands) -> dict[str, Expected]:
    """The results for a weight and its negative, for a bias and its negative, and the weight gradient of each image."""
    g = case.geometry
    x, y = by_image(g, wide(operands.input)), by_image(g, wide(operands.gradient))
    weight, bias = wide(operands.weight), None if operands.bias is None else wide(operands.bias)

    def weights(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        each = [weight_adjoint(g, conjugate(x[n : n + 1]), y[n : n + 1]) for n in range(len(x))]
        return torch.stack(each) if each else x.new_zeros(0, *weight.shape)

    def result(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        value = forward(g, weight, x)
        return (value if bias is None else value + bias[:, None]).reshape(case.output_shape)

    sizes = result(size(x), size(weight), None if bias is None else size(bias))
    two = {"outputs": [result(x, w, bias) for w in (weight, -weight)]}
    if bias is not None:
        two["outputs-of-biases"] = [result(x, weight, b) for b in (bias, -bias)]
    return {
        **{name: _exactly(torch.stack(values), torch.stack((sizes, sizes))) for name, values in two.items()},
        "weights": _exactly(weights(x, y), weights(size(x), size(y))),
    }


def _exactly(value: torch.Tensor, magnitude: torch.Tensor) -> Expected:
    """The expected value of a sum of exact data, with the sum of its terms' magnitudes; it needs no error bound."""
    if value.is_complex():
        value, magnitude = torch.view_as_real(value), magnitude[..., None].expand(*magnitude.shape, 2)
        return replace(_exactly(value, magnitude), is_complex=True)
    zero = torch.zeros_like(value)
    return Expected(
        value=value,
        residual=None,
        magnitude=magnitude,
        products=(magnitude > 0).double(),
        bias=zero,
        offset=zero,
        subnormal=None,
        is_complex=False,
    )
