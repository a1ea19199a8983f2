"""The journal of a run: its events, written to disk as they happen, one line of JSON each.

However the run ends, the journal has every failure that was announced. ``check --resume`` continues from the journal.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toeplitz_core.testing.run.events import Event, FailureFound, Started, StepEnded
from toeplitz_core.testing.run.options import by_key
from toeplitz_core.testing.run.plan import Task
from toeplitz_core.testing.run.record import read_result, result_document
from toeplitz_core.testing.support.directories import OwnedDirectory, abandoned, is_owned
from toeplitz_core.testing.support.places import resolved
from toeplitz_core.testing.support.spelling import named

# Changes when older readers would misread the journal.
VERSION = 1
# The journal of a killed or interrupted run is kept for this many days.
KEPT_DAYS = 7
_KIND = "run"
_NAME = "journal.jsonl"
_KINDS: Mapping[str, type[FailureFound | StepEnded]] = {"failure": FailureFound, "step ended": StepEnded}


class Journal:
    """The journal of one run: a file in a new temporary directory, or the file of an earlier run.

    Parameters
    ----------
    resumed : path, optional
        The journal of the run to resume. If it is still in that run's directory, this run takes the directory over.

    Raises
    ------
    ValueError
        If that run is still running.
    """

    def __init__(self, resumed: Path | None = None) -> None:
        left = resumed.resolve().parent if resumed is not None else None
        self._directory = OwnedDirectory(_KIND, left=left if left is not None and is_owned(left, _KIND) else None)
        self.path = self.directory / _NAME if resumed is None else resumed
        if resumed is not None:
            _drop_torn_line(resumed)
        self._resumed = resumed is not None
        self._file = self.path.open("a", encoding="utf-8", buffering=1)

    @property
    def directory(self) -> Path:
        """The directory in which judges write the cases that they are judging."""
        return self._directory.path

    def __call__(self, event: Event) -> None:
        """Write an event, if resuming needs it."""
        if isinstance(event, Started) and not self._resumed:
            self._write({"event": "started", "version": VERSION, "options": _lasting(event)})
        elif isinstance(event, FailureFound | StepEnded):
            (kind,) = (name for name, each in _KINDS.items() if isinstance(event, each))
            self._write({"event": kind, "round": event.task.number, "result": result_document(event.result)})

    def _write(self, document: Mapping[str, object]) -> None:
        self._file.write(json.dumps(document) + "\n")

    def close(self, *, keep: bool) -> None:
        """Close the journal. Keep it for resuming the run, or remove it with its directory."""
        self._file.close()
        if keep:
            self._directory.release()
        else:
            self._directory.remove()


def _lasting(event: Started) -> dict[str, Any]:
    """The options of a run for resuming it, perhaps in another directory: with the seed and absolute paths."""
    options = event.options.document()
    options["seed"] = event.plan.effort.seed
    options["known"] = [str(Path(name).resolve()) for name in options["known"]]
    options["memory"] = [resolved(place, Path.cwd()) for place in options["memory"]]
    for key in ("write_known", "json", "junit"):
        if options[key] not in (None, "-"):
            options[key] = str(Path(options[key]).resolve())
    return options


@dataclass(frozen=True, slots=True)
class Resumed:
    """The contents of the journal of an unfinished run.

    Parameters
    ----------
    path : path
        The file of the journal.
    options : mapping
        The chosen options of the run by their keys, with its seed.
    events : tuple of FailureFound or StepEnded
        What had happened before the run stopped, in that order.
    """

    path: Path
    options: Mapping[str, Any]
    events: tuple[FailureFound | StepEnded, ...]

    @classmethod
    def read(cls, path: str | Path) -> Resumed:
        """Read a journal. An incomplete last line is ignored.

        Raises
        ------
        ValueError
            If the file is not a journal; the message has the file, the line and what is wrong with it.
        """
        path = Path(path)
        try:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: {error}") from None
        lines = [line for line in lines if line.endswith("\n")]
        events = []
        options: Mapping[str, Any] | None = None
        for number, line in enumerate(lines, start=1):
            try:
                document = json.loads(line)
                if document["event"] == "started":
                    if document["version"] != VERSION:
                        raise ValueError(f"version={document['version']!r} must be {VERSION}")  # noqa: TRY301
                    options = {key: value for key, value in by_key(document["options"]).items() if value != []}
                else:
                    events.append(_event(document))
            except KeyError as error:
                raise ValueError(f"{path}:{number}: not a line of a journal: key {error} is missing") from None
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}:{number}: not a line of a journal: {error}") from None
        if options is None:
            raise ValueError(f"{path}: not a journal: its first line must be the start of a run")
        return cls(path, options, tuple(events))


def _event(document: Mapping[str, Any]) -> FailureFound | StepEnded:
    kind = named(f"event={document['event']!r}", document["event"], _KINDS)
    result = read_result(document["result"])
    return kind(Task(result.step, document["round"]), result)


def _drop_torn_line(path: Path) -> None:
    """Remove an incomplete last line."""
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def clear_abandoned_journals() -> None:
    """Remove old journals of killed and interrupted runs."""
    for directory in abandoned(_KIND):
        journal = directory / _NAME
        written = journal.stat().st_mtime if journal.exists() else 0.0
        if time.time() - written > KEPT_DAYS * 24 * 3600:
            shutil.rmtree(directory, ignore_errors=True)
