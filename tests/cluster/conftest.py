"""A real Dask cluster and a real redis-server. tox -e cluster has what they need."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.helpers.paths import CHECKOUT

Started = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process of a test finds this checkout, and its own files."""
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TOEPLITZ_TEST_MARK", str(tmp_path / "mark"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(port: int, seconds: float = 60.0) -> None:
    """Wait until somebody answers on a port."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < end, f"nobody answers on port {port}"
        time.sleep(0.1)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    """Start a program in the background; end it after the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> subprocess.Popen[bytes]:
        with (tmp_path / f"log-{len(running)}.txt").open("wb") as log:
            running.append(subprocess.Popen(words, stdout=log, stderr=log, cwd=tmp_path, env=dict(os.environ)))
        return running[-1]

    yield start
    for process in running:
        process.terminate()
    for process in running:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Cluster:
    """A scheduler of Dask and its workers, each a process."""

    def __init__(self, started: Started) -> None:
        pytest.importorskip("distributed", reason="not run: needs Dask, from the extra 'dask'; tox -e cluster has it")
        self._started = started
        self.port = free_port()
        self.scheduler = self._dask("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        wait_for(self.port)

    @property
    def name(self) -> str:
        """Its name for --executor."""
        return f"dask://127.0.0.1:{self.port}"

    def workers(self, count: int, *more: str) -> subprocess.Popen[bytes]:
        """Start worker processes of one thread each."""
        address = f"tcp://127.0.0.1:{self.port}"
        return self._dask("worker", address, "--nworkers", str(count), "--nthreads", "1", "--no-dashboard", *more)

    def _dask(self, *words: str) -> subprocess.Popen[bytes]:
        return self._started(sys.executable, "-m", "dask", *words)


@pytest.fixture
def cluster(started: Started) -> Cluster:
    """A scheduler; a test starts the workers that it wants."""
    return Cluster(started)


@pytest.fixture
def redis(started: Started, tmp_path: Path) -> tuple[str, subprocess.Popen[bytes]]:
    """The address of an empty Redis database, and the server's process."""
    pytest.importorskip("redis", reason="not run: needs the package redis, from the extra 'redis'; tox -e cluster")
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("not run: needs the program redis-server, Debian's package of that name")
    port = free_port()
    server = started(program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path))
    wait_for(port)
    return f"redis://127.0.0.1:{port}/0", server
