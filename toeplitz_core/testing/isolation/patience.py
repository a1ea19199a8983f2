"""How long a call is waited for: the timeout, and less than that once a call has hung."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

# After a hang, a call has three times as long as the slowest one took that returned, and at least half a second.
_FACTOR = 3
_LEAST = 0.5


class Patience:
    """The seconds that a call is waited for.

    A hang costs the whole timeout. But whoever looks for its smallest case, or for other laws that meet it, makes many
    such calls. So after the first one, a call is waited for only a multiple of what the slowest took that returned.

    Parameters
    ----------
    timeout : float
        Seconds that one call may take.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._slowest = 0.0
        self._has_hung = False
        self._in_full = False

    def seconds(self, calls: int) -> float:
        """How long these calls are waited for, which are made one after another."""
        usual = min(self.timeout, max(_LEAST, _FACTOR * self._slowest))
        first = usual if self._has_hung and not self._in_full else self.timeout
        return first + (calls - 1) * usual

    def returned(self, seconds: float) -> None:
        """Note that a call has returned after this time."""
        self._slowest = max(self._slowest, seconds)

    def hung(self) -> None:
        """Note that a call did not return."""
        self._has_hung = True

    @contextlib.contextmanager
    def in_full(self) -> Iterator[None]:
        """Wait for calls as long as for the first one, to be sure that they hang."""
        before, self._in_full = self._in_full, True
        try:
            yield
        finally:
            self._in_full = before
