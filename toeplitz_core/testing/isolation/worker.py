"""The process in which a subject runs. If the subject crashes, hangs or changes globals, only this process is lost.

The fork server of its environment forks a worker within milliseconds. If the platform has no fork, or the subject uses
CUDA, the worker is started afresh.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.random  # else it would be imported in each worker anew
import torch

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.isolation.breakpoints import Breakpoints
from toeplitz_core.testing.isolation.transport import Channel
from toeplitz_core.testing.isolation.worker_memory import address_space, limit_memory, poison, poison_arrays
from toeplitz_core.testing.oracle.strictest import strictest
from toeplitz_core.testing.subjects.declared import Declared
from toeplitz_core.testing.subjects.frames import traceback_of
from toeplitz_core.testing.subjects.interface import Claims, Implementation, Procedure, Subject
from toeplitz_core.testing.subjects.outcome import Answer, Outcome, described
from toeplitz_core.testing.subjects.pytorch.counterpart import Role, in_role
from toeplitz_core.testing.subjects.symptom import Symptom
from toeplitz_core.testing.support import interrupts

# How many characters of a subject's output are kept: half of them from the beginning, half from the end.
PRINTED = 2000
# Only the worker imports this: a fork server that has imported a subject could not be forked safely.
_NAMES = "toeplitz_core.testing.subjects.names"
# Factors that Python does not multiply in advance.
_SUBNORMAL, _ONE = 5e-324, 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """One call with a case.

    Parameters
    ----------
    case : Case
        The convolution to compute.
    operands : Operands
        The values of its tensors.
    procedure : str
        The procedure to run with them.
    """

    case: Case
    operands: Operands
    procedure: Procedure = "forward"


@dataclass(frozen=True, slots=True)
class Replies:
    """The replies to the requests of one message.

    Parameters
    ----------
    each : sequence of Outcome or Answer
        One reply per request, in the order of the requests.
    worn : bool
        Whether the worker must be replaced because it has little memory left.
    """

    each: Sequence[Outcome | Answer]
    worn: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that a worker gets before its first call.

    Parameters
    ----------
    subject : str
        The name of the subject.
    shared, log : str
        Paths of the file for tensors and of the file for standard output and error.
    memory : int or None
        Bytes of address space that it may take beyond what it starts with; None for no limit.
    path : tuple of str
        ``sys.path``.
    directory : str
        The working directory.
    poison : int or None
        A byte to fill freed memory with.
    declared : Declared
        What the options of the run declare about the subject.
    role : str
        Whether to run the subject, to watch it, or to run torch in its place; see :func:`in_role`.
    witness : str
        Path of the file that a watched subject writes to.
    imports : tuple of str
        Modules that the fork server imports before it forks the worker, as far as they exist.
    """

    subject: str
    shared: str
    log: str
    memory: int | None
    path: tuple[str, ...]
    directory: str
    poison: int | None
    declared: Declared = field(default_factory=Declared)
    role: Role = "subject"
    witness: str = ""
    imports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Handshake:
    """The first message of a worker.

    Parameters
    ----------
    claims : Claims
        The claims of the subject.
    error : str
        Why the worker cannot serve; empty if it can.
    poisoned : bool
        Whether its memory is filled as requested.
    """

    claims: Claims = field(default_factory=Claims)
    error: str = ""
    poisoned: bool = False


