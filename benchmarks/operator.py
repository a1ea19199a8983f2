"""The operator, which never forms the matrix, against torch's convolution and its memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import torch
from torch.nn.functional import conv2d, conv_transpose2d

from benchmarks.matrix import MOST_ENTRIES, layers
from benchmarks.pairs import Table, ratio
from toeplitz_core import ToeplitzOperator, toeplitz_matrix
from toeplitz_core import conv2d as by_rows

BATCH = 4

# Prints the MiB by which verifying a layer by rows raises the peak beyond torch's own convolution.
MEMORY = """
import resource, torch
from toeplitz_core import toeplitz_matrix
x, w = torch.randint(-3, 4, (1, 3, 224, 224)).float(), torch.randint(-3, 4, (64, 3, 7, 7)).float()
y = torch.nn.functional.conv2d(x, w, None, 2, 3).flatten()
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
wrong = 0
for rows in torch.arange(len(y)).split(2**14):
    part = toeplitz_matrix(w, (224, 224), 2, 3, layout=torch.sparse_csr, rows=rows)
    wrong += int((part @ x.flatten() != y[rows]).sum())
print(f"{len(y):,} {wrong} {peak() - before:.0f}")
"""


def of_products() -> Table:
    """For each layer, the operator's products in units of torch's convolution."""
    rows = []
    for name, g, weight, (size, stride, padding, dilation, groups) in layers():
        x = torch.randint(-9, 10, (BATCH, g.in_channels, *size)).float()
        operator = ToeplitzOperator(weight, size, stride, padding, dilation, groups)
        theirs = partial(conv2d, x, weight, None, stride, padding, dilation, groups)
        y = theirs()
        columns, results = x.flatten(1).mT.contiguous(), y.flatten(1).mT.contiguous()
        assert torch.equal(operator @ columns, results)
        left = [size[0] + 2 * padding - g.kernel_size[0] - (g.output_size[0] - 1) * stride] * 2
        back = partial(conv_transpose2d, y, weight, None, stride, padding, left, groups, dilation)
        row = [name, ratio(partial(by_rows, x, weight, None, stride, padding, dilation, groups), theirs)]
        row += [ratio(partial(operator.__matmul__, columns), theirs)]
        row += [ratio(partial(operator.mT.__matmul__, results), back)]
        if g.nnz <= MOST_ENTRIES:
            matrix = toeplitz_matrix(weight, size, stride, padding, dilation, groups, torch.sparse_csr)
            row += [ratio(partial(torch.matmul, matrix, columns), theirs)]
        else:
            row += ["too large"]
        rows.append(row)
    return Table(
        "Products against F.conv2d",
        "Our `conv2d`, `A @ x`, `A.mT @ y` (against `conv_transpose2d`) and torch's product with our CSR matrix, for "
        f"{BATCH} images in float32, in units of torch's convolution of the same operands. We gather pixels by index, "
        "and torch has kernels of its own: a ratio above 1 is what independence costs.",
        ["layer", "conv2d", "A @ x", "A.mT @ y", "CSR product"],
        rows,
    )


def of_memory() -> Table:
    """The memory of verifying an ImageNet layer by rows, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    count, wrong, mebibytes = done.stdout.split()
    return Table(
        "Memory of a large layer by rows",
        "All rows of the layer 3 to 64, 224x224 k7 s2 p3, compared with torch's result in blocks of 16,384 rows. The "
        "figure is by how much the peak of the process grows beyond that after torch's convolution. The aim is less "
        "than 256 MiB.",
        ["rows compared", "wrong", "MiB beyond torch's own"],
        [[count, wrong, mebibytes]],
    )


def tables() -> Iterator[Table]:
    """All tables of the operator."""
    yield of_products()
    yield of_memory()
