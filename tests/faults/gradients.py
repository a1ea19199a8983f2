"""Faults of derivatives: convolutions with the right result and a wrong derivative of some kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from toeplitz_core import conv2d
from toeplitz_core.testing.subjects import TorchSubject


def right(x: Tensor, weight: Tensor, bias: Tensor | None = None, *parameters: Any) -> Tensor:
    """The right result, rounded once and differentiable any number of times."""
    wide = torch.complex128 if x.is_complex() else torch.float64
    offset = None if bias is None else bias.to(wide)
    return conv2d(x.to(wide), weight.to(wide), offset, *parameters).to(x.dtype)


def is_plain(*tensors: Tensor | None) -> bool:
    """Whether these are plain tensors: without gradients, forward-mode derivatives or torch.func wrappers."""
    given = [tensor for tensor in tensors if tensor is not None]
    if any(t.requires_grad or torch._C._functorch.is_functorch_wrapped_tensor(t) for t in given):
        return False
    return all(forward_ad.unpack_dual(t).tangent is None for t in given)


class _Backward(torch.autograd.Function):
    """The identity forward; a given function of the gradient backward."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:  # type: ignore[override]
        ctx.change = change
        return values.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return ctx.change(grad), None


def backward(values: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The values unchanged, with a given function of the gradient in the backward pass."""
    changed: Tensor = _Backward.apply(values, change)  # type: ignore[no-untyped-call]
    return changed


def leaves_out_last_row_of_input_gradient(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The last row of the input gets no gradient."""

    def change(grad: Tensor) -> Tensor:
        grad = grad.clone()
        grad[..., -1, :] = 0
        return grad

    return right(backward(x, change), weight, bias, *rest)


def adds_gradients_to_what_memory_held(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Weight gradients are wrong by one if newly allocated memory holds large numbers."""

    def change(grad: Tensor) -> Tensor:
        fresh = torch.empty(4096, dtype=torch.float32)
        return grad + 1 if float(fresh.abs().max()) > 1e30 else grad

    return right(x, backward(weight, change), bias, *rest)


def rounds_gradients_to_fixed_point(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Gradients are rounded to multiples of 2^-20, which keeps integers exact."""

    def change(grad: Tensor) -> Tensor:
        return (grad * 2**20).round() / 2**20 if grad.dtype == torch.float32 else grad

    return right(backward(x, change), backward(weight, change), bias, *rest)


def rounds_gradients_to_bfloat16(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Gradients are rounded to bfloat16 in every dtype."""

    def change(grad: Tensor) -> Tensor:
        return grad.bfloat16().to(grad.dtype)

    return right(backward(x, change), backward(weight, change), bias, *rest)


class _WithoutBias(torch.autograd.Function):
    """The backward pass returns no gradient for the bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        ctx.rest = rest
        return right(x, weight, bias, *rest)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        operands = [t.detach().requires_grad_() for t in ctx.saved_tensors]
        with torch.enable_grad():
            y = right(*operands, None, *ctx.rest)
        return *torch.autograd.grad(y, operands, grad), None, *(None for _ in ctx.rest)


def forgets_the_gradient_of_the_bias(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The bias gets no gradient, and autograd does not complain."""
    y: Tensor = _WithoutBias.apply(x, weight, bias, *rest)  # type: ignore[no-untyped-call]
    return y


def halves_gradients_of_a_second_pass(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """A second backward pass over the same graph returns half of the gradient."""
    factors = [1.0, 0.5]

    def change(grad: Tensor) -> Tensor:
        return grad * (factors.pop(0) if len(factors) > 1 else factors[0])

    return right(backward(x, change), weight, bias, *rest)


def reads_repeated_gradients_as_rows(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """An expanded gradient is read as if it were contiguous, with zeros after its first element."""
    y = right(x, weight, bias, *rest)

    def change(grad: Tensor) -> Tensor:
        if grad.numel() < 2 or any(grad.stride()):
            return grad
        first = torch.zeros_like(grad, memory_format=torch.contiguous_format)
        first.view(-1)[0] = grad.view(-1)[0] if grad.is_contiguous() else grad[(0,) * grad.ndim]
        return first

    return backward(y, change)


def attaches_every_result(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The result requires a gradient even if no operand does."""
    return right(x, weight, bias, *rest) + torch.zeros((), dtype=x.dtype, requires_grad=True)


def keeps_gradients_in_its_weight(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The backward pass also writes weight.grad."""

    def change(grad: Tensor) -> Tensor:
        if weight.requires_grad and weight.is_leaf:
            weight.grad = grad.detach()
        return grad

    return right(x, backward(weight, change), bias, *rest)


def doubles_mapped_weights(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Under torch.func.vmap over weights, each result is doubled."""
    y = right(x, weight, bias, *rest)
    return y + y if torch._C._functorch.is_batchedtensor(weight) else y


def conjugates_nothing(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The second derivatives of complex numbers lack a conjugation."""
    twice = _Twice.apply(x) if x.is_complex() else x  # type: ignore[no-untyped-call]
    return right(twice, weight, bias, *rest)


class _Failing(torch.autograd.Function):
    """An identity whose backward pass raises an error, or returns too few gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, _weight: Tensor, message: str) -> Tensor:  # type: ignore[override]
        ctx.message = message
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        if ctx.message:
            raise RuntimeError(ctx.message)
        return grad, None


def returns_one_gradient_too_few(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The backward pass returns one gradient too few, which autograd refuses."""
    return right(_Failing.apply(x, weight, ""), weight, bias, *rest)


def has_no_room_for_gradients(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The backward pass always fails."""
    return right(_Failing.apply(x, weight, "workspace too small"), weight, bias, *rest)


class _Twice(torch.autograd.Function):
    """An identity with the right gradient, whose second derivative is conjugated once too often."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # type: ignore[override]  # noqa: ARG004  # autograd's signature
        return values.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]  # noqa: ARG004  # autograd's signature
        return _Backward.apply(grad, torch.conj_physical)  # type: ignore[no-untyped-call, no-any-return]


def doubles_weight_gradient_alone(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The weight gradient is doubled if the input requires none."""
    alone = weight.requires_grad and not x.requires_grad
    return right(x, backward(weight, lambda grad: 2 * grad) if alone else weight, bias, *rest)


def forgets_how_gradients_depend(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Gradients are right, but autograd treats each as independent of the other operand."""
    x0, w0 = x.detach(), weight.detach()
    change = right(x, w0, None, *rest) + right(x0, weight, None, *rest)
    return change - right(x0, w0, None, *rest) if bias is None else _with_bias(x0, w0, change, bias, *rest)


def _with_bias(x: Tensor, weight: Tensor, twice: Tensor, bias: Tensor, *rest: Any) -> Tensor:
    return twice - 2 * right(x, weight, None, *rest) + right(x, weight, bias, *rest)


def carries_input_alone_forward(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """In forward mode, the derivative leaves out the direction of the weight."""
    return right(x, forward_ad.unpack_dual(weight).primal, bias, *rest)


def is_constant_in_weight_within_torch_func(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any
) -> Tensor:
    """Under torch.func.grad, the result does not depend on the weight."""
    tracked = torch._C._functorch.is_gradtrackingtensor(weight)
    return right(x, weight.detach() if tracked else weight, bias, *rest)


def doubles_mapped_results(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Under torch.func.vmap over a batch, each result is doubled."""
    y = right(x, weight, bias, *rest)
    return y + y if torch._C._functorch.is_batchedtensor(x) else y


def _flipped(grad: Tensor, weight: Tensor, *rest: Any) -> Tensor:
    return torch.nn.functional.conv_transpose2d(grad, weight.flip(2, 3), *rest)


# The transposed convolution flips the kernel.
turns_transposed_kernel = TorchSubject("turns_transposed_kernel", right, transposed=_flipped)