def serve(settings: Settings, connection: Connection, variables: Sequence[tuple[str, str]] = ()) -> None:
    """Answer lists of requests until the judge closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the judge handles Ctrl-C and then closes the connection
    interrupts.unblock()
    if hasattr(os, "setpgid"):  # signals to a group are for the judge; the subject's children join this group
        os.setpgid(0, 0)
    os.environ.update(variables)
    os.chdir(settings.directory)
    sys.path[:] = settings.path
    log = os.open(settings.log, os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    # On a fatal signal, Python writes the frames of the thread that crashed. The judge reads the file.
    frames = open(crash_file(settings.log), "w")  # noqa: PTH123, SIM115  # open as long as this process
    faulthandler.enable(frames, all_threads=False)
    channel = Channel(connection, settings.shared)
    byte = settings.poison if settings.poison is None or poison(settings.poison) else None
    breakpoints = Breakpoints(settings.subject)
    breakpoints.install()
    try:
        resolved: Subject = importlib.import_module(_NAMES).resolve(settings.subject)
        resolved.declare(settings.declared)
        subject = in_role(resolved, settings.role, settings.witness)
    except Exception as error:  # noqa: BLE001  # the judge decides what the error means
        channel.send(Handshake(error=str(error) if isinstance(error, ValueError) else traceback.format_exc()))
        return
    channel.send(Handshake(subject.claims, poisoned=byte is not None))
    state, limit, end = _globals(), settings.memory, None
    with contextlib.suppress(EOFError, OSError):
        while True:
            requests: list[Request | Call] = channel.recv()
            if limit is not None and all(_device(request) == "cpu" for request in requests):
                # Not before it is known that the subject stays on the CPU: CUDA reserves huge amounts of address space.
                end = limit_memory(limit)
                limit = None
            if byte is not None:
                poison_arrays(byte ^ 0xFF)
            outcomes = []
            for request in requests:
                breakpoints.case = request if isinstance(request, Call) else request.case
                outcomes.append(_guarded(partial(_answered, subject, request), settings.log, state))
            channel.send(Replies(outcomes, worn=end is not None and address_space() > end))


def _device(request: Request | Call) -> str:
    return request.device if isinstance(request, Call) else request.case.device


def _answered(subject: Implementation, request: Request | Call) -> Outcome | Answer:
    """Call a subject. Workers ignore Ctrl-C, so a KeyboardInterrupt here comes from the subject itself."""
    try:
        if isinstance(request, Call):
            return subject.answer(request)
        return subject.run(request.case, request.operands, request.procedure)
    except KeyboardInterrupt as error:
        message, where = f"raised {described(error)}", traceback_of(error)
        if isinstance(request, Call):
            return Answer("raised", message=message, traceback=where, symptom=Symptom.EXIT)
        return Outcome("raised", strictest(request.case), message=message, traceback=where, symptom=Symptom.EXIT)


def _guarded(call: Callable[[], Outcome | Answer], log: str, before: dict[str, object]) -> Outcome | Answer:
    """Call a subject, and add its output and its changes of global state to the outcome."""
    begin = printed_bytes(log)
    outcome = call()
    after = _globals()
    sys.stdout.flush()
    sys.stderr.flush()
    printed = printed_since(log, begin)
    spoiled = [f"{name} from {before[name]} to {after[name]}" for name in before if before[name] != after[name]]
    if spoiled:
        return outcome.spoiled(f"changed {', '.join(spoiled)}", printed)
    return replace(outcome, printed=printed)


def _globals() -> dict[str, object]:
    """Global state that a convolution must not change."""
    return {
        "the default dtype": torch.get_default_dtype(),
        "the number of threads": torch.get_num_threads(),
        "gradient mode": torch.is_grad_enabled(),
        # Flushing is a mode of the processor, which Python's products obey too.
        "flushing of subnormals": _SUBNORMAL * _ONE == 0,
        "deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "cudnn.enabled": torch.backends.cudnn.enabled,
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "cudnn.deterministic": torch.backends.cudnn.deterministic,
        "cudnn.allow_tf32": torch.backends.cudnn.allow_tf32,
        "oneDNN's switch": torch.backends.mkldnn.enabled,
        "torch's random state": hash(torch.get_rng_state().numpy().tobytes()),
        "NumPy's random state": _numpy_state(),
    }


def _numpy_state() -> int:
    """A hash of the state of NumPy's global stream, from which a subject could draw."""
    generator: Any = numpy.random.get_bit_generator()  # type: ignore[attr-defined]  # NumPy's stubs lack it
    if not isinstance(generator, np.random.MT19937):
        return hash(str(generator.state))
    # NumPy's own way of reading this state, 624 words and a position, takes longer than a small convolution.
    return hash(ctypes.string_at(generator.ctypes.state_address, 625 * 4))


def crash_file(log: str) -> Path:
    """The file that gets the frames of a crash, next to the file for standard output and error."""
    return Path(f"{log}-crash")


def printed_bytes(log: str | Path) -> int:
    """The size of the log; 0 if it was removed."""
    try:
        return os.stat(log).st_size  # noqa: PTH116  # before and after each call, so it has to be quick
    except FileNotFoundError:
        return 0


def printed_since(log: str | Path, begin: int) -> str:
    """The text in the log after its first ``begin`` bytes; only its beginning and its end if it is long."""
    size = printed_bytes(log) - begin
    if size <= 0:
        return ""
    half = PRINTED // 2
    with Path(log).open("rb") as file:
        file.seek(begin)
        if size <= PRINTED:
            return file.read().decode(errors="replace")
        head = file.read(half).decode(errors="replace")
        file.seek(-half, os.SEEK_END)
        tail = file.read().decode(errors="replace")
    return f"{head}\n[... {size - PRINTED} bytes left out ...]\n{tail}"
