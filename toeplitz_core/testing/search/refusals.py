"""What a subject refuses, learnt during a search: it is not drawn again.

A case that is refused is tried again without its features. If that is judged, it is tried with each feature alone. A
feature that is refused alone twice, with the same message, is removed from all cases that are drawn later.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.strategies.reshaped import reshaped

# A reason counts once it was seen this often, with the same message.
_SEEN = 2
# A feature that was not the reason so often is no longer suspected.
_CLEARED = 6
# Whether a dtype is refused shows where one of these is not: every subject is for one of them.
_COMMON_DTYPES = ("float32", "float64", "float16", "bfloat16")


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature of cases that a subject may refuse.

    Parameters
    ----------
    name : str
        Its name, for reports.
    of : callable
        Whether a case has it.
    without : callable
        The case without it.
    """

    name: str
    of: Callable[[Case], bool]
    without: Callable[[Case], Case]

    def removed(self, case: Case) -> Case:
        """The case without the feature; the case itself if it has not the feature, or if it needs it."""
        if not self.of(case):
            return case
        try:
            return self.without(case)
        except ValueError:  # such as an empty batch of images without pixels
            return case


FEATURES = (
    Feature("no batch axis", lambda c: c.batch is None, lambda c: reshaped(c, batch=1)),
    Feature("an empty batch", lambda c: c.batch == 0, lambda c: reshaped(c, batch=1)),
    Feature("padding='same'", lambda c: c.padding == "same", lambda c: reshaped(c, padding=_numbers(c))),
    Feature("padding='valid'", lambda c: c.padding == "valid", lambda c: reshaped(c, padding=_numbers(c))),
    Feature("groups", lambda c: c.groups > 1, lambda c: reshaped(c, groups=1)),
    Feature("dilation", lambda c: max(c.dilation) > 1, lambda c: reshaped(c, dilation=(1,) * c.geometry.rank)),
    Feature("stride", lambda c: max(c.stride) > 1, lambda c: reshaped(c, stride=(1,) * c.geometry.rank)),
    Feature("a bias", lambda c: c.bias, lambda c: reshaped(c, bias=False)),
    Feature("layouts", lambda c: bool(c.layouts), lambda c: reshaped(c, layouts=())),
)


def _numbers(case: Case) -> tuple[int, ...]:
    return tuple(after for _, after in case.geometry.pads)


class RefusesAll(BaseException):
    """The subject refuses every case of the step. A BaseException passes through Hypothesis."""


class Refusals:
    """What a subject has refused in one step.

    Parameters
    ----------
    law : Law
    judge : callable
        Returns the verdict of a law on a case.
    """

    def __init__(self, law: Law, judge: Callable[[Law, Case], Verdict]) -> None:
        self._law = law
        self._judge = judge
        self._refused: list[Feature] = []
        self._seen: Counter[tuple[str, str]] = Counter()
        self._cleared: Counter[str] = Counter()
        self._judged = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The features that are no longer drawn."""
        return tuple(feature.name for feature in self._refused)

    def avoided(self, case: Case) -> Case:
        """The case without the features that were refused."""
        return _without(case, self._refused)

    def learn(self, verdict: Verdict) -> None:
        """Learn from the verdict on a case.

        Raises
        ------
        RefusesAll
            If the subject refuses the dtype, or the procedure of the law.
        """
        self._judged += verdict.status is not Status.UNSUPPORTED
        if verdict.status is not Status.UNSUPPORTED or isinstance(verdict.case, Call):
            return
        case = verdict.case
        for feature, message in self._reasons(case):
            self._seen[feature.name, message] += 1
            if self._seen[feature.name, message] == _SEEN:
                self._refused.append(feature)
        if self._judged:
            return
        for whole in ("dtype", "procedure"):
            if self._is_reason(whole, case):
                self._seen[whole, _without_numbers(verdict.message)] += 1
                if self._seen[whole, _without_numbers(verdict.message)] >= _SEEN and not self._takes_some_data(case):
                    raise RefusesAll
                return

    def _reasons(self, case: Case) -> Iterator[tuple[Feature, str]]:
        """The features that are refused, each as the only feature of a case that is judged without it."""
        present = [f for f in FEATURES if f.removed(case) != case and self._cleared[f.name] < _CLEARED]
        if not present or self._refusal(self._law, _without(case, present)) is not None:
            return
        for feature in present:
            message = self._refusal(self._law, _without(case, [other for other in present if other is not feature]))
            if message is None:
                self._cleared[feature.name] += 1
            else:
                yield feature, _without_numbers(message)

    def _is_reason(self, whole: str, case: Case) -> bool:
        """Whether the case would be judged in another dtype, or if only the result were asked for."""
        if whole == "dtype":
            others = (dtype for dtype in _COMMON_DTYPES if dtype != case.dtype)
            return any(self._is_judged(self._law, case.replace(dtype=dtype)) for dtype in others)
        forward = LAWS["forward-exact"]
        return self._law.procedure != forward.procedure and self._is_judged(forward, case.replace(data="integers"))

    def _takes_some_data(self, case: Case) -> bool:
        """Whether the case is judged with another recipe."""
        return any(self._is_judged(self._law, case.replace(data=name)) for name in self._law.recipes_for(case.dtype))

    def _is_judged(self, law: Law, case: Case) -> bool:
        return self._refusal(law, case) is None

    def _refusal(self, law: Law, case: Case) -> str | None:
        """The message with which a case is refused; None if it is not."""
        case = case if law.sharpen is None else law.sharpen(case)
        case = case.replace(law=law.name)
        if not law.takes(case):
            return "the law does not take it"
        verdict = self._judge(law, case)
        return verdict.message if verdict.status is Status.UNSUPPORTED else None


def _without(case: Case, features: Sequence[Feature]) -> Case:
    for feature in features:
        case = feature.removed(case)
    return case


def _without_numbers(message: str) -> str:
    return re.sub(r"\d+", "0", message)
