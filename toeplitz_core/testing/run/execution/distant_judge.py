"""What a worker of an executor does: it judges one task, if it has the same versions as the process that asks.

The worker may be on another machine. It imports the subject there, and runs it in a process of its own, as everywhere.
"""

from __future__ import annotations

import atexit
import os
import pickle
import platform
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import hypothesis
import numpy as np
import torch

import toeplitz_core
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws.result import Result
from toeplitz_core.testing.run.execution import judgement
from toeplitz_core.testing.run.execution.executors import ErrorOfJudge
from toeplitz_core.testing.run.execution.subject_pool import SubjectPool
from toeplitz_core.testing.run.plan import Plan

# Seconds after which a worker without tasks ends the processes of its subjects. The next task starts new ones.
IDLE = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker returns for a task.

    Parameters
    ----------
    worker : str
        Its machine and process.
    result : Result, optional
        None if there is none.
    versions : mapping of str to str
        The worker's versions that differ from those of the run; if there are any, it has judged nothing.
    error : ErrorOfJudge, optional
        What ended the task.
    """

    worker: str
    result: Result | None = None
    versions: Mapping[str, str] | None = None
    error: ErrorOfJudge | None = None


def versions() -> dict[str, str]:
    """The versions on which cases and verdicts depend."""
    return {
        "toeplitz_core": toeplitz_core.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "hypothesis": hypothesis.__version__,
        "Python": platform.python_version(),
    }


def judged(wanted: Mapping[str, str], packed_run: bytes, packed_task: bytes) -> Answer:
    """Judge a task in this process. The versions are compared before anything is unpacked.

    Parameters
    ----------
    wanted : mapping of str to str
        The :func:`versions` of the process that asks.
    packed_run : bytes
        The pickled plan, and the time limit of one call.
    packed_task : bytes
        The pickled task.
    """
    worker = f"{platform.node()}, process {os.getpid()}"
    own = versions()
    if other := {name: own.get(name, "none") for name, version in wanted.items() if own.get(name) != version}:
        return Answer(worker, versions=other)
    try:
        return Answer(worker, _BENCH.judged(packed_run, packed_task))
    except Exception as error:  # noqa: BLE001  # whoever asks reports any error
        return Answer(worker, error=ErrorOfJudge(error))


class _Bench:
    """The subjects of the run for which this process works. It judges one task at a time, whatever threads ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._run: tuple[bytes, Plan, SubjectPool] | None = None
        self._used = 0.0
        atexit.register(self._close)

    def judged(self, packed_run: bytes, packed_task: bytes) -> Result:
        with self._lock:
            try:
                if self._run is None or self._run[0] != packed_run:
                    self._close()
                    self._run = (packed_run, *_unpacked(packed_run))
                _, plan, pool = self._run
                return judgement.judge(plan, pool, pickle.loads(packed_task))
            finally:
                self._used = time.monotonic()
                waiting = threading.Timer(IDLE, self._close_if_idle)
                waiting.daemon = True
                waiting.start()

    def _close_if_idle(self) -> None:
        with self._lock:
            if time.monotonic() - self._used >= IDLE:
                self._close()

    def _close(self) -> None:
        if self._run is not None:
            self._run[2].close()
            self._run = None


def _unpacked(packed_run: bytes) -> tuple[Plan, SubjectPool]:
    plan, timeout = pickle.loads(packed_run)
    return plan, SubjectPool(lambda: Sandbox(timeout=timeout), declared=plan.declared)


# A worker process serves any number of tasks, so what it holds belongs to the process.
_BENCH = _Bench()
