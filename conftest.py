"""Options and devices of the repository's own tests."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

from toeplitz_core.testing import profiles

DEVICES = ("cpu", "cuda")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of this repository's tests."""
    group = parser.getgroup("toeplitz_core")
    group.addoption(
        "--require-cuda", action="store_true", help="fail, rather than report as not run, where there is no CUDA device"
    )
    group.addoption("--layers", choices=("sample", "all"), default="sample", help="which layers of published networks")


def pytest_configure(config: pytest.Config) -> None:
    """Load the deterministic profile, unless the command line names another, and name what the markers mean."""
    profiles.register()
    if config.getoption("--hypothesis-profile") is None:
        settings.load_profile("gate")
    if config.getoption("--require-cuda") and not torch.cuda.is_available():
        raise pytest.UsageError("--require-cuda: torch sees no CUDA device")


def pytest_report_header(config: pytest.Config) -> str:
    """Say what is tested, so that a typo in an option shows."""
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none: CUDA tests do not run"
    profile = settings.get_current_profile_name()
    return f"torch: {torch.__version__}, CUDA: {cuda}, profile: {profile}, layers: {config.getoption('--layers')}"


@pytest.fixture(params=DEVICES, scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """Each device; one that is absent is reported as not run."""
    name: str = request.param
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("not run: torch sees no CUDA device")
    return name
