"""Convolutions with the right result whose derivatives are wrong: in one pass, in one order, or for some callers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from toeplitz_core import conv2d
from toeplitz_core.testing.subjects import TorchSubject


def right(x: Tensor, weight: Tensor, bias: Tensor | None = None, *parameters: Any) -> Tensor:
    """The right result, differentiable as often as one likes, rounded once."""
    wide = torch.complex128 if x.is_complex() else torch.float64
    offset = None if bias is None else bias.to(wide)
    return conv2d(x.to(wide), weight.to(wide), offset, *parameters).to(x.dtype)


class _Backward(torch.autograd.Function):
    """Nothing forward; a function of the gradient backward."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:  # type: ignore[override]
        ctx.change = change
        return values.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.change(grad), None


def _backward(values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    changed: Tensor = _Backward.apply(values, change)  # type: ignore[no-untyped-call]
    return changed


def leaves_out_last_row_of_input_gradient(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The last row of the input gets no gradient."""

    def change(grad: Tensor) -> Tensor:
        grad = grad.clone()
        grad[..., -1, :] = 0
        return grad

    return right(_backward(x, change), weight, bias, *rest)


def rounds_gradients_to_bfloat16(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Gradients have the precision of bfloat16, whatever the dtype."""

    def change(grad: Tensor) -> Tensor:
        return grad.bfloat16().to(grad.dtype)

    return right(_backward(x, change), _backward(weight, change), bias, *rest)


def doubles_weight_gradient_alone(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The gradient in the weight is counted twice where the input needs none."""
    alone = weight.requires_grad and not x.requires_grad
    return right(x, _backward(weight, lambda grad: 2 * grad) if alone else weight, bias, *rest)


def forgets_how_gradients_depend(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Gradients are right, but autograd does not know that each depends on the other operand."""
    x0, w0 = x.detach(), weight.detach()
    change = right(x, w0, None, *rest) + right(x0, weight, None, *rest)
    return change - right(x0, w0, None, *rest) if bias is None else _with_bias(x0, w0, change, bias, *rest)


def _with_bias(x: Tensor, weight: Tensor, twice: Tensor, bias: Tensor, *rest: Any) -> Tensor:
    return twice - 2 * right(x, weight, None, *rest) + right(x, weight, bias, *rest)


def carries_input_alone_forward(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Carried forward, the derivative forgets the weight's direction."""
    return right(x, forward_ad.unpack_dual(weight).primal, bias, *rest)


def is_constant_in_weight_within_torch_func(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any
) -> Tensor:
    """Within torch.func.grad the result does not depend on the weight."""
    tracked = torch._C._functorch.is_gradtrackingtensor(weight)
    return right(x, weight.detach() if tracked else weight, bias, *rest)


def doubles_mapped_results(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Mapped over a batch by torch.func.vmap, each result is twice what it is alone."""
    y = right(x, weight, bias, *rest)
    return y + y if torch._C._functorch.is_batchedtensor(x) else y


def _flipped(grad: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    return torch.nn.functional.conv_transpose2d(grad, weight.flip(2, 3), *rest)


# Its transposed convolution turns the kernel.
turns_transposed_kernel = TorchSubject("turns_transposed_kernel", right, transposed=_flipped)
