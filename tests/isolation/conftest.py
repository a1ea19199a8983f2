"""A sandbox for the tests of isolation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from toeplitz_core.testing.isolation.sandbox import Sandbox


@pytest.fixture(scope="module")
def isolation() -> Iterator[Sandbox]:
    """The sandbox of the tests of a file."""
    with Sandbox(timeout=20) as processes:
        yield processes
