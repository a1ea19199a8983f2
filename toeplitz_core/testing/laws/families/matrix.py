"""The matrix of an implementation, read off it column by column: equal to ``T``."""

from __future__ import annotations

import torch

from toeplitz_core.matrix import toeplitz_matrix
from toeplitz_core.testing.data.operands import wide
from toeplitz_core.testing.laws.relation import Convolution, Sides, relation_law
from toeplitz_core.testing.subjects.pytorch.arithmetic import NNPACK_BATCH

# Basis images in one call: fewer than the batch size from which libraries use inexact algorithms.
_BASIS_BATCH = NNPACK_BATCH - 1


def _matrix(c: Convolution) -> Sides:
    """The results of basis images, without the bias, are the columns of ``T``."""
    g = c.geometry
    columns = g.matrix_shape[1]
    basis = torch.eye(columns, dtype=c.x.dtype).view(columns, g.in_channels, *g.input_size)
    found = [c.of(block) - c.offset for block in basis.split(_BASIS_BATCH)]
    c.miss_probability = 0.0  # all entries are compared, so a wrong matrix cannot pass
    T = toeplitz_matrix(wide(c.weight), g.input_size, g.stride, g.padding, g.dilation, g.groups)
    return torch.cat(found).flatten(1).mT, T


MATRIX = relation_law(
    "matrix",
    "The results of the basis images are exactly the columns of T. This is a proof for one geometry and one weight.",
    "any wrong entry of T, even at taps that only some data would reveal",
    _matrix,
    max_products=2**10,
)
