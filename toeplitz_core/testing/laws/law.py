"""A law: a function from a subject and a case to a verdict, with a statement of what must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.recipe_table import ONE_HOT, RECIPES
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.oracle.arithmetics import concerning
from toeplitz_core.testing.subjects.interface import Implementation, Procedure


@dataclass(frozen=True, slots=True)
class Law:
    """A law of convolutions, checked on :class:`Case`. The search decides which cases to try.

    Parameters
    ----------
    name : str
        The name that ``law=`` of a case gives.
    statement : str
        What must hold, in one to three sentences.
    catches : str
        Examples of faults that break it and are hard to notice otherwise.
    check : callable
        From a subject and a case to a verdict.
    recipes : tuple of str
        The data recipes that it is checked on. With ``integers`` it takes ``one-hot`` too, which is never drawn.
    dtypes : tuple of str
        The dtypes that it applies to.
    procedure : str
        The procedure that it asks a subject for.
    max_products : int, optional
        Limit on the multiplications for one image of a case, if the usual limit is too large for this law.
    sharpen : callable, optional
        Turns any case into one that the law says something about.
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
        """Its recipes for a dtype; int64 has only the exact ones."""
        return tuple(name for name in self.recipes if dtype != "int64" or RECIPES[name].kind != "real")

    def takes(self, case: Case | Call) -> bool:
        """Whether the law is checked on cases with this dtype and data."""
        if isinstance(case, Call) or case.dtype not in self.dtypes:
            return False
        return ("integers" if case.data == ONE_HOT else case.data) in self.recipes_for(case.dtype)

    def __call__(self, subject: Implementation, case: Case | Call) -> Verdict:
        """The verdict on a case under this law. An exception that the subject raises becomes a verdict too."""
        case = case.replace(law=self.name)
        if not self.takes(case):
            said = f"dtype={case.dtype} data={case.data}" if isinstance(case, Case) else "calls"
            return Verdict(Status.UNSUPPORTED, case, f"{self.name} is not for {said}")
        chosen = subject.claims.chosen
        verdict = self.check(subject, case)
        # A verdict may depend on the arithmetic, so a report must be able to say how to repeat it.
        return verdict.replace(chosen=concerning(case.dtype, chosen)) if chosen and isinstance(case, Case) else verdict


@dataclass(frozen=True, slots=True)
class CallLaw(Law):
    """A law that is checked on :class:`Call`: complete arguments, which may be invalid."""

    def takes(self, case: Case | Call) -> bool:
        """Whether it is a call; the dtypes do not matter."""
        return isinstance(case, Call)

    def __call__(self, subject: Implementation, case: Case | Call) -> Verdict:
        """The verdict on a call."""
        if not self.takes(case):
            return Verdict(Status.UNSUPPORTED, case.replace(law=self.name), f"{self.name} is for calls, not for cases")
        return self.check(subject, case)
