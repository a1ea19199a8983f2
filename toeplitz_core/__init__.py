"""The matrix of a convolution, built by index arithmetic alone: an independent reference for convolution kernels."""

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.matrix import toeplitz_matrix, toeplitz_values
from toeplitz_core.memory import MatrixTooLargeError
from toeplitz_core.notebook import (
    toeplitz_multichannel,
    toeplitz_multiply,
    toeplitz_perchannel,
    toeplitz_perfilter,
)
from toeplitz_core.operator import ToeplitzOperator, conv2d

__version__ = "0.1.0"

__all__ = [
    "ConvGeometry",
    "MatrixTooLargeError",
    "ToeplitzOperator",
    "conv2d",
    "toeplitz_matrix",
    "toeplitz_multichannel",
    "toeplitz_multiply",
    "toeplitz_perchannel",
    "toeplitz_perfilter",
    "toeplitz_values",
]
