"""Where a subject is known to hang, so that not every search waits for it again."""

from __future__ import annotations

from dataclasses import dataclass

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.conditions import Condition, necessary_shapes
from toeplitz_core.testing.laws.verdict import Status

# After this many cases that hung as expected, and none that did not, further ones are left out.
_SURE = 3


@dataclass(slots=True)
class Hang:
    """What a call needs to hang.

    Parameters
    ----------
    needs : tuple of Condition
        What the smallest case needs. Cases that meet this may return.
    hung, returned : int
        How many cases that meet the needs did not return, and how many did, since they are known.
    """

    needs: tuple[Condition, ...]
    hung: int = 0
    returned: int = 0

    @property
    def is_sure(self) -> bool:
        """Whether the needs have told often enough which cases hang."""
        return self.hung >= _SURE and not self.returned

    def note(self, status: Status) -> None:
        """Note how a case ended that meets the needs."""
        self.hung += status is Status.TIMEOUT
        self.returned += status not in (Status.TIMEOUT, Status.UNSUPPORTED)


class Hangs:
    """The hangs of a subject."""

    def __init__(self) -> None:
        self._known: list[Hang] = []

    def add(self, case: Case) -> Hang:
        """Add a hang by its smallest case."""
        hang = Hang(necessary_shapes(case))
        self._known.append(hang)
        return hang

    def of(self, case: Case | Call) -> Hang | None:
        """The first known hang whose needs a case meets. Nothing is known of calls, which may be invalid."""
        if isinstance(case, Call):
            return None
        return next((hang for hang in self._known if all(need.holds(case) for need in hang.needs)), None)
