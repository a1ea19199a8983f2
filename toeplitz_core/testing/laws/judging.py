"""The verdict on a result, by the kind of its data: compare it with the expected result."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from toeplitz_core.bound import Arithmetic
from toeplitz_core.testing.case.recipe_table import ONE_HOT, RECIPES, Kind
from toeplitz_core.testing.data.operands import in_bytes
from toeplitz_core.testing.laws.difference import difference
from toeplitz_core.testing.laws.verdict import Comparison, Status, Verdict, compare_bound, compare_exact
from toeplitz_core.testing.oracle.algorithms import MatrixUnits
from toeplitz_core.testing.oracle.expected import Expected
from toeplitz_core.testing.oracle.special_values import Classes, classes
from toeplitz_core.testing.subjects.symptom import Symptom

if TYPE_CHECKING:
    from toeplitz_core.testing.case.call import Call
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.data.operands import Operands
    from toeplitz_core.testing.subjects.outcome import Outcome

# Above this, a linear mistake in one output row is more likely to go unnoticed than to show.
MISTRUSTED_MISS_PROBABILITY = 0.5
# With a bound of half the sum of magnitudes, a result that lost half of its terms would pass.
MISTRUSTED_SHARPNESS = 0.5

# What a call that did not return a result means for the law.
STATUSES = {
    "unsupported": Status.UNSUPPORTED,
    "raised": Status.FAIL,
    "spoiled": Status.FAIL,
    "crashed": Status.CRASH,
    "timed out": Status.TIMEOUT,
}

# The laws that judge one call, by what it returns and by the kind of its data.
_LAWS_OF_ONE_CALL: dict[str, dict[Kind, str]] = {
    "forward": {
        "storage": "forward-exact",
        "accumulator": "forward-exact",
        "real": "forward-bound",
        "special": "special-values",
    },
    "gradients": {"storage": "gradients-exact", "accumulator": "gradients-exact", "real": "gradients-bound"},
}

# The gravest first: the verdict on a case is the gravest verdict on any of its results.
_ORDER = (Status.CRASH, Status.TIMEOUT, Status.FAIL, Status.UNSUPPORTED, Status.MISTRUSTED, Status.PASS)


def call_of(case: Case, kind: Literal["forward", "gradients"] = "forward") -> Case:
    """The case under the law that judges its result alone, or its gradients alone."""
    return case.replace(law=_LAWS_OF_ONE_CALL[kind][RECIPES[case.data].kind])


def unanswered(case: Case, outcome: Outcome) -> Verdict:
    """The verdict on a call that did not return a result."""
    found = Verdict(STATUSES[outcome.status], case, outcome.message, symptom=outcome.symptom)
    return found.replace(printed=outcome.printed, traceback=outcome.traceback)


def in_words(case: Case, arithmetic: Arithmetic) -> str:
    """The arithmetic that a case was judged by, in words, for reports."""
    return "whole numbers" if case.dtype == "int64" else str(arithmetic)


def is_exact(arithmetic: Arithmetic, case: Case, reference: Expected) -> bool:
    """Whether exact data has exact results in this arithmetic.

    It has not if operands are rounded before they are multiplied or transformed, or if sums are kept in less precision
    than the recipe relies on.
    """
    if case.dtype == "int64":
        return True
    if RECIPES[case.data].kind == "real":
        return False
    transformed = any(sums.magnitude is not None for sums in reference.alternatives)
    if RECIPES[case.data].kind == "storage":
        formats = [arithmetic.accumulator, arithmetic.partial_format or arithmetic.output]
        narrow = any(fmt.precision < arithmetic.output.precision for fmt in formats)
    else:
        narrow = arithmetic.accumulator.precision < Arithmetic.of_dtype(case.torch_dtype).accumulator.precision
        narrow |= arithmetic.partial_format is not None and arithmetic.partial_sums > 0
    return not (arithmetic.input_rounding or transformed or narrow)


def exact_on_integers(arithmetic: Arithmetic, case: Case) -> bool:
    """Whether sums that fit in the output's format are exact. They are not if operands are rounded or transformed."""
    if case.dtype == "int64":
        return True
    formats = (arithmetic.accumulator, arithmetic.partial_format or arithmetic.output)
    narrow = any(fmt.precision < arithmetic.output.precision for fmt in formats)
    transformed = not all(isinstance(algorithm, MatrixUnits) for algorithm in arithmetic.algorithms)
    return not (narrow or transformed or arithmetic.input_rounding)


