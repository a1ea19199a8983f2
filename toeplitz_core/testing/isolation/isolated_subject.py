"""A subject in a worker process, which is replaced when it dies, hangs or is no longer usable."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.isolation.fork_server import ForkServerDied
from toeplitz_core.testing.isolation.patience import Patience
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.isolation.worker import Handshake, Request, Settings
from toeplitz_core.testing.isolation.worker_process import FIRST_CALL, Death, WorkerProcess
from toeplitz_core.testing.oracle.strictest import strictest
from toeplitz_core.testing.subjects.declared import Declared
from toeplitz_core.testing.subjects.interface import Claims, Environment, Implementation, Procedure
from toeplitz_core.testing.subjects.outcome import Answer, Outcome
from toeplitz_core.testing.subjects.pytorch.counterpart import Role

# The bytes that glibc fills freed memory with. New memory gets the complement: as float32 it is 3.4e38 and -3e-13, and
# as an integer it is large, so a result that uses it is wrong.
POISONS = (0x80, 0x55)
_TUNABLES = "GLIBC_TUNABLES"
# What torch imports at the first call of a procedure. That takes a second, so fork servers do it, and not each worker;
# but not if it would import Triton too, which a subject may configure before that.
_FUNCTIONAL = ("torch._dynamo", "torch._decomp.decompositions_for_jvp")
_IMPORTS: dict[Procedure, tuple[str, ...]] = dict.fromkeys(
    ("vmap", "functional_gradients", "forward_mode"), _FUNCTIONAL
)


class SubjectError(ValueError):
    """A subject does not exist or cannot be imported: a usage error, not a finding about the subject."""


class IsolatedSubject:
    """A subject in a worker process.

    Parameters
    ----------
    sandbox : Sandbox
        The owner of the process.
    name : str
    environment : Environment, optional
    fork : bool
        Whether to fork its workers, if the platform can. Otherwise each is started afresh, as CUDA requires.
    poison : int, optional
        A byte to fill freed memory with.
    declared : Declared, optional
        What the options of the run declare about it.
    role : str
        Whether to run the subject, to watch it, or to run torch in its place.
    witness : path, optional
        The file that a watched subject writes to.
    patience : Patience, optional
        How long its calls are waited for, if the same subject runs in another worker too.
    """

    isolated: ClassVar[bool] = True

    def __init__(
        self,
        sandbox: Sandbox,
        name: str,
        environment: Environment | None = None,
        *,
        fork: bool = True,
        poison: int | None = None,
        declared: Declared = Declared(),  # noqa: B008  # it is frozen
        role: Role = "subject",
        witness: Path | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.name = name
        self.patience = Patience(sandbox.timeout) if patience is None else patience
        self._declared = declared
        self._sandbox = sandbox
        self._environment = environment or Environment()
        self._fork = fork and hasattr(os, "fork")
        self._poison = poison
        self._role = role
        self._witness = witness
        self._shared = str(sandbox.file("operands"))
        self._worker: WorkerProcess | None = None
        self._handshake: Handshake | None = None
        self._slowest_first: float | None = None
        self._imports: tuple[str, ...] = ()
        self._poisoned: list[IsolatedSubject] = []
        self._beside: dict[Role, IsolatedSubject] = {}
        # Whether the subject, watched, was ever seen to call torch's own convolution.
        self.ever_called_torch = False
        sandbox.own(self)

    @property
    def claims(self) -> Claims:
        """The claims of the subject, which is imported first if necessary (``SubjectError`` if that fails)."""
        return self._introduced().claims

    def poisoned(self) -> Sequence[IsolatedSubject]:
        """The subject in two more workers with filled memory; empty if the C library is not glibc or does not fill.

        If its own memory is filled, the subject itself.
        """
        if self._poison is not None:
            return (self,)
        if not self._poisoned and platform.libc_ver()[0] == "glibc":
            # The cache of each thread would return small blocks without filling them.
            tunables = ":".join(filter(None, (os.environ.get(_TUNABLES), "glibc.malloc.tcache_count=0")))
            environment = Environment((*self._environment.variables, (_TUNABLES, tunables)))
            self._poisoned = [
                IsolatedSubject(
                    self._sandbox,
                    self.name,
                    environment,
                    fork=self._fork,
                    poison=byte,
                    role=self._role,
                    witness=self._witness,
                    declared=self._declared,
                    patience=self.patience,
                )
                for byte in POISONS
            ]
        return self._poisoned if all(subject._is_poisoned() for subject in self._poisoned) else ()

    def in_role(self, role: Role) -> IsolatedSubject:
        """The subject in another worker: watched, or with torch in its place. All else is the same."""
        if role not in self._beside:
            witness = self._sandbox.file("witness") if role == "watched" else None
            self._beside[role] = IsolatedSubject(
                self._sandbox,
                self.name,
                self._environment,
                fork=self._fork,
                role=role,
                witness=witness,
                declared=self._declared,
                patience=self.patience,
            )
        if self._beside[role]._slowest_first is None:
            self._beside[role]._slowest_first = self._slowest_first
        return self._beside[role]

    def called_torch(self) -> tuple[str, ...]:
        """The dtypes in which a watched subject has called torch's own convolution since this was last asked."""
        assert self._witness is not None
        called = tuple(dict.fromkeys(self._witness.read_text(encoding="ascii").split()))
        self.ever_called_torch = self.ever_called_torch or bool(called)
        os.truncate(self._witness, 0)
        return called

    def _is_poisoned(self) -> bool:
        try:
            return self._introduced().poisoned
        except SubjectError:  # the caller gets the reason
            return True

    def _introduced(self) -> Handshake:
        if self._handshake is None:
            self.start()
        assert self._handshake is not None
        return self._handshake

    def run(self, case: Case, operands: Operands, procedure: Procedure = "forward") -> Outcome:
        """Call the subject once."""
        return self.run_batch([case], [operands], procedure)[0]

    def run_batch(
        self, cases: Sequence[Case], operands: Sequence[Operands], procedure: Procedure = "forward"
    ) -> list[Outcome]:
        """Make several calls with one message. If that kills the worker, make each call separately."""
        requests = [Request(case, values, procedure) for case, values in zip(cases, operands, strict=True)]
        answer = self._ask(requests, [f"{case} # {self.name}" for case in cases])
        if isinstance(answer, Death):
            if len(cases) > 1 and answer.status != "raised":
                return self._run_each(cases, operands, procedure)
            return [
                Outcome(
                    answer.status,
                    strictest(case),
                    message=answer.message,
                    printed=answer.printed,
                    traceback=answer.traceback,
                    symptom=answer.symptom,
                )
                for case in cases
            ]
        return [outcome for outcome in answer if isinstance(outcome, Outcome)]

    def _run_each(self, cases: Sequence[Case], operands: Sequence[Operands], procedure: Procedure) -> list[Outcome]:
        """Make each call separately, up to the first that hangs, which decides the verdict on all of them."""
        found: list[Outcome] = []
        for case, values in zip(cases, operands, strict=True):
            hung = bool(found) and found[-1].status == "timed out"
            found.append(found[-1] if hung else self.run(case, values, procedure))
        return found

    def answer(self, call: Call) -> Answer:
        """Call the subject with arguments that may be invalid."""
        found = self._ask([call], [f"{call} # {self.name}"])
        if isinstance(found, Death):
            return Answer(
                found.status,
                message=found.message,
                printed=found.printed,
                traceback=found.traceback,
                symptom=found.symptom,
            )
        (answer,) = found
        assert isinstance(answer, Answer)
        return answer

    def _ask(self, requests: Sequence[Request | Call], lines: Sequence[str]) -> Sequence[Outcome | Answer] | Death:
        """Write the lines to disk and send the requests. End a worker that does not answer or is no longer usable."""
        self._sandbox.write_case(lines)
        needed = [_IMPORTS.get(request.procedure, ()) for request in requests if isinstance(request, Request)]
        if self._fork and not _is_installed("triton") and any(set(names) - set(self._imports) for names in needed):
            self._imports = tuple(dict.fromkeys((*self._imports, *itertools.chain(*needed))))
            self.restart()
        try:
            worker = self.start()
        except SubjectError as error:
            return Death("raised", str(error))
        fresh = not worker.was_asked
        extra = (FIRST_CALL if self._slowest_first is None else self._slowest_first) if fresh else 0.0
        begin = time.monotonic()
        answer = worker.ask(requests, self.patience.seconds(len(requests)) + extra)
        if not isinstance(answer, Death) and not fresh:
            self.patience.returned((time.monotonic() - begin) / len(requests))
        elif isinstance(answer, Death) and answer.status == "timed out" and len(requests) == 1:
            self.patience.hung()
        if fresh:
            # Once the duration of a first call is known, a hanging first call is not given much longer.
            took = 0.0 if isinstance(answer, Death) else time.monotonic() - begin
            self._slowest_first = min(FIRST_CALL, max(2 * took, self._slowest_first or 0.0))
        if isinstance(answer, Death):
            self.restart()
            return answer
        if answer.worn or any(outcome.status == "spoiled" for outcome in answer.each):
            self.restart()
        return answer.each

    def restart(self) -> None:
        """End the worker; the next call starts a fresh one."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    def close(self) -> None:
        """End the worker for good."""
        self.restart()

    def start(self) -> WorkerProcess:
        """Return the worker; start it and import the subject if necessary (``SubjectError`` if that fails)."""
        if self._worker is None:
            sandbox = self._sandbox
            log = str(sandbox.file("log"))
            witness = "" if self._witness is None else str(self._witness)
            settings = Settings(
                self.name,
                self._shared,
                log,
                sandbox.memory,
                tuple(sys.path),
                os.getcwd(),  # noqa: PTH109  # as sys.path
                self._poison,
                self._declared,
                self._role,
                witness,
                self._imports,
            )
            try:
                self._worker = WorkerProcess(sandbox, settings, self._environment, fork=self._fork)
            except ForkServerDied as error:
                raise SubjectError(str(error)) from error
            self._handshake = self._worker.handshake()
            if self._handshake.error:
                reason, self._handshake = self._handshake.error, None
                self.restart()
                raise SubjectError(reason)
        return self._worker


def patiently(subject: Implementation) -> contextlib.AbstractContextManager[None]:
    """Wait for each call of a subject in a worker as long as the timeout allows, even if others have hung."""
    return subject.patience.in_full() if isinstance(subject, IsolatedSubject) else contextlib.nullcontext()


@functools.cache
def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
