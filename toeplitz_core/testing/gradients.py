"""Gradients of a convolution: what they must be, and the data that shows it.

For ``y = T x + b`` and a number ``g . y`` the gradient in the input is ``T' g`` (the conjugate transpose), that in the
weight sums ``g`` times the pixel that the tap reads over images and positions, that in the bias sums ``g``. Each is a
sum of products like the convolution itself, so the same bound holds, with the number of products of each.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from toeplitz_core.bound import format_of
from toeplitz_core.operator import adjoint, by_image, forward, weight_adjoint
from toeplitz_core.testing.data import (
    FILLS,
    RECIPES,
    Bits,
    Operands,
    Signed,
    accumulator_limit,
    draw,
    filled,
    size,
    storage_limit,
    widest_operand,
)
from toeplitz_core.testing.oracle import Expected

if TYPE_CHECKING:
    from toeplitz_core.testing.case import Case

OPERANDS = ("input", "weight", "bias")
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

    float64 sums are their own oracle here: their error is added to the bound, as always for narrower formats.
    """
    wide = torch.complex128 if case.torch_dtype.is_complex else torch.float64
    grad = operands.more["grad"].to(wide)
    values = _gradients(case, operands.input.to(wide).conj(), operands.weight.to(wide).conj(), grad)
    sizes = _gradients(case, size(operands.input), size(operands.weight), size(grad))
    ones = _gradients(
        case,
        *(torch.ones(shape, dtype=torch.float64) for shape in (case.input, case.weight, case.output_shape)),
    )
    found = {}
    for name, value in values.items():
        if name == "bias" and not case.bias:
            continue
        parts = torch.view_as_real(value) if value.is_complex() else value

        def full(t: torch.Tensor, like: torch.Tensor = parts) -> torch.Tensor:
            return t[..., None].expand(like.shape) if t.ndim < like.ndim else t

        zero = torch.zeros_like(parts)
        found[name] = Expected(
            value=parts,
            residual=None,
            magnitude=full(sizes[name]),
            products=full(ones[name]),
            bias=zero,
            offset=zero,
            subnormal=None,
            is_complex=value.is_complex(),
        )
    return found


def _gradients(case: Case, x: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor) -> dict[str, torch.Tensor]:
    """``T.mT g`` and the like, of tensors in the shapes of a case."""
    g = case.geometry
    y = by_image(g, grad)
    return {
        "input": adjoint(g, weight, y).reshape(case.input),
        "weight": weight_adjoint(g, by_image(g, x), y),
        "bias": y.sum((0, 2)),
    }


def expected_output_gradient(case: Case, operands: Operands, direction: Operands) -> torch.Tensor:
    """The derivative of the result along a direction in input, weight and bias: ``T dx + dT x + db``."""
    g = case.geometry
    pairs = ((operands.weight, direction.input), (direction.weight, operands.input))
    change = sum(forward(g, w.double(), by_image(g, x.double())) for w, x in pairs)
    assert isinstance(change, torch.Tensor)
    if direction.bias is not None:
        change = change + direction.bias.double()[:, None]
    return change.reshape(case.output_shape)
