"""``F.conv2d`` held against the convolution's matrix on generated cases: the main job, as tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

from toeplitz_core.testing.laws import LAWS, Law
from toeplitz_core.testing.run import SAFE_LAYOUTS
from toeplitz_core.testing.search import search
from toeplitz_core.testing.subjects import resolve
from toeplitz_core.testing.verdict import Status

LAWS_AND_DTYPES = [(law, dtype) for law in LAWS.values() for dtype in law.dtypes]


@pytest.mark.parametrize(("law", "dtype"), LAWS_AND_DTYPES, ids=lambda value: getattr(value, "name", value))
def test_torch_obeys_the_law(law: Law, dtype: str, device: str) -> None:
    """No generated case breaks a law, and most prove something, in any layout but those that need isolation."""
    result = search(law, resolve("torch"), dtype=dtype, settings=settings(), device=device, layouts=SAFE_LAYOUTS)
    replay = "" if result.failure is None else f'\npython -m toeplitz_core replay "{result.failure.case}"'
    assert result.status is Status.PASS, f"{result.message}{replay}"
