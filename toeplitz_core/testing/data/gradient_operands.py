"""Gradients of a case: the gradient ``g`` of its result, directions, and the sums that the gradients are.

For ``y = T x + b`` and the number ``g . y`` there are three gradients. The gradient in the input is ``T' g`` (``T'`` is
the conjugate transpose). The gradient in the weight sums ``g`` times the pixel that the tap reads, over images and
positions. The gradient in the bias sums ``g``. Each is a sum of products like the convolution itself, so the same bound
applies with the number of products of each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch

from toeplitz_core.bound import format_of
from toeplitz_core.products import adjoint, by_image, forward, weight_adjoint
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.recipe_table import ONE_HOT, RECIPES
from toeplitz_core.testing.data.one_hot import one_hot_gradient
from toeplitz_core.testing.data.operands import Bits, Operands, filled, kept, size
from toeplitz_core.testing.data.real_numbers import FILLS
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.data.whole_numbers import Signed, accumulator_limit, storage_limit, widest_operand


def draw_with_gradient(case: Case) -> Operands:
    """The operands of a case and the gradient of its result, drawn so that the sums of all gradients fit too."""
    return kept(_with_gradient, case)


def _with_gradient(case: Case) -> Operands:
    operands = draw(case)
    if case.data == ONE_HOT:
        return replace(operands, grad=one_hot_gradient(case))
    if RECIPES[case.data].kind == "real":
        return _real(case, operands)
    return _exact(case, operands)


def _exact(case: Case, operands: Operands) -> Operands:
    """Integers whose sums of products stay within the recipe's limit; some are set to zero if even ones exceed it."""
    limit = storage_limit(case) if RECIPES[case.data].kind == "storage" else accumulator_limit(case)
    ones = torch.ones(case.output_shape, dtype=torch.float64)
    parts = 4 if case.torch_dtype.is_complex else 1  # size() of two parts of the largest magnitude
    largest = parts * _largest_sum(case, operands, ones)
    g_max = max(1, min(widest_operand(case), int(limit / largest) if largest else limit))
    fill = Signed()
    grad = filled(case, "grad", case.output_shape, lambda bits, count: fill(bits, count, g_max, zero=True))
    priority = filled(case, "grad.thinning", case.output_shape, Bits.raw, dtype=torch.int64, operand="grad")
    kept, thinned = 2**32, grad
    while kept and (over := _largest_sum(case, operands, size(thinned)) / limit) > 1:
        kept = min(kept * 3 // 4, int(kept / over * 1.25))
        thinned = torch.where(priority < kept, grad, 0)
    density = kept / 2**32
    miss = max(density / fill.values(g_max), (1 - density) + density * fill.zeros(g_max))
    return replace(operands, grad=thinned, miss_probability=miss)


def _real(case: Case, operands: Operands) -> Operands:
    """Real numbers, scaled by a power of two if a sum could overflow."""
    grad = filled(case, "grad", case.output_shape, FILLS[case.data](case))
    threshold = 2.0 ** (format_of(case.torch_dtype).max_exponent - 1)
    over = _largest_sum(case, operands, size(grad)) / threshold
    grad = grad * 2.0 ** -math.ceil(math.log2(over) + 1) if over >= 1 else grad
    return replace(operands, grad=grad)


def _largest_sum(case: Case, operands: Operands, grad: torch.Tensor) -> float:
    """The largest sum of magnitudes in any of the gradients."""
    found = plain_gradients(case, size(operands.input), size(operands.weight), grad)
    return max((float(values.max()) for values in found.values() if values.numel()), default=0.0)


def draw_with_directions(case: Case) -> Operands:
    """The draw of :func:`draw_with_gradient`, with a direction of -1, 0 and 1 per operand for second derivatives."""
    return kept(_with_directions, case)


def _with_directions(case: Case) -> Operands:
    operands = draw_with_gradient(case)
    limit = storage_limit(case) if RECIPES[case.data].kind == "storage" else accumulator_limit(case)
    shapes = {"input": case.input, "weight": case.weight} | ({"bias": case.weight[:1]} if case.bias else {})
    drawn, priority = {}, {}
    for name, shape in shapes.items():
        stream = f"{name} direction"
        drawn[name] = filled(case, stream, shape, lambda bits, count: Signed()(bits, count, 1, zero=True), operand=name)
        priority[name] = filled(case, f"{stream}.thinning", shape, Bits.raw, dtype=torch.int64, operand=name)
    kept, thinned = 2**32, drawn
    while kept and (over := _largest_derivative(case, operands, thinned) / limit) > 1:
        kept = min(kept * 3 // 4, int(kept / over * 1.25))
        thinned = {name: torch.where(priority[name] < kept, values, 0) for name, values in drawn.items()}
    density = kept / 2**32
    miss = max(operands.miss_probability, 1 - density + density / 3)
    return replace(operands, directions=thinned, miss_probability=miss)


def _largest_derivative(case: Case, operands: Operands, directions: Mapping[str, torch.Tensor]) -> float:
    x, weight, grad = size(operands.input), size(operands.weight), size(operands.gradient)
    sizes = {name: size(values) for name, values in directions.items()}
    found = plain_derivatives(case, x, weight, grad, sizes)
    return max((float(values.max()) for values in found.values() if values.numel()), default=0.0)


def plain_gradients(case: Case, x: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradients in input, weight and bias, for tensors in the shapes of a case, computed in their dtype."""
    g = case.geometry
    y = by_image(g, grad)
    return {
        "input": adjoint(g, weight, y).reshape(case.input),
        "weight": weight_adjoint(g, by_image(g, x), y),
        "bias": y.sum((0, 2)),
    }


def plain_derivatives(
    case: Case,
    x: torch.Tensor,
    weight: torch.Tensor,
    grad: torch.Tensor,
    directions: Mapping[str, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """The derivatives of ``grad . (gradients along directions)``, in the operands' shapes, computed in their dtype."""
    g = case.geometry
    dx, dw = directions["input"], directions["weight"]
    along = {"along-input": forward(g, weight, by_image(g, dx)), "along-weight": forward(g, dw, by_image(g, x))}
    if "bias" in directions:
        along["along-bias"] = directions["bias"][:, None].expand_as(along["along-input"])
    y = by_image(g, grad)
    return {
        "input": adjoint(g, conjugate(dw), y).reshape(case.input),
        "weight": weight_adjoint(g, conjugate(by_image(g, dx)), y),
        "grad": torch.stack(tuple(along.values())).sum(0).reshape(case.output_shape),
        **{name: values.reshape(case.output_shape) for name, values in along.items()},
    }


def conjugate(values: torch.Tensor) -> torch.Tensor:
    """The conjugate, stored in memory rather than as a lazy view."""
    return values.conj().resolve_conj()
