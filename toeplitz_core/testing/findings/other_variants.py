"""A failure of torch under other variants of torch: instruction sets, other kernels, other layouts."""

from __future__ import annotations

import contextlib
import re
import time

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject, SubjectError
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.subjects import environment
from toeplitz_core.testing.subjects.interface import Environment
from toeplitz_core.testing.support.spelling import listed

# The variants of torch on a CPU that tell most, in this order, with what reports call them.
_VARIANTS = {
    "torch-avx512-core": "with AVX-512 core",
    "torch-avx2": "with AVX2",
    "torch-sse41": "with SSE4.1",
    "torch-native": "without oneDNN",
    "torch": "in row-major layout",
    "torch-channels-last": "in channels_last",
    "torch-1-threads": "with 1 thread",
}
_OTHERS = ("torch-nnpack", "torch-deterministic", "torch-inference", "torch-autocast", "torch-2-threads")
# They differ from each other only in the layout of operands for which the case names none.
_LAYOUTS = ("torch", "torch-channels-last")
# Seconds after which no further variant is tried; each may need a new process that imports torch.
_SECONDS = 30.0
# How often a case is run under a variant: some failures occur now and then.
_RUNS = 3
# oneDNN then prints each kernel when it is made, so that it is known even if it crashes.
_VERBOSE = ("ONEDNN_VERBOSE", "2")
_KERNEL = re.compile(r"onednn_verbose,[^\n]*?,cpu,convolution,(?P<kernel>[^,\n]+),(?P<pass>[a-z_]+)")
# What oneDNN calls the pass that computes a gradient.
_PASSES = {"input": "backward_data", "weight": "backward_weights"}


def other_variants(verdict: Verdict, subject: str, *, seconds: float = _SECONDS, timeout: float = 10.0) -> str:
    """Which kernel failed, and under which other variants of torch the case fails or holds, as a sentence.

    Parameters
    ----------
    verdict : Verdict
        A failing verdict of a registered variant of torch on the CPU.
    subject : str
        The name of the variant.
    seconds : float
        After this time, no further variant is tried.
    timeout : float
        Seconds that one call may take.

    Returns
    -------
    str
        Such as ``fails with brg_conv_fwd:avx512_core_bf16, holds with AVX2, SSE4.1 and without oneDNN``. Empty for
        other subjects, for calls of the law ``errors``, and if the failure does not occur again.
    """
    case = verdict.case
    if subject not in (*_VARIANTS, *_OTHERS) or isinstance(case, Call) or case.device != "cpu":
        return ""
    begin = time.monotonic()
    skipped = (subject, *_LAYOUTS) if case.layout("input") and case.layout("weight") else (subject,)
    again: Verdict | None = None
    with Sandbox(timeout=timeout) as sandbox:
        own = IsolatedSubject(sandbox, subject, Environment((*environment(subject).variables, _VERBOSE)))
        with contextlib.suppress(SubjectError, _UncertainError):
            again = _failing(own, verdict, case)
        if again is None:
            return ""
        fails: list[str] = []
        holds: list[str] = []
        for name, words in _VARIANTS.items():
            if name in skipped or time.monotonic() - begin > seconds:
                continue
            try:
                other = _failing(IsolatedSubject(sandbox, name, environment(name)), verdict, case)
            except (SubjectError, _UncertainError):
                continue
            (holds if other is None else fails).append(words)
    kernel = _kernel(again)
    said = [f"fails with {kernel}" if kernel else f"fails as {subject}"]
    said += [f"also {_joined(fails)}"] * bool(fails) + [f"holds {_joined(holds)}"] * bool(holds)
    return ", ".join(said)


class _UncertainError(Exception):
    """A variant neither fails in the same way nor holds: it may not support the case, or fail in another way."""


def _failing(subject: IsolatedSubject, verdict: Verdict, case: Case) -> Verdict | None:
    """The verdict of a run that fails in the same way; None if the case holds."""
    law = LAWS[str(case.law)]
    for _ in range(_RUNS):
        found = law(subject, case)
        if found.kind == verdict.kind:
            return found
        if found.status is not Status.PASS:  # it neither fails in the same way nor holds
            raise _UncertainError
        subject.restart()
    return None


def _joined(words: list[str]) -> str:
    """The words as a list; ``with`` is said once.

    Examples
    --------
    >>> _joined(["with AVX2", "with SSE4.1", "without oneDNN"])
    'with AVX2, SSE4.1 and without oneDNN'
    """
    first = next((said for said in words if said.startswith("with ")), "")
    return listed([said if said == first else said.removeprefix("with ") for said in words])


def _kernel(verdict: Verdict) -> str:
    """The kernel of oneDNN that computed what is wrong, or else the backend that torch chose; empty if unknown."""
    wanted = _PASSES.get(verdict.quantity, "forward")
    made = [match for match in _KERNEL.finditer(verdict.printed) if match["pass"].startswith(wanted)]
    return made[-1]["kernel"] if made else verdict.kernel
