"""A ``torch.autograd.Function`` whose gradients are those of ``torch.nn.grad``."""

import torch
import torch.nn.functional as F
from torch.nn.grad import conv2d_input, conv2d_weight


class Conv2d(torch.autograd.Function):
    """The convolution of a batch, with its backward pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(input, weight, bias, stride, padding, dilation, groups):
        """The result."""
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def setup_context(ctx, inputs, output):  # noqa: ARG004  # autograd passes both
        """Keep what the backward pass needs."""
        x, w, _, *ctx.parameters = inputs
        ctx.save_for_backward(x, w)

    @staticmethod
    def backward(ctx, grad):
        """The gradients in input, weight and bias."""
        x, w = ctx.saved_tensors
        needs = ctx.needs_input_grad
        # wrong: of_input = conv2d_input(x.shape, w, grad, 1, *ctx.parameters[1:]) if needs[0] else None
        of_input = conv2d_input(x.shape, w, grad, *ctx.parameters) if needs[0] else None
        of_weight = conv2d_weight(x, w.shape, grad, *ctx.parameters) if needs[1] else None
        of_bias = grad.sum((0, 2, 3)) if needs[2] else None
        return of_input, of_weight, of_bias, None, None, None, None


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """The convolution of an image or a batch."""
    if isinstance(padding, str) or input.dtype.is_complex:
        raise NotImplementedError("torch.nn.grad takes neither padding by name nor complex numbers")
    y = Conv2d.apply(input if input.dim() == 4 else input[None], weight, bias, stride, padding, dilation, groups)
    return y if input.dim() == 4 else y.squeeze(0)
