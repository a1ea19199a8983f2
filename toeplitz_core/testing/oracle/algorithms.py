"""Algorithms other than direct summation in the accumulator: Winograd, FFT, matrix units.

Each has an error bound of the same form as direct summation, ``((1 + u')^K - 1) * S`` (see ``bound.py``). Two things
differ: the sum of magnitudes ``S`` that is rounded, and the number ``K`` of roundings on the longest path to a result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import pairwise

import torch

from toeplitz_core.bound import Sums
from toeplitz_core.geometry import ConvGeometry

Matrix = tuple[tuple[Fraction, ...], ...]

# The finite points of Lavin & Gray, "Fast algorithms for convolutional neural networks" (CVPR 2016), in the order in
# which larger tiles add them. Every tile also uses the point infinity.
_POINTS = tuple(map(Fraction, ("0", "1", "-1", "2", "-2", "1/2", "-1/2")))
_TAPS = 3


@dataclass(frozen=True, slots=True)
class Winograd:
    """F(m, 3) on every axis: tiles of ``m`` outputs from ``m + 2`` inputs, for 3 taps, stride 1 and no dilation.

    A tile is ``A^T [sum_c (G g_c G^T) * (B^T d_c B)] A``. A term meets at most the roundings of the transforms, the
    product, the sum over channels and the bias. Each of the six one-dimensional transforms has at most one rounding per
    entry of a row of its matrix (a multiplication by a rounded constant, and additions), plus one.

    So the error is bounded by that of ``|A^T| [sum_c |G| |g_c| |G^T| * |B^T| |d_c| |B|] |A|``. This is at most
    ``amplification`` times the sum over channels of ``||g_c||_1 max |d_c|``. The maximum is over every tile that could
    contain the output, because the position of the tiles is unknown. (The product of magnitudes does not depend on how
    the rows of the matrices are scaled.)

    Parameters
    ----------
    outputs : int
        ``m``: 2, 4 or 6.
    """

    outputs: int

    def __str__(self) -> str:
        return f"Winograd F({self.outputs},3)"

    def __post_init__(self) -> None:
        if self.outputs not in (2, 4, 6):
            raise ValueError(f"outputs={self.outputs} must be 2, 4 or 6")

    @property
    def amplification(self) -> float:
        """Largest ``S`` of one axis, in units of ``||g||_1 max |d|``."""
        output, kernel, data = winograd_matrices(self.outputs)
        rows = [sum(map(abs, row)) for row in data]
        return float(
            max(
                sum((abs(a * k[tap]) * size for a, k, size in zip(row, kernel, rows, strict=True)), Fraction(0))
                for row in output
                for tap in range(_TAPS)
            )
        )

    @property
    def path(self) -> int:
        """Number of roundings of a term in the transforms of one axis."""
        return sum(_longest(matrix) + 1 for matrix in winograd_matrices(self.outputs))

    def sums(self, geometry: ConvGeometry, x: torch.Tensor, weight: torch.Tensor) -> Sums | None:
        """The sums if every axis has 3 taps, stride 1 and no dilation, else None."""
        if not is_plain(geometry) or any(k != _TAPS for k in geometry.kernel_size):
            return None
        rank, margin = geometry.rank, self.outputs - 1
        images = _padded(geometry, x, margin)
        largest = _largest(images, *[2 * margin + _TAPS] * rank)
        size = weight.flatten(2).sum(-1)
        magnitude = self.amplification**rank * _by_channel(geometry, size, largest)
        # The change of a result by a rounding below the normal numbers, or by a flush of an operand or of a step.
        out, kernel, data = (_norm(m) for m in winograd_matrices(self.outputs))
        ops = 2 * (_TAPS + 2 + self.outputs)
        in_data, in_kernel = (sum(ops * v**axis for axis in range(rank)) + v**rank for v in (data, kernel))
        ones = torch.ones_like
        spread = in_data * kernel**rank * _by_channel(geometry, size, ones(largest))
        spread = spread + in_kernel * data**rank * _by_channel(geometry, ones(size), largest)
        underflows = out**rank * (spread + 2 * geometry.group_channels) + ops * sum(out**axis for axis in range(rank))
        gain = (out * kernel * data) ** rank
        operands = max(data**rank * _most(x), kernel**rank * _most(size))
        return Sums(magnitude, self._roundings(geometry), underflows, gain=gain, peak=operands)

    def _roundings(self, geometry: ConvGeometry) -> torch.Tensor:
        return torch.tensor(geometry.group_channels + geometry.rank * self.path, dtype=torch.float64)


@dataclass(frozen=True, slots=True)
class Fft:
    """Tiles multiplied in the frequency domain, for kernels that span no more than a tile.

    A dilated kernel is transformed with zeros between its taps; they do not change its norm. A strided convolution is
    computed with stride 1, and only the results at its positions are kept.

    For ``N`` points and ``L = log2 N`` the error is at most ``(1+u)^{3L} (1+sqrt(5)u)^{3L+1} (1+beta)^{3L} - 1`` times
    ``||g||_2 ||d||_2`` (Percival, "Rapid multiplication modulo the sum and difference of highly composite numbers",
    Math. Comp. 72, 2003; Brent & Zimmermann, "Modern computer arithmetic", 2010, 3.3.1; twiddle factors off by
    ``beta <= u``). Channels and the bias are added before the inverse transform. Each adds one rounding.

    Parameters
    ----------
    tile : int
        Points along each axis, a power of two.
    """

    tile: int

    def __str__(self) -> str:
        return f"an FFT of {self.tile} x {self.tile}"

    def __post_init__(self) -> None:
        if self.tile < 2 or self.tile & (self.tile - 1):
            raise ValueError(f"tile={self.tile} must be a power of two")

    def sums(self, geometry: ConvGeometry, x: torch.Tensor, weight: torch.Tensor) -> Sums | None:
        """The sums if the dilated kernel fits into the tile, else None."""
        if max(geometry.kernel_extent) > self.tile:
            return None
        rank, points = geometry.rank, self.tile**geometry.rank
        unit = _most(x) or 1.0  # squares must not overflow
        energy = (x / unit) ** 2
        # A tile longer than the padded image may contain all of it for any output, so a tile of its length is enough.
        tile = [min(self.tile, size) for size in geometry.padded_size]
        margins = [t - k for t, k in zip(tile, geometry.kernel_extent, strict=True)]
        energy = _padded(geometry, energy, *margins)
        energy = _windows(energy, *tile).sum(tuple(range(-rank, 0)))
        # The largest norm of all tiles that could contain the output.
        norm = _largest(energy, *(m + 1 for m in margins)).sqrt() * unit
        norm = norm[tuple(slice(None, None, s) for s in (1, 1, *geometry.stride))]
        size = torch.linalg.vector_norm(weight.flatten(2), dim=-1)
        magnitude = _by_channel(geometry, size, norm)
        stages = math.log2(points)
        # (1 + sqrt(5) u) in units of log(1 + u'): a margin of four u is enough for u <= 2^-8.
        multiplied = math.sqrt(5) * (3 * stages + 1) * (1 + 2.0**-6)
        roundings = torch.tensor(6 * stages + geometry.group_channels + multiplied, dtype=torch.float64)
        # Eight underflows per point and stage, each of unit size before the inverse transform.
        both = _by_channel(geometry, size, torch.ones_like(norm)) + _by_channel(geometry, torch.ones_like(size), norm)
        underflows = 16 * stages * points * (both + geometry.group_channels + 1)
        peak = points * max(_most(x), _most(weight))
        return Sums(magnitude, roundings, underflows, gain=float(points), peak=peak)


@dataclass(frozen=True, slots=True)
class MatrixUnits:
    """Blocks of exact products, aligned to the largest exponent, truncated and added at once (tensor cores).

    A block of ``b`` products and the running sum are truncated to ``g`` guard bits beyond the accumulator. Then their
    sum is truncated to the accumulator. With ``e = 2u`` and ``t`` nonzero products, this changes the sum by at most
    ``e (1 + (t + 1) 2^-g)`` times the sum of magnitudes. A result has at most ``q = kH kW ceil(C / b)`` blocks with
    ``n`` products in all, so the error is ``e (q (1 + 2^-g) + n 2^-g)``, plus ``e`` for a bias added afterwards.
    (Blocks as in Blanchard, Higham, Lopez, Mary & Pranesh, SIAM J. Sci. Comput. 42, 2020; sizes ``(b, g)`` as in
    Khattak & Mikaitis' models: V100 (4, 0), A100 (8, 1), H100 and B200 (16, 2), for TF32 4 and 8.)

    Parameters
    ----------
    block : int
        ``b``: the number of products that are added at once. No known unit is worse than the default without guard
        bits: ``q <= n`` gives ``3 K e``.
    guard_bits : int
        ``g``: bits kept beyond the accumulator's precision while a block is added.
    """

    block: int = 1
    guard_bits: int = 0

    def __str__(self) -> str:
        return "matrix units"

    def __post_init__(self) -> None:
        if self.block < 1:
            raise ValueError(f"block={self.block} must be >= 1")
        if self.guard_bits < 0:
            raise ValueError(f"guard_bits={self.guard_bits} must be >= 0")

    def sums(self, geometry: ConvGeometry, x: torch.Tensor, weight: torch.Tensor) -> Sums | None:  # noqa: ARG002  # as others
        """The sums, for every geometry: the products are those of the direct sum, only the roundings differ."""
        taps = math.prod(geometry.kernel_size)
        blocks = taps * -(-geometry.group_channels // self.block)
        cut = 2.0**-self.guard_bits
        truncations = blocks * (1 + cut) + taps * geometry.group_channels * cut
        # 2u in units of log(1 + u / (1 + u)), which is a little less than u.
        roundings = torch.tensor(2 * truncations * (1 + 2.0**-6) + 1, dtype=torch.float64)
        lost = torch.tensor(6.0 * taps * geometry.group_channels, dtype=torch.float64)
        return Sums(None, roundings, lost)


@cache
def winograd_matrices(outputs: int) -> tuple[Matrix, Matrix, Matrix]:
    """``A^T``, ``G`` and ``B^T`` of F(outputs, 3), exactly, by Toom-Cook: evaluation and interpolation of polynomials.

    Examples
    --------
    >>> output, kernel, data = winograd_matrices(2)
    >>> [[int(v) for v in row] for row in output]
    [[1, 1, 1, 0], [0, 1, -1, 1]]
    """
    points = _POINTS[: outputs + 1]
    size = len(points) + 1

    def polynomial(roots: tuple[Fraction, ...]) -> tuple[Fraction, ...]:
        found = [Fraction(1)]
        for root in roots:
            found = [a - root * b for a, b in pairwise([Fraction(0), *found, Fraction(0)])]
        return (*found, *[Fraction(0)] * (size - len(found)))

    others = [points[:i] + points[i + 1 :] for i in range(len(points))]
    last = [Fraction(i == outputs - 1) for i in range(outputs)]
    output = tuple((*(p**i for p in points), last[i]) for i in range(outputs))
    kernel = [
        tuple(p**k / math.prod(p - q for q in rest) for k in range(_TAPS))
        for p, rest in zip(points, others, strict=True)
    ]
    top = tuple(Fraction(k == _TAPS - 1) for k in range(_TAPS))
    data = (*map(polynomial, others), polynomial(points))
    return output, (*kernel, top), data


def _longest(matrix: Matrix) -> int:
    """The largest number of nonzero entries in a row."""
    return max(sum(v != 0 for v in row) for row in matrix)


def _norm(matrix: Matrix) -> float:
    """The largest sum of magnitudes of a row, or 1."""
    return max(1.0, *(float(sum(map(abs, row))) for row in matrix))


def _most(values: torch.Tensor) -> float:
    return float(values.max()) if values.numel() else 0.0


def is_plain(geometry: ConvGeometry) -> bool:
    """Whether neither a stride nor a dilation has an effect."""
    return max(geometry.stride) == 1 and geometry.kernel_extent == geometry.kernel_size


def _padded(geometry: ConvGeometry, x: torch.Tensor, *margins: int) -> torch.Tensor:
    """Images with their padding and an extra margin: one for all axes, or one per axis."""
    margins = margins * geometry.rank if len(margins) == 1 else margins
    images = x.reshape(len(x), geometry.in_channels, *geometry.input_size)
    widths = [(before + m, after + m) for (before, after), m in zip(geometry.pads, margins, strict=True)]
    return torch.nn.functional.pad(images, [w for pair in reversed(widths) for w in pair])


def _windows(images: torch.Tensor, *sizes: int) -> torch.Tensor:
    """All windows of a size; the pixels of a window are extra axes at the end."""
    for axis, size in enumerate(sizes):
        images = images.unfold(2 + axis, size, 1)
    return images


def _largest(images: torch.Tensor, *sizes: int) -> torch.Tensor:
    """The largest number in each window of a size, reduced axis by axis because that compares fewer numbers."""
    for axis, size in enumerate(sizes):
        images = images.unfold(2 + axis, size, 1).amax(-1)
    return images


def _by_channel(geometry: ConvGeometry, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Sum over the channels of a group: (out, channels) and (batch, in, ...) to (batch, out_channels, positions)."""
    pixels = x.reshape(len(x), geometry.groups, geometry.group_channels, geometry.positions)
    rows = weight.reshape(geometry.groups, geometry.out_channels // geometry.groups, geometry.group_channels)
    return torch.einsum("goc,ngcp->ngop", rows, pixels).reshape(len(x), geometry.out_channels, geometry.positions)
