"""Operands of a convolution for the tests: whole numbers, so that sums are exact and ``==`` compares results."""

from __future__ import annotations

import math
from typing import Any

import torch
from hypothesis import strategies as st

from toeplitz_core import ConvGeometry

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
COMPLEX = (torch.complex64, torch.complex128)
DTYPES = (*FLOATS, *COMPLEX, torch.int64)
LAYOUTS = (torch.strided, torch.sparse_csr, torch.sparse_coo)  # of a matrix

# Whole numbers up to this are exact in the dtype; so are their sums and products up to the same limit.
EXACT = {torch.float16: 2**11, torch.bfloat16: 2**8, torch.float32: 2**24, torch.complex64: 2**22}


def seeds() -> st.SearchStrategy[int]:
    """Seeds of random tensors, so that examples have a seed instead of many numbers."""
    return st.integers(0, 2**16)


@st.composite
def small_geometries(draw: st.DrawFn) -> ConvGeometry:
    """Geometries with so few pixels that a test can form all of ``T`` and loop over its entries."""
    kernel, stride, dilation = (draw(st.tuples(st.integers(1, n), st.integers(1, n))) for n in (3, 4, 2))
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    least = [max(1, e - 2 * p) for e, p in zip(extent, padding, strict=True)]
    size = tuple(n + draw(st.integers(0, 4)) for n in least)
    groups, inputs, outputs = draw(st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2)))
    return ConvGeometry(groups * inputs, groups * outputs, size, kernel, stride, padding, dilation, groups)


def integers(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, *, seed: int, limit: int = 3) -> torch.Tensor:
    """Whole numbers of at most ``limit`` in absolute value; with an imaginary part for complex dtypes."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(-limit, limit + 1, shape, generator=generator)
    if dtype.is_complex:
        return torch.complex(
            numbers.double(), torch.randint(-limit, limit + 1, shape, generator=generator).double()
        ).to(dtype)
    return numbers.to(dtype)


def distinct(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """1, 2, 3, ...: all taps differ, and none is zero."""
    return torch.arange(1, math.prod(shape) + 1, dtype=dtype).view(shape)


def operands(
    geometry: ConvGeometry, dtype: torch.dtype = torch.float64, *, batch: int = 2, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Input, weight and bias whose convolution is exact in ``dtype`` in any order of summation.

    If the dtype holds few whole numbers, most pixels of the input are zero. No tap is zero, because that would hide it.
    """
    exact = EXACT.get(dtype, 2**50)
    limit = 3 if exact > 2**20 else 1
    x = integers((batch, geometry.in_channels * geometry.pixels), dtype, seed=seed, limit=limit)
    order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(seed + 1))
    x[:, order[exact // 32 :]] = 0
    weight = integers(geometry.weight_shape, dtype, seed=seed + 2, limit=limit)
    bias = integers((geometry.out_channels,), dtype, seed=seed + 3)
    return x.view(batch, geometry.in_channels, *geometry.input_size), weight, bias


def parameters(geometry: ConvGeometry) -> dict[str, Any]:
    """The arguments of a convolution other than its tensors."""
    return {name: getattr(geometry, name) for name in ("stride", "padding", "dilation", "groups")}


def affordable_rows(geometry: ConvGeometry, entries_per_row: int, entries: int = 2**15) -> slice | None:
    """None (all rows) if they have at most ``entries`` entries, else a slice of evenly spread rows."""
    step = -(-geometry.matrix_shape[0] * entries_per_row // entries)
    return slice(None, None, step) if step > 1 else None
