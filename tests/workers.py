"""Workers of all runs in this process from one fork server: it takes seconds to start, and is the same for each."""

from __future__ import annotations

import atexit
import contextlib
import tempfile
from pathlib import Path

import pytest

from tests.paths import CHECKOUT
from toeplitz_core.testing.isolation import sandbox
from toeplitz_core.testing.isolation.fork_server import ForkServer
from toeplitz_core.testing.subjects.interface import Environment

_SERVERS: dict[Environment, ForkServer] = {}


class _Shared(ForkServer):
    """A fork server that no run ends. Each run ends its workers all the same."""

    def close(self) -> None:
        """Go on."""


def _shared(environment: Environment, _: Path) -> ForkServer:
    found = _SERVERS.get(environment)
    if found is None or found.has_died:
        # Where it starts is where its workers look for modules: not where a test has some that another has too.
        with contextlib.chdir(CHECKOUT):
            found = _SERVERS[environment] = _Shared(environment, Path(tempfile.mkdtemp()))
        atexit.register(ForkServer.close, found)
    return found


def share_fork_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs in this process share their fork servers, until the patch is undone.

    What a subject's name means has to be on ``sys.path``.
    """
    monkeypatch.setattr(sandbox, "ForkServer", _shared)
