"""The operands of a case and their random bits, bit-identical on every machine.

Random bits come from NumPy's raw PCG64 stream. Only integer and dyadic arithmetic turns them into numbers, so a seed
does not depend on a library's float sampling or on libm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
import torch

from toeplitz_core.products import by_image, forward
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.kept import KEPT_BYTES, Kept, bytes_of

_TENSORS = ("input", "weight", "bias", "grad")
# Numbers drawn at a time.
_FILL_BLOCK = 2**18
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Guard:
    """Pages of memory next to operands that may not be accessed.

    Parameters
    ----------
    side : str
        Whether the pages lie directly ``before`` the first element or directly ``behind`` the last one.
    operands : tuple of str
        The operands that lie against such pages: ``input``, ``weight``, ``bias`` and ``grad``, or some of them.
    readable : bool
        Whether the pages may be read, but not written.
    """

    side: Literal["before", "behind"]
    operands: tuple[str, ...] = ("input", "weight", "bias", "grad")
    readable: bool = False


@dataclass(frozen=True, slots=True)
class Operands:
    """The values of a case's tensors, contiguous on the CPU, in the case's dtype.

    Parameters
    ----------
    input, weight : tensor
        The two factors of the convolution, in the shapes that the case gives.
    bias : tensor, optional
        One number per output channel; None if the case has no bias.
    miss_probability : float
        For a *linear* wrong implementation, the probability that one wrong output row goes unnoticed in this draw. It
        is at most the largest probability with which an input element takes any one value, if the elements are
        independent (Freivalds, 1977). This applies to exact results. If sums are rounded to a narrower output, errors
        below its spacing go unnoticed too. So wrong taps are found by the recipe ``integers``, whose results are never
        rounded; the other recipes test the accumulator.

        It is an estimate where the numbers depend on each other: a draw whose sums were too large is narrowed or
        thinned after a look at all its numbers. And the impulses of ``impulse`` are all 1, so there it is only the
        probability to miss *one* wrong tap: faults of two channels that cancel each other are always missed.
    grad : tensor, optional
        The gradient of the result, in its shape, for laws about gradients.
    directions : mapping of str to tensor
        For each operand the direction of a derivative, in its shape, for laws about second derivatives.
    guard : Guard, optional
        The pages that the operands lie against in the memory of the subject; None for ordinary memory.
    """

    input: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    miss_probability: float
    grad: torch.Tensor | None = None
    directions: Mapping[str, torch.Tensor] = field(default_factory=dict)
    guard: Guard | None = None

    @property
    def gradient(self) -> torch.Tensor:
        """``grad``, for a law that has drawn one."""
        assert self.grad is not None
        return self.grad

    def copied(self) -> Self:
        """The same numbers in memory of their own."""
        own = {name: value.clone() for name in _TENSORS if (value := getattr(self, name)) is not None}
        return replace(self, **own, directions={name: value.clone() for name, value in self.directions.items()})

    @property
    def nbytes(self) -> int:
        """The bytes of all its tensors."""
        return bytes_of(self.input, self.weight, self.bias, self.grad, *self.directions.values())


def kept(draws: Callable[[Case], Operands], case: Case) -> Operands:
    """What a function draws for a case; what it drew before, if that is kept."""
    return _KEPT.get((draws, case.replace(law=None, device="cpu")), lambda: draws(case))


_KEPT: Kept[Operands] = Kept(KEPT_BYTES, lambda operands: operands.nbytes)


class Bits:
    """Random numbers from raw bits, with a separate stream for each operand of a case."""

    def __init__(self, case: Case, operand: str) -> None:
        # As words, which NumPy takes as they are; a seed of more than 32 bits has a second one.
        seed = [case.seed & 0xFFFFFFFF, *([case.seed >> 32] * (case.seed >= 2**32))]
        self._stream = np.random.PCG64(np.array([*seed, *operand.encode()], dtype=np.uint32))

    def raw(self, count: int) -> Array:
        """Uniform 32-bit integers, as int64: both halves of each word of the stream."""
        words = np.asarray(self._stream.random_raw((count + 1) // 2), dtype="<u8")
        return words.view("<u4")[:count].astype(np.int64)

    def integers(self, count: int, low: int, high: int) -> Array:
        """Uniform integers in ``[low, high]`` (for ranges below 2^31), as int64."""
        return low + ((self.raw(count) * (high - low + 1)) >> 32)

    def signs(self, count: int) -> Array:
        """1 or -1, as int64."""
        return 1 - 2 * (self.raw(count) & 1)

    def normal(self, count: int) -> Array:
        """Nearly unit normal float64: exactly 7/4 of the sum of four uniform numbers minus its mean (Irwin-Hall)."""
        total = self.raw(4 * count).reshape(4, count).sum(axis=0) - 2 * 2**32
        return np.asarray(total * 7, dtype=np.float64) * 2.0**-34


def filled(
    case: Case,
    name: str,
    shape: tuple[int, ...],
    fill: Callable[[Bits, int], Array],
    dtype: torch.dtype | None = None,
    *,
    operand: str = "",
) -> torch.Tensor:
    """A tensor of a case's dtype, filled in blocks so that wide intermediate arrays stay small.

    An ``expanded`` operand repeats its first slice, a ``repeated`` operand its first number.

    Parameters
    ----------
    name : str
        The stream of random bits.
    operand : str
        The operand whose layout applies; the one called ``name`` if not given.
    """
    layout = case.layout(operand or name)
    drawn = {"expanded": (1, *shape[1:]), "repeated": (1,) * len(shape)}.get(str(layout), shape)
    drawn = drawn if math.prod(shape) else shape
    dtype = dtype or case.torch_dtype
    if not dtype.is_complex and math.prod(drawn) <= _FILL_BLOCK:
        numbers = torch.from_numpy(fill(Bits(case, name), math.prod(drawn))).to(dtype).view(drawn)
        return numbers if drawn == shape else numbers.expand(shape).contiguous()
    tensor = torch.empty(drawn, dtype=dtype)
    # Real and imaginary part, or the tensor itself, as flat views, so that a large operand is in memory only once.
    flats = torch.view_as_real(tensor).view(-1, 2).unbind(1) if tensor.is_complex() else (tensor.view(-1),)
    for stream, flat in zip((name, name + ".imag"), flats, strict=False):
        bits = Bits(case, stream)
        for begin in range(0, len(flat), _FILL_BLOCK):
            block = flat[begin : begin + _FILL_BLOCK]
            block.copy_(torch.from_numpy(fill(bits, len(block))))
    return tensor.expand(shape).contiguous()


def largest_part(values: torch.Tensor) -> float:
    """The largest magnitude of an element; for complex elements, of a real or imaginary part."""
    if not values.numel():
        return 0.0
    low, high = torch.aminmax(torch.view_as_real(values) if values.is_complex() else values)
    return max(-float(low), float(high))


def magnitude_of(case: Case, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """``S`` for real data; for complex data an upper bound of every part of its products and of Gauss's sums."""
    g = case.geometry
    s = forward(g, size(weight), by_image(g, size(x)))
    return s if bias is None else s + size(bias)[:, None]


def size(values: torch.Tensor) -> torch.Tensor:
    """Magnitudes. For complex numbers, the product of two bounds every part of their product and of Gauss's sums."""
    if values.is_complex():
        return 2 * (values.real.double().abs() + values.imag.double().abs())
    return values.double().abs()


def wide(values: torch.Tensor) -> torch.Tensor:
    """The same numbers in a dtype in which their sums are exact."""
    if values.is_complex():
        return values.to(torch.complex128)
    return values.double() if values.is_floating_point() else values


def in_bytes(values: torch.Tensor) -> torch.Tensor:
    """The bytes of the elements, for comparisons in which NaN and the sign of zero count."""
    # Clone, because a contiguous tensor of one element may have any strides.
    return values.clone(memory_format=torch.contiguous_format).view(-1).view(torch.uint8)
