"""The sizes of a convolution, and the rules for its parameters."""

from __future__ import annotations

import dataclasses
import itertools
import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.definition import output_size_by_definition, pads_by_definition
from tests.helpers.operands import parameters, small_geometries
from toeplitz_core import ConvGeometry, toeplitz_matrix
from toeplitz_core.testing.strategies.geometries import geometries

RANKS = (1, 2, 3)


def count_entries(g: ConvGeometry) -> int:
    """Pairs of an output and a tap that reads a pixel, counted one by one along each axis."""
    live = 1
    for axis, (before, _) in enumerate(pads_by_definition(g.padding, g.kernel_size, g.dilation)):
        live *= sum(
            0 <= o * g.stride[axis] + k * g.dilation[axis] - before < g.input_size[axis]
            for o, k in itertools.product(range(g.output_size[axis]), range(g.kernel_size[axis]))
        )
    return g.out_channels * (g.in_channels // g.groups) * live


@pytest.mark.parametrize("rank", RANKS)
@given(data=st.data())
def test_output_size_is_the_number_of_places_of_the_kernel(rank: int, data: st.DataObject) -> None:
    """The output has one pixel for each position that the kernel can take within the padded input."""
    g = data.draw(geometries(rank=rank))
    assert g.output_size == output_size_by_definition(g.input_size, g.kernel_size, g.stride, g.padding, g.dilation)


@pytest.mark.parametrize("rank", RANKS)
@given(data=st.data())
def test_nnz_is_what_counting_gives(rank: int, data: st.DataObject) -> None:
    """The closed form of ``nnz`` equals the number of taps that read a pixel."""
    g = data.draw(geometries(rank=rank))
    assert g.nnz == count_entries(g)


@given(
    size=st.integers(0, 12),
    kernel=st.integers(1, 6),
    stride=st.integers(1, 9),
    padding=st.integers(0, 15),
    dilation=st.integers(1, 7),
)
def test_nnz_counts_also_where_hardly_a_tap_meets_the_input(
    size: int, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    """The closed form of ``nnz`` is right for empty inputs, and if padding, stride and dilation exceed the input."""
    padding = max(padding, dilation * (kernel - 1) + 1 - size)
    g = ConvGeometry(1, 1, (size,), kernel, stride, padding, dilation)
    assert g.nnz == count_entries(g)


@given(geometries())
def test_live_taps_are_those_that_read_a_pixel(g: ConvGeometry) -> None:
    """Per output, the live taps are a contiguous range: exactly the taps that read a pixel."""
    for axis, (before, _) in enumerate(pads_by_definition(g.padding, g.kernel_size, g.dilation)):
        first, count = g.live_taps(axis, torch.arange(g.output_size[axis]))
        for o, (f, n) in enumerate(zip(first.tolist(), count.tolist(), strict=True)):
            live = [
                k
                for k in range(g.kernel_size[axis])
                if 0 <= o * g.stride[axis] + k * g.dilation[axis] - before < g.input_size[axis]
            ]
            assert list(range(f, f + n)) == live


@given(geometries())
def test_sizes_follow_from_the_parameters(g: ConvGeometry) -> None:
    """Pads, padded size, extent, positions and the matrix's shape agree with their definitions."""
    pads = pads_by_definition(g.padding, g.kernel_size, g.dilation)
    assert g.pads == tuple(pads)
    assert g.padded_size == tuple(n + before + after for n, (before, after) in zip(g.input_size, pads, strict=True))
    assert g.kernel_extent == tuple(
        len(range(0, k * d, d)) * d - d + 1 for k, d in zip(g.kernel_size, g.dilation, strict=True)
    )
    assert g.weight_shape == (g.out_channels, g.in_channels // g.groups, *g.kernel_size)
    assert (g.pixels, g.positions) == (math.prod(g.input_size), math.prod(g.output_size))
    assert g.matrix_shape == (g.out_channels * g.positions, g.in_channels * g.pixels)
    assert g.rank == 2


@pytest.mark.parametrize(
    ("kernel_size", "dilation", "pads"), [(3, 1, (1, 1)), (4, 1, (1, 2)), (4, 3, (4, 5)), (1, 5, (0, 0))]
)
def test_same_keeps_the_size_and_puts_the_odd_zero_behind(
    kernel_size: int, dilation: int, pads: tuple[int, int]
) -> None:
    """``padding="same"`` gives as many outputs as inputs and adds the odd zero after the pixels."""
    g = ConvGeometry(1, 1, (3, 17), kernel_size, padding="same", dilation=dilation)
    assert g.output_size == g.input_size
    assert g.pads == (pads, pads)


def test_valid_is_no_padding() -> None:
    """``padding="valid"`` gives the sizes of ``padding=0``."""
    valid, none = (ConvGeometry(1, 1, (9, 8), 3, 2, padding) for padding in ("valid", 0))
    assert (valid.pads, valid.output_size, valid.nnz) == (none.pads, none.output_size, none.nnz)


@pytest.mark.parametrize("layout", [torch.strided, torch.sparse_csr, torch.sparse_coo])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.complex64, torch.int64])
@settings(max_examples=25)  # for each of 15 pairs
@given(g=small_geometries())
def test_nbytes_is_what_the_matrix_takes(layout: torch.layout, dtype: torch.dtype, g: ConvGeometry) -> None:
    """``nbytes`` predicts the bytes of the tensors that are then built."""
    weight = torch.ones(g.weight_shape, dtype=dtype)
    matrix = toeplitz_matrix(weight, g.input_size, layout=layout, **parameters(g))
    if layout == torch.sparse_csr:
        parts = [matrix.values(), matrix.col_indices(), matrix.crow_indices()]
    else:
        parts = [matrix] if layout == torch.strided else [matrix.values(), matrix.indices()]
    assert g.nbytes(layout, dtype) == sum(part.nbytes for part in parts)


def test_nbytes_of_other_layouts_is_refused() -> None:
    """``nbytes`` refuses a layout that the matrix does not support."""
    with pytest.raises(
        ValueError, match=r"^layout=torch.sparse_csc must be torch.strided, torch.sparse_csr or torch.sparse_coo$"
    ):
        ConvGeometry(1, 1, 3, 1).nbytes(torch.sparse_csc)


@pytest.mark.parametrize(
    "huge",
    [
        {"in_channels": 2**62, "input_size": (2**62, 2**62), "kernel_size": 1},
        {"out_channels": 2**62, "input_size": (2**62, 2**62), "kernel_size": 1, "stride": 2**62},
        {"input_size": (2**62, 1), "kernel_size": (2**61, 1)},
        {"input_size": 2**62, "kernel_size": 2, "dilation": 2**61},
        {"input_size": 1, "kernel_size": 1, "padding": 2**62 - 1},
        {"input_size": 2**62, "kernel_size": 2**62, "padding": "same"},
    ],
)
def test_huge_parameters_neither_overflow_nor_allocate(huge: dict[str, Any]) -> None:
    """All sizes are computed with Python integers of any length, without arrays."""
    tracemalloc.start()
    g = ConvGeometry(**{"in_channels": 1, "out_channels": 1} | huge)
    rows, columns = g.matrix_shape
    assert rows == g.out_channels * math.prod(g.output_size)
    assert columns == g.in_channels * g.input_size[0] * g.input_size[1]
    assert 0 < g.nnz <= rows * columns
    assert g.nbytes(dtype=torch.float64) == rows * columns * 8
    assert g.nbytes(torch.sparse_coo, torch.float64) == g.nnz * 24
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**16


def test_nnz_of_a_huge_geometry_is_exact() -> None:
    """``nnz`` of a kernel as long as half of a huge input is the product of its outputs and taps."""
    assert ConvGeometry(3, 5, (2**62,), (2**61,)).nnz == 15 * (2**61 + 1) * 2**61


@pytest.mark.parametrize(("columns", "dtype"), [(2**31 - 1, torch.int32), (2**31, torch.int64)])
def test_index_dtype_holds_the_columns(columns: int, dtype: torch.dtype) -> None:
    """Indices are int32 up to 2**31 - 1 columns, and int64 beyond."""
    assert ConvGeometry(1, 1, (columns,), (1,), stride=columns).index_dtype == dtype


@pytest.mark.parametrize(("nnz", "dtype"), [(2**31 - 1, torch.int32), (2**31, torch.int64)])
def test_index_dtype_holds_the_row_pointers(nnz: int, dtype: torch.dtype) -> None:
    """Indices are int32 up to 2**31 - 1 stored elements, and int64 beyond."""
    g = ConvGeometry(1, nnz, (1,), (1,))
    assert (g.nnz, g.index_dtype) == (nnz, dtype)


def test_from_weight_reads_the_shape() -> None:
    """A weight's shape gives the channels, the kernel and the number of axes."""
    g = ConvGeometry.from_weight(torch.empty(6, 2, 3, 5).shape, 9, (2, 1), 1, (1, 2), groups=3)
    assert g == ConvGeometry(6, 6, (9, 9), (3, 5), (2, 1), 1, (1, 2), 3)


@pytest.mark.parametrize("rank", RANKS)
def test_ints_stand_for_every_axis(rank: int) -> None:
    """An int applies to every axis; so does one entry in a tuple or list for stride, padding and dilation."""
    full = ConvGeometry(2, 2, (9,) * rank, (3,) * rank, (2,) * rank, (1,) * rank, (2,) * rank)
    assert full == ConvGeometry(2, 2, (9,) * rank, 3, 2, 1, 2)
    assert full == ConvGeometry(2, 2, 9, (3,) * rank, (2,), [1], (2,))
    assert full.rank == rank


def test_sizes_given_as_ints_are_of_images() -> None:
    """Without a tuple for a size, there are two axes."""
    assert ConvGeometry(1, 1, 5, 3).input_size == (5, 5)


def test_whole_numbers_of_other_types_become_ints() -> None:
    """Integers of NumPy and torch are accepted and converted to ints."""
    g = ConvGeometry(np.int64(2), torch.tensor(4), (np.int32(5), 5), 3, padding=np.uint8(1))  # type: ignore[arg-type]
    assert g == ConvGeometry(2, 4, (5, 5), 3, padding=1)
    assert {type(n) for n in (g.in_channels, g.out_channels, *g.input_size, *g.padding)} == {int}


def test_geometries_are_values() -> None:
    """Equal parameters make equal geometries with equal hashes; a geometry is frozen and has no ``__dict__``."""
    a, b = ConvGeometry(2, 4, 5, 3), ConvGeometry(2, 4, (5, 5), [3, 3], stride=(1,))
    assert a == b
    assert hash(a) == hash(b)
    assert a != ConvGeometry(2, 4, 5, 3, padding=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.stride = (2, 2)  # type: ignore[misc]
    assert not hasattr(a, "__dict__")


VALID: dict[str, Any] = {"in_channels": 4, "out_channels": 6, "input_size": (8, 9), "kernel_size": (3, 2)}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"in_channels": -1}, ValueError, "in_channels=-1 must be >= 0"),
        ({"in_channels": 2.0}, TypeError, "in_channels=2.0 must be an int, not float"),
        ({"out_channels": 0}, ValueError, "out_channels=0 must be >= 1"),
        ({"out_channels": True}, TypeError, "out_channels=True must be an int, not bool"),
        ({"out_channels": 2**63}, ValueError, "out_channels=9223372036854775808 must fit in int64"),
        ({"input_size": (8, -1)}, ValueError, "input_size[1]=-1 must be >= 0"),
        ({"input_size": "8"}, TypeError, "input_size='8' must be an int, not str"),
        ({"input_size": ()}, ValueError, "input_size=() must be an int or have 1 entries, one per axis, not 0"),
        ({"kernel_size": (0, 3)}, ValueError, "kernel_size[0]=0 must be >= 1"),
        ({"kernel_size": (3,)}, ValueError, "kernel_size=(3,) must be an int or have 2 entries, one per axis, not 1"),
        ({"stride": 0}, ValueError, "stride=0 must be >= 1"),
        ({"stride": (1, 0)}, ValueError, "stride[1]=0 must be >= 1"),
        ({"stride": (1, 1, 1)}, ValueError, "stride=(1, 1, 1) must be an int or have 2 entries, one per axis, not 3"),
        ({"stride": ()}, ValueError, "stride=() must be an int or have 2 entries, one per axis, not 0"),
        ({"stride": None}, TypeError, "stride=None must be an int, not NoneType"),
        ({"padding": -1}, ValueError, "padding=-1 must be >= 0"),
        ({"padding": (0, 1.5)}, TypeError, "padding[1]=1.5 must be an int, not float"),
        ({"padding": "full"}, ValueError, "padding='full' must be an int, a tuple of ints, 'same' or 'valid'"),
        (
            {"padding": 2**62},
            ValueError,
            "padding[0] makes the padded input 9223372036854775816 pixels long, which must fit in int64",
        ),
        (
            {"padding": "same", "stride": (1, 2)},
            ValueError,
            "padding='same' needs stride=1 on every axis, but stride=(1, 2)",
        ),
        ({"dilation": np.True_}, TypeError, "dilation=np.True_ must be an int, not bool"),
        ({"dilation": torch.tensor(True)}, TypeError, "dilation=tensor(True) must be an int, not Tensor"),
        (
            {"groups": torch.ones((), device="meta", dtype=torch.int64)},
            TypeError,
            "groups=tensor(..., device='meta', size=(), dtype=torch.int64) must be an int, not Tensor",
        ),
        ({"dilation": (1, -2)}, ValueError, "dilation[1]=-2 must be >= 1"),
        ({"groups": 0}, ValueError, "groups=0 must be >= 1"),
        ({"groups": (1,)}, TypeError, "groups=(1,) must be an int, not tuple"),
        ({"groups": 3}, ValueError, "groups=3 must divide in_channels=4"),
        ({"groups": 4}, ValueError, "groups=4 must divide out_channels=6"),
        (
            {"kernel_size": (3, 4), "dilation": (1, 5), "padding": (0, 3)},
            ValueError,
            (
                "kernel_size[1]=4 with dilation[1]=5 spans 16 pixels and must not be larger than the padded input, "
                "which has 15"
            ),
        ),
    ],
)
def test_a_broken_rule_is_named_with_parameter_and_value(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Each invalid parameter is refused with a message that names the parameter, its value and the rule."""
    ConvGeometry(**VALID)
    with pytest.raises(error) as caught:
        ConvGeometry(**VALID | change)
    assert type(caught.value) is error
    assert str(caught.value) == message


def test_a_weight_of_too_few_axes_is_refused() -> None:
    """A weight needs its two channel axes and at least one kernel axis."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the whole text is compared
        ConvGeometry.from_weight((3, 4), 5)
    assert str(caught.value) == (
        "weight has shape (3, 4), but must have at least 3 axes: (out_channels, in_channels / groups, *kernel_size)"
    )
