"""A law: a function from a subject and a case to a verdict, with a sentence that says what must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.recipes import RECIPES
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.subjects.interface import Implementation, Procedure


@dataclass(frozen=True, slots=True)
class Law:
    """A law of convolutions, checked on :class:`Case`. How its cases are found is a matter of the search.

    Parameters
    ----------
    name : str
        As in ``law=`` of a case.
    statement : str
        What must hold, in one sentence.
    catches : str
        What breaks it, for instance, and is hard to see otherwise.
    check : callable
        From a subject and a case to a verdict.
    recipes : tuple of str
        The data recipes that it is checked on.
    dtypes : tuple of str
        The dtypes that it makes sense for.
    procedure : str
        What it asks of a subject.
    max_products : int, optional
        Limit on the multiplications of one image of its cases, where the usual one is too large.
    sharpen : callable, optional
        From any case to one that the law says something about.
    """

    name: str
    statement: str
    catches: str
    check: Callable[[Implementation, Any], Verdict]
    recipes: tuple[str, ...]
    dtypes: tuple[str, ...]
    procedure: Procedure = "forward"
    max_products: int | None = None
    sharpen: Callable[[Case], Case] | None = None

    def recipes_for(self, dtype: str) -> tuple[str, ...]:
        """Its recipes for a dtype: whole numbers have only the exact ones."""
        return tuple(name for name in self.recipes if dtype != "int64" or RECIPES[name].kind != "real")

    def takes(self, case: Case | Call) -> bool:
        """Whether it is checked on cases of such a dtype and such data."""
        return isinstance(case, Case) and case.dtype in self.dtypes and case.data in self.recipes_for(case.dtype)

    def __call__(self, subject: Implementation, case: Case | Call) -> Verdict:
        """The verdict on a case that names this law; whatever the subject raises becomes one too."""
        case = case.replace(law=self.name)
        if not self.takes(case):
            said = f"dtype={case.dtype} data={case.data}" if isinstance(case, Case) else "calls"
            return Verdict(Status.UNSUPPORTED, case, f"{self.name} is not for {said}")
        return self.check(subject, case)


@dataclass(frozen=True, slots=True)
class CallLaw(Law):
    """A law that is checked on :class:`Call`: arguments that may be invalid, and that say all of what goes in."""

    def takes(self, case: Case | Call) -> bool:
        """Calls of any dtypes."""
        return isinstance(case, Call)

    def __call__(self, subject: Implementation, case: Case | Call) -> Verdict:
        """The verdict on a call."""
        if not self.takes(case):
            return Verdict(Status.UNSUPPORTED, case.replace(law=self.name), f"{self.name} is for calls, not for cases")
        return self.check(subject, case)
