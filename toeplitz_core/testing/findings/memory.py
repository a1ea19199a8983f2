"""What failed in one run, to be tried first in the next: one line a file, in the user's cache directory."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from toeplitz_core.testing.case.call import parse_line
from toeplitz_core.testing.support.files import write_atomically

if TYPE_CHECKING:
    from toeplitz_core.testing.case.call import Call
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.laws.verdict import Verdict


def cache_directory() -> Path:
    """Where a run keeps what may be lost: the user's cache directory, and never the one that the run is started in."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "toeplitz-core" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "toeplitz-core"
    # A relative path is to be ignored (XDG Base Directory Specification).
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "toeplitz-core"


@dataclass(frozen=True, slots=True)
class Remembered:
    """The case that failed last for one law, subject, dtype and device.

    Hypothesis has a database for that, but with it spends what is left of the cases of a law that has a target on
    making those smaller that hold.
    """

    subject: str
    law: str
    dtype: str
    device: str

    @property
    def path(self) -> Path:
        """The file, which need not be there."""
        parts = (quote(part, safe="") for part in (self.subject, self.law, f"{self.dtype} {self.device}"))
        return cache_directory().joinpath("failures", *parts)

    def recall(self) -> Case | Call | None:
        """The case, if there is one that can be read."""
        try:
            return parse_line(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def keep(self, failure: Verdict | None) -> None:
        """Remember a failure, or nothing more; where nothing can be written, the report alone has it."""
        with contextlib.suppress(OSError):
            if failure is None:
                self.path.unlink(missing_ok=True)
                return
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, f"{failure.case}\n")
