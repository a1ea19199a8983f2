"""The cases of a law: drawn by Hypothesis, repeated with new data for a geometry, or taken from a sweep."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice

from hypothesis.strategies import SearchStrategy

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import DTYPES
from toeplitz_core.testing.laws.law import CallLaw, Law
from toeplitz_core.testing.strategies.calls import calls
from toeplitz_core.testing.strategies.cases import quick_cases
from toeplitz_core.testing.strategies.domain import EVERYTHING, Domain
from toeplitz_core.testing.strategies.geometries import MAX_PRODUCTS
from toeplitz_core.testing.subjects.interface import Procedure

# The procedures that read a case's gradient of the result. (Forward mode does not read it.)
READING_GRAD: tuple[Procedure, ...] = ("gradients", "double_backward", "functional_gradients", "vmap", "transposed")
# The weight of the step's own dtype for operands of calls, where each related dtype has weight 1.
_OWN_DTYPE = 4


def drawn(
    law: Law,
    dtype: str,
    device: str,
    layouts: Collection[str],
    *,
    placed: Callable[[Case], Case] = lambda case: case,
    domain: Domain = EVERYTHING,
) -> SearchStrategy[Case] | SearchStrategy[Call]:
    """The strategy for the cases or calls that a law is checked on.

    ``placed`` changes each case before it is made one that the law says something about.
    """
    if isinstance(law, CallLaw):
        related = tuple(name for name, other in DTYPES.items() if other.related_to == dtype)
        return calls(dtypes=(dtype,) * _OWN_DTYPE + related, device=device)
    limits = [limit for limit in (law.max_products, domain.max_products) if limit is not None]
    found = quick_cases(
        max_products=min(limits, default=MAX_PRODUCTS),
        dtypes=(dtype,),
        recipes=law.recipes_for(dtype),
        legal_layouts=tuple(layouts),
        device=device,
        gradient=law.procedure in READING_GRAD,
    )
    return found.map(lambda case: placed(case) if law.sharpen is None else law.sharpen(placed(case)))


def drawn_again(law: Law, case: Case | Call, number: int) -> Iterator[Case | Call]:
    """A case, then others of the same shapes with each recipe in turn and new data. A call is returned alone."""
    if isinstance(case, Call):
        yield case
        return
    drawn = law.recipes_for(case.dtype)
    recipes = drawn if case.data in drawn else (case.data, *drawn)
    first = recipes.index(case.data)
    for n in range(number):
        yield case.replace(data=recipes[(first + n) % len(recipes)], seed=case.seed + n // len(recipes))


def swept(
    law: Law, convolutions: Iterable[Case], dtype: str, device: str, numbers: range | None = None
) -> Iterator[Case]:
    """The cases of a law in a sweep of convolutions, with each recipe in turn and the case's number as its seed.

    Cases that are :func:`too_large` are left out, and so are duplicates after sharpening. ``numbers`` selects some
    convolutions; duplicates of earlier ones are left out all the same.
    """
    recipes = law.recipes_for(dtype)
    seen: set[Case] = set()
    for number, convolution in enumerate(convolutions if numbers is None else islice(convolutions, numbers.stop)):
        case = convolution
        if too_large(law, case):
            continue
        if law.sharpen is not None:
            case = law.sharpen(case)
            if case in seen:
                continue
            seen.add(case)
        if numbers is not None and number not in numbers:
            continue
        yield case.replace(dtype=dtype, device=device, data=recipes[number % len(recipes)], seed=number)


def too_large(law: Law, case: Case) -> bool:
    """Whether a case has more multiplications than the limit of a law."""
    return law.max_products is not None and case.geometry.nnz > law.max_products
