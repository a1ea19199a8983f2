"""The matrix as an operator that multiplies vectors without being formed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # torch's custom
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.operands import DTYPES, FLOATS, distinct, integers, parameters, seeds, small_geometries
from toeplitz_core import ConvGeometry, ToeplitzOperator, matrix, products, toeplitz_matrix
from toeplitz_core.testing.strategies.geometries import geometries

GEOMETRIES = {
    "grouped": ConvGeometry(2, 4, (3, 2), (2, 1), stride=(2, 1), padding=(1, 0), groups=2),
    "dilated": ConvGeometry(2, 1, (3, 3), 2, padding=1, dilation=(1, 2)),
    "same": ConvGeometry(1, 2, (2, 3), 2, padding="same"),
}


def operator_of(g: ConvGeometry, weight: torch.Tensor) -> ToeplitzOperator:
    """The operator of a weight at a geometry."""
    return ToeplitzOperator(weight, g.input_size, **parameters(g))


@pytest.mark.parametrize("k", [None, 0, 1, 3])
@given(g=small_geometries(), seed=seeds())
def test_products_are_those_of_the_matrix(k: int | None, g: ConvGeometry, seed: int) -> None:
    """``A @ x`` and ``A.mT @ y`` are ``T @ x`` and ``T.mT @ y``, for one vector and for several."""
    weight = integers(g.weight_shape, seed=seed)
    A, T = operator_of(g, weight), toeplitz_matrix(weight, g.input_size, **parameters(g))
    tail = () if k is None else (k,)
    x = integers((A.shape[1], *tail), seed=seed + 1)
    y = integers((A.shape[0], *tail), seed=seed + 2)
    assert torch.equal(A @ x, T @ x)
    assert torch.equal(A.mT @ y, T.mT @ y)
    assert (A @ x).shape == (A.shape[0], *tail)
    assert (A.mT @ y).shape == (A.shape[1], *tail)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@given(g=small_geometries(), seed=seeds())
def test_the_conjugate_transpose_is_the_adjoint(dtype: torch.dtype, g: ConvGeometry, seed: int) -> None:
    """``A.mH @ y`` is ``T.mH @ y``, and ``<y, A x> = <A.mH y, x>``."""
    weight = integers(g.weight_shape, dtype, seed=seed)
    A, T = operator_of(g, weight), toeplitz_matrix(weight, g.input_size, **parameters(g))
    x, y = integers((A.shape[1],), dtype, seed=seed + 1), integers((A.shape[0],), dtype, seed=seed + 2)
    assert torch.equal(A.mH @ y, T.mH @ y)
    assert torch.equal(torch.vdot(y, A @ x), torch.vdot(A.mH @ y, x))


@given(g=geometries(), seed=seeds())
def test_products_are_the_convolution_and_its_input_gradient(g: ConvGeometry, seed: int) -> None:
    """On any geometry ``A @ x`` is torch's convolution, and ``A.mT @ y`` is its gradient in the input."""
    weight, x = integers(g.weight_shape, seed=seed), integers((g.in_channels, *g.input_size), seed=seed + 1)
    y = integers((g.matrix_shape[0],), seed=seed + 2)
    # "same" is replaced by numbers, because torch warns when it copies the input for an odd padding.
    pads = [p for before_after in reversed(g.pads) for p in before_after]
    x.requires_grad_()
    expected = F.conv2d(F.pad(x[None], pads), weight, **parameters(g) | {"padding": 0}).flatten()
    (gradient,) = torch.autograd.grad(expected, x, y)
    A = operator_of(g, weight)
    assert torch.equal(A @ x.detach().flatten(), expected)
    assert torch.equal(A.mT @ y, gradient.flatten())


@pytest.mark.parametrize("dtype", DTYPES)
@given(g=small_geometries(), seed=seeds())
def test_products_keep_the_dtype(dtype: torch.dtype, g: ConvGeometry, seed: int) -> None:
    """In every dtype the products are exact, rounded once to the weight's dtype."""
    weight = integers(g.weight_shape, dtype, seed=seed, limit=1)
    A = operator_of(g, weight)
    x, y = integers((A.shape[1],), dtype, seed=seed + 1), integers((A.shape[0],), dtype, seed=seed + 2)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    T = toeplitz_matrix(weight, g.input_size, **parameters(g)).to(wide)
    assert (A.dtype, A.device) == (dtype, weight.device)
    assert (A @ x).dtype == (A.mT @ y).dtype == dtype  # torch.equal does not compare dtypes
    assert torch.equal(A @ x, (T @ x.to(wide)).to(dtype))
    assert torch.equal(A.mT @ y, (T.mT @ y.to(wide)).to(dtype))


