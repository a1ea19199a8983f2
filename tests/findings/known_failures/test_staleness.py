"""Stale entries: which entries are judged, and by which replays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.known_failures import ENTRY, failing, load, result
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.known_failures.staleness import stale_entries
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status, Verdict


@pytest.mark.parametrize(
    ("replayed", "met", "why"),
    [
        (Status.PASS, False, "its example holds"),
        (Status.PASS, True, "its example holds"),
        (Status.FAIL, False, None),
        (Status.FAIL, True, None),
        (Status.UNSUPPORTED, False, "it matches nothing; its example ends as unsupported: out[0]=0, but should be 1"),
        (Status.UNSUPPORTED, True, None),
        (Status.CRASH, False, "it matches nothing; its example ends as crash: out[0]=0, but should be 1"),
    ],
)
def test_stale_entry(tmp_path: Path, replayed: Status, met: bool, why: str | None):
    """An entry is stale if its example passes, or if it matches neither its example nor a case of the run."""
    known = load(f'{ENTRY}status = "fail"\n', tmp_path)
    ran = result(failing(status=Status.PASS))
    ran.known.update({"no-groups": 1} if met else {})
    stale = stale_entries(
        known.entries, [ran], lambda _, case: iter([Verdict(replayed, case, "out[0]=0, but should be 1")] * 2)
    )
    assert [(s.entry.name, s.subject, s.why) for s in stale] == ([] if why is None else [("no-groups", "mine", why)])


def test_failure_in_some_runs_is_not_stale(tmp_path: Path):
    """An entry is not stale if its example fails in one replay, after which the replays stop."""
    known = load(ENTRY, tmp_path)
    statuses = iter([Status.PASS, Status.PASS, Status.FAIL, Status.PASS])

    def replays(_: str, case: Case) -> Iterator[Verdict]:
        assert case.law == "forward-exact"
        return (Verdict(status, case) for status in statuses)

    assert stale_entries(known.entries, [result(failing(status=Status.PASS))], replays) == []
    assert list(statuses) == [Status.PASS]


def test_example_is_judged_by_the_first_law_that_takes_it(tmp_path: Path):
    """An example is judged only by the first law of its entry that takes it, because other laws may pass."""
    laws = '["forward-bound", "forward-exact", "strides"]'
    known = load(ENTRY.replace('law = "forward-exact"', f"law = {laws}"), tmp_path)
    replayed = []

    def stale(*ran: str) -> list[str]:
        def replays(_: str, case: Case) -> Iterator[Verdict]:
            replayed.append(case.law)
            return iter([Verdict(Status.PASS, case)])

        results = [result(failing(status=Status.PASS, law=law)) for law in ran]
        return [
            s.entry.name
            for s in stale_entries(known.entries, results, replays, lambda case: LAWS[case.law].takes(case))
        ]

    assert stale("forward-bound", "strides") == []
    assert replayed == []
    assert stale("strides", "forward-exact") == ["no-groups"]
    assert replayed == ["forward-exact"]


@pytest.mark.parametrize("kind", ["subject", "law", "dtype", "device", "version", "not run", "no cases"])
def test_entry_that_was_not_met_is_not_stale(tmp_path: Path, kind: str):
    """An entry is not judged if its subject, law, dtype, device or version was not part of the run."""
    versions = 'versions = { torch = "<1" }' if kind == "version" else ""
    known = load(f"{ENTRY}{versions}\n", tmp_path)
    verdict = failing(status=Status.NOT_RUN if kind == "not run" else Status.PASS)
    changes = {"dtype": {"dtype": "float64"}, "device": {"device": "cuda"}, "law": {"law": "forward-bound"}}
    ran = result(
        verdict.replace(case=verdict.case.replace(**changes.get(kind, {}))), "x" if kind == "subject" else "mine"
    )
    if kind == "no cases":
        ran.counts.clear()

    def replay(*_: object) -> Verdict:
        raise AssertionError("nothing to replay")

    assert stale_entries(known.entries, [ran], replay) == []
