"""A law: a function from a subject and a case to a verdict, with a sentence that says what must hold."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toeplitz_core.testing.data.recipes import RECIPES
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.oracle.gradients import READING_GRAD
from toeplitz_core.testing.strategies.cases import cases, geometries

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from toeplitz_core.testing.case.call import Call
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.subjects.interface import Procedure, Runner


# Cases of one dtype that a law of little effort has all the same: a handful of kinds of geometries.
_FEWEST = 8


@dataclass(frozen=True, slots=True)
class Law:
    """A law of convolutions, held on :class:`Case`; a subclass may take something else.

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
    effort : float
        Its share of the cases of a profile: below 1 where other laws see the same mistakes, or where a case is dear.
    max_products : int, optional
        Limit on the multiplications of one image of its cases, where the usual one is too large.
    sharpen : callable, optional
        From any case to one that the law says something about.
    unswept : str
        Why there is no sweep of what it is held on, if there is none.
    """

    name: str
    statement: str
    catches: str
    check: Callable[[Runner, Any], Verdict]
    recipes: tuple[str, ...]
    dtypes: tuple[str, ...]
    procedure: Procedure = "forward"
    effort: float = 1.0
    max_products: int | None = None
    sharpen: Callable[[Case], Case] | None = None
    unswept: str = ""

    def examples(self, profile: int) -> int:
        """Its cases for one dtype, where a profile has so many."""
        return max(min(profile, _FEWEST), round(profile * self.effort))

    def recipes_for(self, dtype: str) -> tuple[str, ...]:
        """Its recipes that there are for a dtype: whole numbers have no others than the exact ones."""
        return tuple(name for name in self.recipes if dtype != "int64" or RECIPES[name].kind != "real")

    def cases(self, dtype: str, device: str, layouts: Collection[str]) -> SearchStrategy[Case] | SearchStrategy[Call]:
        """The strategy for what it is held on."""
        geometry = None if self.max_products is None else geometries(max_products=self.max_products)
        drawn = cases(
            geometry=geometry,
            dtypes=(dtype,),
            recipes=self.recipes_for(dtype),
            legal_layouts=tuple(layouts),
            device=device,
            gradient=self.procedure in READING_GRAD,
        )
        return drawn if self.sharpen is None else drawn.map(self.sharpen)

    def draws(self, case: Any, number: int) -> Iterator[Any]:
        """The case, and others of the same shapes: the recipes in turn, each with data of its own."""
        recipes = self.recipes_for(case.dtype)
        first = recipes.index(case.data)
        for n in range(number):
            yield case.replace(data=recipes[(first + n) % len(recipes)], seed=case.seed + n // len(recipes))

    def swept(self, convolutions: Iterable[Case], dtype: str, device: str) -> Iterator[Case]:
        """What it is held on in a sweep of convolutions, the recipes in turn and the number of each for a seed.

        Those that are :meth:`too_large` are left out, and so is what another was sharpened to before.
        """
        recipes = self.recipes_for(dtype)
        seen: set[Case] = set()
        for number, convolution in enumerate(convolutions):
            case = convolution
            if self.too_large(case):
                continue
            if self.sharpen is not None:
                case = self.sharpen(case)
                if case in seen:
                    continue
                seen.add(case)
            yield case.replace(dtype=dtype, device=device, data=recipes[number % len(recipes)], seed=number)

    def too_large(self, case: Case) -> bool:
        """Whether a case has more multiplications than the law has a limit for."""
        return self.max_products is not None and case.geometry.nnz > self.max_products

    def takes(self, case: Any) -> bool:
        """Whether it is held on cases of such a dtype and such data."""
        return case.dtype in self.dtypes and case.data in self.recipes_for(case.dtype)

    def __call__(self, subject: Runner, case: Any) -> Verdict:
        """The verdict on a case that names this law; whatever the subject raises becomes one too."""
        case = case.replace(law=self.name)
        if not self.takes(case):
            return Verdict(Status.UNSUPPORTED, case, f"{self.name} is not for dtype={case.dtype} data={case.data}")
        return self.check(subject, case)
