"""The matrix against its limit, which is to write its values and columns once, and against peers."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import scipy.sparse
import torch
from torch.nn.functional import conv2d

from benchmarks.pairs import Table, ratio, seconds_of
from toeplitz_core import ConvGeometry, toeplitz_matrix, toeplitz_values
from toeplitz_core.pattern import _kept

# Channels in and out, image, kernel, stride, padding, groups.
LAYERS = {
    "1 to 1, 4x4 k3": (1, 1, 4, 3, 1, 0, 1),
    "3 to 16, 32x32 k3 p1": (3, 16, 32, 3, 1, 1, 1),
    "16 to 32, 32x32 k3 s2": (16, 32, 32, 3, 2, 0, 1),
    "64 to 64, 16x16 k3": (64, 64, 16, 3, 1, 0, 1),
    "depthwise 64, 56x56 k3 p1": (64, 64, 56, 3, 1, 1, 64),
    "3 to 64, 224x224 k7 s2 p3": (3, 64, 224, 7, 2, 3, 1),
}
# Peers are measured on matrices of up to this many entries, zeros included: most of them return a dense matrix.
MOST_ENTRIES = 2**24

Peer = Callable[[torch.Tensor, int, int, int], Any]


def layers() -> Iterator[tuple[str, ConvGeometry, torch.Tensor, tuple[Any, ...]]]:
    """Each layer with its weight and the arguments after it."""
    for name, (inputs, outputs, size, kernel, stride, padding, groups) in LAYERS.items():
        geometry = ConvGeometry(inputs, outputs, (size, size), kernel, stride, padding, 1, groups)
        weight = torch.randint(-9, 10, geometry.weight_shape).float()  # whole numbers, so that every peer is exact
        yield name, geometry, weight, ((size, size), stride, padding, 1, groups)


def written(nnz: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The limit: the values and the columns, each written once."""
    return torch.empty(nnz).fill_(1.0), torch.empty(nnz, dtype=torch.int32).fill_(1)


def csr(weight: torch.Tensor, arguments: tuple[Any, ...], *, is_new: bool) -> torch.Tensor:
    """The CSR matrix, of a geometry seen before or of a new one."""
    if is_new:
        _kept.cache_clear()
    return toeplitz_matrix(weight, *arguments, torch.sparse_csr)


def of_limit() -> Table:
    """For each layer, the ratios to the limit."""
    rows = []
    for name, geometry, weight, arguments in layers():
        limit = partial(written, geometry.nnz)
        row = [name, f"{geometry.nnz:,}"]
        for is_new in (False, True):
            row += [
                ratio(partial(csr, weight, arguments, is_new=is_new), limit, fresh=fresh) for fresh in (False, True)
            ]
        row.append(f"{seconds_of(partial(csr, weight, arguments, is_new=False)) * 1e6:,.0f}")
        rows.append(row)
    return Table(
        "CSR against the write limit",
        "The time to build the CSR matrix of a layer, with new weights, in units of the time to write its float32 "
        "values and int32 columns once. Seen: a geometry of an earlier call. Warm memory was freed just before, fresh "
        "memory is mapped anew, on both sides. The aims are 1.3 for 400,000 entries and more (seen), 1.8 (new), and "
        "100 microseconds for the smallest layers.",
        ["layer", "entries", "seen, warm", "seen, fresh", "new, warm", "new, fresh", "microseconds, seen"],
        rows,
    )


def of_dense_and_backward() -> Table:
    """For each layer, dense against zeros and scatter, and backward against forward."""
    rows = []
    for name, geometry, weight, arguments in layers():
        trained = weight.clone().requires_grad_()
        values = partial(toeplitz_values, trained, *arguments)
        out = values()
        back = partial(torch.autograd.grad, out, trained, torch.ones_like(out), retain_graph=True)
        row = [name]
        if geometry.matrix_shape[0] * geometry.matrix_shape[1] <= MOST_ENTRIES:
            dense = partial(toeplitz_matrix, weight, *arguments)
            whole = dense()
            places = whole.flatten().nonzero().flatten()
            scattered = partial(scatter, whole.shape, places, whole.flatten()[places])
            row += [ratio(dense, partial(torch.zeros, whole.shape)), ratio(dense, scattered)]
        else:
            row += ["too large", "too large"]
        rows.append([*row, ratio(back, values)])
    return Table(
        "Dense, and backward",
        "The dense matrix in units of `torch.zeros` of its size, and of zeros with one `scatter_` of values that stand "
        "ready; and the backward pass through the values in units of the forward pass (the aim is 2). Warm memory.",
        ["layer", "dense to zeros", "dense to scatter", "backward to forward"],
        rows,
    )


