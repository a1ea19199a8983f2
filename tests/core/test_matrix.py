"""The matrix of a convolution: its entries, layouts, rows and memory limits."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # torch's custom
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.definition import entries_by_definition, matrix_by_definition, output_size_by_definition
from tests.helpers.operands import DTYPES, LAYOUTS, affordable_rows, distinct, integers, parameters, small_geometries
from toeplitz_core import ConvGeometry, MatrixTooLargeError, matrix, toeplitz_matrix, toeplitz_values
from toeplitz_core.testing.strategies.geometries import geometries

CONVOLUTIONS: dict[int, Callable[..., torch.Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}

# Fixed geometries for laws that do not need generated examples.
FIXED = {
    "plain": ConvGeometry(1, 1, (4, 5), (2, 3)),
    "grouped": ConvGeometry(4, 4, (5, 4), (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2),
    "depthwise": ConvGeometry(2, 4, (4, 4), (3, 2), padding="same", groups=2),
    "kernel larger than input": ConvGeometry(2, 1, (2, 1), (4, 3), padding=(1, 2)),
    "windows in padding": ConvGeometry(1, 2, (2, 2), 2, stride=3, padding=4),
}
fixed = pytest.mark.parametrize("g", FIXED.values(), ids=FIXED)


@given(small_geometries())
def test_the_matrix_is_the_definition(g: ConvGeometry) -> None:
    """Every entry of the dense matrix, zeros included, agrees with the definition of a convolution."""
    weight = distinct(g.weight_shape)
    T = toeplitz_matrix(weight, g.input_size, **parameters(g))
    assert torch.equal(T, matrix_by_definition(weight, g.input_size, **parameters(g)))


@pytest.mark.parametrize("layout", LAYOUTS)
@given(g=geometries())
def test_entries_are_those_of_the_definition(layout: torch.layout, g: ConvGeometry) -> None:
    """On any geometry, evenly spread rows have exactly the entries of the definition, in the right places."""
    weight = distinct(g.weight_shape)
    total, columns = g.matrix_shape
    rows = affordable_rows(g, columns if layout == torch.strided else weight[0].numel())
    chosen = range(total)[rows or slice(None)]
    T = toeplitz_matrix(weight, g.input_size, layout=layout, rows=rows, **parameters(g))
    assert T.shape == (len(chosen), columns)
    found = T.to_sparse_coo().coalesce()
    places = [(chosen[i], j) for i, j in found.indices().T.tolist()]
    expected = entries_by_definition(weight, g.input_size, **parameters(g), rows=chosen)
    assert dict(zip(places, found.values().tolist(), strict=True)) == expected


@given(geometries())
def test_csr_is_canonical(g: ConvGeometry) -> None:
    """CSR passes torch's invariants, has ascending columns without duplicates, and stores no structural zero."""
    weight = distinct(g.weight_shape)
    rows = affordable_rows(g, weight[0].numel(), 2**20)
    T = toeplitz_matrix(weight, g.input_size, layout=torch.sparse_csr, rows=rows, **parameters(g))
    crow, columns, values = T.crow_indices(), T.col_indices(), T.values()
    torch.sparse_csr_tensor(crow, columns, values, T.shape, check_invariants=True)
    row = torch.repeat_interleave(torch.arange(len(T)), crow.diff())
    assert bool((torch.diff(row * T.shape[1] + columns) > 0).all())
    assert bool((values != 0).all())
    assert crow.dtype == columns.dtype == torch.int32
    assert crow[-1] == len(values)


@given(geometries())
def test_coo_is_coalesced(g: ConvGeometry) -> None:
    """COO is marked as coalesced, and coalescing it again changes nothing."""
    weight = distinct(g.weight_shape)
    rows = affordable_rows(g, weight[0].numel(), 2**20)
    T = toeplitz_matrix(weight, g.input_size, layout=torch.sparse_coo, rows=rows, **parameters(g))
    assert T.is_coalesced()
    again = torch.sparse_coo_tensor(T.indices(), T.values(), T.shape, check_invariants=True).coalesce()
    assert torch.equal(again.indices(), T.indices())
    assert torch.equal(again.values(), T.values())


@given(small_geometries())
def test_row_counts_are_the_live_taps(g: ConvGeometry) -> None:
    """Each row stores one element per tap that reads a pixel, and ``nnz`` is the total."""
    weight = distinct(g.weight_shape)
    crow = toeplitz_matrix(weight, g.input_size, layout=torch.sparse_csr, **parameters(g)).crow_indices()
    counts = Counter(row for row, _ in entries_by_definition(weight, g.input_size, **parameters(g)))
    assert crow.diff().tolist() == [counts[row] for row in range(g.matrix_shape[0])]
    assert crow[-1] == g.nnz


