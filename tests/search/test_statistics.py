"""Statistics of a search: the events that --hypothesis-show-statistics counts."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from hypothesis.statistics import collector

from tests.helpers.paths import KNOWN_TORCH
from tests.helpers.running import search, share
from toeplitz_core import conv2d
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.search.effort import PROFILES
from toeplitz_core.testing.search.statistics import products_in_words
from toeplitz_core.testing.subjects import TorchSubject
from toeplitz_core.testing.subjects.interface import Implementation
from toeplitz_core.testing.subjects.pytorch.variants import torch_subject

GATE = PROFILES["gate"]


def events(law: Law, subject: Implementation, **options: object) -> list[set[str]]:
    """The events of each example of a search."""
    kept: list[dict] = []
    options = {"dtype": "float32", "examples": share(law)} | options
    with collector.with_value(kept.append):
        search(law, subject, **options)
    return [set(case["events"]) for case in kept[-1]["generate-phase"]["test-cases"]]


# Laws that are checked on cases and call the convolution or its derivatives.
OF_KERNELS = [law for law in LAWS.values() if law.procedure not in ("argument_checks", "transposed")]


@pytest.mark.parametrize("law", OF_KERNELS, ids=lambda law: law.name)
def test_every_law_notes_where_its_cases_went(law: Law) -> None:
    """Each case has events for its status and regions, and for regime and kernel if they are known."""
    subject = torch_subject("torch", context=no_onednn)
    subject.poisoned = lambda: (subject,)
    listed = KnownFailures.load(KNOWN_TORCH)
    noted = events(law, subject, examples=10, known=listed)
    assert noted
    kinds = [Counter(event.partition(": ")[0] for event in case) for case in noted]
    for case, counted in zip(noted, kinds, strict=True):
        assert set(counted) <= {"status", "kernel", "data", "regime", "region"}
        assert (counted["status"], counted["data"]) == (1, 1)
        assert counted["regime"] == (not case.isdisjoint({"status: pass", "status: mistrusted"}))
    # torch does not report the kernel if padding='same' is unequal on the two sides.
    if law.name != "in-bounds":  # it needs another process
        assert sum(counted["kernel"] > 0 for counted in kinds) > len(kinds) / 2
    assert any(counted["region"] for counted in kinds)


@contextlib.contextmanager
def no_onednn() -> Iterator[None]:
    """Switch off oneDNN, because a crash of it would end the process of these tests."""
    with torch.backends.mkldnn.flags(enabled=False):
        yield


def test_regimes() -> None:
    """The regime says whether results were compared exactly or by a bound, and how many products each sums."""
    for name, regime in (("forward-exact", "exact"), ("forward-bound", "bound")):
        noted = {event for case in events(LAWS[name], TorchSubject("it", conv2d)) for event in case}
        found = {event.partition(", ")[2] for event in noted if event.startswith(f"regime: {regime}, ")}
        assert found >= {"1 product", "up to 10 products", "up to 100 products"}
        assert "regime: empty" in noted
    assert not any(event.startswith("regime: exact") for event in noted)


@pytest.mark.parametrize(
    ("weight", "said"),
    [
        ("1x1x1x1", "1 product"),
        ("9x1x1x2", "up to 10 products"),
        ("1x1x2x5", "up to 10 products"),
        ("1x11x1x1", "up to 100 products"),
        ("1x10x10x10", "up to 1000 products"),
    ],
)
def test_products(weight: str, said: str) -> None:
    """The products of one output are counted, regardless of the number of outputs."""
    channels = weight.split("x")[1]
    assert products_in_words(Case.parse(f"input=1x{channels}x10x10 weight={weight}")) == said
