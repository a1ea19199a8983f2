"""What came of one law on one subject, for one dtype and device."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from toeplitz_core.testing.laws.verdict import Status, Verdict


@dataclass(frozen=True, slots=True)
class Step:
    """One law, checked on one subject for one dtype on one device, all by their names.

    Parameters
    ----------
    subject, law, dtype, device : str
    """

    subject: str
    law: str
    dtype: str
    device: str

    def __str__(self) -> str:
        return f"{self.subject}-{self.law}-{self.dtype}-{self.device}"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a step.

    Parameters
    ----------
    step : Step
    status : Status
    counts : Counter of Status
        The verdicts on the cases, without those of shrinking.
    max_ratio : float, optional
        The largest error of the cases that passed, in units of the bound; None if all comparisons were exact.
    failure : Verdict, optional
        That on the smallest failing case.
    message : str
        What is wrong, or why nothing was run or proven.
    known : Counter of str
        The cases for which each entry of a list of known failures spoke, by its name.
    assumed : Counter of str
        The cases that were judged by each arithmetic, in words.
    zeros, zero_signs : int
        Sums of those of the verdicts.
    refused : str
        Why one of the unsupported cases was refused.
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
        """Cases judged, without those of shrinking."""
        return sum(self.counts.values())

    @property
    def nothing_proven(self) -> bool:
        """Whether too few cases could be judged, which is neither a pass nor a failure."""
        refused = self.status is Status.UNSUPPORTED and not wholly_refused(self.counts)
        return refused or self.status is Status.MISTRUSTED


def wholly_refused(counts: Counter[Status]) -> bool:
    """Whether a subject has no support at all for a law or a dtype: that is no gap in what it claims."""
    return counts.total() == counts[Status.UNSUPPORTED]
