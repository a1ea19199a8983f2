"""Share one fork server between all runs in this process, because it takes seconds to start."""

from __future__ import annotations

import atexit
import contextlib
import tempfile
from pathlib import Path

import pytest

from tests.helpers.paths import CHECKOUT
from toeplitz_core.testing.isolation import sandbox
from toeplitz_core.testing.isolation.fork_server import ForkServer
from toeplitz_core.testing.subjects.interface import Environment

_SERVERS: dict[Environment, ForkServer] = {}


class _Shared(ForkServer):
    """A fork server that no run ends. Each run still ends its own workers."""

    def close(self) -> None:
        """Do nothing, so that the next run can use the fork server."""


def _shared(environment: Environment, _: Path) -> ForkServer:
    found = _SERVERS.get(environment)
    if found is None or found.has_died:
        # Its workers look for modules in the directory where it starts, which must not be that of one test.
        with contextlib.chdir(CHECKOUT):
            found = _SERVERS[environment] = _Shared(environment, Path(tempfile.mkdtemp()))
        atexit.register(ForkServer.close, found)
    return found


def share_fork_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs in this process share fork servers, until the patch is undone.

    The modules of subjects must be on ``sys.path``.
    """
    monkeypatch.setattr(sandbox, "ForkServer", _shared)
