"""Relations: exact equations on integers between several results of one implementation.

Each result is first judged alone. If one is wrong, the law fails for that call and compares nothing. A relation that
does not hold although each result is right is a finding of its own: sums that need not be exact in every order are
judged by their bound, and the subject and the oracle could be wrong in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.products import by_image, forward
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.case.layouts import apply_layout, layouts_of
from toeplitz_core.testing.data.operands import Bits, Operands, wide
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.data.whole_numbers import storage_limit
from toeplitz_core.testing.laws.judging import (
    MISTRUSTED_MISS_PROBABILITY,
    call_of,
    exact_on_integers,
    in_words,
    judge_bound,
    judge_exact,
    shape_or_dtype,
    unanswered,
)
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.verdict import IN_CALL, Status, Verdict, compare_exact
from toeplitz_core.testing.oracle.results import expected
from toeplitz_core.testing.subjects.symptom import Symptom

if TYPE_CHECKING:
    from toeplitz_core.bound import Arithmetic
    from toeplitz_core.testing.subjects.interface import Implementation
    from toeplitz_core.testing.subjects.outcome import Outcome

Sides = tuple[torch.Tensor, torch.Tensor]


class Unanswered(Exception):  # noqa: N818  # it carries a verdict and is not an error
    """A call of a relation is wrong or returned no result; its verdict becomes the verdict of the law."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


