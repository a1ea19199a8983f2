"""Accumulators of hardware and libraries, simulated in exact rational arithmetic.

A number is a ``Fraction``, and every rounding is explicit. The code under test is used only for the name and the limits
of a format. Each accumulator returns a result that a *correct* implementation may return, so no bound may be below its
error.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from toeplitz_core.bound import Format

Order = Literal["forward", "backward", "pairwise", "random"]
ORDERS: tuple[Order, ...] = ("forward", "backward", "pairwise", "random")


@dataclass(frozen=True, slots=True)
class Rounding:
    """Rounding to a format.

    Parameters
    ----------
    format : Format
    truncates : bool
        Round towards zero instead of to nearest with ties to even.
    flushes : bool
        Underflow to zero instead of gradually.
    """

    format: Format
    truncates: bool = False
    flushes: bool = False

    def __call__(self, value: Fraction) -> Fraction:
        """Round a number to the format; ``OverflowError`` if the result exceeds the largest number."""
        if value == 0:
            return value
        exponent = max(_exponent(value), self.format.min_exponent)
        spacing = Fraction(2) ** (exponent - self.format.precision + 1)
        # Fractions round to nearest, ties to even, and truncate towards zero.
        rounded = spacing * (int(value / spacing) if self.truncates else round(value / spacing))
        if abs(rounded) >= Fraction(2) ** (self.format.max_exponent + 1):
            raise OverflowError(f"{float(value)} overflows {self.format.name}")
        if self.flushes and abs(rounded) < Fraction(2) ** self.format.min_exponent:
            return Fraction(0)
        return rounded


def _exponent(value: Fraction) -> int:
    """The integer ``e`` with ``2^e <= |value| < 2^(e+1)``."""
    exponent = abs(value.numerator).bit_length() - value.denominator.bit_length()
    return exponent if abs(value) >= Fraction(2) ** exponent else exponent - 1


@dataclass(frozen=True, slots=True)
class Accumulator:
    """A way to compute ``sum(w * x) + b``.

    Parameters
    ----------
    accumulator, output : Rounding
        Rounding of every product and sum, and of the result.
    operand : Rounding, optional
        Rounding of input and weight before they are multiplied.
    bias_operand : Rounding, optional
        Rounding of the bias before it is added.
    order : str
        The order in which the terms of a block are added: one after the other, in a balanced tree, or in a random tree.
    fused : bool
        Products are added without being rounded (FMA), if the terms are added one after the other.
    blocks : int
        Number of blocks of terms; each block has its own sum.
    partial : Rounding, optional
        Rounding of the sums of blocks when they are stored.
    chained : bool
        A block begins with the stored sum of the previous block instead of zero.
    bias_first : bool
        The first block begins with the bias.
    two_step : bool
        The result is rounded to the output format first; then the bias is added.
    """

    accumulator: Rounding
    output: Rounding
    operand: Rounding | None = None
    bias_operand: Rounding | None = None
    order: Order = "forward"
    fused: bool = False
    blocks: int = 1
    partial: Rounding | None = None
    chained: bool = False
    bias_first: bool = False
    two_step: bool = False

    def __call__(
        self, x: Sequence[Fraction], weight: Sequence[Fraction], bias: Fraction | None, shuffle: random.Random
    ) -> Fraction:
        """The computed result; ``shuffle`` decides the random tree."""
        if self.operand is not None:
            x, weight = [self.operand(v) for v in x], [self.operand(v) for v in weight]
        if bias is not None and self.bias_operand is not None:
            bias = self.bias_operand(bias)
        products = [a * b for a, b in zip(x, weight, strict=True)]
        if not (self.fused and self.order in {"forward", "backward"}):
            products = [self.accumulator(p) for p in products]
        begins_with_bias = self.bias_first and bias is not None and not self.two_step
        total, started = (bias or Fraction(0), True) if begins_with_bias else (Fraction(0), False)
        size = -(-len(products) // self.blocks)
        sums = []
        for begin in range(0, len(products), max(size, 1)):
            part = self._added(([total] if started else []) + products[begin : begin + size], shuffle)
            sums.append(part if self.partial is None else self.partial(part))
            total, started = (sums[-1], True) if self.chained else (Fraction(0), False)
        result = sums[-1] if self.chained and sums else self._added_up(sums)
        if begins_with_bias and not products:
            result = total
        if bias is not None and self.two_step:
            result = self.accumulator(self.output(result) + bias)
        elif bias is not None and not begins_with_bias:
            result = self.accumulator(result + bias)
        return self.output(result)

    def _added(self, terms: Sequence[Fraction], shuffle: random.Random) -> Fraction:
        """The sum of terms in this accumulator's order."""
        terms = list(terms)
        if self.order == "backward":
            terms.reverse()
        if self.order in {"forward", "backward"}:
            return self._added_up(terms)
        while len(terms) > 1:
            if self.order == "pairwise":
                rest = terms[len(terms) // 2 * 2 :]
                terms = [self.accumulator(a + b) for a, b in list(pairwise(terms))[::2]] + rest
            else:
                a, b = (terms.pop(shuffle.randrange(len(terms))) for _ in range(2))
                terms.append(self.accumulator(a + b))
        return terms[0] if terms else Fraction(0)

    def _added_up(self, terms: Sequence[Fraction]) -> Fraction:
        total = Fraction(0)
        for term in terms:
            total = self.accumulator(total + term)
        return total