@pytest.mark.parametrize(("dtype", "full"), [(torch.float16, 2**11), (torch.bfloat16, 2**8)])
def test_half_precision_is_rounded_once(dtype: torch.dtype, full: int) -> None:
    """A half-precision sum is exact even if the format cannot hold its partial sums: it is rounded only at the end."""
    taps = 9
    A = ToeplitzOperator(torch.ones(1, 1, 1, taps, dtype=dtype), (1, taps))
    x = torch.ones(taps, dtype=dtype)
    x[0] = full
    assert (A @ x).tolist() == [full + taps - 1]
    # All nine outputs read the same pixel, so this sum is over outputs.
    B = ToeplitzOperator(torch.ones(1, 1, 1, taps, dtype=dtype), (1, 1), padding=(0, taps - 1))
    assert (B.mT @ x).tolist() == [full + taps - 1]


@pytest.mark.parametrize("k", [(), (2,)])
@given(g=small_geometries(), seed=seeds())
def test_blocks_do_not_show(k: tuple[int, ...], g: ConvGeometry, seed: int) -> None:
    """Products computed position by position equal products computed all at once."""
    A = operator_of(g, integers(g.weight_shape, seed=seed))
    x, y = integers((A.shape[1], *k), seed=seed + 1), integers((A.shape[0], *k), seed=seed + 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_BLOCK_BYTES", 1)
        forward, backward = A @ x, A.mT @ y
    assert torch.equal(forward, A @ x)
    assert torch.equal(backward, A.mT @ y)


@given(g=geometries())
def test_kept_receptive_fields_are_those_of_the_positions(g: ConvGeometry) -> None:
    """The receptive fields that are kept for a geometry are those of all its positions."""
    index, live = products.receptive_field(g, torch.arange(g.positions))
    kept = torch.from_numpy(products._kept_receptive_fields(g))
    assert torch.equal(kept.mT, torch.where(live, index, g.pixels))


def test_receptive_fields_are_kept_for_every_mode() -> None:
    """What a product in inference mode keeps serves a later product that is differentiated."""
    products._kept_receptive_fields.cache_clear()
    weight, x = torch.ones(1, 1, 2, 2, requires_grad=True), torch.ones(9)
    with torch.inference_mode():
        assert (ToeplitzOperator(weight, 3) @ x).tolist() == [4] * 4
    (ToeplitzOperator(weight, 3) @ x).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[[[4, 4], [4, 4]]]]


def test_nothing_is_kept_while_torch_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """``torch.compile`` would warn of a function that keeps results, so a product that it traces calls none."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(products, "_kept_receptive_fields", None)
    assert (ToeplitzOperator(torch.ones(1, 1, 2, 2), 3) @ torch.ones(9)).tolist() == [4] * 4


@given(g=small_geometries(), value=st.sampled_from([float("nan"), float("inf")]), data=st.data())
def test_nan_and_infinity_stay_in_their_receptive_field(g: ConvGeometry, value: float, data: st.DataObject) -> None:
    """A NaN or an infinity affects exactly the elements for which its column (or row) of ``T`` has a tap."""
    weight = distinct(g.weight_shape)
    A, T = operator_of(g, weight), toeplitz_matrix(weight, g.input_size, **parameters(g))
    rows, columns = A.shape
    i, j = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    x, y = torch.ones(columns, dtype=torch.float64), torch.ones(rows, dtype=torch.float64)
    x[j], y[i] = value, value
    assert torch.equal((A @ x).isfinite(), T[:, j] == 0)
    assert torch.equal((A.mT @ y).isfinite(), T[i] == 0)


@given(small_geometries())
def test_a_nan_gives_gradients_to_its_own_taps_alone(g: ConvGeometry) -> None:
    """The weight gradient is NaN for the taps that read the NaN of the input, and finite for all others."""
    weight = distinct(g.weight_shape).requires_grad_()
    A = operator_of(g, weight)
    x = torch.ones(A.shape[1], dtype=torch.float64)
    x[0] = float("nan")
    (gradient,) = torch.autograd.grad((A @ x).sum(), weight)
    T = toeplitz_matrix(distinct(g.weight_shape), g.input_size, **parameters(g))
    assert set(weight[gradient.isnan()].tolist()) == set(T[:, 0].tolist()) - {0.0}


@given(g=geometries(max_products=2**12), seed=seeds())
def test_sparse_form_is_the_matrix(g: ConvGeometry, seed: int) -> None:
    """``to_sparse_csr`` is the CSR form of the matrix."""
    weight = integers(g.weight_shape, seed=seed)
    found = operator_of(g, weight).to_sparse_csr()
    expected = toeplitz_matrix(weight, g.input_size, **parameters(g), layout=torch.sparse_csr)
    for part in ("crow_indices", "col_indices", "values"):
        assert torch.equal(getattr(found, part)(), getattr(expected, part)())


@given(g=small_geometries(), seed=seeds())
def test_dense_form_is_the_matrix(g: ConvGeometry, seed: int) -> None:
    """``to_dense`` is the matrix, in the operator's shape."""
    weight = integers(g.weight_shape, seed=seed)
    A = operator_of(g, weight)
    assert torch.equal(A.to_dense(), toeplitz_matrix(weight, g.input_size, **parameters(g)))
    assert A.to_dense().shape == A.shape == A.mT.shape[::-1] == A.mT.mT.shape


