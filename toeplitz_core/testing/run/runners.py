"""The subjects of a command, ready to be called: in worker processes, or in this one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toeplitz_core.testing.isolation.sandbox import Isolation, SubjectError
from toeplitz_core.testing.subjects import Absent, absent, check_name, environment, resolve

if TYPE_CHECKING:
    from toeplitz_core.testing.subjects import Runner


@contextlib.contextmanager
def runners(
    names: Sequence[str], *, timeout: float, inline: bool = False
) -> Iterator[tuple[list[Runner], Path | None]]:
    """Start the subjects of some names, each in a worker process unless ``inline``.

    Yields
    ------
    list of Runner
    Path or None
        The file that holds the case that is running, where subjects run in workers.

    Raises
    ------
    ValueError
        If a name means nothing, or cannot be imported.
    """
    checked = [check_name(name) for name in dict.fromkeys(names)]
    if inline:
        yield [Absent(name, why) if (why := absent(name)) else resolve(name) for name in checked], None
        return
    with Isolation(timeout=timeout) as isolation:
        yield [_started(isolation, name) for name in checked], isolation.journal


def _started(isolation: Isolation, name: str) -> Runner:
    if why := absent(name):
        return Absent(name, why)
    runner = isolation.runner(name, environment(name))
    try:
        runner.start()
    except SubjectError as error:
        said = str(error)
        raise SubjectError(said if said.startswith("subject '") else f"subject '{name}': {said}") from None
    return runner
