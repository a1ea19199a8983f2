"""What a subject refuses, learnt during a search: it is not drawn again.

A case that is refused is tried again without one of its features. If that is judged, the feature is the reason. After
two cases with the same reason and the same message, the feature is removed from all cases that are drawn later.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
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
        # No feature is learnt while a failure is shrunk: the cases must not change then.
        self.frozen = False

    @property
    def names(self) -> tuple[str, ...]:
        """The features that are no longer drawn."""
        return tuple(feature.name for feature in self._refused)

    def avoided(self, case: Case) -> Case:
        """The case without the features that were refused."""
        for feature in self._refused:
            case = feature.removed(case)
        return case

    def learn(self, verdict: Verdict) -> None:
        """Learn from the verdict on a case.

        Raises
        ------
        RefusesAll
            If the subject refuses the dtype, or the procedure of the law.
        """
        self._judged += verdict.status is not Status.UNSUPPORTED
        if self.frozen or verdict.status is not Status.UNSUPPORTED or isinstance(verdict.case, Call):
            return
        message = re.sub(r"\d+", "0", verdict.message)
        reason = self._reason(verdict.case)
        self._seen[reason, message] += 1
        if self._seen[reason, message] < _SEEN:
            return
        if reason in ("dtype", "procedure"):
            if not self._judged and not self._takes_some_data(verdict.case):
                raise RefusesAll
        elif reason:
            self._refused += [feature for feature in FEATURES if feature.name == reason]

    def _reason(self, case: Case) -> str:
        """The feature of a refused case without which it is not refused; empty if there is no such feature."""
        for feature in FEATURES:
            without = feature.removed(case)
            if without != case and self._cleared[feature.name] < _CLEARED:
                if self._is_judged(self._law, without):
                    return feature.name
                self._cleared[feature.name] += 1
        if self._judged:
            return ""
        if any(
            self._is_judged(self._law, case.replace(dtype=dtype)) for dtype in _COMMON_DTYPES if dtype != case.dtype
        ):
            return "dtype"
        forward = LAWS["forward-exact"]
        is_forward = self._law.procedure == forward.procedure
        return "" if is_forward or not self._is_judged(forward, case.replace(data="integers")) else "procedure"

    def _takes_some_data(self, case: Case) -> bool:
        """Whether the case is judged with another recipe."""
        return any(self._is_judged(self._law, case.replace(data=name)) for name in self._law.recipes_for(case.dtype))

    def _is_judged(self, law: Law, case: Case) -> bool:
        case = case if law.sharpen is None else law.sharpen(case)
        case = case.replace(law=law.name)
        return law.takes(case) and self._judge(law, case).status is not Status.UNSUPPORTED