def shape_or_dtype(case: Case, actual: object) -> Verdict | None:
    """The failure if the type, shape or dtype of a result is wrong; None if nothing is."""
    if not isinstance(actual, torch.Tensor):
        message = f"returned {type(actual).__name__}, not a torch.Tensor"
        return Verdict(Status.FAIL, case, message, symptom=Symptom.WRONG_DTYPE)
    if tuple(actual.shape) != case.output_shape:
        message = f"returned shape {tuple(actual.shape)}, not {case.output_shape}"
        return Verdict(Status.FAIL, case, message, symptom=Symptom.WRONG_SHAPE)
    if actual.dtype != case.torch_dtype:
        message = f"returned dtype {actual.dtype}, not {case.torch_dtype}"
        return Verdict(Status.FAIL, case, message, symptom=Symptom.WRONG_DTYPE)
    return None


def alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two results agree in everything that is judged, so that one verdict counts for both."""
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two results are the same to the last bit, including NaN and the sign of zero."""
    return torch.equal(in_bytes(one), in_bytes(other))


def judge_finite(
    arithmetic: Arithmetic,
    case: Case,
    miss_probability: float,
    actual: torch.Tensor,
    reference: Expected,
    name: str = "out",
    *,
    has_bias: bool,
) -> Verdict:
    """Check a result for finite operands: exactly if data and arithmetic allow it, otherwise by the bound."""
    if not is_exact(arithmetic, case, reference):
        return judge_bound(arithmetic, case, actual, reference, name, has_bias=has_bias)
    return judge_exact(arithmetic, case, miss_probability, actual, reference, name)


def judge_exact(
    arithmetic: Arithmetic,
    case: Case,
    miss_probability: float,
    actual: torch.Tensor,
    reference: Expected,
    name: str = "out",
) -> Verdict:
    """Check that a result equals the exact one, rounded once to the output's format or as the arithmetic declares."""
    values = torch.view_as_real(actual) if reference.is_complex else actual
    wanted = reference.value.to(values.dtype)
    comparison = compare_exact(values, wanted)
    if comparison is not None and arithmetic.bias_after_rounding:
        # This arithmetic may also return the value that is rounded before and after the bias is added.
        before = (reference.value - reference.offset).to(values.dtype)
        wanted = (before.to(reference.value.dtype) + reference.offset).to(values.dtype)
        comparison = compare_exact(values, wanted)
    if comparison is not None:
        return failure(case, comparison, values, wanted, name=name)
    miss = miss_probability
    vacuous = bool(reference.products.any()) and not bool((reference.magnitude > reference.bias).any())
    # One product tells little of the others, but such a case is run only to see whether that one is still wrong.
    if actual.numel() and case.data != ONE_HOT and (miss > MISTRUSTED_MISS_PROBABILITY or vacuous):
        message = f"a wrong output row would go unnoticed with probability up to {miss:.2g}"
        return Verdict(Status.MISTRUSTED, case, message, miss_probability=miss)
    return Verdict(Status.PASS, case, miss_probability=miss)


def judge_bound(
    arithmetic: Arithmetic,
    case: Case,
    actual: torch.Tensor,
    reference: Expected,
    name: str = "out",
    *,
    has_bias: bool,
) -> Verdict:
    """Check that every element lies within the arithmetic's bound of the exact result."""
    values = torch.view_as_real(actual) if reference.is_complex else actual
    bound = reference.bound(arithmetic, has_bias=has_bias)
    overflow = reference.overflow(arithmetic, bound, has_bias=has_bias)
    error = reference.in_units(values) - reference.value
    if reference.residual is not None:
        error = error - reference.residual
    comparison = compare_bound(torch.where(overflow.excuses(values), 0, error).abs(), bound)
    if comparison is None:
        return Verdict(Status.PASS, case)
    informative = (reference.magnitude > reference.bias) & ~overflow.anything
    sharpness = float((bound / reference.magnitude)[informative].min()) if informative.any() else 0.0
    if comparison.ratio > 1:
        wanted = torch.ldexp(reference.value, torch.tensor(reference.exponent))
        return failure(case, comparison, values, wanted, ratio=comparison.ratio, name=name)
    if overflow.anything.all():
        message = "every sum may overflow, so any result would be right"
        return Verdict(Status.MISTRUSTED, case, message, ratio=comparison.ratio)
    if sharpness > MISTRUSTED_SHARPNESS:
        message = f"the bound is {sharpness:.2g} of the sum of magnitudes: too wide to tell right from wrong"
        return Verdict(Status.MISTRUSTED, case, message, ratio=comparison.ratio, sharpness=sharpness)
    return Verdict(Status.PASS, case, ratio=comparison.ratio, sharpness=sharpness)


