"""Whole numbers whose sums are exact in the output's format or in the accumulator.

The idea is that of integer fills (the BLAS testers of Dongarra et al., 1990; oneDNN's benchdnn). If no sum of
magnitudes ``S = |T| |x| + |b|`` exceeds the integers that a format holds exactly, then every partial sum in any order
is exact, and a correct result can be compared with ``==``. ``S`` is computed exactly, and *input* elements are set to
zero until ``S`` fits. Weights are never set to zero: a zero weight always hides a wrong tap, a zero input pixel hides
it only in one draw.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch

from toeplitz_core.bound import Arithmetic, format_of
from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Array, Bits, Operands, filled, magnitude_of

# int64 wraps around only beyond 2^63, but sums within float64's integers are exact for the oracle too.
_INT64_LIMIT = 2**53 - 1
# A limit beyond float64's integers; twice a sum up to this limit still fits in int64.
_INT64_SUMS = 2**62 - 1
# With more multiplications than this, computing the sums of magnitudes of a draw takes too long.
_CHECKED_PRODUCTS = 2**22
# The widest odd operand whose products leave room for a sum: two bits more than TF32 keeps, or half of float64's.
_PROBE_BITS = {"float32": 2**13 - 1, "complex64": 2**13 - 1, "float64": 2**27 - 1, "complex128": 2**27 - 1}


def whole_numbers(case: Case, *, limit: int, wide: Literal["both", "input", "weight"]) -> Operands:
    """Integers whose sums of magnitudes stay within ``limit``.

    With ``wide="both"`` the numbers are signed, and both operands are as wide as the limit allows. Otherwise they are
    the probe: positive odd numbers, and the named operand is as wide as the format's precision allows. So rounding that
    operand, or accumulating in a narrower format, loses the low bit.
    """
    parts = 4 if case.torch_dtype.is_complex else 1
    taps = max(1, math.prod(case.weight[1:])) * parts
    # A random sum is usually well below the largest possible one, so the operands may be wider; this is checked below.
    # If the check would be too slow, the operands must be narrow enough without it.
    optimism = 1 if case.geometry.nnz > _CHECKED_PRODUCTS else 2
    room = limit // (taps + 1)
    # If sums may exceed float64's integers, products may too.
    widest = 2**30 - 1 if limit == _INT64_SUMS else widest_operand(case)
    if wide == "both":
        fill: Signed | Odd = Signed()
        w_max = min(widest, max(2, math.isqrt(room)))
        x_max = min(widest, max(1, optimism * room // w_max))
    else:
        fill = Odd()
        probe = min(widest, _PROBE_BITS.get(case.dtype, widest), max(3, optimism * room))
        other = min(widest, max(1, optimism * room // probe))
        x_max, w_max = (probe, other) if wide == "input" else (other, probe)
    b_max = max(1, min(widest, x_max * w_max, limit // 4))

    def operand(name: str, shape: tuple[int, ...], largest: int) -> torch.Tensor:
        return filled(case, name, shape, lambda bits, count: fill(bits, count, largest, zero=name != "weight"))

    def excess(x: torch.Tensor) -> float:
        """The largest ``S`` in units of the limit; 0 without a computation if ``S`` cannot exceed the limit."""
        if taps * x_max * w_max + parts * b_max <= limit:
            return 0.0
        magnitude = magnitude_of(case, x, weight, bias)
        return float(magnitude.max()) / limit if magnitude.numel() else 0.0

    bias = operand("bias", case.weight[:1], b_max) if case.bias else None
    weight = operand("weight", case.weight, w_max)
    x = operand("input", case.input, x_max)
    # First narrow the operand that is not probed; only the remaining excess is removed by setting inputs to zero.
    while (over := excess(x)) > 1 and (w_max if wide == "input" else x_max) > 3:
        if wide == "input":
            w_max = max(1, min(w_max - 1, int(w_max / over)))
            weight = operand("weight", case.weight, w_max)
        else:
            x_max = max(1, min(x_max - 1, int(x_max / over)))
            x = operand("input", case.input, x_max)
    priority = (
        filled(case, "input.thinning", case.input, Bits.raw, dtype=torch.int64, operand="input") if over > 1 else None
    )
    kept = 2**32
    thinned = x
    while kept and priority is not None and (over := excess(thinned)) > 1:
        kept = min(kept * 3 // 4, int(kept / over * 1.25))
        thinned = torch.where(priority < kept, x, 0)
    density = kept / 2**32
    miss = max(density / fill.values(x_max), (1 - density) + density * fill.zeros(x_max))
    return Operands(thinned, weight, bias, miss)


class Signed:
    """Integers of either sign; zeros only if allowed."""

    def __call__(self, bits: Bits, count: int, largest: int, *, zero: bool) -> Array:
        if zero:
            return bits.integers(count, -largest, largest)
        return bits.integers(count, 1, largest) * bits.signs(count)

    def values(self, largest: int) -> int:
        """The number of equally likely values, zero included."""
        return 2 * largest + 1

    def zeros(self, largest: int) -> float:
        """The probability of a zero."""
        return 1 / self.values(largest)


class Odd:
    """Positive odd integers from the upper half of the range: they need all bits of the range."""

    def __call__(self, bits: Bits, count: int, largest: int, *, zero: bool) -> Array:  # noqa: ARG002  # as Signed
        low, high = self._range(largest)
        return 2 * bits.integers(count, low, high) + 1

    def _range(self, largest: int) -> tuple[int, int]:
        high = (largest - 1) // 2
        return (high // 2 if high > 3 else 0), high

    def values(self, largest: int) -> int:
        low, high = self._range(largest)
        return high - low + 1

    def zeros(self, largest: int) -> float:  # noqa: ARG002  # as Signed
        return 0.0


def impulses(case: Case) -> Operands:
    """A unit impulse in each channel of each image: every result is the sum of the weights that meet an impulse.

    A window may contain one impulse per channel, so the weights are small enough for the output's format to hold their
    sum.
    """
    limit = storage_limit(case)
    channels = max(1, case.geometry.group_channels)
    parts = 2 if case.torch_dtype.is_complex else 1
    largest = max(1, min(widest_operand(case), limit // (2 * parts * (channels + 1))))

    def whole(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        return filled(case, name, shape, lambda bits, count: Signed()(bits, count, largest, zero=False))

    x = torch.zeros(case.input, dtype=case.torch_dtype)
    rows = x.view(-1, case.geometry.pixels) if x.numel() else x.view(0, 1)
    repeated = case.layout("input") == "expanded"
    drawn = rows[: case.geometry.in_channels if repeated and case.batch is not None else None]
    drawn = rows[:1] if repeated and case.batch is None else drawn
    bits = Bits(case, "input")
    places = bits.integers(len(drawn), 0, case.geometry.pixels - 1)
    # With too many channels for a sum of unit weights, only some channels get an impulse.
    shown = bits.integers(len(drawn), 0, max(0, channels * 2 * parts * 2 // limit)) == 0
    if len(rows):
        index = torch.from_numpy(np.resize(places, len(rows)))
        rows.scatter_(1, index[:, None], torch.from_numpy(np.resize(shown, len(rows)))[:, None].to(x.dtype))
    weight = whole("weight", case.weight)
    bias = whole("bias", case.weight[:1]) if case.bias else None
    images = 1 if repeated else case.batch or 1
    return Operands(x, weight, bias, _unread(case.geometry) ** images)


def _unread(geometry: ConvGeometry) -> float:
    """The largest share of pixels that a tap does not read, over the taps that read at least one pixel."""
    share = 1.0
    for axis in range(geometry.rank):
        first, count = geometry.live_taps(axis, np.arange(geometry.output_size[axis]))
        taps = np.arange(geometry.kernel_size[axis])
        reads = ((first[:, None] <= taps) & (taps < (first + count)[:, None])).sum(0)
        share *= float(reads[reads > 0].min()) / geometry.input_size[axis] if reads.any() else 0.0
    return 1 - share


def storage_limit(case: Case) -> int:
    """Up to this, the output's format and every wider one hold integers exactly."""
    return _INT64_LIMIT if case.dtype == "int64" else _integers(format_of(case.torch_dtype).precision)


def accumulator_limit(case: Case) -> int:
    """Up to this, the accumulator holds integers exactly and the output does not overflow."""
    if case.dtype == "int64":
        return _INT64_SUMS
    accumulator = Arithmetic.of_dtype(case.torch_dtype).accumulator
    return min(_integers(accumulator.precision), int(torch.finfo(case.torch_dtype).max))


def widest_operand(case: Case) -> int:
    """The largest operand: it must be exact in the dtype, and beyond 2^27 products exceed float64's integers."""
    if case.dtype == "int64":
        return 2**27 - 1
    return _integers(min(format_of(case.torch_dtype).precision, 27))


def _integers(bits: int) -> int:
    """The largest integer with this number of bits."""
    return (1 << bits) - 1
