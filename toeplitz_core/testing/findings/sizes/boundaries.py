"""What a failure needs: for each parameter the values for which it occurs, and relations between parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.conditions import Condition
from toeplitz_core.testing.findings.sizes.expressions import Expression, expressions, flags, relations
from toeplitz_core.testing.findings.sizes.variations import MODULI, Varied, around, mutated, plainer
from toeplitz_core.testing.search.changes import Asked, OutOfCallsError

# Larger cases take long, and a failure that needs them has a smallest case beyond this limit.
_MAX_PRODUCTS = 2**20
# Fresh cases are drawn until the needs were right about all of them in this many rounds, and in this many at most.
_CLEAN_ROUNDS, _MOST_ROUNDS = 2, 10
# Fresh cases per round that meet all needs, and those that break one of them, for each.
_MEETING, _BREAKING = 4, 4
# How often a case is drawn until one is of the wanted kind. Few cases break a need that others nearly imply, such as
# a small image with a wide result; without one of them, it is not known to be needed.
_DRAWS = 400
# How many other failing cases are tried with one parameter at its plainest.
_OTHERS = 3
# How many cases a condition must exclude that could have a plainer reason, because some cases hold by chance.
_FEW, _SOME, _MANY = 2, 3, 6


@dataclass(frozen=True, slots=True)
class Need:
    """A condition without which a failure does not occur.

    Parameters
    ----------
    condition : Condition
    words : str
        The condition as reports have it: ``output width >= 5``.

    Examples
    --------
    >>> need = Need(Condition("output_size[1] >= 5"), "output width >= 5")
    >>> str(need), need.holds(Case.parse("input=1x1x1x4 weight=1x1x1x1"))
    ('output width >= 5', False)
    """

    condition: Condition
    words: str

    def __str__(self) -> str:
        return self.words

    def holds(self, case: Case) -> bool:
        """Whether a case meets the need."""
        return self.condition.holds(case)


def needs(case: Case, fails: Callable[[Case], bool | None], *, calls: int) -> tuple[Need, ...]:
    """The boundaries of a failure around its smallest case.

    Every parameter is varied up and down, alone and together with what depends on it, until it is clear from which
    value to which the case fails. The needs are the simplest conditions that hold for all cases that failed and
    exclude those that did not. Fresh cases are then drawn: some that meet all needs, and some that break one of them.
    Whatever contradicts the needs changes them.

    Parameters
    ----------
    case : Case
        A case that fails, as small as possible.
    fails : callable
        Whether a case fails in the same way; None if nothing is known of it, such as if the subject does not support
        it. It is called at most once for each case.
    calls : int
        The limit on the calls of ``fails``. With few calls, needs may be missing or too narrow.

    Returns
    -------
    tuple of Need
        Empty if every case fails.

    Examples
    --------
    >>> case = Case.parse("input=1x1x1x5 weight=17x1x1x1")
    >>> def fails(case):
    ...     return case.weight[0] > 16 and case.geometry.output_size[1] > 4
    >>> print(*needs(case, fails, calls=400), sep=", ")
    out_channels >= 17, output width >= 5
    """
    known = _Known(case, Asked(fails, calls))
    found: tuple[_Candidate, ...] = ()
    with contextlib.suppress(OutOfCallsError):
        for varied in around(case):
            known.explore(varied)
        for other in known.failing[1 : 1 + _OTHERS]:
            for simpler in plainer(other):
                known.fails(simpler)
        found = _chosen(known)
        generator = np.random.default_rng(0)
        clean = 0
        for _ in range(_MOST_ROUNDS):
            right = _try_fresh_cases(known, found, generator)
            found = _chosen(known)
            clean = clean + 1 if right else 0
            if clean == _CLEAN_ROUNDS:
                break
    return tuple(Need(Condition(candidate.text), candidate.words) for candidate in _chosen(known))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A condition that may be a need, and how many cases that held it must exclude to be one."""

    text: str
    words: str
    holds: Callable[[Case], bool]
    least: int = 1

    def excluded(self, cases: Sequence[Case]) -> int:
        """How many of the cases it excludes; 0 if these are too few."""
        count = sum(not self.holds(case) for case in cases)
        return count if count >= self.least else 0


