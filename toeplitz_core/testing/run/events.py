"""The events of a run, in the order in which they happen. Every report is a consumer of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.run.plan import Plan, Task
from toeplitz_core.testing.run.record import Record


@dataclass(frozen=True, slots=True)
class Started:
    """The run begins.

    Parameters
    ----------
    plan : Plan
    options : Options
    journal : str
        Where the events are kept; empty if nowhere.
    """

    plan: Plan
    options: Options
    journal: str = ""


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step begins in one round.

    Parameters
    ----------
    task : Task
    """

    task: Task


@dataclass(frozen=True, slots=True)
class FailureFound:
    """A step has found a failure, smaller than any that it had found before; it goes on shrinking.

    Parameters
    ----------
    task : Task
    result : Result
        That of the step, if it ended now.
    """

    task: Task
    result: Result


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step has ended in one round.

    Parameters
    ----------
    task : Task
    result : Result
    """

    task: Task
    result: Result


@dataclass(frozen=True, slots=True)
class Adopted:
    """What fails was added to a list of known failures.

    Parameters
    ----------
    path : str
    entries : int
    """

    path: str
    entries: int


@dataclass(frozen=True, slots=True)
class Failed:
    """An error of our own ends the run.

    Parameters
    ----------
    error : str
    traceback : str
        Empty where no line of our code is to blame.
    """

    error: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The run has ended.

    Parameters
    ----------
    record : Record
        What came of it.
    left_out : sequence of str
        What was not run, each with its reason.
    """

    record: Record
    left_out: Sequence[str] = ()


Event = Started | StepStarted | FailureFound | StepEnded | Adopted | Failed | Ended
Consumer = Callable[[Event], None]
