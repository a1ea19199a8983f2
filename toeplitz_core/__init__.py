"""The matrix of a convolution, built by index arithmetic alone: an independent reference for convolution kernels."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toeplitz_core.geometry import ConvGeometry as ConvGeometry
    from toeplitz_core.matrix import toeplitz_matrix as toeplitz_matrix
    from toeplitz_core.matrix import toeplitz_values as toeplitz_values
    from toeplitz_core.memory import MatrixTooLargeError as MatrixTooLargeError
    from toeplitz_core.notebook import toeplitz_multichannel as toeplitz_multichannel
    from toeplitz_core.notebook import toeplitz_multiply as toeplitz_multiply
    from toeplitz_core.notebook import toeplitz_perchannel as toeplitz_perchannel
    from toeplitz_core.notebook import toeplitz_perfilter as toeplitz_perfilter
    from toeplitz_core.operator import ToeplitzOperator as ToeplitzOperator
    from toeplitz_core.operator import conv2d as conv2d

__version__ = "0.1.0"

# The modules of the public names. They import torch, which the command line does not need to print its help.
_HOMES = {
    "ConvGeometry": "geometry",
    "MatrixTooLargeError": "memory",
    "ToeplitzOperator": "operator",
    "conv2d": "operator",
    "toeplitz_matrix": "matrix",
    "toeplitz_multichannel": "notebook",
    "toeplitz_multiply": "notebook",
    "toeplitz_perchannel": "notebook",
    "toeplitz_perfilter": "notebook",
    "toeplitz_values": "matrix",
}
__all__ = [*_HOMES]  # noqa: PLE0604  # strings, all of them


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
