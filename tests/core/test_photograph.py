"""Classic filters on a real photograph: F.conv2d, our conv2d and scipy agree in every bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from sklearn.datasets import load_sample_image

import toeplitz_core as tc
from toeplitz_core.testing.oracle.results import expected

# Pixels are integers up to 255 and the kernels integers over a power of two: every sum is exact in float32.
KERNELS = {
    "sobel-x": torch.tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
    "sobel-y": torch.tensor([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]),
    "laplacian": torch.tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]]),
    "gaussian": torch.outer(torch.tensor([1, 4, 6, 4, 1]), torch.tensor([1, 4, 6, 4, 1])) / 256,
}


@pytest.fixture(scope="module")
def photograph() -> torch.Tensor:
    """A photograph of 427 x 640 pixels as (3, H, W), uint8."""
    return torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", KERNELS)
def test_filters_are_exact(name: str, dtype: torch.dtype, device: str, photograph: torch.Tensor) -> None:
    """Torch, the matrix and scipy filter each colour channel to the same image."""
    kernel = KERNELS[name].to(dtype)
    image = photograph.to(dtype)
    weight = kernel.expand(3, 1, *kernel.shape).contiguous()
    by_torch = torch.nn.functional.conv2d(image.to(device), weight.to(device), padding="same", groups=3).cpu()
    by_matrix = tc.conv2d(image, weight, padding="same", groups=3)
    by_scipy = np.stack([correlate2d(channel, kernel, mode="same") for channel in image.numpy()])
    assert torch.equal(by_matrix, torch.from_numpy(by_scipy))
    assert torch.equal(by_torch, by_matrix)
    assert by_matrix.abs().max() > 100


def test_rows_of_the_matrix_of_a_photograph(photograph: torch.Tensor) -> None:
    """T of the whole photograph would take 840 GB as float32, but some of its rows fit and give the filtered pixels."""
    image = photograph.float()
    weight = KERNELS["laplacian"].float().expand(3, 1, 3, 3)
    geometry = tc.ConvGeometry.from_weight(weight.shape, (427, 640), padding=1, groups=3)
    assert geometry.nbytes() > 800e9
    rows = torch.arange(0, geometry.matrix_shape[0], 99_991)
    T = tc.toeplitz_matrix(weight, (427, 640), padding=1, groups=3, layout=torch.sparse_csr, rows=rows)
    exact = expected(geometry, image, weight, None, outputs=rows).value
    assert torch.equal(T @ image.flatten(), exact.float())
