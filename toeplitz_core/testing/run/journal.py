"""The journal of a run: its events on disk as they happen, one JSON line each.

Whatever ends the run, the journal holds every failure that had been announced, and ``check --resume`` goes on from it.
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
from toeplitz_core.testing.support.spelling import named

# The first number changes where an older reader would misunderstand.
VERSION = 1
# Days for which the journal of a run that was killed or interrupted is kept.
KEPT_DAYS = 7
_KIND = "run"
_NAME = "journal.jsonl"
_KINDS: Mapping[str, type[FailureFound | StepEnded]] = {"failure": FailureFound, "step ended": StepEnded}


class Journal:
    """The journal of one run, in a temporary directory of its own, or a file that another run has left.

    Parameters
    ----------
    resumed : path, optional
        The journal that the run goes on with. If it lies where that run has left it, its directory is taken over.

    Raises
    ------
    ValueError
        If that run has not ended.
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
        """Where judge processes keep the cases that they are at."""
        return self._directory.path

    def __call__(self, event: Event) -> None:
        """Write an event down, if a run is resumed by it."""
        if isinstance(event, Started) and not self._resumed:
            self._write({"event": "started", "version": VERSION, "options": _lasting(event)})
        elif isinstance(event, FailureFound | StepEnded):
            (kind,) = (name for name, each in _KINDS.items() if isinstance(event, each))
            self._write({"event": kind, "round": event.task.number, "result": result_document(event.result)})

    def _write(self, document: Mapping[str, object]) -> None:
        self._file.write(json.dumps(document) + "\n")

    def close(self, *, keep: bool) -> None:
        """End the journal. It is kept for whoever wants to resume the run, or removed with its directory."""
        self._file.close()
        if keep:
            self._directory.release()
        else:
            self._directory.remove()


def _lasting(event: Started) -> dict[str, Any]:
    """The options of a run for whoever resumes it, perhaps from elsewhere: with its seed, and with absolute paths."""
    options = event.options.document()
    options["seed"] = event.plan.seed if event.options.sweep is None else None
    options["known"] = [str(Path(name).resolve()) for name in options["known"]]
    for key in ("write_known", "json", "junit"):
        if options[key] not in (None, "-"):
            options[key] = str(Path(options[key]).resolve())
    return options


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a journal says of a run that has not come to its end.

    Parameters
    ----------
    path : path
    options : mapping
        The options of the run, by their keys, with the seed that it had; those that were chosen.
    events : tuple of FailureFound or StepEnded
    """

    path: Path
    options: Mapping[str, Any]
    events: tuple[FailureFound | StepEnded, ...]

    @classmethod
    def read(cls, path: str | Path) -> Resumed:
        """Read a journal; a last line that was cut off is left out.

        Raises
        ------
        ValueError
            With the file, the line and what is wrong with it.
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
                        raise ValueError(f"its version is {document['version']}, and must be {VERSION}")  # noqa: TRY301
                    options = {key: value for key, value in by_key(document["options"]).items() if value != []}
                else:
                    events.append(_event(document))
            except KeyError as error:
                raise ValueError(f"{path}:{number}: not a line of a journal: it has no {error}") from None
            except (ValueError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}:{number}: not a line of a journal: {error}") from None
        if options is None:
            raise ValueError(f"{path}: not a journal: it does not begin with the start of a run")
        return cls(path, options, tuple(events))


def _event(document: Mapping[str, Any]) -> FailureFound | StepEnded:
    kind = named(f"event={document['event']!r}", document["event"], _KINDS)
    result = read_result(document["result"])
    return kind(Task(result.step, document["round"]), result)


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line that has no end."""
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def clear_abandoned() -> None:
    """Remove the journals of killed and interrupted runs that nobody has resumed for days."""
    for directory in abandoned(_KIND):
        journal = directory / _NAME
        written = journal.stat().st_mtime if journal.exists() else 0.0
        if time.time() - written > KEPT_DAYS * 24 * 3600:
            shutil.rmtree(directory, ignore_errors=True)