@pytest.mark.parametrize("dtype", [dtype for dtype in DTYPES if dtype != torch.bfloat16])
def test_scipy_form_is_the_matrix(dtype: torch.dtype) -> None:
    """``to_scipy`` is a canonical ``csr_array`` with the same elements and dtype, without a gradient."""
    sparse = pytest.importorskip("scipy.sparse")
    g = GEOMETRIES["grouped"]
    weight = integers(g.weight_shape, dtype, seed=9)
    A = operator_of(g, weight.requires_grad_(dtype in FLOATS))
    S = A.to_scipy()
    assert isinstance(S, sparse.csr_array)
    assert S.has_canonical_format
    csr = A.to_sparse_csr().detach()
    assert (S.data == csr.values().numpy()).all()
    assert (S.indices == csr.col_indices().numpy()).all()
    assert (S.indptr == csr.crow_indices().numpy()).all()
    assert S.dtype == csr.values().numpy().dtype
    assert S.shape == A.shape


def test_scipy_form_of_a_conjugate_is_conjugate() -> None:
    """The lazily conjugated weight of ``A.mH`` is resolved for scipy."""
    pytest.importorskip("scipy.sparse")
    weight = torch.tensor([[[[1 + 2j]]]])
    assert ToeplitzOperator(weight, 1).mH.mT.to_scipy().toarray().tolist() == [[1 - 2j]]


def test_scipy_form_of_bfloat16_is_refused() -> None:
    """A bfloat16 weight is refused, because NumPy has no such dtype."""
    pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"^weight has dtype torch.bfloat16, which NumPy and scipy do not have$"):
        ToeplitzOperator(torch.ones(1, 1, 1, 1, dtype=torch.bfloat16), 1).to_scipy()


@pytest.mark.parametrize("g", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_products_are_differentiable_twice(g: ConvGeometry, dtype: torch.dtype) -> None:
    """First and second derivatives of all products in the weight and in the vector are right."""
    weight = integers(g.weight_shape, dtype, seed=1).requires_grad_()
    x = integers((g.matrix_shape[1], 1), dtype, seed=2).requires_grad_()
    y = integers((g.matrix_shape[0],), dtype, seed=3).requires_grad_()
    products: list[tuple[Callable[..., torch.Tensor], torch.Tensor]] = [
        (lambda w, v: operator_of(g, w) @ v, x),
        (lambda w, v: operator_of(g, w).mT @ v, y),
        (lambda w, v: operator_of(g, w).mH @ v, y),
    ]
    for product, vector in products:
        assert torch.autograd.gradcheck(product, (weight, vector))
        assert torch.autograd.gradgradcheck(product, (weight, vector))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128, torch.int64, torch.int8])
@pytest.mark.parametrize("equation", ["gock,ngckp->ngop", "gock,ngop->ngckp", "a,a->", "a,b->ba", "ab,b->a"])
def test_einsum_by_products_is_einsum(equation: str, dtype: torch.dtype) -> None:
    """The summed broadcast product equals ``torch.einsum`` and has the operands' dtype."""
    sizes = {axis: size for size, axis in enumerate("gnockpab", start=1)}
    shapes = [tuple(sizes[axis] for axis in names) for names in equation.split("->", maxsplit=1)[0].split(",")]
    a, b = (integers(shape, dtype, seed=seed) for seed, shape in enumerate(shapes))
    found = products.einsum_by_products(equation, a, b)
    assert found.dtype == dtype
    assert torch.equal(found, torch.einsum(equation, a, b))