class _Known:
    """The cases that have been tried: those that failed, and those that did not."""

    def __init__(self, case: Case, asked: Asked[Case]) -> None:
        self.case = case
        self.failing = [case]
        self.passing: list[Case] = []
        self._asked = asked

    def fails(self, case: Case) -> bool | None:
        """Whether a case fails with its data or with other data, which might be right by chance; None if unknown."""
        if case in self.failing or case in self.passing:
            return case in self.failing
        failed = self._asked(case)
        if failed is None:
            return None
        failed = bool(failed or self._asked(case.replace(seed=(case.seed + 1) % 2**64)))
        (self.failing if failed else self.passing).append(case)
        return failed

    def explore(self, varied: Varied) -> None:
        """Try other values of one parameter: below the present one, and above it up to where the case holds."""
        now, least, build = varied

        def tried(value: int) -> bool | None:
            case = build(value)
            return None if case is None or _products(case) > _MAX_PRODUCTS else self.fails(case)

        for value in sorted({least, (least + now) // 2, now - 1} - {now}):
            if value >= least:
                tried(value)
        above = sorted({now + 1, now + 2, 2 * now + 1, 4 * now + 3, (now // 8 + 1) * 8, (now // 16 + 1) * 16})
        answers = {value: tried(value) for value in above}
        failed = [now, *(value for value, answer in answers.items() if answer)]
        held = [value for value, answer in answers.items() if answer is False]
        if not held:
            return
        if max(failed) > min(held):  # it may hold for all multiples of this value
            for multiple in (2, 3):
                tried(multiple * min(held))
            return
        low, high = max(failed), min(held)
        while high - low > 1:
            middle = (low + high) // 2
            if tried(middle):
                low = middle
            else:
                high = middle


def _products(case: Case) -> int:
    return max(case.geometry.nnz, case.geometry.pixels) * (case.batch or 1)


def _chosen(known: _Known) -> tuple[_Candidate, ...]:
    """The simplest conditions that hold for all cases that failed and together exclude those that did not.

    Each time, the one that excludes most is taken; relations only for what single parameters leave, and products and
    remainders only for what those leave.
    """
    chosen: list[_Candidate] = []
    # A case that reads no pixel can hardly fail, and says nothing about the parameters.
    left = [case for case in known.passing if case.geometry.nnz or not known.case.geometry.nnz]
    tiers = list(_candidates(known))
    for tier in tiers:
        while left and tier:
            counts = [candidate.excluded(left) for candidate in tier]
            if not max(counts):
                break
            chosen.append(tier[counts.index(max(counts))])
            left = [case for case in left if chosen[-1].holds(case)]
    excluded = [case for case in known.passing if not all(candidate.holds(case) for candidate in chosen)]
    for candidate in reversed(chosen.copy()):
        others = [other for other in chosen if other is not candidate]
        if all(not all(other.holds(case) for other in others) for case in excluded):
            chosen = others
    return tuple(candidate for tier in tiers for candidate in tier if candidate in chosen)


def _candidates(known: _Known) -> Iterator[list[_Candidate]]:
    """Conditions that hold for all cases that failed, in tiers, the plainest first."""
    rank = known.case.geometry.rank
    plain, related, products = expressions(known.case)
    single = [c for expression in plain for c in _limits(known, expression)]
    yield [*_flags(known), *(candidate for candidate in single if candidate.least == 1)]
    upper = [replace(candidate, least=_MANY) for candidate in single if candidate.least > 1]
    yield [*upper, *(c for expression in plain for c in _remainders(known, expression))]
    held = [_Candidate(text, words, of, _FEW) for text, words, of in relations(rank)]
    held = [candidate for candidate in held if all(map(candidate.holds, known.failing))]
    limits = [c for expression in related for c in _limits(known, expression)]
    yield [*held, *(replace(c, least=_MANY if "<=" in c.text else _FEW) for c in limits)]
    limits = [c for expression in products for c in _limits(known, expression)]
    yield [replace(c, least=_MANY if "<=" in c.text else _SOME) for c in limits]


def _flags(known: _Known) -> list[_Candidate]:
    """Conditions on parameters that are no numbers: those with the values that they had in the cases that failed."""
    found = []
    for flag in flags(known.case):
        values = tuple(dict.fromkeys(flag.of(case) for case in known.failing))
        if len(values) == 1 and isinstance(values[0], bool):
            text, words = flag.text if values[0] else f"not {flag.text}", f"{'' if values[0] else 'no '}{flag.words}"
        elif len(values) == 1:
            text, words = f"{flag.text} == {values[0]!r}", f"{flag.words} {values[0]}"
        else:
            text, words = f"{flag.text} in {values!r}", f"{flag.words} {' or '.join(map(str, values))}"
        found.append(_Candidate(text, words, lambda case, flag=flag, values=values: flag.of(case) in values))  # type: ignore[misc]
    return found


def _limits(known: _Known, expression: Expression) -> list[_Candidate]:
    """The range of an expression over the cases that failed, as far as cases beyond it did not fail."""
    failed = [expression.of(case) for case in known.failing]
    held = [expression.of(case) for case in known.passing]
    low, high = min(failed), max(failed)
    below, above = any(value < low for value in held), any(value > high for value in held)
    if low == high and above and (below or low == expression.least):
        return [_compared(expression, "==", low)]
    # The smallest case is at the lower limits of its failure. Where it is not, something else limits the failure.
    below &= low == expression.of(known.case)
    return [_compared(expression, ">=", low)] * below + [_compared(expression, "<=", high)] * above


def _compared(expression: Expression, sign: str, limit: int) -> _Candidate:
    of = expression.of
    holds: dict[str, Callable[[Case], bool]] = {
        "==": lambda case: of(case) == limit,
        ">=": lambda case: of(case) >= limit,
        "<=": lambda case: of(case) <= limit,
    }
    said = f"> {limit - 1}" if sign == ">=" and limit == expression.least + 1 else f"{sign} {limit}"
    return _Candidate(
        f"{expression.text} {sign} {limit}", f"{expression.words} {said}", holds[sign], _FEW if sign == "<=" else 1
    )


def _remainders(known: _Known, expression: Expression) -> Iterator[_Candidate]:
    """Conditions on the remainder of an expression."""
    of = expression.of
    for modulus in MODULI:
        rests = {of(case) % modulus for case in known.failing}
        if len(rests) > 1 and 0 in rests:
            continue
        text = f"% {modulus} == {min(rests)}" if len(rests) == 1 else f"% {modulus} != 0"
        wanted = frozenset(rests if len(rests) == 1 else range(1, modulus))
        yield _Candidate(
            f"{expression.text} {text}",
            f"{expression.words} {text}",
            lambda case, modulus=modulus, wanted=wanted: of(case) % modulus in wanted,  # type: ignore[misc]
            _MANY if expression.text.startswith("kernel_size") else _FEW,
        )


def _try_fresh_cases(known: _Known, found: tuple[_Candidate, ...], generator: np.random.Generator) -> bool:
    """Try fresh cases that meet all needs, and for each need some that break only it. Return whether all were right."""
    right = True
    for broken in (*[None] * _MEETING, *found * _BREAKING):
        case = _fresh_case(known, found, broken, generator)
        if case is not None:
            right &= known.fails(case) in (broken is None, None)
    return right


def _fresh_case(
    known: _Known, found: tuple[_Candidate, ...], broken: _Candidate | None, generator: np.random.Generator
) -> Case | None:
    """A new case that meets all needs but one."""
    for _ in range(_DRAWS):
        case = mutated(known.failing[generator.integers(len(known.failing))], generator)
        if case is None or case in known.failing or case in known.passing or _products(case) > _MAX_PRODUCTS:
            continue
        if all(candidate.holds(case) is (candidate is not broken) for candidate in found):
            return case
    return None
