"""The laws as tests that pytest collects.

``pytest -p toeplitz_core.testing.plugin --pyargs toeplitz_core.testing.suite --subject S`` runs them. The plugin adds
the options, and makes one test for each law, subject, dtype and device that they select. A test file that imports
``test_law`` from ``toeplitz_core.testing.suite`` has the same tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from toeplitz_core.testing.reports.pytest_result import conclude, reported, stopped, told_by

if TYPE_CHECKING:
    import pytest

    from toeplitz_core.testing.laws.result import Step
    from toeplitz_core.testing.run.session import Session

# Without -p, the command line lacks the plugin's options, but the tests are the same.
pytest_plugins = ["toeplitz_core.testing.plugin"]


def test_law(toeplitz_step: Step, toeplitz_session: Session, request: pytest.FixtureRequest) -> None:
    """No generated case breaks the law, and most of them prove something."""
    result = reported(request.node, toeplitz_session, toeplitz_step)
    conclude(
        result,
        known=toeplitz_session.plan.known,
        required_devices=toeplitz_session.options.device,
        stopped=stopped(request.node, toeplitz_session, result),
        session=toeplitz_session,
        told=told_by(request.node),
    )
