"""The subjects of a run, ready to be called in worker processes or in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject, SubjectError
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.search.fatal import FatalCases
from toeplitz_core.testing.subjects import Absent, Claims, Implementation, Subject, absent, environment, resolve
from toeplitz_core.testing.subjects.declared import Declared


class SubjectPool:
    """Subjects by their names, created on first use.

    Parameters
    ----------
    sandbox : callable
        Creates the owner of the workers, when a worker is first needed.
    here : mapping of str to Implementation, optional
        Subjects that run in this process.
    inline : bool
        Whether all other subjects run in this process too.
    declared : Declared, optional
        What the options of the run declare about the subjects.
    """

    def __init__(
        self,
        sandbox: Callable[[], Sandbox],
        *,
        here: Mapping[str, Implementation] | None = None,
        inline: bool = False,
        declared: Declared = Declared(),  # noqa: B008  # it is frozen
    ) -> None:
        self._make_sandbox = sandbox
        self._declared = declared
        self._here = dict(here or {})
        self._inline = inline
        self._sandbox: Sandbox | None = None
        self._made: dict[str, Implementation] = {}
        self._fatal: dict[str, FatalCases] = {}
        self._last_case: Path | None = None

    def __getitem__(self, name: str) -> Implementation:
        """The subject, imported.

        Raises
        ------
        SubjectError
            If it cannot be imported.
        """
        if name not in self._made:
            made = self._new(name)
            if isinstance(made, Subject):
                try:
                    made.declare(self._declared)
                except ValueError as error:
                    raise _absence(name, error) from None
            self._made[name] = made
        found = self._made[name]
        if isinstance(found, IsolatedSubject):
            try:
                found.start()
            except SubjectError as error:
                raise _absence(name, error) from None
        return found

    def _new(self, name: str) -> Implementation:
        if name in self._here:
            return self._here[name]
        if reason := absent(name):
            return Absent(name, Claims(absent=reason))
        if self._inline:
            try:
                return resolve(name)
            except ValueError as error:
                raise _absence(name, error) from None
        if self._sandbox is None:
            self._sandbox = self._make_sandbox()
            self.keep_last_case(self._last_case)
        return IsolatedSubject(self._sandbox, name, environment(name), declared=self._declared)

    def fatal(self, name: str) -> FatalCases:
        """Where a subject is known to crash or to hang, as far as the searches of this process have met it."""
        return self._fatal.setdefault(name, FatalCases())

    def keep_last_case(self, path: Path | None) -> None:
        """Write each case to this file before a worker runs it, so that the last case is known after a kill."""
        self._last_case = path
        if self._sandbox is not None and path is not None:
            self._sandbox.keep_last_case(path)

    def close(self) -> None:
        """End all workers. The next use of a subject starts a new one."""
        self._made = {}
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            sandbox.close()


def _absence(name: str, error: Exception) -> SubjectError:
    said = str(error)
    return SubjectError(said if said.startswith("subject '") else f"subject '{name}': {said}")


def why_not_run(subject: Implementation, device: str) -> str:
    """Why the subject cannot run on the device here; empty if it can."""
    return subject.claims.not_on(device) or missing(device)


def missing(device: str) -> str:
    """Why the device cannot be used; empty if it can."""
    named = torch.device(device)
    if named.type == "meta":
        return "tensors on meta have no values"
    if named.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (named.index or 0) >= count:
            return f"torch sees {count} CUDA devices" if count else "torch sees no CUDA device"
        return ""
    try:
        torch.empty(1, device=named)
    except (AssertionError, NotImplementedError, RuntimeError) as error:  # AssertionError: torch is built without it
        return str(error).partition("\n")[0]
    return ""
