"""A run on a Dask cluster of several processes: the same findings, whatever happens to workers and scheduler."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Cluster

KERNELS = "tests.run.kernels"
STEPS = "--law forward-exact --law shift-equivariant --dtype float32 --dtype int64 --device cpu --seed 3"


def run(line: str, directory: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """A command, and the JSON that it wrote without what differs between executors."""
    file = directory / "run.json"
    file.unlink(missing_ok=True)
    words = [sys.executable, "-m", "toeplitz_core", *shlex.split(line), "--json", str(file)]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", cwd=directory, timeout=240, check=False)
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name in ("timing", "options", "environment"):
        found.pop(name, None)
    return done, found


def test_the_same_findings_though_a_worker_is_killed(cluster: Cluster, tmp_path: Path):
    """On two workers, one of which is killed in mid-run, every count and finding is that of one process."""
    cluster.workers(2)
    line = f"check {KERNELS}:kills_its_judge_once {STEPS} --examples 15"
    done, there = run(f"{line} --executor {cluster.name}", tmp_path)
    assert (tmp_path / "mark").exists(), "no worker was killed"
    assert done.returncode == 1, done.stderr
    _, here = run(line, tmp_path)
    assert there == here
    assert there["findings"]


def test_rounds_and_sweeps_run_there_too(cluster: Cluster, tmp_path: Path):
    """Each round has its own seed, as in one process; a sweep judges each convolution once."""
    cluster.workers(2)
    line = f"check {KERNELS}:no_groups --law forward-exact --dtype int64 --device cpu --sweep 3"
    done, there = run(f"{line} --executor {cluster.name}", tmp_path)
    assert (done.returncode, there) == (1, run(line, tmp_path)[1])
    line = f"check {KERNELS}:right {STEPS} --examples 4 --time 4 --executor {cluster.name}"
    done, there = run(line, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"time: [2-9]\d* rounds in 4 s", done.stdout), done.stdout


def test_the_scheduler_is_gone(cluster: Cluster, tmp_path: Path):
    """The run ends with 4 and says why. Resumed on this machine, it has the results of an uninterrupted run."""
    cluster.workers(2)
    line = f"check {KERNELS}:no_groups {STEPS} --law adjoint --law gradients-exact --examples 100"
    words = [sys.executable, "-m", "toeplitz_core", *shlex.split(line), "-v", "--executor", cluster.name]
    running = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        cwd=tmp_path,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert running.stdout is not None
    printed = ""
    timer = threading.Timer(120, running.kill)
    timer.start()
    for text in iter(running.stdout.readline, ""):
        printed += text
        if " cpu: " in text:  # the first step has ended
            cluster.scheduler.send_signal(signal.SIGKILL)
    errors = running.communicate()[1]
    timer.cancel()
    assert running.returncode == 4, printed + errors
    assert f"error: the executor {cluster.name} was lost: " in errors
    assert "Traceback" not in errors
    (journal,) = re.findall(r"check --resume (\S+)", printed)
    done, again = run(f"check --resume {journal} --executor local", tmp_path)
    assert done.returncode == 1, done.stderr
    assert again == run(line, tmp_path)[1]


@pytest.mark.parametrize("package", ["toeplitz_core", "torch"])
def test_a_worker_with_another_version_is_refused_by_name(cluster: Cluster, tmp_path: Path, package: str):
    """The run ends with 4; the message has the worker, the package and both versions."""
    preload = tmp_path / "other.py"
    preload.write_text(f"import {package}\n{package}.__version__ = '0.0.9'\n", encoding="utf-8")
    cluster.workers(1, "--preload", str(preload))
    done, found = run(f"check {KERNELS}:right {STEPS} --examples 3 --executor {cluster.name}", tmp_path)
    assert done.returncode == 4, done.stdout + done.stderr
    assert re.search(rf"process \d+\) has {package} 0\.0\.9 instead of \d", done.stderr.replace("\n", " "))
    assert {result["status"] for result in found["results"]} == {"not-run"}


def test_without_a_scheduler_nothing_is_run(tmp_path: Path):
    """A wrong address is wrong usage: exit code 2, with the address."""
    pytest.importorskip("distributed", reason="not run: needs Dask, from the extra 'dask'; tox -e cluster has it")
    done, _ = run(f"check {KERNELS}:right {STEPS} --executor dask://127.0.0.1:9", tmp_path)
    assert done.returncode == 2
    assert "executor='dask://127.0.0.1:9' must be the address of a scheduler" in " ".join(done.stderr.split())
