"""The matrix that is written by runs from a kept pattern is the one that is computed row by row."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch
from hypothesis import given

from tests.helpers.operands import integers, parameters, seeds, small_geometries
from toeplitz_core import ConvGeometry, toeplitz_matrix, toeplitz_values
from toeplitz_core.matrix import SUPPORTED_DTYPES
from toeplitz_core.pattern import pattern_of, runs


@given(g=small_geometries(), seed=seeds())
def test_runs_make_the_same_matrix_as_rows(g: ConvGeometry, seed: int) -> None:
    """All rows at once, by runs, equal all rows by name, for which nothing is kept."""
    weight = integers(g.weight_shape, seed=seed)
    build = functools.partial(toeplitz_matrix, weight, g.input_size, **parameters(g), layout=torch.sparse_csr)
    whole, by_name = build(), build(rows=range(g.matrix_shape[0]))
    for part in (torch.Tensor.crow_indices, torch.Tensor.col_indices, torch.Tensor.values):
        assert torch.equal(part(whole), part(by_name))


@given(g=small_geometries())
def test_runs_cover_an_axis(g: ConvGeometry) -> None:
    """Runs are neighbours, each is as long as it can be, and they have all live taps."""
    for axis, size in enumerate(g.output_size):
        found = runs(g, axis)
        assert [run.output for run in found] == [sum(run.outputs for run in found[:n]) for n in range(len(found))]
        assert sum(run.outputs for run in found) == size
        assert all((a.tap, a.taps) != (b.tap, b.taps) for a, b in itertools.pairwise(found))
        counted = g.live_taps(axis, torch.arange(size))[1].tolist()
        assert [run.taps for run in found for _ in range(run.outputs)] == counted


@pytest.mark.parametrize(
    "sizes",
    [
        {"stride": 2**40},
        {"stride": 2**33, "padding": 2**33},
        {"stride": 2**20, "padding": 2**20},
        {"dilation": 2**40},
        {"stride": 2**62, "padding": 2**61},
    ],
)
def test_sizes_beyond_the_index_dtype(sizes: dict[str, int]) -> None:
    """A stride, padding or dilation may be larger than any index of a nonzero."""
    build = functools.partial(toeplitz_matrix, torch.ones(1, 1, 1, 1), (3, 3), **sizes, layout=torch.sparse_csr)
    whole = build()
    by_name = build(rows=range(whole.shape[0]))
    assert torch.equal(whole.col_indices(), by_name.col_indices())
    assert torch.equal(whole.crow_indices(), by_name.crow_indices())


def test_results_share_no_memory_with_what_is_kept() -> None:
    """Whoever writes to a matrix changes neither the next one nor the kept pattern."""
    weight = torch.ones(4, 1, 3, 3)
    build = functools.partial(toeplitz_matrix, weight, (5, 5), padding=1, groups=2, layout=torch.sparse_csr)
    first = build()
    wanted = [part.clone() for part in (first.crow_indices(), first.col_indices(), first.values())]
    for part in (first.crow_indices(), first.col_indices(), first.values()):
        part.fill_(99)
    again = build()
    assert all(map(torch.equal, wanted, (again.crow_indices(), again.col_indices(), again.values())))
    assert pattern_of(ConvGeometry(2, 4, (5, 5), 3, padding=1, groups=2)).columns.max() < 25


@pytest.mark.parametrize("dtype", SUPPORTED_DTYPES)
def test_values_of_every_dtype(dtype: torch.dtype) -> None:
    """Values are moved bit by bit, also of conjugated weights and of those that are not contiguous."""
    weight = torch.arange(24).view(3, 2, 2, 2).to(dtype).transpose(0, 1).conj()
    whole, by_name = (toeplitz_values(weight, 4, padding=1, rows=rows) for rows in (None, range(2 * 25)))
    assert whole.dtype is dtype
    assert torch.equal(whole, by_name)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")  # torch's own use of it
def test_values_are_linear_under_every_transform() -> None:
    """Gradients of gradients, tangents and batches of weights are those of a linear map."""
    values = functools.partial(toeplitz_values, input_size=(9, 3), stride=(2, 1), padding=1, dilation=(1, 2), groups=2)
    weight = torch.randn(4, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(values, weight, check_forward_ad=True)
    assert torch.autograd.gradcheck(values, weight, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(lambda w: values(w) ** 2, weight)
    many = torch.randn(5, 4, 1, 2, 2, dtype=torch.float64)
    assert torch.equal(torch.func.vmap(values)(many), torch.stack([values(each) for each in many]))
    jacobian = torch.func.jacrev(values)(weight.detach())
    assert torch.equal(jacobian, torch.func.jacfwd(values)(weight.detach()))
    whole = torch.arange(16, dtype=torch.float64).view(4, 1, 2, 2)
    assert torch.equal(jacobian.flatten(1) @ whole.flatten(), values(whole))


def test_a_matrix_of_zeros_is_differentiable_twice() -> None:
    """Its gradient in the weight is zero, but is a function of what arrives, so that autograd may go on."""
    weight = torch.ones(1, 1, 2, 1, requires_grad=True)  # with dilation 2, neither tap reads the only pixel
    matrix = toeplitz_matrix(weight, (1, 1), padding="same", dilation=(2, 1))
    arriving = torch.ones_like(matrix, requires_grad=True)
    (gradient,) = torch.autograd.grad(matrix, weight, arriving, create_graph=True)
    (second,) = torch.autograd.grad(gradient, arriving, torch.ones_like(gradient))
    assert not gradient.any()
    assert not second.any()
