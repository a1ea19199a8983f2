"""Failures that a subject shares with torch, whose own convolution it calls."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.findings.known_failures.entry import Entry
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject, SubjectError
from toeplitz_core.testing.laws import LAWS, Law
from toeplitz_core.testing.laws.verdict import UNLISTED, Excuse, Status, Verdict
from toeplitz_core.testing.subjects.interface import Implementation, Subject
from toeplitz_core.testing.subjects.pytorch.counterpart import corrected, named, torch_instead_of, watched

# The list of torch's known failures, which is installed with this package.
KNOWN_TORCH = Path(__file__).parents[1] / "corpus" / "known_torch.toml"
# The complex dtype whose parts have a dtype.
_OF_PARTS = {"float32": "complex64", "float64": "complex128"}


class SharedFailures:
    """Decides whether failures of a subject are torch's own. Call it with a failing verdict.

    A failure is shared if torch's own convolution, called and judged as the subject is, breaks the same law on the same
    case with the same status and symptom, and if the subject calls torch's convolution there or declares that it does.
    The symptom may differ if the subject is right once a right convolution takes the place of torch's: what it makes of
    torch's wrong result is then no fault of its own. This does not hold for a wrong number, because numbers that are
    rounded differently may be right by chance.

    A subject may call torch's convolution in another dtype than that of its operands. Then torch is called in that
    dtype too; but not for a wrong number, because the subject has chosen how precise its numbers are.

    The case is run again for that: on torch in a worker that is otherwise like the subject's, and on the subject with
    its calls watched or replaced. A subject in this process is compared in this process, and only where it calls
    torch's convolution, because torch could crash.

    Parameters
    ----------
    subject : Implementation
    laws : mapping of str to Law
        The laws by name.
    """

    def __init__(self, subject: Implementation, laws: Mapping[str, Law] = LAWS) -> None:
        self._subject = subject
        self._laws = laws
        self._torch: Implementation | None = None
        if subject.claims.calls_torch is False:
            return
        if isinstance(subject, IsolatedSubject):
            self._torch = subject.in_role("torch")
        elif isinstance(subject, Subject):
            self._torch = torch_instead_of(subject)

    def __call__(self, verdict: Verdict, *, fill: bool = True) -> Excuse | None:
        """Why a failure does not fail the run: torch itself has it. None if it is the subject's own.

        Parameters
        ----------
        fill : bool
            Whether to run torch with filled memory too, if it is right otherwise.
        """
        law, case = self._laws.get(str(verdict.case.law)), verdict.case
        if self._torch is None or law is None:
            return None
        if isinstance(self._subject, Subject) and not self._calls_torch(law, case):
            return None
        try:
            found = self._of_torch(self._torch, law, verdict, fill)
            if found is None:
                found = self._in_another_dtype(self._torch, law, verdict)
            elif not self._calls_torch(law, case):
                found = None
            if found is None:
                return None
        except SubjectError:  # a worker cannot start, so nothing is known
            return None
        entry = torch_failures().match("torch", found)
        failing = found.case
        unlisted = f"{UNLISTED}: {case.law}" + (f" {failing.dtype}" if isinstance(failing, Case) else "")
        return Excuse(Status.SHARED, unlisted if entry is None else entry.name)

    def _of_torch(self, torch: Implementation, law: Law, verdict: Verdict, fill: bool) -> Verdict | None:
        """The verdict on torch, if it fails in the same way or is the cause of the failure; None otherwise."""
        found = law(torch, verdict.case)
        if found.status is Status.TIMEOUT and verdict.status is not Status.TIMEOUT:  # the machine may be busy
            found = law(torch, verdict.case)
        if found.kind == verdict.kind:
            return found
        if found.status.is_failure and verdict.index is None and self._holds_with_right_calls(law, verdict.case):
            return found
        # A result that depends on what memory held before may be right by chance.
        if not fill or verdict.status is not Status.FAIL or not self._may_call_torch(law, verdict.case):
            return None
        others = (law(poisoned, verdict.case) for poisoned in torch.poisoned())
        return next((found for found in others if found.kind == verdict.kind), None)

    def _in_another_dtype(self, torch: Implementation, law: Law, verdict: Verdict) -> Verdict | None:
        """The verdict on torch in a dtype in which the subject calls it, if it fails alike; None otherwise."""
        case = verdict.case
        if isinstance(case, Call) or verdict.index is not None:
            return None
        seen = self._watched(law, case)
        # Torch convolves the parts of complex numbers.
        complex_ones = [_OF_PARTS[name] for name in seen if name in _OF_PARTS] if "complex" in case.dtype else []
        others = [name for name in dict.fromkeys((*complex_ones, *seen)) if name in CASE_DTYPES and name != case.dtype]
        verdicts = (law(torch, case.replace(dtype=name)) for name in others)
        return next((found for found in verdicts if found.kind == verdict.kind), None)

    def _holds_with_right_calls(self, law: Law, case: Case | Call) -> bool:
        """Whether the law holds for the subject if a right convolution takes the place of torch's."""
        subject = self._subject
        right = subject.in_role("corrected") if isinstance(subject, IsolatedSubject) else corrected(_here(subject))
        return law(right, case).status is Status.PASS

    def _may_call_torch(self, law: Law, case: Case | Call) -> bool:
        """Whether the subject calls torch's convolution, here or ever. Watching it is slow."""
        subject = self._subject
        ever = isinstance(subject, IsolatedSubject) and subject.in_role("watched").ever_called_torch
        return ever or self._calls_torch(law, case)

    def _calls_torch(self, law: Law, case: Case | Call) -> bool:
        """Whether the subject calls torch's convolution when the law is checked on this case."""
        declared = self._subject.claims.calls_torch
        return bool(self._watched(law, case)) if declared is None else declared

    def _watched(self, law: Law, case: Case | Call) -> Sequence[str]:
        """The dtypes in which the subject is seen to call torch's convolution."""
        if isinstance(self._subject, IsolatedSubject):
            subject = self._subject.in_role("watched")
            law(subject, case)
            return subject.called_torch()
        calls: dict[str, None] = {}
        law(watched(_here(self._subject), lambda dtype: calls.setdefault(named(dtype))), case)
        return tuple(calls)


def _here(subject: Implementation) -> Subject:
    assert isinstance(subject, Subject)  # there is no torch to compare others with
    return subject


@functools.cache
def torch_failures() -> KnownFailures:
    """The list of torch's known failures."""
    return KnownFailures.load(KNOWN_TORCH)


def listed_for_torch(name: str) -> Entry | None:
    """The entry for torch of this name; None if a failure is not listed."""
    return next((entry for entry in torch_failures().entries if entry.name == name), None)


def in_words(name: str) -> str:
    """What reports say of a shared failure, by the name of its excuse.

    Examples
    --------
    >>> in_words("vmap-of-an-empty-batch")
    'torch itself fails this: vmap-of-an-empty-batch'
    >>> in_words("unlisted: forward-bound bfloat16")
    'torch itself fails this, unlisted: forward-bound bfloat16'
    """
    entry = listed_for_torch(name)
    if entry is None:
        return f"torch itself fails this, {name}"
    return f"torch itself fails this: {entry.name}{f' ({entry.link})' * bool(entry.link)}"
