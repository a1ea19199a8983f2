"""Gradients of a convolution: what they must be, and the data that shows it.

For ``y = T x + b`` and a number ``g . y`` the gradient in the input is ``T' g`` (the conjugate transpose), that in the
weight sums ``g`` times the pixel that the tap reads over images and positions, that in the bias sums ``g``. Each is a
sum of products like the convolution itself, so the same bound holds, with the number of products of each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from toeplitz_core.bound import format_of
from toeplitz_core.operator import adjoint, by_image, forward, weight_adjoint
from toeplitz_core.testing.data.operands import Bits, Operands, filled, size, wide
from toeplitz_core.testing.data.real_numbers import FILLS
from toeplitz_core.testing.data.recipes import RECIPES, draw
from toeplitz_core.testing.data.whole_numbers import Signed, accumulator_limit, storage_limit, widest_operand
from toeplitz_core.testing.oracle.expected import Expected
from toeplitz_core.testing.oracle.gradient_sums import bias_gradient, input_gradient, weight_gradient

if TYPE_CHECKING:
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.subjects.interface import Procedure

OPERANDS = ("input", "weight", "bias")
# What reads the gradient of the result that is drawn here. (A derivative that is carried forward has none.)
READING_GRAD: tuple[Procedure, ...] = ("gradients", "double_backward", "functional_gradients", "vmap", "transposed")
# The recipes that gradients can be drawn for: the exact ones of two signs, and those of real numbers of ordinary size.
RECIPE_NAMES = ("integers", "accumulator", *FILLS)


def draw_with_gradient(case: Case) -> Operands:
    """The operands of a case, and what its result is multiplied by: chosen so that the sums of gradients fit too."""
    operands = draw(case)
    if RECIPES[case.data].kind == "real":
        return _real(case, operands)
    return _exact(case, operands)


def _exact(case: Case, operands: Operands) -> Operands:
    """Integers whose products' sums stay within the limit of the recipe; thinned where even ones and zeros do not."""
    limit = storage_limit(case) if RECIPES[case.data].kind == "storage" else accumulator_limit(case)
    ones = torch.ones(case.output_shape, dtype=torch.float64)
    parts = 4 if case.torch_dtype.is_complex else 1  # size() of two parts that are as large as they may be
    largest = parts * _largest_sum(case, operands, ones)
    g_max = max(1, min(widest_operand(case), int(limit / largest) if largest else limit))
    fill = Signed()
    grad = filled(case, "grad", case.output_shape, lambda bits, count: fill(bits, count, g_max, zero=True))
    priority = filled(case, "grad.thinning", case.output_shape, Bits.raw, dtype=torch.int64)
    kept, thinned = 2**32, grad
    while kept and (over := _largest_sum(case, operands, size(thinned)) / limit) > 1:
        kept = min(kept * 3 // 4, int(kept / over * 1.25))
        thinned = torch.where(priority < kept, grad, 0)
    density = kept / 2**32
    miss = max(density / fill.values(g_max), (1 - density) + density * fill.zeros(g_max))
    return replace(operands, more={"grad": thinned}, miss_probability=miss)


def _real(case: Case, operands: Operands) -> Operands:
    """Real numbers, scaled by a power of two where a sum could overflow."""
    grad = filled(case, "grad", case.output_shape, FILLS[case.data](case))
    threshold = 2.0 ** (format_of(case.torch_dtype).max_exponent - 1)
    over = _largest_sum(case, operands, size(grad)) / threshold
    grad = grad * 2.0 ** -math.ceil(math.log2(over) + 1) if over >= 1 else grad
    return replace(operands, more={"grad": grad})


def _largest_sum(case: Case, operands: Operands, grad: torch.Tensor) -> float:
    """The largest sum of magnitudes of a gradient."""
    found = _gradients(case, size(operands.input), size(operands.weight), grad)
    return max((float(values.max()) for values in found.values() if values.numel()), default=0.0)


def expected_gradients(case: Case, operands: Operands) -> dict[str, Expected]:
    """The exact gradients in input, weight and bias, in their shapes, and what bounds the errors of computed ones.

    Those of float64 are summed in pairs of float64, as the oracle does for results; whole numbers need no such care.
    """
    rounded = case.dtype in ("float64", "complex128") and RECIPES[case.data].kind == "real"
    values = _compensated(case, operands) if rounded else _plain(case, operands)
    sizes = _magnitudes(case, operands)
    ones = _gradients(
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


def _magnitudes(case: Case, operands: Operands) -> dict[str, torch.Tensor]:
    """The sums of magnitudes, with those of both parts of complex gradients on a last axis.

    Of complex numbers a gradient is a sum of products of the conjugate of ``o``, the other operand, with ``g``. A
    convolution by Gauss's three products (see :class:`Expected`) goes back by autograd as
    ``or (gr - gi) + (or + oi) gi`` and ``oi (-gr - gi) + (or + oi) gi`` (aten/src/ATen/native/Convolution.cpp), and the
    same products in a convolution of its own are ``or gr + oi gi`` and ``(or - oi) (gr + gi) - or gr + oi gi``. Their
    magnitudes are at most those summed here. Nothing is multiplied for the bias.
    """
    x, weight, grad = operands.input, operands.weight, operands.more["grad"]
    if not case.torch_dtype.is_complex:
        return _gradients(case, size(x), size(weight), size(grad))
    (xr, xi), (wr, wi), (gr, gi) = (
        torch.view_as_real(t.to(torch.complex128)).abs().unbind(-1) for t in (x, weight, grad)
    )
    re = _gradients(case, xr, wr, gr + 2 * gi), _gradients(case, xi, wi, gi)
    im = _gradients(case, 2 * xr + xi, 2 * wr + wi, gr), _gradients(case, xr + 2 * xi, wr + 2 * wi, gi)
    found = {name: torch.stack([a[name] + b[name] for a, b in (re, im)], dim=-1) for name in ("input", "weight")}
    return found | {"bias": torch.stack([of_g["bias"] for of_g in re], dim=-1)}


def _plain(case: Case, operands: Operands) -> dict[str, tuple[torch.Tensor, None]]:
    """Summed in float64, where products of narrower or whole numbers are exact; complex ones by parts."""
    x, weight, grad = (wide(t) for t in (operands.input, operands.weight, operands.more["grad"]))
    values = _gradients(case, _conjugate(x), _conjugate(weight), grad)
    return {name: (torch.view_as_real(v) if v.is_complex() else v, None) for name, v in values.items()}


def _compensated(case: Case, operands: Operands) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Summed in pairs of float64: value and residual, complex ones as parts on a last axis."""
    g = case.geometry
    x, weight = _conjugate(by_image(g, operands.input)), _conjugate(operands.weight)
    y = by_image(g, operands.more["grad"])
    of_input = [t.reshape(*case.input, *(2,) * case.torch_dtype.is_complex) for t in input_gradient(g, weight, y)]
    return {
        "input": (of_input[0], of_input[1]),
        "weight": weight_gradient(g, x, y),
        "bias": bias_gradient(y),
    }


def _gradients(case: Case, x: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor) -> dict[str, torch.Tensor]:
    """``T.mT g`` and the like, of tensors in the shapes of a case."""
    g = case.geometry
    y = by_image(g, grad)
    return {
        "input": adjoint(g, weight, y).reshape(case.input),
        "weight": weight_adjoint(g, by_image(g, x), y),
        "bias": y.sum((0, 2)),
    }


def draw_with_directions(case: Case) -> Operands:
    """Besides, whole numbers of -1, 0 and 1 for each operand: in which directions derivatives of second order are."""
    operands = draw_with_gradient(case)
    limit = storage_limit(case) if RECIPES[case.data].kind == "storage" else accumulator_limit(case)
    shapes = {"input": case.input, "weight": case.weight} | ({"bias": case.weight[:1]} if case.bias else {})
    drawn, priority = {}, {}
    for name, shape in shapes.items():
        stream = f"{name} direction"
        drawn[stream] = filled(case, stream, shape, lambda bits, count: Signed()(bits, count, 1, zero=True))
        priority[stream] = filled(case, f"{stream}.thinning", shape, Bits.raw, dtype=torch.int64)
    kept, thinned = 2**32, drawn
    while kept and (over := _largest_derivative(case, operands, thinned) / limit) > 1:
        kept = min(kept * 3 // 4, int(kept / over * 1.25))
        thinned = {name: torch.where(priority[name] < kept, values, 0) for name, values in drawn.items()}
    density = kept / 2**32
    miss = max(operands.miss_probability, 1 - density + density / 3)
    return replace(operands, more={**operands.more, **thinned}, miss_probability=miss)


def _largest_derivative(case: Case, operands: Operands, directions: Mapping[str, torch.Tensor]) -> float:
    x, weight, grad = size(operands.input), size(operands.weight), size(operands.more["grad"])
    sizes = {name: size(values) for name, values in directions.items()}
    found = _derivatives(case, x, weight, grad, sizes)
    return max((float(values.max()) for values in found.values() if values.numel()), default=0.0)


def expected_derivatives(case: Case, operands: Operands) -> dict[str, Expected]:
    """The derivatives of ``grad . (gradients along directions)`` in input, weight and ``grad``.

    That in ``grad`` is the derivative of the result itself along the directions, ``T dx + dT x + db``, of which each
    term is there too: the derivative along the direction of one operand alone.
    """
    more = {name: wide(values) for name, values in operands.more.items()}
    grad = more.pop("grad")
    values = _derivatives(case, wide(operands.input), wide(operands.weight), grad, more)
    sizes = _derivatives(
        case,
        size(operands.input),
        size(operands.weight),
        size(grad),
        {name: size(direction) for name, direction in more.items()},
    )
    return {name: _exactly(value, sizes[name]) for name, value in values.items()}


def _derivatives(
    case: Case,
    x: torch.Tensor,
    weight: torch.Tensor,
    grad: torch.Tensor,
    directions: Mapping[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    g = case.geometry
    dx, dw = directions["input direction"], directions["weight direction"]
    along = {"along-input": forward(g, weight, by_image(g, dx)), "along-weight": forward(g, dw, by_image(g, x))}
    if "bias direction" in directions:
        along["along-bias"] = directions["bias direction"][:, None].expand_as(along["along-input"])
    y = by_image(g, grad)
    return {
        "input": adjoint(g, _conjugate(dw), y).reshape(case.input),
        "weight": weight_adjoint(g, _conjugate(by_image(g, dx)), y),
        "grad": torch.stack(tuple(along.values())).sum(0).reshape(case.output_shape),
        **{name: values.reshape(case.output_shape) for name, values in along.items()},
    }


def expected_by_image(case: Case, operands: Operands) -> dict[str, Expected]:
    """The results of two weights, and of two biases, one minus the other; the gradient in the weight of each image."""
    g = case.geometry
    x, y = by_image(g, wide(operands.input)), by_image(g, wide(operands.more["grad"]))
    weight, bias = wide(operands.weight), None if operands.bias is None else wide(operands.bias)

    def weights(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        each = [weight_adjoint(g, _conjugate(x[n : n + 1]), y[n : n + 1]) for n in range(len(x))]
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


def _conjugate(values: torch.Tensor) -> torch.Tensor:
    return values.conj().resolve_conj()


def _exactly(value: torch.Tensor, magnitude: torch.Tensor) -> Expected:
    """Of exact data: what a sum is and how large its terms are together; it has no bound."""
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
