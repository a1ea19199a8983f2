"""Convolutions that are right without autograd, and wrong, or careless with memory, where it records or maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from tests.faults.gradients import backward, right


def adds_one_where_autograd_records(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The result is one more if it is attached to autograd; its gradients are right."""
    y = right(x, weight, bias, *rest)
    return y + 1 if y.requires_grad else y


def doubles_what_it_carries_forward(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """In forward mode the result is twice what it should be; its derivative is right."""
    y = right(x, weight, bias, *rest)
    primal, tangent = forward_ad.unpack_dual(y)
    return y if tangent is None else forward_ad.make_dual(2 * primal, tangent)


def doubles_the_direction_of_the_weight_alone(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any
) -> Tensor:
    """In forward mode the derivative along the weight is twice what it should be if the input has no direction."""
    (primal, tangent), of_input = forward_ad.unpack_dual(weight), forward_ad.unpack_dual(x).tangent
    alone = tangent is not None and of_input is None
    return right(x, forward_ad.make_dual(primal, 2 * tangent) if alone else weight, bias, *rest)


def doubles_second_derivatives_of_the_weight_alone(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any
) -> Tensor:
    """The gradient of the gradient in the weight is twice what it should be if the input needs none."""

    def change(grad: Tensor) -> Tensor:
        return grad if x.requires_grad else backward(grad, lambda twice: 2 * twice)

    return right(x, backward(weight, change), bias, *rest)


def clears_its_bias_in_a_backward_pass(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The backward pass takes the bias for a scratch pad."""

    def change(grad: Tensor) -> Tensor:
        if bias is not None:
            bias.detach().zero_()
        return grad

    return backward(right(x, weight, bias, *rest), change)


_buffers: dict[tuple[object, ...], Tensor] = {}


def returns_gradients_in_one_buffer(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """All gradients in weights of a shape are written to one buffer, which is handed out each time."""

    def change(grad: Tensor) -> Tensor:
        return _buffers.setdefault((grad.shape, grad.dtype), torch.empty_like(grad)).copy_(grad)

    return right(x, backward(weight, change) if type(weight) is Tensor else weight, bias, *rest)


def detaches_pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Results of 1x1 kernels over several channels are detached from autograd."""
    y = right(x, weight, bias, *rest)
    return y.detach() if weight.shape[1] > 1 and max(weight.shape[2:]) == 1 else y


def fails_backward_with_long_strides(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The backward pass raises where a stride is more than 2."""

    def change(grad: Tensor) -> Tensor:
        raise RuntimeError(f"shape {tuple(grad.shape)} does not match")

    y = right(x, weight, bias, *rest)
    return backward(y, change) if max(rest[0]) > 2 else y


def leaves_gradients_switched_off(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Autograd records nothing any more after the first call."""
    y = right(x, weight, bias, *rest)
    torch.set_grad_enabled(False)
    return y


def wants_gradients_in_its_weight(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """A call without gradients leaves the weight wanting one."""
    y = right(x, weight, bias, *rest)
    if not torch.is_grad_enabled() and (weight.is_floating_point() or weight.is_complex()):
        weight.requires_grad_()
    return y


class _Mapped(torch.autograd.Function):
    """The values; mapped, the first of them for all, or as if the mapped axis were the first."""

    @staticmethod
    def forward(values: Tensor, first: bool) -> Tensor:  # type: ignore[override]  # noqa: ARG004  # autograd's signature
        return values.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]  # noqa: ARG004  # autograd's signature
        return grad, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, values: Tensor, first: bool) -> tuple[Tensor, int]:  # type: ignore[override]  # noqa: ARG004  # autograd's signature
        if first:
            return values.movedim(in_dims[0], 0)[:1].expand(values.movedim(in_dims[0], 0).shape).clone(), 0
        return values.clone(), 0


def maps_the_first_axis(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """torch.func.vmap over images takes the first axis for the mapped one, whichever that is."""
    return right(_Mapped.apply(x, False), weight, bias, *rest)  # type: ignore[no-untyped-call]


def maps_the_first_bias(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """torch.func.vmap over biases takes the first for all."""
    return right(x, weight, None if bias is None else _Mapped.apply(bias, True), *rest)  # type: ignore[no-untyped-call]
