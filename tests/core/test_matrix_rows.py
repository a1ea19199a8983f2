"""Some rows of the matrix: every form of ``rows``, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.operands import LAYOUTS, distinct, parameters, small_geometries
from toeplitz_core import ConvGeometry, toeplitz_matrix, toeplitz_values

ROWS: dict[str, tuple[Any, list[int]]] = {
    "all": (slice(None), list(range(12))),
    "slice": (slice(2, 9, 3), [2, 5, 8]),
    "slice backwards": (slice(None, None, -5), [11, 6, 1]),
    "empty slice": (slice(5, 5), []),
    "slice beyond the end": (slice(10, 99), [10, 11]),
    "list": ([3, 0, 7], [3, 0, 7]),
    "tuple of negative ints": ((-1, -12, 4), [11, 0, 4]),
    "duplicates": ([2, 2, 1, 2], [2, 2, 1, 2]),
    "range": (range(4, 0, -2), [4, 2]),
    "empty list": ([], []),
    "int64 tensor": (torch.tensor([5, -1]), [5, 11]),
    "int32 tensor": (torch.tensor([5, -1], dtype=torch.int32), [5, 11]),
    "uint8 tensor": (torch.tensor([5, 1], dtype=torch.uint8), [5, 1]),
    "empty tensor": (torch.tensor([], dtype=torch.int64), []),
    "mask": (torch.arange(12) % 4 == 1, [1, 5, 9]),
    "mask as a list": ([i in (0, 11) for i in range(12)], [0, 11]),
    "mask of nothing": (torch.zeros(12, dtype=torch.bool), []),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("rows", "indices"), ROWS.values(), ids=ROWS)
def test_rows_are_rows_of_the_matrix(layout: torch.layout, rows: Any, indices: list[int]) -> None:
    """``rows`` in every form selects these rows of ``T``, in this order, in the requested layout."""
    weight = distinct((2, 2, 2, 2))
    whole = toeplitz_matrix(weight, (3, 4))
    chosen = toeplitz_matrix(weight, (3, 4), rows=rows, layout=layout)
    assert chosen.layout == layout
    assert torch.equal(chosen.to_dense(), whole[indices])
    values = toeplitz_values(weight, (3, 4), rows=rows)
    assert torch.equal(values, toeplitz_matrix(weight, (3, 4), rows=rows, layout=torch.sparse_csr).values())


@given(g=small_geometries(), data=st.data())
def test_any_rows_of_any_geometry_are_rows_of_the_matrix(g: ConvGeometry, data: st.DataObject) -> None:
    """Rows chosen in any order, with duplicates, equal those of the whole matrix, also with groups."""
    count = g.matrix_shape[0]
    rows = data.draw(st.lists(st.integers(-count, count - 1), max_size=8))
    weight = distinct(g.weight_shape)
    whole = toeplitz_matrix(weight, g.input_size, **parameters(g))
    for layout in LAYOUTS:
        chosen = toeplitz_matrix(weight, g.input_size, rows=rows, layout=layout, **parameters(g))
        assert torch.equal(chosen.to_dense(), whole[rows])


@pytest.mark.parametrize(
    "rows",
    [
        np.array([2, 0, -1], dtype=">i4"),
        np.array([-1, 0, 2])[::-1],
        np.array([2, 0, 11], dtype=np.uint64),
    ],
)
def test_rows_may_be_an_array(rows: Any) -> None:
    """NumPy integers of any width, byte order and stride choose the same rows as ints."""
    weight = distinct((1, 1, 2, 2))
    assert torch.equal(toeplitz_matrix(weight, (4, 5), rows=rows), toeplitz_matrix(weight, (4, 5), rows=[2, 0, -1]))


def test_rows_that_int64_cannot_count_are_refused() -> None:
    """A geometry whose T has more rows than int64 can count is refused, even if only one row is chosen."""
    with pytest.raises(ValueError, match="has more rows or columns than int64 can count"):
        toeplitz_matrix(torch.ones(1, 1, 2, 2), 3, padding=2**61, rows=[0])


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([0, 12], IndexError, "rows[1]=12 must be in [-12, 12), the rows of T"),
        ([-13], IndexError, "rows[0]=-13 must be in [-12, 12), the rows of T"),
        (torch.tensor([-13]), IndexError, "rows[0]=-13 must be in [-12, 12), the rows of T"),
        ([1.0], TypeError, "rows[0]=1.0 must be an int, not float"),
        ([True, 1], TypeError, "rows[0]=True must be an int, not bool"),
        (torch.tensor([1.0]), TypeError, "rows has dtype torch.float32, but must be an integer or boolean tensor"),
        (torch.tensor([1j]), TypeError, "rows has dtype torch.complex64, but must be an integer or boolean tensor"),
        (torch.tensor([[1]]), ValueError, "rows has shape (1, 1), but must be 1-D"),
        (torch.tensor(1), ValueError, "rows has shape (), but must be 1-D"),
        (torch.tensor([True]), ValueError, "rows is a mask of 1 entries, but T has 12 rows"),
        ([True], ValueError, "rows is a mask of 1 entries, but T has 12 rows"),
        (3, TypeError, "rows=3 must be a slice, a sequence of ints or a 1-D tensor, not int"),
        ("0", TypeError, "rows='0' must be a slice, a sequence of ints or a 1-D tensor, not str"),
    ],
)
def test_rows_that_are_none_are_refused(rows: Any, error: type[Exception], message: str) -> None:
    """Rows that are out of range, or not in a supported form, are refused with the rule."""
    for build in (toeplitz_matrix, toeplitz_values):
        with pytest.raises(error) as caught:
            build(distinct((2, 2, 2, 2)), (3, 4), rows=rows)
        assert type(caught.value) is error
        assert str(caught.value) == message


@pytest.mark.parametrize("layout", [torch.sparse_csr, torch.sparse_coo])
def test_rows_of_a_matrix_that_could_not_be_formed(layout: torch.layout) -> None:
    """Some rows of a ``T`` with 2**58 elements are formed quickly and agree with the definition."""
    size, channels = (512, 512), 2048
    weight = torch.ones(1, 1, 1, 1).expand(channels, channels, 3, 3)
    T = toeplitz_matrix(weight, size, padding=1, layout=layout, rows=[0, channels * 2**17 + 700, -1])
    assert T.shape == (3, channels * 2**18)
    found = T.to_sparse_coo().coalesce().indices()
    assert torch.bincount(found[0]).tolist() == [4 * channels, 9 * channels, 4 * channels]
    pixels = found[1][found[0] == 1] % 2**18
    assert pixels.unique().tolist() == [(1 + kh) * 512 + 188 + kw for kh in (-1, 0, 1) for kw in (-1, 0, 1)]