def test_integers_of_other_devices_need_no_matrix_product() -> None:
    """Integer products have the right shape on other devices, where torch has no integer matrix product."""
    A = ToeplitzOperator(torch.ones(4, 2, 2, 2, dtype=torch.int64, device="meta"), 3, groups=2)
    assert (A @ torch.ones(A.shape[1], 2, dtype=torch.int64, device="meta")).shape == (A.shape[0], 2)
    assert (A.mT @ torch.ones(A.shape[0], dtype=torch.int64, device="meta")).shape == (A.shape[1],)


@pytest.mark.parametrize(("in_channels", "input_size"), [(0, 3), (1, (0, 3))])
@pytest.mark.parametrize("tail", [(), (0,), (2,)])
def test_without_columns_products_are_zero_or_empty(
    in_channels: int, input_size: int | tuple[int, int], tail: tuple[int, ...]
) -> None:
    """Without input channels or pixels, the operator maps the empty vector to zeros, and its transpose maps back."""
    A = ToeplitzOperator(torch.ones(2, in_channels, 2, 2), input_size, padding=1)
    assert torch.equal(A @ torch.ones(0, *tail), torch.zeros(A.shape[0], *tail))
    assert (A.mT @ torch.ones(A.shape[0], *tail)).shape == (0, *tail)


def test_vectors_of_any_strides_give_the_same_product() -> None:
    """Transposed, expanded and sliced vectors give the product of their contiguous copies."""
    A = ToeplitzOperator(distinct((2, 2, 2, 2)), 3)
    base = distinct((4, 18))
    for x in (base.mT, base.mT[:, ::2], base[0, :1].expand(18), base[:1].mT.expand(18, 3)):
        assert torch.equal(A @ x, A @ x.contiguous())


def test_repr_tells_shape_dtype_and_geometry() -> None:
    """The representation states shape, dtype and geometry."""
    A = ToeplitzOperator(torch.ones(1, 1, 2, 2), 3)
    assert repr(A) == f"ToeplitzOperator(4x9, torch.float32, {A.geometry!r})"


@pytest.mark.parametrize(
    ("operand", "error", "message"),
    [
        ([1.0], TypeError, "{} must be a torch.Tensor, not list"),
        (torch.ones(5), ValueError, "{} has shape (5,), but must be (4,) or (4, k)"),
        (torch.ones(4, 1, 1), ValueError, "{} has shape (4, 1, 1), but must be (4,) or (4, k)"),
        (torch.tensor(1.0), ValueError, "{} has shape (), but must be (4,) or (4, k)"),
        (torch.ones(4).double(), TypeError, "{} has dtype torch.float64, but must have weight's dtype, torch.float32"),
        (torch.ones(4, device="meta"), ValueError, "{} is on device meta, but must be on weight's device, cpu"),
        (torch.ones(4).to_sparse(), TypeError, "{} has layout torch.sparse_coo, but must have layout torch.strided"),
        (
            torch.ones(4, dtype=torch.bool),
            TypeError,
            "{} has dtype torch.bool, but must have one of " + ", ".join(map(str, matrix.SUPPORTED_DTYPES)),
        ),
    ],
)
def test_a_vector_that_does_not_fit_is_refused(operand: Any, error: type[Exception], message: str) -> None:
    """Vectors of another length, dtype, device or layout are refused with the rule, as ``x`` or ``y``."""
    A = ToeplitzOperator(torch.ones(4, 4, 1, 1), 1)
    for name, side in (("x", A), ("y", A.mT)):
        with pytest.raises(error) as caught:
            side @ operand
        assert str(caught.value) == message.format(name)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (None, "weight must be a torch.Tensor, not NoneType"),
        (torch.ones(1, 1, 1, 1).to_sparse(), "weight has layout torch.sparse_coo, but must have layout torch.strided"),
    ],
)
def test_a_weight_that_does_not_fit_is_refused(weight: Any, message: str) -> None:
    """Weights that are not dense tensors are refused with the rule."""
    with pytest.raises(TypeError) as caught:
        ToeplitzOperator(weight, 1)
    assert str(caught.value) == message
