"""Every registered subject, in worker processes: it fails a law only in listed ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from tests.helpers.paths import KNOWN_TORCH
from tests.helpers.running import Bench
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.findings.known_failures.entry import Entry
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.findings.replay import repeated
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS, Law
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run.execution.subject_pool import missing
from toeplitz_core.testing.search.effort import PROFILES
from toeplitz_core.testing.subjects import SUBJECTS, environment

KNOWN = KnownFailures.load(KNOWN_TORCH, laws=LAWS)
# torch.compile takes seconds for each geometry, so it is run by name, with few cases. Subjects of other packages have
# their own tests.
VARIANTS = [name for name, known in SUBJECTS.items() if name != "torch-compile" and set(known.packages) <= {"scipy"}]
GPU = ("torch-cuda", "torch-cuda-fp32")
# Cases per dtype of a law with full effort. The conformance environment runs more for variants with separate kernels.
# Subjects that use no kernels of torch need fewer: they serve for comparison and do not change with torch.
EXAMPLES = 8
OTHER_EXAMPLES = 3
FORWARD = [law for law in LAWS.values() if law.name in ("forward-exact", "forward-bound", "special-values")]
OTHERS = [law for law in LAWS.values() if law not in FORWARD]
# Seconds after which a call counts as hanging, and an arbitrary case.
HANG = 3.0
ANY = Case.parse("input=1x1x1x1 weight=1x1x1x1")
# torch itself has a test of its own, and some variants differ from it in little.
FEWER = dict.fromkeys(("naive", "numpy", "scipy", "torch", "torch-1-threads", "torch-2-threads", "torch-inference"), 5)


@pytest.fixture(scope="module")
def isolation() -> Iterator[Sandbox]:
    """The sandbox of all variants; those with the same environment share a fork server."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def impatient() -> Iterator[Sandbox]:
    """A sandbox with a short timeout, for known failures that do not return."""
    with Sandbox(timeout=HANG) as sandbox:
        yield sandbox


def _other_laws(name: str) -> dict[str, list[Law]]:
    """Each other law for one dtype, and for the next one with the next variant: they share most of their code."""
    found: dict[str, list[Law]] = {}
    for number, law in enumerate(OTHERS, start=VARIANTS.index(name)):
        found.setdefault(law.dtypes[number % len(law.dtypes)], []).append(law)
    return found


@pytest.mark.parametrize("name", VARIANTS)
def test_variant(name: str, isolation: Sandbox) -> None:
    """A variant fails laws only in listed ways and proves enough cases; without a GPU, GPU variants do not run."""
    device = "cuda" if name in GPU else "cpu"
    variant = IsolatedSubject(isolation, name, environment(name), fork=device == "cpu")
    results = []
    steps = [(FORWARD, CASE_DTYPES, FEWER.get(name, EXAMPLES))]
    steps += [(laws, (dtype,), OTHER_EXAMPLES) for dtype, laws in _other_laws(name).items()]
    for laws, dtypes, examples in steps:
        profile = replace(PROFILES["gate"], examples=examples)
        bench = Bench([variant], laws, dtypes, [device], profile, known=KNOWN)
        found = bench.run().came
        assert len(found) == len(bench.steps)
        results += found
    variant.close()
    right = (Status.PASS, Status.KNOWN, Status.UNSUPPORTED) if not missing(device) else (Status.NOT_RUN,)
    broken = [r for r in results if r.status not in right or r.nothing_proven]
    lines = (f"{r.law} {r.dtype}: {r.status} {r.message} {r.failure and r.failure.case}" for r in broken)
    assert not broken, "\n".join(lines)


@pytest.mark.parametrize("entry", KNOWN.entries, ids=lambda entry: entry.name)
def test_known_failure_is_still_there(entry: Entry, isolation: Sandbox, impatient: Sandbox) -> None:
    """The example of each known failure still fails as listed, for the first subject that the entry names."""
    if not entry.applies:
        pytest.skip(f"{entry.name} is listed for {entry.unmet}")
    if (capability := torch.backends.cpu.get_cpu_capability()) != "AVX512":
        pytest.skip(f"oneDNN uses the failing kernels on AVX512, not on {capability}")
    if entry.example.dtype == "bfloat16" and not torch.cpu._is_avx512_bf16_supported():  # it has no public name
        pytest.skip("oneDNN uses the failing kernels only if the processor multiplies bfloat16")
    name = entry.subjects[0]
    owner = impatient if entry.status is Status.TIMEOUT else isolation
    # Whether a read beyond an operand ends the process depends on what else is in memory: only a new one has nothing.
    subject = IsolatedSubject(owner, name, environment(name), fork=entry.status is not Status.CRASH)
    subject.run(ANY, draw(ANY))  # gives the first call of the worker its extra time
    verdicts = []
    for verdict in repeated(LAWS[entry.laws[0]], subject, entry.example):
        verdicts.append(verdict)
        if verdict.status is not Status.PASS:
            break
    assert verdict.status == entry.status, f"stale: {[f'{verdict.status} {verdict.message}' for verdict in verdicts]}"
