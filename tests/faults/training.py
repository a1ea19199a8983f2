"""Faults under autograd, forward mode or vmap; without these, the convolutions are right."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from tests.faults.gradients import backward, is_plain, right


def adds_one_where_autograd_records(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The result is wrong by one if it is attached to autograd; its gradients are right."""
    y = right(x, weight, bias, *rest)
    return y + 1 if y.requires_grad else y


def doubles_what_it_carries_forward(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """In forward mode, the result is doubled; its derivative is right."""
    y = right(x, weight, bias, *rest)
    primal, tangent = forward_ad.unpack_dual(y)
    return y if tangent is None else forward_ad.make_dual(2 * primal, tangent)


def doubles_the_direction_of_the_weight_alone(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any
) -> Tensor:
    """In forward mode, the derivative along the weight is doubled if the input has no direction."""
    (primal, tangent), of_input = forward_ad.unpack_dual(weight), forward_ad.unpack_dual(x).tangent
    alone = tangent is not None and of_input is None
    return right(x, forward_ad.make_dual(primal, 2 * tangent) if alone else weight, bias, *rest)


def doubles_second_derivatives_of_the_weight_alone(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any
) -> Tensor:
    """The gradient of the weight gradient is doubled if the input requires no gradient."""

    def change(grad: Tensor) -> Tensor:
        return grad if x.requires_grad else backward(grad, lambda twice: 2 * twice)

    return right(x, backward(weight, change), bias, *rest)


def clears_its_bias_in_a_backward_pass(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The backward pass uses the bias as scratch memory."""

    def change(grad: Tensor) -> Tensor:
        if bias is not None:
            bias.detach().zero_()
        return grad

    return backward(right(x, weight, bias, *rest), change)


_buffers: dict[tuple[object, ...], Tensor] = {}


def returns_gradients_in_one_buffer(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """All weight gradients of a shape are returned in one shared buffer."""

    def change(grad: Tensor) -> Tensor:
        return _buffers.setdefault((grad.shape, grad.dtype), torch.empty_like(grad)).copy_(grad)

    return right(x, backward(weight, change) if type(weight) is Tensor else weight, bias, *rest)


def detaches_pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Results of 1x1 kernels over several channels are detached from autograd."""
    y = right(x, weight, bias, *rest)
    return y.detach() if weight.shape[1] > 1 and max(weight.shape[2:]) == 1 else y


def detaches_half_precision(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Results in float16 are detached from autograd."""
    y = right(x, weight, bias, *rest)
    return y.detach() if x.dtype == torch.float16 else y


def fails_backward_with_long_strides(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The backward pass raises if a stride is larger than 2."""

    def change(grad: Tensor) -> Tensor:
        raise RuntimeError(f"shape {tuple(grad.shape)} does not match")

    y = right(x, weight, bias, *rest)
    return backward(y, change) if max(rest[0]) > 2 else y


def leaves_gradients_switched_off(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The first call switches autograd off for all later ones."""
    y = right(x, weight, bias, *rest)
    torch.set_grad_enabled(False)
    return y


def wants_gradients_in_its_weight(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """A call without gradients sets ``requires_grad`` of the weight."""
    y = right(x, weight, bias, *rest)
    if not torch.is_grad_enabled() and (weight.is_floating_point() or weight.is_complex()):
        weight.requires_grad_()
    return y


def adds_one_where_nothing_is_recorded(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The result is wrong by one if autograd is enabled but no operand requires a gradient."""
    y = right(x, weight, bias, *rest)
    return y + 1 if torch.is_grad_enabled() and is_plain(y) else y


def detaches_what_another_layer_gave(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The input gets a gradient only if it is a leaf of the graph."""
    return right(x if x.is_leaf else x.detach(), weight, bias, *rest)


def fails_backward_with_a_bias(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The backward pass raises if there is a bias."""

    def change(grad: Tensor) -> Tensor:
        raise IndexError(f"no axis 4 in {tuple(grad.shape)}")

    y = right(x, weight, bias, *rest)
    return y if bias is None else backward(y, change)


class _OfKept(torch.autograd.Function):
    """The right result, whose gradients are computed from kept tensors with their values at backward time."""

    @staticmethod
    def forward(ctx: Any, kept: tuple[Tensor, Tensor], *args: Any) -> Tensor:  # type: ignore[override]
        ctx.kept, ctx.rest = kept, args[3:]
        return right(*args)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        operands = [kept.detach().clone().requires_grad_() for kept in ctx.kept]
        with torch.enable_grad():
            y = right(*operands, None, *ctx.rest)
        of_bias = grad.movedim(-3, 0).flatten(1).to(torch.complex128 if grad.is_complex() else torch.float64).sum(1)
        found = torch.autograd.grad(y, operands, grad)
        return None, *found, of_bias.to(grad.dtype) if ctx.needs_input_grad[3] else None, *(None for _ in ctx.rest)


def _of_kept(kept: tuple[Tensor, Tensor], x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    y: Tensor = _OfKept.apply(kept, x, weight, bias, *rest)  # type: ignore[no-untyped-call]
    return y


def keeps_its_operands_in_one_buffer(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The operands are saved for the backward pass in one buffer per shape, which the next call overwrites."""
    if is_plain(x, weight, bias):
        return right(x, weight, bias, *rest)
    kept = tuple(
        _buffers.setdefault((name, t.shape, t.dtype), torch.empty(t.shape, dtype=t.dtype)).copy_(t.detach())
        for name, t in (("input", x), ("weight", weight))
    )
    return _of_kept(kept, x, weight, bias, *rest)  # type: ignore[arg-type]  # two


def keeps_its_operands_as_they_will_be(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """The operands are saved for the backward pass so that autograd does not notice later changes."""
    return _of_kept((x.detach(), weight.detach()), x, weight, bias, *rest)


def packs_its_weight_once_for_the_backward_pass(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any
) -> Tensor:
    """The backward pass uses the first values of the weight tensor, and misses changes by an optimizer."""
    if not hasattr(weight, "packed"):
        weight.packed = weight.detach().clone()  # type: ignore[attr-defined]
    return _of_kept((x.detach().clone(), weight.packed), x, weight, bias, *rest)  # type: ignore[attr-defined]


def records_results_in_one_buffer(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Recorded results are written to one buffer per shape."""
    y = right(x, weight, bias, *rest)
    if is_plain(x, weight, bias):
        return y
    return _InOneBuffer.apply(y)  # type: ignore[no-untyped-call,no-any-return]


class _InOneBuffer(torch.autograd.Function):
    """Copies values to the one buffer of their shape."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # type: ignore[override]  # noqa: ARG004  # autograd's signature
        buffer = _buffers.setdefault(("output", values.shape, values.dtype), torch.empty_like(values))
        return buffer.copy_(values).detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]  # noqa: ARG004  # autograd's signature
        return grad


class _Mapped(torch.autograd.Function):
    """An identity whose vmap rule is wrong: it uses the first value for all, or assumes the first axis."""

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
    """Under torch.func.vmap over images, the first axis is always taken for the mapped one."""
    return right(_Mapped.apply(x, False), weight, bias, *rest)  # type: ignore[no-untyped-call]


def maps_the_first_bias(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
    """Under torch.func.vmap over biases, the first bias is used for all."""
    return right(x, weight, None if bias is None else _Mapped.apply(bias, True), *rest)  # type: ignore[no-untyped-call]
