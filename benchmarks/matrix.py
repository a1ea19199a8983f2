"""Measure the matrix against the limit, which is to write its values and columns once, and against peers.

Usage: python benchmarks/matrix.py [--peers] [--threads N]

Both sides of a pair alternate within this process, and hold what they return. Printed are ratios of medians, and in
brackets the middle half of the ratios of single pairs. ``warm`` memory was freed just before; ``fresh`` memory is
mapped anew, because all earlier results are still held.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch.nn.functional import conv2d

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
# Seconds for the pairs of one row, and the fewest pairs.
SECONDS, FEWEST = 1.5, 5
# Peers return a dense matrix. They are measured up to this many entries of it.
MOST_DENSE = 2**26

Work = Callable[[], object]


def ratio(ours: Work, limit: Work, *, fresh: bool) -> str:
    """The ratio of the medians, and the middle half of the ratios of pairs."""
    held: list[object] = []
    pairs: list[tuple[float, float]] = []
    ours(), limit()
    end = time.perf_counter() + SECONDS
    while len(pairs) < FEWEST or time.perf_counter() < end:
        times = []
        for work in (ours, limit):
            begin = time.perf_counter()
            held.append(work())
            times.append(time.perf_counter() - begin)
            if not fresh:
                held.clear()
        pairs.append((times[0], times[1]))
        if len(held) > 20:
            held.clear()
            trim()
    low, _, high = statistics.quantiles([a / b for a, b in pairs], n=4)
    one, other = (statistics.median(side) for side in zip(*pairs, strict=True))
    return f"{one / other:.2f} ({low:.2f} to {high:.2f})"


def trim() -> None:
    """Return freed memory to the system, so that it is mapped anew."""
    if hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)


def written(nnz: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The limit: the values and the columns, each written once."""
    return torch.empty(nnz).fill_(1.0), torch.empty(nnz, dtype=torch.int32).fill_(1)


def csr(weight: torch.Tensor, size: int, stride: int, padding: int, groups: int, *, is_new: bool) -> torch.Tensor:
    """The CSR matrix, of a geometry seen before or of a new one."""
    if is_new:
        _kept.cache_clear()
    return toeplitz_matrix(weight, (size, size), stride, padding, 1, groups, torch.sparse_csr)


def of_limit() -> list[list[str]]:
    """For each layer, the ratios to the limit."""
    rows = []
    for name, (inputs, outputs, size, kernel, stride, padding, groups) in LAYERS.items():
        geometry = ConvGeometry(inputs, outputs, (size, size), kernel, stride, padding, 1, groups)
        weight = torch.randn(geometry.weight_shape)
        limit = partial(written, geometry.nnz)
        row = [name, f"{geometry.nnz:,}"]
        for is_new in (False, True):
            work = partial(csr, weight, size, stride, padding, groups, is_new=is_new)
            row += [ratio(work, limit, fresh=fresh) for fresh in (False, True)]
        begin = time.perf_counter()
        for _ in range(10):
            csr(weight, size, stride, padding, groups, is_new=False)
        row.append(f"{(time.perf_counter() - begin) * 1e5:,.0f}")
        trained = weight.clone().requires_grad_()
        values = partial(toeplitz_values, trained, (size, size), stride, padding, 1, groups)
        out = values()
        back = partial(torch.autograd.grad, out, trained, torch.ones_like(out), retain_graph=True)
        row.append(ratio(back, values, fresh=False))
        rows.append(row)
    return rows


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


PEERS = {"probing with F.conv2d": probed, "jacrev": jacobian, "the notebook's loops": notebook}


def of_peers() -> list[list[str]]:
    """For each small enough layer, the time of peers in units of ours, all dense."""
    rows = []
    for name, (inputs, outputs, size, kernel, stride, padding, groups) in LAYERS.items():
        geometry = ConvGeometry(inputs, outputs, (size, size), kernel, stride, padding, 1, groups)
        if groups > 1 or geometry.matrix_shape[0] * geometry.matrix_shape[1] > MOST_DENSE:
            continue
        weight = torch.randint(-9, 10, geometry.weight_shape).float()  # so that every result is exact
        ours = partial(toeplitz_matrix, weight, (size, size), stride, padding)
        row = [name, ratio(ours, partial(torch.zeros, geometry.matrix_shape), fresh=False)]
        for peer in PEERS.values():
            theirs = partial(peer, weight, size, stride, padding)
            assert torch.equal(theirs(), ours())
            row.append(ratio(theirs, ours, fresh=False))
        rows.append(row)
    return rows


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> None:
    """Measure, and print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", action="store_true", help="measure peers too, which takes minutes")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    heads = ["layer", "entries", "seen, warm", "seen, fresh", "new, warm", "new, fresh", "us, seen", "backward"]
    print(table(heads, of_limit()))
    if given.peers:
        print(table(["layer", "ours to torch.zeros", *(f"{name} to ours" for name in PEERS)], of_peers()))


if __name__ == "__main__":
    main()
