"""The cases of a law: drawn by Hypothesis, drawn again for the same geometry, or taken from a sweep."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from hypothesis.strategies import SearchStrategy

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import DTYPES
from toeplitz_core.testing.laws.law import CallLaw, Law
from toeplitz_core.testing.strategies.calls import calls
from toeplitz_core.testing.strategies.cases import cases
from toeplitz_core.testing.strategies.geometries import geometries
from toeplitz_core.testing.subjects.interface import Procedure

# What reads the gradient of the result that a case has. (A derivative that is carried forward reads none.)
READING_GRAD: tuple[Procedure, ...] = ("gradients", "double_backward", "functional_gradients", "vmap", "transposed")
# How often operands of a call have the dtype of its step, for each dtype that is related to it.
_OWN_DTYPE = 4


def drawn(law: Law, dtype: str, device: str, layouts: Collection[str]) -> SearchStrategy[Case] | SearchStrategy[Call]:
    """The strategy for what a law is checked on."""
    if isinstance(law, CallLaw):
        related = tuple(name for name, other in DTYPES.items() if other.related_to == dtype)
        return calls(dtypes=(dtype,) * _OWN_DTYPE + related, device=device)
    geometry = None if law.max_products is None else geometries(max_products=law.max_products)
    found = cases(
        geometry=geometry,
        dtypes=(dtype,),
        recipes=law.recipes_for(dtype),
        legal_layouts=tuple(layouts),
        device=device,
        gradient=law.procedure in READING_GRAD,
    )
    return found if law.sharpen is None else found.map(law.sharpen)


def drawn_again(law: Law, case: Case | Call, number: int) -> Iterator[Case | Call]:
    """A case, and others of the same shapes: the recipes in turn, each with data of its own. A call alone."""
    if isinstance(case, Call):
        yield case
        return
    recipes = law.recipes_for(case.dtype)
    first = recipes.index(case.data)
    for n in range(number):
        yield case.replace(data=recipes[(first + n) % len(recipes)], seed=case.seed + n // len(recipes))


def why_not_swept(law: Law) -> str:
    """Why there is no sweep of what a law is checked on; empty if there is one."""
    if isinstance(law, CallLaw):
        return "it is checked on calls, whose arguments may be anything; a sweep has only convolutions"
    return ""


def swept(law: Law, convolutions: Iterable[Case], dtype: str, device: str) -> Iterator[Case]:
    """What a law is checked on in a sweep of convolutions, the recipes in turn and the number of each for a seed.

    Those that are :func:`too_large` are left out, and so is what another was sharpened to before.
    """
    recipes = law.recipes_for(dtype)
    seen: set[Case] = set()
    for number, convolution in enumerate(convolutions):
        case = convolution
        if too_large(law, case):
            continue
        if law.sharpen is not None:
            case = law.sharpen(case)
            if case in seen:
                continue
            seen.add(case)
        yield case.replace(dtype=dtype, device=device, data=recipes[number % len(recipes)], seed=number)


def too_large(law: Law, case: Case) -> bool:
    """Whether a case has more multiplications than a law has a limit for."""
    return law.max_products is not None and case.geometry.nnz > law.max_products
