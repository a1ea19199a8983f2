"""``breakpoint()`` and ``pdb.set_trace()`` in a worker, which has no terminal."""

from __future__ import annotations

import pdb  # noqa: T100  # it is replaced, and not called
from typing import Any

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.subjects.outcome import BrokenContract
from toeplitz_core.testing.subjects.symptom import Symptom


class Breakpoints:
    """Turn breakpoints of a worker into an exception that says how to reach them.

    A debugger that the environment variable ``PYTHONBREAKPOINT`` names is left alone.

    Parameters
    ----------
    subject : str
        The name of the subject.

    Attributes
    ----------
    case : Case or Call, optional
        What the subject is called with; None while it is imported.
    """

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self.case: Case | Call | None = None

    def install(self) -> None:
        """Replace ``pdb.set_trace``, which ``breakpoint()`` calls unless the environment names another debugger."""
        pdb.set_trace = self._refuse

    def _refuse(self, *_: Any, **__: Any) -> None:
        if self.case is None:
            raise BrokenContract("reached a breakpoint while it was imported by a process without a terminal")
        command = f'python -m toeplitz_core replay --pdb "{self.case}" --subject {self._subject}'
        said = f"reached a breakpoint in a process without a terminal; run:\n{command}\n"
        raise BrokenContract(said, Symptom.BREAKPOINT)
