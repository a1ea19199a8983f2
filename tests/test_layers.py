"""``F.conv2d`` on the convolution layers of published networks, in float32 (``--layers=all`` for all of them)."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.layers import drawn_outputs, judge, load_layers, sample
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.subjects import TorchSubject, resolve

LAYERS = load_layers()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per layer, of the sample or of all."""
    if "layer" in metafunc.fixturenames:
        layers = LAYERS if metafunc.config.getoption("--layers") == "all" else sample(LAYERS)
        metafunc.parametrize("layer", layers, ids=lambda layer: str(layer).replace(" ", ","))


@pytest.mark.parametrize("data", ["integers", "normal"])
def test_torch_computes_the_layer(layer: Case, data: str, device: str) -> None:
    """Every judged output of the layer is exact on integers and within the bound on normal data."""
    case = layer.replace(data=data, device=device, law="forward-bound" if data == "normal" else "forward-exact")
    verdict = judge(resolve("torch"), case, draw(case))
    assert verdict.status is Status.PASS, f'{verdict.message}\npython -m toeplitz_core replay "{verdict.case}"'


def test_the_table_has_distinct_layers_of_every_kind() -> None:
    """The table holds 6,000 distinct geometries, depthwise, grouped, dilated, strided and 'same' ones among them."""
    geometries = {(layer.geometry, layer.bias) for layer in LAYERS}
    assert len(LAYERS) == len(geometries) == 6000
    assert {g.padding == "same" for g, _ in geometries} == {True, False}
    assert {g.dilation for g, _ in geometries} == {(1, 1), (2, 2)}
    assert any(1 < g.groups < g.in_channels for g, _ in geometries)


def test_the_sample_has_every_kind_whole_and_by_rows() -> None:
    """The default sample has a few hundred layers; some are judged completely, others at drawn outputs."""
    chosen = sample(LAYERS)
    assert 150 <= len(chosen) <= 450
    assert {drawn_outputs(layer) is None for layer in chosen} == {True, False}


def test_a_wrong_weight_is_noticed_at_drawn_outputs() -> None:
    """A large layer with the kernel of one output channel flipped fails although only some outputs are judged."""
    layer = next(layer for layer in LAYERS if drawn_outputs(layer) is not None and layer.geometry.kernel_size == (3, 3))

    def flipped(x: torch.Tensor, weight: torch.Tensor, *rest: object) -> torch.Tensor:
        return torch.nn.functional.conv2d(x, torch.cat((weight[:-1], weight[-1:].flip(-1))), *rest)

    verdict = judge(TorchSubject("flipped", flipped), layer.replace(law="forward-exact"), draw(layer))
    assert verdict.status is Status.FAIL
