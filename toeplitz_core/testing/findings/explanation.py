"""Which other arithmetic would explain a failure: subnormals that are flushed, TF32, a narrow accumulator, Winograd."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from toeplitz_core.bound import Arithmetic
from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.oracle.arithmetics import ARITHMETICS, by_dtype
from toeplitz_core.testing.subjects import SUBJECTS
from toeplitz_core.testing.subjects.interface import Claims, Implementation, Procedure
from toeplitz_core.testing.subjects.outcome import Answer, Outcome

# The laws whose verdict depends on the arithmetic alone. The laws of a group judge the same results on other data.
_GROUPS = (("forward-exact", "forward-bound", "special-values"), ("gradients-exact", "gradients-bound"))
# Fresh data for a failing case. Small integers and impulses show wrong taps, which the bound of a narrow format could
# hide; a wide range of exponents shows results that depend on pixels that they do not read, as Winograd's do.
_RECIPES = ("integers", "impulse", "normal", "wide")
# The number of draws from each recipe.
_DRAWS = 2


def explained(subject: Implementation, failure: Verdict) -> Verdict:
    """The failure; its message names the arithmetic that would explain it, if there is one.

    An arithmetic explains a failure if the failing case, and further cases with the same geometry and fresh data, hold
    for it. The subject is called once for each case.

    Parameters
    ----------
    failure : Verdict
        A failing verdict. Only a wrong number that a law about exact or bounded results has found is explained.
    """
    name = explanation(subject, failure) if failure.index is not None and failure.status is Status.FAIL else None
    if name is None:
        return failure
    said = f"the arithmetic {name}" if subject.name in SUBJECTS else f"--arithmetic {name}"
    return failure.replace(message=f"{failure.message} (within the bound of {said})")


def explanation(subject: Implementation, failure: Verdict, names: Collection[str] = ARITHMETICS) -> str | None:
    """The name of the first of these arithmetics that explains a wrong number; None if none does."""
    case = failure.case
    group = next((group for group in _GROUPS if case.law in group), None)
    if group is None or isinstance(case, Call):
        return None
    answers = _Answers(subject)
    again = LAWS[str(case.law)](_Judged(answers), case)
    if (again.index, again.actual) != (failure.index, failure.actual):
        return None  # the failure does not repeat, so that a right result would be explained
    fresh = _fresh(case, group)
    own = by_dtype(subject.claims.chosen).get(case.dtype)
    for entry in ARITHMETICS.values():
        if entry.name not in names or not entry.explains or case.dtype not in entry.dtypes or entry.name == own:
            continue
        judged = _Judged(answers, entry.of)
        proven = 0
        for each in (case, *fresh):
            status = LAWS[str(each.law)](judged, each).status
            # Where all results are subnormal, the bound of an arithmetic that flushes is too wide to be trusted.
            if status not in (Status.PASS, Status.MISTRUSTED):
                break
            proven += status is Status.PASS
        else:
            if 2 * proven > len(fresh):
                return entry.name
    return None


def _fresh(case: Case, group: Sequence[str]) -> list[Case]:
    """Cases with the same geometry and other data, each with the law of the group that judges it."""
    found = []
    for recipe in dict.fromkeys((*_RECIPES, case.data)):
        law = next((name for name in group if recipe in LAWS[name].recipes), None)
        if law is not None:
            seeds = [(case.seed + 1 + draw) % 2**64 for draw in range(_DRAWS)]
            found += [case.replace(data=recipe, law=law, seed=seed) for seed in seeds]
    return found


class _Answers:
    """A subject that is called only once for each case; the data of a case depends on nothing else."""

    def __init__(self, subject: Implementation) -> None:
        self.subject = subject
        self._known: dict[tuple[Case, Procedure], Outcome] = {}

    def run(self, case: Case, operands: Operands, procedure: Procedure) -> Outcome:
        key = case, procedure
        if key not in self._known:
            self._known[key] = self.subject.run(case, operands, procedure)
        return self._known[key]


class _Judged:
    """A subject whose results are judged by another arithmetic than its own, if one is given."""

    def __init__(self, answers: _Answers, arithmetic: Callable[[Case], Arithmetic] | None = None) -> None:
        self._answers = answers
        self._arithmetic = arithmetic

    @property
    def name(self) -> str:
        return self._answers.subject.name

    @property
    def claims(self) -> Claims:
        return self._answers.subject.claims

    @property
    def isolated(self) -> bool:
        return self._answers.subject.isolated

    def run(self, case: Case, operands: Operands, procedure: Procedure = "forward") -> Outcome:
        outcome = self._answers.run(case, operands, procedure)
        if self._arithmetic is None:
            return outcome
        arithmetic = self._arithmetic(case)
        return replace(outcome, arithmetic=arithmetic, gradients=dict.fromkeys(outcome.gradients, arithmetic))

    def answer(self, call: Call) -> Answer:
        return self._answers.subject.answer(call)

    def restart(self) -> None:
        self._answers.subject.restart()

    def poisoned(self) -> Sequence[Implementation]:
        return ()