def judge_special(
    arithmetic: Arithmetic,
    case: Case,
    operands: Operands,
    actual: torch.Tensor,
    reference: Expected,
    outputs: torch.Tensor | None,
) -> Verdict:
    """Check that NaN, infinities and finite numbers are where they belong, and that the finite numbers are right."""
    special, may_be_nan = classes(
        case.geometry, operands.input, operands.weight, operands.bias, arithmetic.algorithms, outputs=outputs
    )
    if arithmetic.compensates:
        may_be_nan |= special.isinf()
    found = Classes(special.reshape(actual.shape), may_be_nan.reshape(actual.shape))
    wanted = torch.where(found.special == 0, reference.value, found.special)
    right = found.settles(actual)
    if is_exact(arithmetic, case, reference):
        comparison = compare_exact(torch.where(right, 0, actual.double()), torch.where(right, 0, wanted))
    else:
        right |= (found.special != 0) & (actual == found.special)
        error = reference.in_units(actual) - reference.value
        if reference.residual is not None:
            error = error - reference.residual
        bound = reference.bound(arithmetic, has_bias=case.bias)
        right |= reference.overflow(arithmetic, bound, has_bias=case.bias).excuses(actual)
        # Where a number that is not finite belongs, the finite rest of the sum is no reference.
        error = torch.where(right, 0, torch.where(found.special == 0, error, math.inf))
        comparison = compare_bound(error.abs(), bound)
        comparison = comparison if comparison is not None and comparison.ratio > 1 else None
    if comparison is not None:
        return failure(case, comparison, actual, wanted)
    if actual.numel() and bool(found.may_be_nan.all()):
        return Verdict(Status.MISTRUSTED, case, "any result may be NaN")
    return Verdict(Status.PASS, case, miss_probability=operands.miss_probability)


def failure(
    case: Case | Call,
    found: Comparison,
    actual: torch.Tensor,
    wanted: torch.Tensor,
    ratio: float | None = None,
    name: str = "out",
) -> Verdict:
    """The failing verdict on a result that differs from the expected one."""
    differs = difference(case, name, found.index, found.elements, actual, wanted, ratio)
    got, should = actual[found.index].item(), wanted[found.index].item()
    return Verdict(
        Status.FAIL,
        case,
        str(differs),
        ratio=ratio,
        index=found.index,
        expected=should,
        actual=got,
        difference=differs,
        symptom=Symptom.VALUES,
    )


def located(verdict: Verdict, shape: tuple[int, ...], elements: torch.Tensor, name: str = "out") -> Verdict:
    """A verdict on chosen elements of a result, with the index that the element has in the whole result.

    Parameters
    ----------
    shape : tuple of int
        The shape of the result.
    elements : int64 tensor of shape (m,)
        The flat indices of the judged elements.
    """
    if verdict.index is None or verdict.difference is None:
        return verdict

    def whole(chosen: int) -> tuple[int, ...]:
        return tuple(int(at) for at in np.unravel_index(int(elements[chosen]), shape))

    chosen, *part = verdict.index
    before, after = f"{name}[{chosen}]", f"{name}[{', '.join(map(str, whole(chosen)))}]"
    message = verdict.message.replace(before, after, 1)
    found = verdict.difference.located(whole)
    return verdict.replace(index=(*whole(chosen), *part), message=message, difference=found)


def gravest(verdicts: list[Verdict]) -> Verdict:
    """The first of the gravest verdicts, with the largest ratio of all verdicts."""
    worst = min(verdicts, key=lambda verdict: _ORDER.index(verdict.status))
    ratios = [verdict.ratio for verdict in verdicts if verdict.ratio is not None]
    return worst if worst.status.is_failure or not ratios else worst.replace(ratio=max(ratios))
