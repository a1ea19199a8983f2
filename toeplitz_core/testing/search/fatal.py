"""Where calls of a subject are known to crash or to hang, so that not every search pays for it again."""

from __future__ import annotations

from dataclasses import dataclass, field

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.conditions import Condition, necessary_shapes
from toeplitz_core.testing.laws.result import Step
from toeplitz_core.testing.laws.verdict import Status, Verdict

# The statuses of calls that do not return.
FATAL = (Status.CRASH, Status.TIMEOUT)
# After this many cases that ended as expected, and none that did not, further ones are left out.
_SURE = 3


@dataclass(slots=True, eq=False)
class Fatal:
    """What a call needs to crash, or to hang.

    Parameters
    ----------
    failure : Verdict
        That of the smallest case.
    needs : tuple of Condition
        What the smallest case needs. Cases that meet this may return.
    ended : int
        How many cases that meet the needs have ended in the same way.
    returned : int
        How many cases that meet the needs returned.
    met : set of str
        The laws and the dtypes of those that ended.
    """

    failure: Verdict
    needs: tuple[Condition, ...]
    ended: int = 0
    returned: int = 0
    met: set[str] = field(default_factory=set)

    def explains(self, failure: Verdict) -> bool:
        """Whether a failure is the same, as far as is known."""
        known = self.failure
        return (failure.status, failure.symptom) == (known.status, known.symptom) and self.is_met(failure.case)

    def is_met(self, case: Case | Call) -> bool:
        """Whether a case meets the needs. Nothing is known of calls, whose arguments may be invalid."""
        return isinstance(case, Case) and all(need.holds(case) for need in self.needs)

    def note(self, verdict: Verdict, step: Step) -> None:
        """Note how a case of a step ended that meets the needs."""
        if self.explains(verdict):
            self.ended += 1
            self.met |= {step.law, step.dtype}
        self.returned += verdict.status in (Status.PASS, Status.FAIL, Status.MISTRUSTED)

    def leaves_out(self, step: Step, *, in_this_search: bool) -> bool:
        """Whether a step need not try another case that meets the needs.

        A case is left out if enough others have ended alike and none has returned, of which some were of this law and
        some of this dtype. Since a hang takes long, one is enough for a search.
        """
        if in_this_search and self.failure.status is Status.TIMEOUT:
            return True
        return not self.returned and self.ended >= _SURE and {step.law, step.dtype} <= self.met


class FatalCases:
    """The cases on which a subject crashes or hangs."""

    def __init__(self) -> None:
        self._known: list[Fatal] = []

    def add(self, failure: Verdict) -> Fatal | None:
        """Add the failure of a smallest case; None if nothing is known of cases like it."""
        if isinstance(failure.case, Call):
            return None
        fatal = Fatal(failure, necessary_shapes(failure.case))
        self._known.append(fatal)
        return fatal

    def has_explained(self, failure: Verdict) -> bool:
        """Whether another failure that was examined before explains this one."""
        known = self.of(failure.case)
        return known is not None and known.explains(failure) and known.failure.case != failure.case

    def of(self, case: Case | Call) -> Fatal | None:
        """The first that a case meets the needs of."""
        return next((fatal for fatal in self._known if fatal.is_met(case)), None)
