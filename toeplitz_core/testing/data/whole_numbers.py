"""Whole numbers whose sums are exact: in the output's format, or in the accumulator.

They follow the idea of integer fills (the BLAS testers of Dongarra et al., 1990; oneDNN's benchdnn): if no sum of
magnitudes ``S = |T| |x| + |b|`` exceeds what a format holds exactly, then every partial sum in any order is exact, and
a correct result can be compared with ``==``. ``S`` is computed exactly and the *input* is thinned until it fits, never
the weights: a weight that is zero hides a wrong tap for good, an input pixel only in one draw.
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

# Integer dtypes wrap around beyond 2^63; staying within float64's integers keeps their sums exact for the oracle too.
_INT64_LIMIT = 2**53 - 1
# Sums that a float64 no longer holds, and that stay whole where twice of them are added.
_INT64_SUMS = 2**62 - 1
# Beyond this many multiplications the sums of magnitudes of one draw are not computed to see whether they fit.
_CHECKED_PRODUCTS = 2**22
# The widest odd operand whose products still leave room for a sum: two bits more than TF32 keeps, or half of float64.
_PROBE_BITS = {"float32": 2**13 - 1, "complex64": 2**13 - 1, "float64": 2**27 - 1, "complex128": 2**27 - 1}


def whole_numbers(case: Case, *, limit: int, wide: Literal["both", "input", "weight"]) -> Operands:
    """Integers whose sums of magnitudes stay within ``limit``.

    ``both``: signed, as wide on either side as there is room. Otherwise the probe: positive odd numbers, as wide as the
    format's precision allows on one side, so that rounding that operand, or accumulating narrowly, loses the low bit.
    """
    parts = 4 if case.torch_dtype.is_complex else 1
    taps = max(1, math.prod(case.weight[1:])) * parts
    # A random sum stays well below the largest possible one. Where checking that is too dear, it must not be needed.
    optimism = 1 if case.geometry.nnz > _CHECKED_PRODUCTS else 2
    room = limit // (taps + 1)
    # Products that no float64 holds either, where sums may be as large.
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
        """The largest ``S`` in units of the limit; nothing is computed where it cannot exceed it."""
        if taps * x_max * w_max + parts * b_max <= limit:
            return 0.0
        magnitude = magnitude_of(case, x, weight, bias)
        return float(magnitude.max()) / limit if magnitude.numel() else 0.0

    bias = operand("bias", case.weight[:1], b_max) if case.bias else None
    weight = operand("weight", case.weight, w_max)
    x = operand("input", case.input, x_max)
    # The side that is not probed is made narrower first; only what is left of the excess is thinned away.
    while (over := excess(x)) > 1 and (w_max if wide == "input" else x_max) > 3:
        if wide == "input":
            w_max = max(1, min(w_max - 1, int(w_max / over)))
            weight = operand("weight", case.weight, w_max)
        else:
            x_max = max(1, min(x_max - 1, int(x_max / over)))
            x = operand("input", case.input, x_max)
    priority = filled(case, "input.thinning", case.input, Bits.raw, dtype=torch.int64) if over > 1 else None
    kept = 2**32
    thinned = x
    while kept and priority is not None and (over := excess(thinned)) > 1:
        kept = min(kept * 3 // 4, int(kept / over * 1.25))
        thinned = torch.where(priority < kept, x, 0)
    density = kept / 2**32
    miss = max(density / fill.values(x_max), (1 - density) + density * fill.zeros(x_max))
    return Operands(thinned, weight, bias, miss)


class Signed:
    """Integers of either sign; zero only where it is allowed."""

    def __call__(self, bits: Bits, count: int, largest: int, *, zero: bool) -> Array:
        if zero:
            return bits.integers(count, -largest, largest)
        return bits.integers(count, 1, largest) * bits.signs(count)

    def values(self, largest: int) -> int:
        """How many values there are, equally likely (zero included)."""
        return 2 * largest + 1

    def zeros(self, largest: int) -> float:
        """The probability of a zero."""
        return 1 / self.values(largest)


class Odd:
    """Positive odd integers from the upper half of the range, where they need all their bits."""

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
    """A unit impulse in each channel of each image: every result shows the weights that meet one.

    A window may see an impulse of each channel, so the weights share what the output's format holds.
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
    # As many channels as there is room for in a sum of weights of 1.
    shown = bits.integers(len(drawn), 0, max(0, channels * 2 * parts * 2 // limit)) == 0
    if len(rows):
        index = torch.from_numpy(np.resize(places, len(rows)))
        rows.scatter_(1, index[:, None], torch.from_numpy(np.resize(shown, len(rows)))[:, None].to(x.dtype))
    weight = whole("weight", case.weight)
    bias = whole("bias", case.weight[:1]) if case.bias else None
    images = 1 if repeated else case.batch or 1
    return Operands(x, weight, bias, _unread(case.geometry) ** images)


def _unread(geometry: ConvGeometry) -> float:
    """The largest share of pixels that a tap, which reads any, does not read."""
    share = 1.0
    for axis in range(geometry.rank):
        first, count = geometry.live_taps(axis, torch.arange(geometry.output_size[axis]))
        taps = torch.arange(geometry.kernel_size[axis])
        reads = ((first[:, None] <= taps) & (taps < (first + count)[:, None])).sum(0)
        share *= float(reads[reads > 0].min()) / geometry.input_size[axis] if reads.any() else 0.0
    return 1 - share


def storage_limit(case: Case) -> int:
    """Integers that the output's format, and with it every wider one, holds exactly."""
    return _INT64_LIMIT if case.dtype == "int64" else _integers(format_of(case.torch_dtype).precision)


def accumulator_limit(case: Case) -> int:
    """Integers that the accumulator holds exactly, and that do not overflow the output."""
    if case.dtype == "int64":
        return _INT64_SUMS
    accumulator = Arithmetic.strictest(case.torch_dtype).accumulator
    return min(_integers(accumulator.precision), int(torch.finfo(case.torch_dtype).max))


def widest_operand(case: Case) -> int:
    """Operands must be exact in the dtype; beyond 2^27 their products leave float64's integers."""
    if case.dtype == "int64":
        return 2**27 - 1
    return _integers(min(format_of(case.torch_dtype).precision, 27))


def _integers(bits: int) -> int:
    """The largest integer of so many bits."""
    return (1 << bits) - 1