@pytest.mark.parametrize("layout", [torch.sparse_csr, torch.sparse_coo])
def test_a_tap_of_value_zero_is_stored(layout: torch.layout) -> None:
    """The pattern follows from the geometry alone: taps with value zero are stored."""
    T = toeplitz_matrix(torch.zeros(1, 1, 2, 2), 3, layout=layout)
    assert T.values().tolist() == [0.0] * 16


@fixed
def test_csr_of_huge_columns_has_int64_indices(g: ConvGeometry) -> None:
    """Both index tensors are int64 for 2**31 columns or more, else int32."""
    weight = distinct(g.weight_shape)
    for size, dtype in (((2**20, 2**12), torch.int64), ((2**8, 2**8), torch.int32)):
        T = toeplitz_matrix(weight, size, layout=torch.sparse_csr, rows=[-1], **parameters(g))
        assert T.crow_indices().dtype == T.col_indices().dtype == dtype
        torch.sparse_csr_tensor(T.crow_indices(), T.col_indices(), T.values(), T.shape, check_invariants=True)


@fixed
def test_columns_are_responses_to_unit_vectors(g: ConvGeometry) -> None:
    """Column ``j`` of ``T`` is torch's convolution of the image that is 1 at pixel ``j`` and 0 elsewhere."""
    weight = integers(g.weight_shape, seed=1)
    basis = torch.eye(g.matrix_shape[1], dtype=torch.float64).view(-1, g.in_channels, *g.input_size)
    pads = [p for before_after in reversed(g.pads) for p in before_after]
    strings = {**parameters(g), "padding": 0}
    responses = F.conv2d(F.pad(basis, pads), weight, **strings).flatten(1).T
    assert torch.equal(toeplitz_matrix(weight, g.input_size, **parameters(g)), responses)


@pytest.mark.parametrize("rank", [1, 2, 3])
@given(data=st.data())
def test_the_matrix_times_the_input_is_the_convolution(rank: int, data: st.DataObject) -> None:
    """``T @ vec(x)`` is torch's convolution in one, two and three dimensions."""
    g = data.draw(geometries(rank=rank, max_products=2**10, strings=False))
    weight = integers(g.weight_shape, seed=2)
    x = integers((g.in_channels, *g.input_size), seed=3)
    rows = affordable_rows(g, weight[0].numel(), 2**20)
    T = toeplitz_matrix(weight, g.input_size, layout=torch.sparse_csr, rows=rows, **parameters(g))
    expected = CONVOLUTIONS[rank](x[None], weight, **parameters(g)).flatten()
    assert torch.equal(T @ x.flatten(), expected[rows or slice(None)])


@pytest.mark.parametrize(("mode", "padding"), [("valid", 0), ("full", (2, 3)), ("same", (1, 1))])
def test_one_channel_is_a_correlation(mode: str, padding: int | tuple[int, int]) -> None:
    """For one channel at stride 1, ``T @ vec(x)`` is scipy's correlation."""
    signal = pytest.importorskip("scipy.signal")
    kernel_size = (3, 3) if mode == "same" else (3, 4)
    x, kernel = integers((7, 6), seed=4), integers(kernel_size, seed=5)
    expected = torch.from_numpy(signal.correlate2d(x.numpy(), kernel.numpy(), mode))
    T = toeplitz_matrix(kernel[None, None], (7, 6), padding=padding)
    assert torch.equal((T @ x.flatten()).view(expected.shape), expected)


@given(small_geometries())
def test_stride_one_without_padding_is_block_toeplitz_with_toeplitz_blocks(g: ConvGeometry) -> None:
    """Per pair of channels, ``T`` is constant along its block diagonals and along the diagonals within each block."""
    size = tuple(n + e for n, e in zip(g.input_size, g.kernel_extent, strict=True))
    weight = distinct(g.weight_shape)
    T = toeplitz_matrix(weight, size, dilation=g.dilation, groups=g.groups)
    oh, ow = output_size_by_definition(size, g.kernel_size, (1, 1), (0, 0), g.dilation)
    blocks = T.view(g.out_channels, oh, ow, g.in_channels, *size)
    assert torch.equal(blocks[:, 1:, :, :, 1:, :], blocks[:, :-1, :, :, :-1, :])
    assert torch.equal(blocks[:, :, 1:, :, :, 1:], blocks[:, :, :-1, :, :, :-1])


