"""The events of a run, in the order in which they happen. Every report consumes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.run.comparison.comparison import Comparison
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.run.plan import Plan, Task
from toeplitz_core.testing.run.record import Record


@dataclass(frozen=True, slots=True)
class Started:
    """The run begins.

    Parameters
    ----------
    plan : Plan
        What will be run.
    options : Options
        The settings that the plan was made from.
    journal : str
        Path of the journal, or an empty string without one.
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
        The step that begins, and its round.
    """

    task: Task


@dataclass(frozen=True, slots=True)
class FailureFound:
    """A step has found a failure that is smaller than its earlier ones; it goes on shrinking.

    Parameters
    ----------
    task : Task
        The step that found the failure, and its round.
    result : Result
        The result of the step so far.
    """

    task: Task
    result: Result


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step has ended in one round.

    Parameters
    ----------
    task : Task
        The step that ended, and its round.
    result : Result
        What the step found in this round.
    """

    task: Task
    result: Result


@dataclass(frozen=True, slots=True)
class Adopted:
    """The file of a list of known failures was updated.

    Parameters
    ----------
    path : str
        The file of the list.
    added, removed : tuple of str
        The names of new entries, and of those whose example holds now.
    kept : int
        Number of other entries.
    chosen : str
        The options with which the next run reads all lists of this run, and draws the same cases.
    red : str
        Why that run would not end with 0, or why this is not known; empty if it would.
    """

    path: str
    added: tuple[str, ...]
    removed: tuple[str, ...] = ()
    kept: int = 0
    chosen: str = ""
    red: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """Something that the user should know, and that ends nothing.

    Parameters
    ----------
    text : str
        A sentence.
    """

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An error of our own ends the run.

    Parameters
    ----------
    error : str
        The message for the user.
    traceback : str
        Empty if our code is not to blame.
    """

    error: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The run has ended.

    Parameters
    ----------
    record : Record
        The results, and how the run ended.
    left_out : sequence of str
        What was not run, with the reasons.
    comparison : Comparison, optional
        How the run differs from its baseline; None without one, or if the run was cut short.
    """

    record: Record
    left_out: Sequence[str] = ()
    comparison: Comparison | None = None


Event = Started | StepStarted | FailureFound | StepEnded | Adopted | Said | Failed | Ended
Consumer = Callable[[Event], None]


def tell_all(consumers: Iterable[Consumer], event: Event) -> None:
    """Send an event to all consumers, even if one raises; then raise the first error."""
    failed: Exception | None = None
    for consumer in consumers:
        try:
            consumer(event)
        except Exception as error:  # noqa: BLE001  # the other reports are still written
            failed = failed or error
    if failed is not None:
        raise failed
