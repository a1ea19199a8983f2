"""Options, devices and known failures of this repository's tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from toeplitz_core.testing.findings.shared import KNOWN_TORCH
from toeplitz_core.testing.search import effort

pytest_plugins = ["toeplitz_core.testing.plugin"]

ROOT = Path(__file__).parent
CONFORMANCE = ROOT / "tests" / "test_conformance.py"
DEVICES = ("cpu", "cuda")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of this repository's tests."""
    group = parser.getgroup("toeplitz_core")
    group.addoption(
        "--require-cuda",
        action="store_true",
        help="fail if there is no CUDA device; by default, CUDA tests are then reported as not run",
    )
    group.addoption(
        "--layers", choices=("sample", "all"), default="sample", help="which layers of published networks to test"
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """The number of processes for ``-n auto``: one more than cores, because tests also wait for other processes."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


@pytest.hookimpl(tryfirst=True)  # the plugin reads its options when it is configured
def pytest_configure(config: pytest.Config) -> None:
    """Set the defaults: the list of known failures, the conformance tests for ``--subject``, and the profile."""
    # Not in pyproject.toml: there it would also apply to the command line in this directory, which is to report these
    # failures.
    config.option.toeplitz_known = config.option.toeplitz_known or str(KNOWN_TORCH)
    if _conformance_only(config):
        config.args = [str(CONFORMANCE)]
    effort.register()
    if config.getoption("--hypothesis-profile") is None:
        settings.load_profile("gate")
    if config.getoption("--require-cuda") and not torch.cuda.is_available():
        raise pytest.UsageError("--require-cuda: torch sees no CUDA device")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Show what is tested, so that a typo in an option shows."""
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none: CUDA tests do not run"
    profile = settings.get_current_profile_name()
    said = f"torch: {torch.__version__}, CUDA: {cuda}, profile: {profile}, layers: {config.getoption('--layers')}"
    only = f"--subject without a path: only {CONFORMANCE.relative_to(ROOT).as_posix()}"
    return [said, only] if _conformance_only(config) else [said]


def _conformance_only(config: pytest.Config) -> bool:
    """Whether a subject is named but no test path. Only the conformance tests then say something about the subject."""
    return bool(config.option.toeplitz_subject) and config.args_source is not pytest.Config.ArgsSource.ARGS


@pytest.fixture(params=DEVICES, scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """Each device in turn. Tests of a missing device are skipped as not run."""
    name: str = request.param
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("not run: torch sees no CUDA device")
    return name


@pytest.fixture(autouse=True)
def _same_path() -> Iterator[None]:
    """Restore the module path and forget ``kernels``: each test has its own working directory, with its own file."""
    before = list(sys.path)
    yield
    sys.path[:] = before
    sys.modules.pop("kernels", None)
