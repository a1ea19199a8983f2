"""The laws as tests that pytest collects.

``pytest -p toeplitz_core.testing.plugin --pyargs toeplitz_core.testing.suite --subject S`` runs them. The plugin has
the options, and makes a test of each law with each subject, dtype and device that they ask for. A test file that does
``from toeplitz_core.testing.suite import test_law`` has the same tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from toeplitz_core.testing.reports.in_pytest import conclude, reported

if TYPE_CHECKING:
    import pytest

    from toeplitz_core.testing.laws.result import Step
    from toeplitz_core.testing.run.session import Session

# Without -p there are no options, but the tests are the same.
pytest_plugins = ["toeplitz_core.testing.plugin"]


def test_law(toeplitz_step: Step, toeplitz_session: Session, request: pytest.FixtureRequest) -> None:
    """No generated case breaks the law, and most of them prove something."""
    result = reported(request.node, toeplitz_session, toeplitz_step)
    conclude(result, known=toeplitz_session.plan.known, required_devices=toeplitz_session.options.device)
