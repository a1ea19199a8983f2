"""The cause of a failure: the true one for each planted fault, and none for what is right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.causes import MISSED, PLANTED, Planted
from toeplitz_core.testing.case.call import parse_line
from toeplitz_core.testing.findings.causes.catalogue import CAUSES, GRADIENT, UNKNOWN, definition, names
from toeplitz_core.testing.findings.causes.diagnosis import Diagnosis, diagnosed
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.attribution import attributed
from toeplitz_core.testing.search.repetition import without_chance
from toeplitz_core.testing.subjects import Implementation, resolve

IN_PROCESSES = ("memory", "process", "bounds", "plans", "contracts", "arguments")
# The share of the planted faults whose true cause must be named.
TRUE_SHARE = 0.95


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Processes for the faults."""
    with Sandbox(timeout=3) as processes:
        yield processes


def diagnosis(sandbox: Sandbox, planted: Planted) -> Diagnosis:
    """What a run finds out about a planted fault."""
    # A process of its own for each fault that keeps state or ends its process; the others are faster in this one.
    module, _, function = planted.name.partition(":")
    needs_process = module in IN_PROCESSES or "memory" in function
    subject: Implementation = IsolatedSubject(sandbox, planted.path) if needs_process else resolve(planted.path)
    case = parse_line(planted.line)
    law = LAWS[str(case.law)]
    failure = next(v for _ in range(8) if (v := law(subject, case)).status.is_failure)
    failure = without_chance(attributed(failure, subject), law, subject)
    return diagnosed(subject, failure)


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name.partition(":")[2])
def test_the_true_cause_is_named(sandbox: Sandbox, planted: Planted):
    """The diagnosis of a planted fault names its cause, except for those that are listed as missed."""
    found = diagnosis(sandbox, planted)
    if planted.name.partition(":")[2] in MISSED:
        assert found.cause != planted.cause, "it is found now: take it off the list"
    else:
        assert found.cause == planted.cause, found.evidence
    assert found.evidence


def test_nearly_all_causes_are_named():
    """At least 95% of the planted faults are not on the list of those that are missed."""
    assert {planted.name.partition(":")[2] for planted in PLANTED} >= set(MISSED)
    assert len(MISSED) <= (1 - TRUE_SHARE) * len(PLANTED)


def test_every_cause_has_a_definition():
    """Each identifier, also of a gradient, is defined in one sentence."""
    assert {planted.cause for planted in PLANTED} <= names()
    for name in names():
        assert definition(name).endswith(".")
    assert GRADIENT + "kernel-flipped" in names()
    assert GRADIENT + "gradient-missing" not in names()
    assert UNKNOWN in CAUSES
