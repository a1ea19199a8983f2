"""The exit code of a run: the gravest of what came of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import IntEnum

from toeplitz_core.testing.findings.known_failures.staleness import Stale
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.laws.verdict import EXCUSED, Status


class ExitCode(IntEnum):
    """What the exit codes of ``check`` mean."""

    ALL_HOLD = 0
    FAILURE = 1
    USAGE = 2
    NOTHING_PROVEN = 3
    OUR_ERROR = 4
    INTERRUPTED = 130


def exit_code(
    results: Sequence[Result], *, required_devices: Collection[str] = (), refused_stale: Collection[Stale] = ()
) -> ExitCode:
    """0 if all laws hold; 1 if a law fails; 3 if nothing is proven, a required device is missing, or an entry is stale.

    Nothing is proven about a law if too few cases could be judged, and nothing about a subject if it supports no law.
    A subject may refuse a whole law or dtype; the exit code is then 0 if it passes others.
    """
    if any(result.status.is_failure for result in results):
        return ExitCode.FAILURE
    absent = any(r.status is Status.NOT_RUN and r.device in required_devices for r in results)
    ran = [r for r in results if r.status is not Status.NOT_RUN]
    proven = {r.subject for r in ran if r.status in (Status.PASS, *EXCUSED)}
    unproven = not ran or any(r.nothing_proven or r.subject not in proven for r in ran)
    return ExitCode.NOTHING_PROVEN if absent or unproven or refused_stale else ExitCode.ALL_HOLD
