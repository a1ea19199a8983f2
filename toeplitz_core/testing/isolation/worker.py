"""The process in which a subject runs: it can crash, hang or spoil its globals, and only this process suffers.

Two kinds of processes come from here. A *nursery* is started cleanly with the environment that a subject wants, imports
torch, computes nothing (so that it has one thread only) and forks workers on request, in milliseconds. Where there is
no fork, or CUDA must not be forked, each worker is started cleanly instead. The standard library's own fork server is
one per process and keeps the environment of its first start; subjects differ in theirs.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from toeplitz_core.bound import Arithmetic
from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.isolation.transport import Packed, SharedFile
from toeplitz_core.testing.oracle.arithmetics import strictest
from toeplitz_core.testing.subjects.interface import Answer, Outcome, Procedure, Subject, described
from toeplitz_core.testing.support import interrupts

# What a subject printed is evidence, but not all of it: the end says most.
PRINTED = 2000
# A worker that has less than this share of its memory left is replaced: what the allocator does not give back, or
# what a subject keeps, would be missing to a later call, and a module whose import fails halfway may kill the process.
_SPARE = 0.25
# The parameter of glibc's ``mallopt`` of that name.
_M_PERTURB = -6
# How many freed arrays of a size NumPy keeps.
_KEPT_ARRAYS = 7
# Imported by the worker alone: a nursery that has imported a subject could not be forked safely.
_RESOLVER = "toeplitz_core.testing.subjects.names"


@dataclass(frozen=True, slots=True)
class Request:
    """One call: a case, its operands, and what to do with them."""

    case: Case
    input: Packed
    weight: Packed
    bias: Packed | None
    more: dict[str, Packed]
    procedure: Procedure


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a :class:`Request`, as it travels."""

    status: Any
    arithmetic: Arithmetic
    results: dict[str, Packed]
    message: str
    printed: str
    gradients: Mapping[str, Arithmetic]
    kernel: str


@dataclass(frozen=True, slots=True)
class CallReply:
    """What became of a :class:`Call`, as it travels."""

    status: Any
    result: Packed | None
    message: str
    printed: str


@dataclass(frozen=True, slots=True)
class Replies:
    """What became of the requests of one message; ``worn`` if the worker is to be replaced, for lack of memory."""

    each: Sequence[Reply | CallReply]
    worn: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker needs to know before its first call."""

    subject: str
    shared: str
    log: str
    memory: int | None
    path: tuple[str, ...]
    poison: int | None


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a worker says first: why it cannot serve, or what the judge has to know of the subject before it calls."""

    error: str = ""
    devices: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    procedures: tuple[Procedure, ...] = ("forward",)
    draws: int = 1
    absent: str = ""
    repeatable: bool = False
    poisoned: bool = False


def nursery(descriptor: int, room: str) -> None:
    """Say that we are there, then fork workers.

    ``Settings`` and a connection in, process id out; (process id, seconds) in, and out the exit code, or None if the
    process did not end by itself in that time and was killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the judge, who ends us by closing the connection
    control = Connection(descriptor)
    with contextlib.suppress(ImportError):  # torch itself does so at its first gradient: once, and not in each worker
        importlib.import_module("torch.fx.experimental.symbolic_shapes")
    _answer(control, True)
    workers: set[int] = set()
    while True:
        try:
            message = control.recv()
        except (EOFError, OSError):
            # The judge has ended. If it was killed, nobody else ends a worker that hangs, or removes what we shared.
            for pid in workers:
                _kill_group(pid)
            shutil.rmtree(room, ignore_errors=True)
            os._exit(0)  # taking torch apart takes half a second, in which the judge waits
        if isinstance(message, Settings):
            try:
                connection = Connection(reduction.recv_handle(control))
            except (EOFError, OSError, RuntimeError):
                continue  # the judge was interrupted between two messages, and is about to end
            pid = os.fork()
            if pid == 0:
                os.setpgid(0, 0)  # what it starts, ends with it
                control.close()
                serve(message, connection)
                os._exit(0)
            connection.close()
            workers.add(pid)
            _answer(control, pid)
        else:
            pid, patience = message
            status = _exit_status(pid, patience)
            if status is None:
                _kill_group(pid)
                os.waitpid(pid, 0)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # what a dead worker has left behind
            workers.discard(pid)
            _answer(control, None if status is None else os.waitstatus_to_exitcode(status))


def _exit_status(pid: int, patience: float) -> int | None:
    """What a child process ended with, if it does within some seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.002)
    return None


def _kill_group(pid: int) -> None:
    """End a worker and the processes that it has started, if any of them still live."""
    for kill in (os.killpg, os.kill):  # it may not have its group yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _answer(control: Connection, number: int | None) -> None:
    """Send a number to the judge, if it is still there to ask."""
    with contextlib.suppress(BrokenPipeError):
        control.send(number)