def scatter(shape: torch.Size, places: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Zeros with values at given places."""
    return torch.zeros(shape.numel()).scatter_(0, places, values).view(shape)


def notebook(weight: torch.Tensor, size: int, stride: int, padding: int) -> torch.Tensor:
    """Python loops over rows and taps, as in the notebook that this package began as."""
    outputs, inputs, kernel, _ = weight.shape
    side = (size + 2 * padding - kernel) // stride + 1
    dense = torch.zeros(outputs, side, side, inputs, size, size)
    for i in range(side):
        for j in range(side):
            for h in range(kernel):
                for w in range(kernel):
                    y, x = i * stride + h - padding, j * stride + w - padding
                    if 0 <= y < size and 0 <= x < size:
                        dense[:, i, j, :, y, x] = weight[:, :, h, w]
    return dense.view(outputs * side * side, -1)


def probed(weight: torch.Tensor, size: int, stride: int, padding: int) -> torch.Tensor:
    """The images of a basis under ``F.conv2d``."""
    basis = torch.eye(weight.shape[1] * size * size).view(-1, weight.shape[1], size, size)
    return conv2d(basis, weight, None, stride, padding).flatten(1).mT


def jacobian(weight: torch.Tensor, size: int, stride: int, padding: int) -> torch.Tensor:
    """``torch.func.jacrev`` of ``F.conv2d``."""
    image = torch.zeros(weight.shape[1], size, size)
    found: torch.Tensor = torch.func.jacrev(lambda x: conv2d(x, weight, None, stride, padding).flatten())(image)
    return found.flatten(1)


def einconv(weight: torch.Tensor, size: int, stride: int, padding: int) -> torch.Tensor:
    """The index patterns of einconv, one per axis, contracted with the weight."""
    from einconv import index_pattern  # noqa: PLC0415  # optional

    pattern = index_pattern(size, weight.shape[-1], stride, padding, 1).float()
    matrix: torch.Tensor = torch.einsum("ockl,kyh,lxw->oyxchw", weight, pattern, pattern)
    return matrix.flatten(3).flatten(0, 2)


def unfold_nd(weight: torch.Tensor, size: int, stride: int, padding: int) -> torch.Tensor:
    """The windows of a basis by unfoldNd, times the weight."""
    from unfoldNd import unfoldNd  # noqa: PLC0415  # optional

    basis = torch.eye(weight.shape[1] * size * size).view(-1, weight.shape[1], size, size)
    windows = unfoldNd(basis, weight.shape[-1], padding=padding, stride=stride)
    return (weight.flatten(1) @ windows).flatten(1).mT


def kron(weight: torch.Tensor, size: int, stride: int, padding: int) -> scipy.sparse.csr_array:
    """For each tap, SciPy's Kronecker product of the weights and of one diagonal per axis; their sum as CSR."""
    side = (size + 2 * padding - weight.shape[-1]) // stride + 1
    by_row = scipy.sparse.eye_array(size + 2 * padding).tocsr()[:, padding : padding + size]
    shifted = [by_row[k : k + stride * side : stride][:side] for k in range(weight.shape[-1])]
    taps = weight.numpy()
    return sum(
        scipy.sparse.kron(scipy.sparse.csr_array(taps[:, :, k, m]), scipy.sparse.kron(shifted[k], shifted[m]), "csr")
        for k in range(weight.shape[-1])
        for m in range(weight.shape[-1])
    )


PEERS: dict[str, Peer] = {
    "einconv": einconv,
    "unfoldNd": unfold_nd,
    "SciPy's kron (CSR)": kron,
    "F.conv2d of a basis": probed,
    "jacrev": jacobian,
    "the notebook's loops": notebook,
}
PACKAGES = {"einconv": "einconv", "unfoldNd": "unfoldNd"}


def of_peers() -> Table:
    """For each small enough layer, the time of peers in units of ours."""
    found = {n: p for n, p in PEERS.items() if n not in PACKAGES or importlib.util.find_spec(PACKAGES[n])}
    rows = []
    for name, geometry, weight, (size, stride, padding, _, groups) in layers():
        if groups > 1 or geometry.matrix_shape[0] * geometry.matrix_shape[1] > MOST_ENTRIES:
            continue
        row = [name]
        for peer_name, peer in found.items():
            layout = torch.sparse_csr if peer is kron else torch.strided
            ours = partial(toeplitz_matrix, weight, size, stride, padding, layout=layout)
            theirs = partial(peer, weight, size[0], stride, padding)
            built = theirs()
            dense = torch.from_numpy(built.toarray()) if peer is kron else built
            assert torch.equal(dense, ours().to_dense()), peer_name
            row.append(ratio(theirs, ours))
        rows.append(row)
    return Table(
        "Peers against us",
        "The time that others take for the same matrix, in units of ours: dense against our dense matrix, SciPy's CSR "
        "against our CSR. Every result equals ours. Groups, and layers whose dense matrix has more than 16 million "
        f"elements, are left out. Not installed, so not measured: {', '.join(sorted(PEERS.keys() - found)) or 'none'}.",
        ["layer", *found],
        rows,
    )


def tables() -> Iterator[Table]:
    """All tables of the matrix."""
    yield of_limit()
    yield of_dense_and_backward()
    yield of_peers()