@given(small_geometries())
def test_groups_do_not_mix(g: ConvGeometry) -> None:
    """``T`` is block diagonal with one block per group."""
    T = toeplitz_matrix(distinct(g.weight_shape), g.input_size, **parameters(g))
    blocks = T.view(g.groups, T.shape[0] // g.groups, g.groups, T.shape[1] // g.groups)
    for i, j in itertools.product(range(g.groups), repeat=2):
        assert bool(blocks[i, :, j].any()) == (i == j and g.nnz > 0)


def test_a_weight_without_data_is_refused() -> None:
    """A weight on the meta device is refused."""
    with pytest.raises(ValueError, match=r"^weight is on device meta, but must have data$"):
        toeplitz_matrix(torch.ones(1, 1, 1, 1, device="meta"), 3)


def test_a_weight_that_is_no_tensor_is_refused() -> None:
    """A weight that is not a tensor is refused."""
    with pytest.raises(TypeError, match=r"^weight must be a torch.Tensor, not list$"):
        toeplitz_matrix([[[[1.0]]]], 3)  # type: ignore[arg-type]


def test_an_unknown_layout_is_refused() -> None:
    """A layout other than the three supported ones is refused."""
    with pytest.raises(ValueError, match=r"^layout=torch.sparse_csc must be torch.strided, "):
        toeplitz_matrix(torch.ones(1, 1, 1, 1), 3, layout=torch.sparse_csc)


@pytest.mark.parametrize("rows", [None, slice(None), slice(None, None, -1), slice(0, 2**28)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_matrix_over_the_budget_is_refused_before_anything_is_allocated(
    rows: slice | None, layout: torch.layout
) -> None:
    """A matrix that exceeds the budget raises at once; the message has its size and the alternatives."""
    weight = torch.ones(1, 1, 1, 1).expand(2048, 1024, 1, 1)
    with pytest.raises(MatrixTooLargeError) as caught:
        toeplitz_matrix(weight, 2**20, layout=layout, rows=rows, memory_budget=2**30)
    assert isinstance(caught.value, MemoryError)
    count = 2**28 if rows == slice(0, 2**28) else 2048 * 2**40
    nnz = count * 1024
    needed = {
        torch.strided: count * 1024 * 2**40 * 4,
        torch.sparse_csr: nnz * 12 + (count + 1) * 8,
        torch.sparse_coo: nnz * 20,
    }
    csr = f"layout=torch.sparse_csr ({needed[torch.sparse_csr]:,} bytes), " if layout != torch.sparse_csr else ""
    assert str(caught.value) == (
        f"T of shape ({count}, {1024 * 2**40}) in torch.float32 and layout {layout} would take {needed[layout]:,} "
        f"bytes, over memory_budget=1,073,741,824. Use {csr}rows= for some rows at a time, or ToeplitzOperator, which "
        "never forms T"
    )


def test_the_budget_is_the_largest_size_that_is_allowed() -> None:
    """A matrix of exactly the budget is formed; with one byte less it is refused."""
    weight = torch.ones(1, 1, 2, 2)
    assert toeplitz_matrix(weight, 3, memory_budget=4 * 9 * 4).shape == (4, 9)
    with pytest.raises(MatrixTooLargeError):
        toeplitz_matrix(weight, 3, memory_budget=4 * 9 * 4 - 1)
    assert toeplitz_matrix(weight, 3, rows=[1], memory_budget=9 * 4).shape == (1, 9)


def test_the_default_budget_is_half_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a budget, a matrix may take half of the free memory of the weight's device."""
    free = 2 * (64 * 512) * 512 * 4
    monkeypatch.setattr(matrix, "available_bytes", lambda device: {"cpu": free}[device.type])
    weight = torch.ones(64, 1, 1, 1)
    assert toeplitz_matrix(weight, (1, 512)).shape == (64 * 512, 512)
    with pytest.raises(
        MatrixTooLargeError, match=rf"take {free:,} bytes, plus [\d,]+ for intermediate tensors, .* {free:,} are free"
    ):
        toeplitz_matrix(weight.double(), (1, 512))


# Forms a matrix without zeros in a fork for each kind of rows and each layout. Prints the least free memory with which
# the check lets it pass, and the peak. The peak of a fork is its own, whereas that of a new program begins with the
# memory of the process that starts it.
PEAKS = """
import os, resource, torch
from toeplitz_core import ConvGeometry, MatrixTooLargeError, matrix, toeplitz_matrix
weight = torch.ones(2000, 1000, 1, 1)
geometry = ConvGeometry.from_weight(weight.shape, 1)

def largest():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

for rows in (None, slice(None, None, 2), list(range(2000))):
    chosen = None if rows is None else range(2000)[rows] if isinstance(rows, slice) else torch.tensor(rows)
    for layout in (torch.strided, torch.sparse_csr, torch.sparse_coo):
        if os.fork() == 0:
            toeplitz_matrix(weight[:8, :8], 1, layout=layout)
            before = largest()
            low, high = 0, 2**34
            while high - low > 2**18:
                free = (low + high) // 2
                matrix.available_bytes = lambda device: free
                try:
                    matrix._check_budget(geometry, weight, layout, chosen, None)
                    high = free
                except MatrixTooLargeError:
                    low = free
            matrix.available_bytes = lambda device: 2**40
            toeplitz_matrix(weight, 1, layout=layout, rows=rows)
            print(type(rows).__name__, layout, high, largest() - before, flush=True)
            os._exit(0)
        assert os.wait()[1] == 0
"""


@pytest.fixture(scope="module")
def peaks() -> dict[tuple[str, str], tuple[int, int]]:
    """The free memory that the check demands, and the peak, for each kind of rows and each layout."""
    # With a fixed threshold, the allocator returns every freed tensor to the system, so that the peaks are the same.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-W", "ignore", "-c", PEAKS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = (line.split() for line in done.stdout.splitlines())
    return {(rows, layout): (int(demanded), int(peak)) for rows, layout, demanded, peak in lines}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rows", ["NoneType", "slice", "list"])
def test_the_default_budget_covers_the_peak(
    layout: torch.layout, rows: str, peaks: dict[tuple[str, str], tuple[int, int]]
) -> None:
    """The peak memory for a matrix without zeros is at most the free memory that the check demands."""
    demanded, peak = peaks[rows, str(layout)]
    assert 0 < peak <= demanded + 2**20  # Linux counts memory in batches of pages, for each core


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_matrix_has_the_dtype_of_the_weight(dtype: torch.dtype, layout: torch.layout) -> None:
    """In every dtype the matrix has the weight's dtype and values."""
    g = FIXED["grouped"]
    weight = integers(g.weight_shape, dtype, seed=6)
    T = toeplitz_matrix(weight, g.input_size, layout=layout, **parameters(g))
    assert T.dtype == dtype
    assert torch.equal(T.to_dense(), matrix_by_definition(weight, g.input_size, **parameters(g)))


@fixed
@pytest.mark.parametrize(
    ("dtype", "rows"), [(torch.float64, None), (torch.float64, [0, 0, -1]), (torch.complex128, None)]
)
def test_the_matrix_is_differentiable_twice_in_the_weight(
    g: ConvGeometry, dtype: torch.dtype, rows: list[int] | None
) -> None:
    """First and second derivatives of the dense matrix and of the stored values are right."""
    weight = integers(g.weight_shape, dtype, seed=7).requires_grad_()
    for build in (toeplitz_matrix, toeplitz_values):

        def projection(w: torch.Tensor, build: Callable[..., torch.Tensor] = build) -> torch.Tensor:
            entries = build(w, g.input_size, rows=rows, **parameters(g)).flatten()
            # Two sums of the entries are faster to check than all entries; the tap gives them a second derivative.
            return integers((2, len(entries)), dtype, seed=8) @ entries * w.flatten()[0]

        assert torch.autograd.gradcheck(projection, weight)
        assert torch.autograd.gradgradcheck(projection, weight)


def test_a_weight_of_any_strides_gives_the_same_matrix() -> None:
    """Transposed, expanded and sliced weights give the matrix of their contiguous copies."""
    base = distinct((4, 6, 3, 3))
    for weight in (base.transpose(0, 1), base[:, ::2], base[..., :1].expand(-1, -1, -1, 2), base.flip(3).mT):
        assert torch.equal(toeplitz_matrix(weight, 4), toeplitz_matrix(weight.contiguous(), 4))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_input_channels_or_pixels_there_are_no_columns(layout: torch.layout) -> None:
    """Without input channels or pixels, the matrix has all rows and no columns."""
    assert toeplitz_matrix(torch.ones(2, 0, 2, 2), 3, layout=layout).shape == (8, 0)
    assert toeplitz_matrix(torch.ones(2, 1, 2, 2), (0, 3), padding=1, layout=layout).shape == (8, 0)


def test_a_grid_of_ints_needs_no_tuple() -> None:
    """An int for the input size applies to every axis of the weight."""
    weight = distinct((1, 1, 2, 2))
    assert torch.equal(toeplitz_matrix(weight, 3), toeplitz_matrix(weight, (3, 3)))