def serve(settings: Settings, connection: Connection, variables: Sequence[tuple[str, str]] = ()) -> None:
    """Answer requests (lists of them) until the judge hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts.let_go()
    os.environ.update(variables)
    sys.path[:] = settings.path
    log = os.open(settings.log, os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    shared = SharedFile(settings.shared)
    poison = settings.poison if settings.poison is None or _poison(settings.poison) else None
    try:
        subject: Subject = importlib.import_module(_RESOLVER).resolve(settings.subject)
    except Exception as error:  # noqa: BLE001  # the judge decides what that means
        connection.send(Greeting(str(error) if isinstance(error, ValueError) else traceback.format_exc()))
        return
    connection.send(
        Greeting(
            "",
            subject.devices,
            subject.dtypes,
            subject.procedures,
            subject.draws,
            subject.absent,
            subject.repeatable,
            poison is not None,
        )
    )
    state, limit, end = _globals(), settings.memory, None
    with contextlib.suppress(EOFError, OSError):
        while True:
            requests: list[Request | Call] = connection.recv()
            if limit is not None and all(_device(request) == "cpu" for request in requests):
                # Not before it is known that it stays on the CPU: CUDA reserves address space without end.
                end = _limit_memory(limit)
                limit = None
            calls = [_made(subject, shared, request) for request in requests]
            shared.rewind()
            if poison is not None:
                _poison_arrays(poison ^ 0xFF)
            outcomes = [_guarded(call, settings.log, state) for call in calls]
            replies = [_replied(shared, outcome) for outcome in outcomes]
            connection.send(Replies(replies, worn=end is not None and _address_space() > end))


def _device(request: Request | Call) -> str:
    return request.device if isinstance(request, Call) else request.case.device


def _made(subject: Subject, shared: SharedFile, request: Request | Call) -> Callable[[], Outcome | Answer]:
    """What a request asks for, its operands read."""
    if isinstance(request, Call):
        return partial(_answer_call, subject, request)
    return partial(_run, subject, request, _unpacked(shared, request))


def _unpacked(shared: SharedFile, request: Request) -> Operands:
    x, weight = shared.unpack(request.input), shared.unpack(request.weight)
    bias = None if request.bias is None else shared.unpack(request.bias)
    more = {name: shared.unpack(packed) for name, packed in request.more.items()}
    return Operands(x, weight, bias, miss_probability=0.0, more=more)


def _replied(shared: SharedFile, outcome: Outcome | Answer) -> Reply | CallReply:
    if isinstance(outcome, Answer):
        result = None if outcome.result is None else shared.pack(outcome.result)
        return CallReply(outcome.status, result, outcome.message, outcome.printed)
    results = {name: shared.pack(result) for name, result in outcome.results.items()}
    return Reply(
        outcome.status,
        outcome.arithmetic,
        results,
        outcome.message,
        outcome.printed,
        outcome.gradients,
        outcome.kernel,
    )


def _run(subject: Subject, request: Request, operands: Operands) -> Outcome:
    """Call a subject. Ctrl-C is ignored here: an interrupt that arrives is an exception of the subject's own."""
    try:
        return subject.run(request.case, operands, request.procedure)
    except KeyboardInterrupt as error:
        return Outcome("raised", strictest(request.case), message=f"raised {described(error)}")


def _answer_call(subject: Subject, call: Call) -> Answer:
    """Likewise, with arguments that may be invalid."""
    try:
        return subject.answer(call)
    except KeyboardInterrupt as error:
        return Answer("raised", message=f"raised {described(error)}")


def _guarded(call: Callable[[], Outcome | Answer], log: str, before: dict[str, object]) -> Outcome | Answer:
    """Call a subject; what it printed, and what it did to the state of the process, are part of the outcome."""
    begin = Path(log).stat().st_size
    outcome = call()
    after = _globals()
    sys.stdout.flush()
    sys.stderr.flush()
    printed = _printed(log, begin)
    spoiled = [f"{name} from {before[name]} to {after[name]}" for name in before if before[name] != after[name]]
    if spoiled:
        return outcome.spoiled(f"changed {', '.join(spoiled)}", printed)
    return replace(outcome, printed=printed)


def _globals() -> dict[str, object]:
    """State of the process that a convolution has no business to change."""
    # float64: flushing is a mode of the processor, and this its cheapest sign.
    flushes = bool((torch.tensor(5e-324, dtype=torch.float64) * 1 == 0).item())
    legacy: Any = np.random.get_state()  # noqa: NPY002  # the global one is what a subject could draw from
    return {
        "the default dtype": torch.get_default_dtype(),
        "the number of threads": torch.get_num_threads(),
        "gradient mode": torch.is_grad_enabled(),
        "flushing of subnormals": flushes,
        "deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "cudnn.enabled": torch.backends.cudnn.enabled,
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "cudnn.deterministic": torch.backends.cudnn.deterministic,
        "cudnn.allow_tf32": torch.backends.cudnn.allow_tf32,
        "oneDNN's switch": torch.backends.mkldnn.enabled,
        "torch's random state": hash(torch.get_rng_state().numpy().tobytes()),
        "NumPy's random state": hash((legacy[1].tobytes(), legacy[2])),
    }


def _printed(log: str, begin: int) -> str:
    """What the log has from a position on, or the end of it."""
    end = Path(log).stat().st_size
    if end == begin:
        return ""
    with Path(log).open("rb") as file:
        file.seek(max(begin, end - PRINTED))
        return file.read().decode(errors="replace")


def _poison(byte: int) -> bool:
    """Let glibc fill freed memory with a byte, and new memory with its complement (``MALLOC_PERTURB_``, but now).

    Whether that worked: another library may give out memory instead.
    """
    library = ctypes.CDLL(None)
    library.mallopt(_M_PERTURB, byte)
    memory = np.empty(2**16, np.uint8)
    return bool((memory == byte ^ 0xFF).all())


def _poison_arrays(byte: int) -> None:
    """Fill what NumPy has freed and keeps for its next arrays: of each number of bytes a few, and none of a KiB."""
    for size in range(2, 1024, 2):
        for array in [np.empty(size, np.uint8) for _ in range(_KEPT_ARRAYS)]:
            array.fill(byte)


def _limit_memory(limit: int) -> int | None:
    """At most this much more address space than now, where the platform can limit it; with how much it is worn."""
    try:
        import resource  # noqa: PLC0415  # not on Windows

        now = _address_space()
        resource.setrlimit(resource.RLIMIT_AS, (now + limit, now + limit))
    except (ImportError, OSError, ValueError):
        return None
    return now + int(limit * (1 - _SPARE))


def _address_space() -> int:
    """What this process has of it, in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")
