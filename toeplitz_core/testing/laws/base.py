"""A law: a function from a subject and a case to a verdict, with a sentence that says what must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toeplitz_core.testing.verdict import Status, Verdict

if TYPE_CHECKING:
    from toeplitz_core.testing.case import Case
    from toeplitz_core.testing.subjects.base import Runner


@dataclass(frozen=True, slots=True)
class Law:
    """A law of convolutions.

    Parameters
    ----------
    name : str
        As in ``law=`` of a case.
    statement : str
        What must hold, in one sentence.
    check : callable
        From a subject and a case to a verdict.
    recipes : tuple of str
        The data recipes that it is checked on.
    dtypes : tuple of str
        The dtypes that it makes sense for.
    """

    name: str
    statement: str
    check: Callable[[Runner, Case], Verdict]
    recipes: tuple[str, ...]
    dtypes: tuple[str, ...]

    def __call__(self, subject: Runner, case: Case) -> Verdict:
        """The verdict on a case that names this law; whatever the subject raises becomes one too."""
        case = case.replace(law=self.name)
        if case.dtype not in self.dtypes or case.data not in self.recipes:
            return Verdict(Status.UNSUPPORTED, case, f"{self.name} is not for dtype={case.dtype} data={case.data}")
        return self.check(subject, case)
