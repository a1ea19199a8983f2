"""A failure of torch under other variants of torch: where it fails too, where it holds, and in which kernel."""

from __future__ import annotations

import time

import pytest

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings import other_variants as module
from toeplitz_core.testing.findings.other_variants import other_variants
from toeplitz_core.testing.findings.shared import listed_for_torch
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.subjects.symptom import Symptom

pytestmark = pytest.mark.usefixtures("one_fork_server")

POINT = Case.parse("input=1x0x1x1 weight=1x0x1x1 bias law=no-channels")
WRONG = Verdict(Status.FAIL, POINT, "returned shape (1, 0, 1, 1), not (1, 1, 1, 1)", symptom=Symptom.WRONG_SHAPE)


def known(name: str) -> bool:
    """Whether the installed torch has a known failure."""
    entry = listed_for_torch(name)
    return entry is not None and entry.applies


@pytest.mark.parametrize(
    ("subject", "case"),
    [("kernels:conv2d", POINT), ("numpy", POINT), ("torch-cuda", POINT), ("torch", POINT.replace(device="cuda"))],
)
def test_only_variants_of_torch_on_a_cpu_are_compared(subject: str, case: Case):
    """Nothing is said of other subjects and devices."""
    assert not other_variants(WRONG.replace(case=case), subject)


def test_calls_are_not_compared():
    """Nothing is said of calls of the law ``errors``."""
    call = Call.parse("input=float32[1x1x1x1] weight=float32[1x1x1x1]")
    assert not other_variants(Verdict(Status.FAIL, call, "refused"), "torch")


def test_nothing_is_said_of_a_failure_that_does_not_occur_again():
    """A case that holds in the variant itself has no sentence."""
    case = Case.parse("input=1x1x1x1 weight=1x1x1x1 law=forward-exact")
    assert not other_variants(Verdict(Status.FAIL, case, "out[0]=1, but should be 2", index=(0,)), "torch-native")


@pytest.mark.skipif(not known("no-input-channels-lose-the-result"), reason="this torch does not have the failure")
def test_variants_that_fail_too_are_named(monkeypatch: pytest.MonkeyPatch):
    """A failure of torch itself occurs in all variants, and none is tried after the time is up."""
    monkeypatch.setattr(module, "_VARIANTS", {"torch-native": "without oneDNN", "torch-sse41": "with SSE4.1"})
    assert other_variants(WRONG, "torch-native") == "fails as torch-native, also with SSE4.1"
    begin = time.monotonic()
    assert other_variants(WRONG, "torch-native", seconds=0) == "fails as torch-native"
    assert time.monotonic() - begin < 10


@pytest.mark.skipif(not known("onednn-segfault-padding-only"), reason="this torch does not have the failure")
def test_variants_that_hold_are_named_and_the_kernel(monkeypatch: pytest.MonkeyPatch):
    """A crash in a kernel of oneDNN names the kernel, and the variant without oneDNN holds."""
    monkeypatch.setattr(module, "_VARIANTS", {"torch": "in row-major layout", "torch-native": "without oneDNN"})
    entry = listed_for_torch("onednn-segfault-padding-only")
    assert entry is not None
    case = entry.example.replace(law="forward-exact")
    said = other_variants(Verdict(Status.CRASH, case, "was killed by SIGSEGV", symptom=Symptom.CRASH), "torch")
    if not said:
        pytest.skip("the failure needs another processor")
    assert said.startswith("fails with brg")
    assert said.endswith(", holds without oneDNN")