class Convolution:
    """A subject with the operands of a case, from which relations are built.

    Its methods return results that are right, and raise :class:`Unanswered` as soon as one is not.
    """

    def __init__(self, subject: Implementation, case: Case) -> None:
        self._subject = subject
        self.case = case
        self.operands = draw(case)
        self.miss_probability = self.operands.miss_probability
        self.assumed = ""
        self._calls = 0
        self._first: tuple[Case, Operands] | None = None
        self._varied = False
        # Exact results by parameters and operands; the operands are kept because their identity is part of the key.
        self._exact: dict[object, tuple[Operands, torch.Tensor]] = {}

    @property
    def repetitive(self) -> bool:
        """Whether all calls were the same call, whose results are equal in any case."""
        return self._calls > 1 and not self._varied

    @property
    def x(self) -> torch.Tensor:
        return self.operands.input

    @property
    def weight(self) -> torch.Tensor:
        return self.operands.weight

    @property
    def bias(self) -> torch.Tensor | None:
        return self.operands.bias

    @property
    def offset(self) -> torch.Tensor:
        """The bias in the shape of a result, or 0."""
        return torch.zeros(()) if self.bias is None else wide(self.bias).view(-1, *(1,) * self.geometry.rank)

    @property
    def geometry(self) -> ConvGeometry:
        return self.case.geometry

    def result(self) -> torch.Tensor:
        """The result of the case itself, in its own layouts."""
        return self._run(self.case, self.operands)

    def of(
        self,
        x: torch.Tensor | None = None,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | bool | None = True,
        **parameters: object,
    ) -> torch.Tensor:
        """The result for other operands (``bias=None`` for no bias) and other parameters.

        Each operand keeps the layout that the case names if its shape and values allow it: ``channels_last`` needs a
        batch, and ``expanded`` needs values that repeat. If the case names no layout, the subject's own is used.
        """
        x = self.x if x is None else x
        weight = self.weight if weight is None else weight
        offset = (self.bias if bias else None) if isinstance(bias, bool) else bias
        operands = Operands(x, weight, offset, 0.0)
        kept = tuple((name, layout) for name, layout in self.case.layouts if can_have(operands, name, layout))
        changes = {"layouts": kept, **parameters}
        case = self.case.replace(input=tuple(x.shape), weight=tuple(weight.shape), bias=offset is not None, **changes)
        return self._run(case, operands)

    def choice(self, name: str, count: int) -> int:
        """A number below ``count`` that follows from the case's seed."""
        return int(Bits(self.case, name).integers(1, 0, count - 1)[0])

    def tap(self, kernel_size: Sequence[int]) -> list[Any]:  # part of an index
        """A tap of a kernel of this size, chosen by the case's seed."""
        return [self.choice(f"tap {axis}", n) for axis, n in enumerate(kernel_size)]

    def mask(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """A random boolean for each element."""
        return torch.from_numpy(Bits(self.case, name).integers(values.numel(), 0, 1) == 0).view(values.shape)

    def permutation(self, name: str, count: int) -> torch.Tensor:
        """A permutation of ``count`` items; not the identity if there is another one."""
        order = torch.from_numpy(Bits(self.case, name).raw(count)).argsort()
        return order.roll(1) if torch.equal(order, torch.arange(count)) else order

    def _run(self, case: Case, operands: Operands) -> torch.Tensor:
        self._first = self._first or (case, operands)
        self._calls += 1
        self._varied |= not _same((case, operands), self._first)
        outcome = self._subject.run(case, operands)
        if outcome.status == "unsupported":
            raise Unanswered(unanswered(self.case, outcome))
        output, verdict = outcome.output, self._judged(case, operands, outcome)
        if verdict.status.is_failure or output is None:
            # Without what all calls of the law have in common.
            words = case.replace(dtype="float32", device="cpu", seed=0, law=None)
            message = f"{verdict.message}{IN_CALL}{self._calls}, {words}"
            raise Unanswered(verdict.replace(case=self.case, call=call_of(case), message=message))
        if not exact_on_integers(outcome.arithmetic, case):
            message = f"its arithmetic is not exact on integers: {outcome.arithmetic}"
            raise Unanswered(Verdict(Status.UNSUPPORTED, self.case, message))
        self.assumed = in_words(case, outcome.arithmetic)
        return wide(output.detach().cpu())

    def _judged(self, case: Case, operands: Operands, outcome: Outcome) -> Verdict:
        """The verdict on one call, as if it were the only one."""
        if outcome.status != "returned":
            return unanswered(case, outcome)
        if (wrong := shape_or_dtype(case, outcome.output)) is not None:
            return wrong.replace(printed=outcome.printed)
        assert outcome.output is not None
        output, arithmetic = outcome.output.detach().cpu(), outcome.arithmetic
        if exact_on_integers(arithmetic, case) and torch.equal(wide(output), self._product(case, operands)):
            return Verdict(Status.PASS, case)
        verdict = _judged_with_bounds(arithmetic, case, operands, output)
        return verdict.replace(assumed=in_words(case, arithmetic), kernel=outcome.kernel, printed=outcome.printed)

    def _product(self, case: Case, operands: Operands) -> torch.Tensor:
        """The exact result of a call, without bounds; it is computed once for calls that differ only in strides."""
        g, x, weight, bias = case.geometry, operands.input, operands.weight, operands.bias
        key = g, id(x), id(weight), id(bias)
        if key not in self._exact:
            product = forward(g, wide(weight), by_image(g, wide(x)))
            product = product if bias is None else product + wide(bias)[:, None]
            self._exact[key] = operands, product.reshape(case.output_shape)
        return self._exact[key][1]


def _judged_with_bounds(arithmetic: Arithmetic, case: Case, operands: Operands, output: torch.Tensor) -> Verdict:
    """The verdict on a result: sums beyond the integers of the format need only lie within their bounds.

    A case keeps its own sums within these integers. A call that a law derives from it may have larger ones.
    """
    x, weight, bias = operands.input, operands.weight, operands.bias
    reference = expected(case.geometry, x, weight, bias, algorithms=arithmetic.algorithms)
    if not exact_on_integers(arithmetic, case):
        return judge_bound(arithmetic, case, output, reference, has_bias=case.bias)
    exact = output
    if case.dtype != "int64":
        values = torch.view_as_real(output) if reference.is_complex else output
        values = values.where(reference.magnitude <= storage_limit(case), reference.value.to(values.dtype))
        exact = torch.view_as_complex(values) if reference.is_complex else values
    verdict = judge_exact(arithmetic, case, 0.0, exact, reference)
    if verdict.status.is_failure or case.dtype == "int64":
        return verdict
    return judge_bound(arithmetic, case, output, reference, has_bias=case.bias)


def can_have(operands: Operands, name: str, layout: str) -> bool:
    """Whether an operand can have a layout without a change of its values."""
    values = getattr(operands, name, None)
    if values is None or values.ndim not in layouts_of(name)[layout][2]:
        return False
    return torch.equal(apply_layout(values, layout), values)


def _same(one: tuple[Case, Operands], other: tuple[Case, Operands]) -> bool:
    """Whether two calls have the same parameters, strides and values."""
    pairs = ((getattr(one[1], name), getattr(other[1], name)) for name in ("input", "weight", "bias"))
    return one[0] == other[0] and all(a is b or torch.equal(a, b) for a, b in pairs)


@dataclass(frozen=True, slots=True)
class Relation:
    """The check of a law whose two sides must be equal.

    Parameters
    ----------
    sides : callable
        Takes a :class:`Convolution` and returns two tensors.
    """

    sides: Callable[[Convolution], Sides]

    def __call__(self, subject: Implementation, case: Case) -> Verdict:
        convolution = Convolution(subject, case)
        try:
            left, right = self.sides(convolution)
        except Unanswered as refused:
            return refused.verdict
        left, right = (torch.view_as_real(t) if t.is_complex() else t for t in (left, right))
        comparison = compare_exact(left, right)
        if comparison is not None:
            where, (one, other) = comparison.index, (side[comparison.index].item() for side in (left, right))
            elements = f"({comparison.wrong} of {comparison.total} elements)"
            message = f"each result is right, but {one} and {other} must be equal at {list(where)} {elements}"
            found = Verdict(Status.FAIL, case, message, index=where, assumed=convolution.assumed)
            return found.replace(symptom=Symptom.RELATION)
        if convolution.repetitive:
            return Verdict(Status.MISTRUSTED, case, "all calls of the law are the same call")
        miss = convolution.miss_probability
        if not left.any() or miss > MISTRUSTED_MISS_PROBABILITY:
            return Verdict(Status.MISTRUSTED, case, "wrong results could be equal too")
        return Verdict(Status.PASS, case, miss_probability=miss, assumed=convolution.assumed)


def relation_law(
    name: str,
    statement: str,
    catches: str,
    sides: Callable[[Convolution], Sides],
    *,
    sharpen: Callable[[Case], Case] | None = None,
    max_products: int | None = None,
) -> Law:
    """A law that two sides are equal, checked on integers of every dtype."""
    return Law(
        name,
        statement,
        catches,
        Relation(sides),
        recipes=("integers",),
        dtypes=CASE_DTYPES,
        sharpen=sharpen,
        max_products=max_products,
    )
