"""``F.conv2d`` held against the convolution's matrix on generated cases: the main job, as tests."""

from __future__ import annotations

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from toeplitz_core.testing.laws import LAWS, Law
from toeplitz_core.testing.run import SAFE_LAYOUTS
from toeplitz_core.testing.strategies import cases
from toeplitz_core.testing.subjects import resolve

LAWS_AND_DTYPES = [(law, dtype) for law in LAWS.values() for dtype in law.dtypes]


@pytest.mark.parametrize(("law", "dtype"), LAWS_AND_DTYPES, ids=lambda value: getattr(value, "name", value))
@given(data=st.data())
def test_torch_obeys_the_law(law: Law, dtype: str, device: str, data: st.DataObject) -> None:
    """No generated case, in any layout but those that need isolation, breaks a law."""
    case = data.draw(cases(dtypes=[dtype], recipes=law.recipes, legal_layouts=SAFE_LAYOUTS, device=device))
    verdict = law(resolve("torch"), case)
    note(f'python -m toeplitz_core replay "{verdict.case}" --subject torch')
    assert not verdict.status.is_failure, verdict.message
