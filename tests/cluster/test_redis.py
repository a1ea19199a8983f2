"""A memory in Redis, shared by runs; a lost server costs no finding."""

from __future__ import annotations

import re
import signal
import subprocess

import pytest

from toeplitz_core.testing.checking import check
from toeplitz_core.testing.run.events import Event, Started
from toeplitz_core.testing.run.options import Options
from toeplitz_core.testing.run.session import Session

KERNELS = "tests.run.kernels"
ASKED = {"law": ("forward-exact",), "dtype": ("float32",), "device": ("cpu",), "examples": 30, "inline": True}
Server = tuple[str, "subprocess.Popen[bytes]"]


def test_runs_share_a_memory(redis: Server, capsys: pytest.CaptureFixture[str]):
    """What one run has reported, the next has in one line."""
    place, _ = redis
    check(f"{KERNELS}:no_groups", memory=place, **ASKED)
    assert "cause:" in capsys.readouterr().out
    record = check(f"{KERNELS}:no_groups", memory=place, **ASKED)
    told = capsys.readouterr().out
    assert "(known to the memory)" in told
    assert "cause:" not in told
    assert record.exit_code == 1


def test_a_server_that_is_lost_in_mid_run(redis: Server):
    """The run goes on, says it once, and has the finding."""
    place, server = redis
    said: list[str] = []

    def consumer(event: Event) -> None:
        if isinstance(event, Started):
            server.send_signal(signal.SIGKILL)
            server.wait()
        said.extend([event.text] if hasattr(event, "text") else [])

    session = Session(Options(subject=f"{KERNELS}:no_groups", memory=place, **ASKED))
    session.start()
    record = session.run(consumer)
    session.close()
    assert len(said) == 1
    assert re.match(rf"the memory \({re.escape(place)}\) is not used any more: ", said[0])
    assert (record.exit_code, len(record.findings)) == (1, 1)


def test_without_a_server_nothing_is_run():
    """An address where nobody answers is an error before the run."""
    pytest.importorskip("redis", reason="not run: needs the package redis, from the extra 'redis'; tox -e cluster")
    place = "redis://127.0.0.1:9/0"
    with pytest.raises(ValueError, match=f"memory='{place}' must be the address of a Redis database: "):
        check(f"{KERNELS}:right", memory=place, quiet=True, **ASKED)
