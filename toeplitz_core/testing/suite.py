"""The laws as tests that pytest collects.

``pytest -p toeplitz_core.testing.plugin --pyargs toeplitz_core.testing.suite --subject S`` runs them. The plugin has
the options, and makes a test of each law with each subject, dtype and device that they ask for. A test file that does
``from toeplitz_core.testing.suite import test_law`` has the same tests.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from hypothesis.statistics import collector, describe_statistics

from toeplitz_core.testing.outcome import conclude, searched
from toeplitz_core.testing.reports.json import result_document
from toeplitz_core.testing.search import Interrupted

if TYPE_CHECKING:
    import pytest

    from toeplitz_core.testing.battery import Battery, Step

# Without -p there are no options, but the tests are the same.
pytest_plugins = ["toeplitz_core.testing.plugin"]

# The property of a test that holds its result, as JSON: it reaches whoever writes a report, also from another process.
PROPERTY = "toeplitz_core"


def test_law(
    toeplitz_step: Step,
    toeplitz_battery: Battery,
    request: pytest.FixtureRequest,
) -> None:
    """No generated case breaks the law, and most of them prove something."""
    try:
        # As Hypothesis's own plugin does for a test that is one of Hypothesis: for --hypothesis-show-statistics.
        with collector.with_value(partial(_keep_statistics, request.node)):  # type: ignore[arg-type]  # its default is None
            result = searched(lambda: toeplitz_battery.result(toeplitz_step))
    except Interrupted as interrupt:  # what was found is reported, and nothing else is run
        result = interrupt.result
        request.session.shouldstop = "interrupted"
    # What the fixture record_property does, but for its warning that a strict reader of JUnit XML wants no properties.
    request.node.user_properties.append((PROPERTY, json.dumps(result_document(result), allow_nan=False)))
    conclude(result, known=toeplitz_battery.known, required_devices=toeplitz_battery.required_devices)


def _keep_statistics(node: Any, found: Any) -> None:
    found["nodeid"] = node.nodeid
    node.hypothesis_statistics = describe_statistics(found)
