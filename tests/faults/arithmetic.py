"""Faults of arithmetic: too narrow formats, wrong rounding, or values that are slightly off."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.faults.convolution import Convolution, implementation


def _summed(c: Convolution, dtype: torch.dtype) -> Tensor:
    """Products and sums in the given format, one term after another."""
    total = c.zeros(dtype)
    for term in c.terms(dtype):
        total = total + term
    return c.with_bias(total)


def _tf32(values: Tensor) -> Tensor:
    """The values rounded to the eleven bits of TF32, to nearest, ties to even."""
    bits = values.float().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32).double()


@implementation
def rounds_to_tf32(c: Convolution) -> Tensor:
    """Rounds float32 operands to TF32, as tensor cores do."""
    if c.dtype != torch.float32:
        return c.value()
    return c.replace(input=_tf32(c.input), weight=_tf32(c.weight)).value()


@implementation
def rounds_weight_to_bfloat16(c: Convolution) -> Tensor:
    """Rounds only a float32 weight to bfloat16, as fast-math modes do."""
    if c.dtype != torch.float32:
        return c.value()
    return c.replace(weight=c.weight.bfloat16().double()).value()


@implementation
def saturates_its_input(c: Convolution) -> Tensor:
    """Clamps pixels to at most 2."""
    return c.value() if c.dtype.is_complex else c.replace(input=c.input.clamp(max=2)).value()


@implementation
def saturates_its_weight(c: Convolution) -> Tensor:
    """Clamps weights to at most 2."""
    return c.value() if c.dtype.is_complex else c.replace(weight=c.weight.clamp(max=2)).value()


@implementation
def sums_bfloat16_narrowly(c: Convolution) -> Tensor:
    """Accumulates bfloat16 in bfloat16."""
    return _summed(c, torch.bfloat16) if c.dtype == torch.bfloat16 else c.value()


@implementation
def sums_float16_narrowly(c: Convolution) -> Tensor:
    """Accumulates float16 in float16."""
    return _summed(c, torch.float16) if c.dtype == torch.float16 else c.value()


@implementation
def sums_float64_in_float32(c: Convolution) -> Tensor:
    """Accumulates float64 in float32."""
    return _summed(c, torch.float32) if c.dtype == torch.float64 else c.value()


@implementation
def sums_int64_in_int32(c: Convolution) -> Tensor:
    """Keeps the low 32 bits of an int64 sum."""
    return c.value().int() if c.dtype == torch.int64 else c.value()


@implementation
def sums_int64_in_float64(c: Convolution) -> Tensor:
    """Accumulates int64 in float64, which loses bits above 2^53."""
    return _summed(c, torch.float64).long() if c.dtype == torch.int64 else c.value()


@implementation
def conjugates_weight(c: Convolution) -> Tensor:
    """Conjugates a complex weight, as the inner product of complex vectors does."""
    return c.replace(weight=c.weight.conj().resolve_conj()).value()


@implementation
def changes_one_weight(c: Convolution) -> Tensor:
    """Makes the last element of the weight larger by 1e-4 of itself."""
    weight = c.weight.clone()
    weight[-1, -1, -1, -1] += (weight[-1, -1, -1, -1] * 1e-4).to(weight.dtype)
    return c.replace(weight=weight).value()


@implementation
def adds_bias_twice(c: Convolution) -> Tensor:
    """Adds the bias at the start of the sums and again at the end."""
    return c.replace(bias=None if c.bias is None else 2 * c.bias).value()


@implementation
def drops_bias_of_groups(c: Convolution) -> Tensor:
    """Leaves out the bias if there are groups."""
    return c.replace(bias=None if c.groups > 1 else c.bias).value()


@implementation
def starts_bias_again_after_eight(c: Convolution) -> Tensor:
    """Takes the bias of the first eight channels for each further eight."""
    return c.replace(bias=None if c.bias is None else c.bias[torch.arange(len(c.bias)) % 8]).value()


@implementation
def flushes_subnormals(c: Convolution) -> Tensor:
    """Replaces subnormal operands and results of float32 by zero."""
    if c.dtype != torch.float32:
        return c.value()
    y = c.replace(input=_flushed(c.input), weight=_flushed(c.weight)).value()
    return _flushed(y)


def _flushed(values: Tensor) -> Tensor:
    return values * (values.abs() >= torch.finfo(torch.float32).smallest_normal)


@implementation
def takes_nan_for_zero(c: Convolution) -> Tensor:
    """Replaces NaN in the input by zero."""
    return c.replace(input=c.input.nan_to_num(nan=0.0, posinf=float("inf"), neginf=float("-inf"))).value()


@implementation
def skips_zero_weights(c: Convolution) -> Tensor:
    """Skips products with a zero weight, as a pruned kernel does, even those with NaN or an infinity."""
    finite = c.input.isfinite()
    met = c.replace(input=(~finite).double(), weight=(c.weight != 0).double(), bias=None).value() > 0
    return c.value().where(met, c.replace(input=c.input.where(finite, 0)).value())


@implementation
def adds_bias_after_rounding(c: Convolution) -> Tensor:
    """Adds the bias to a result that is already rounded to half precision."""
    y = c.replace(bias=None).value().to(c.dtype)
    return y if c.bias is None else (y.to(c.accumulator) + c.bias.to(c.accumulator)[:, None, None])


@implementation
def truncates_bfloat16(c: Convolution) -> Tensor:
    """Truncates a float32 result to bfloat16 instead of rounding it."""
    if c.dtype != torch.bfloat16:
        return c.value()
    return (c.value().float().view(torch.int32) & ~0xFFFF).view(torch.float32)


@implementation
def saturates_float16(c: Convolution) -> Tensor:
    """Returns the largest float16 instead of infinity."""
    largest = torch.finfo(torch.float16).max
    return c.value().clamp(-largest, largest) if c.dtype == torch.float16 else c.value()
