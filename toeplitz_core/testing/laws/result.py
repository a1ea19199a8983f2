"""The result of one law on one subject, for one dtype and device."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from toeplitz_core.testing.laws.verdict import Status, Verdict


@dataclass(frozen=True, slots=True)
class Step:
    """One law on one subject, for one dtype and one device, each given by name.

    Parameters
    ----------
    subject, law, dtype, device : str
        Names of what is checked, of the law, of the dtype of the cases, and of the device that computes.
    """

    subject: str
    law: str
    dtype: str
    device: str

    def __str__(self) -> str:
        return f"{self.subject}-{self.law}-{self.dtype}-{self.device}"


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a step.

    Parameters
    ----------
    step : Step
        The subject, law, dtype and device that were checked.
    status : Status
        How the step ended, all its cases together.
    counts : Counter of Status
        How many cases had each status, not counting cases tried while shrinking.
    max_ratio : float, optional
        The largest error of the cases that passed, in units of the bound; None if all comparisons were exact.
    failure : Verdict, optional
        The verdict on the smallest case of the first failure.
    message : str
        What is wrong, or why nothing was run or proven.
    known : Counter of str
        How many cases each entry of a list of known failures matched, by the name of the entry.
    assumed : Counter of str
        How many cases were judged by each arithmetic, in words.
    zeros, zero_signs : int
        The sums of the same fields of the verdicts.
    refused : str
        Why the last unsupported case was refused.
    others : tuple of Verdict
        Further failures, which the first does not explain.
    outside : int
        How many cases were drawn outside the subject's domain, and not tried.
    slow : str
        What to do about calls that took long; empty if none did.
    shared : Counter of str
        How many cases torch itself fails too, by the name of the entry for torch.
    refuses : tuple of str
        The features of cases that the subject refuses, so that they are not drawn: groups, a bias, and so on.
    left_out : int
        How many cases were drawn and not tried, because the subject crashes or hangs on cases like them.
    """

    step: Step
    status: Status
    counts: Counter[Status] = field(default_factory=Counter)
    max_ratio: float | None = None
    failure: Verdict | None = None
    message: str = ""
    known: Counter[str] = field(default_factory=Counter)
    assumed: Counter[str] = field(default_factory=Counter)
    zeros: int = 0
    zero_signs: int = 0
    refused: str = ""
    others: tuple[Verdict, ...] = ()
    outside: int = 0
    slow: str = ""
    shared: Counter[str] = field(default_factory=Counter)
    refuses: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def failures(self) -> tuple[Verdict, ...]:
        """The verdicts on the smallest case of each failure, in the order in which they were found."""
        return () if self.failure is None else (self.failure, *self.others)

    @property
    def subject(self) -> str:
        return self.step.subject

    @property
    def law(self) -> str:
        return self.step.law

    @property
    def dtype(self) -> str:
        return self.step.dtype

    @property
    def device(self) -> str:
        return self.step.device

    @property
    def cases(self) -> int:
        """The number of cases judged, not counting cases tried while shrinking."""
        return sum(self.counts.values())

    @property
    def nothing_proven(self) -> bool:
        """Whether too few cases could be judged; this is neither a pass nor a failure."""
        refused = self.status is Status.UNSUPPORTED and not wholly_refused(self.counts)
        return refused or self.status is Status.MISTRUSTED


def wholly_refused(counts: Counter[Status]) -> bool:
    """Whether every case was unsupported: the subject does not claim to support the law or the dtype at all."""
    return counts.total() == counts[Status.UNSUPPORTED]
