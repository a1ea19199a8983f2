"""The result of a convolution: equal to ``T x + b`` where the data is exact, within the bound where not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from toeplitz_core.bound import Arithmetic
from toeplitz_core.testing.case import DTYPES
from toeplitz_core.testing.data import RECIPES, Operands, draw
from toeplitz_core.testing.laws.base import Law
from toeplitz_core.testing.nonfinite import Classes, classes
from toeplitz_core.testing.oracle import Expected, expected
from toeplitz_core.testing.verdict import Comparison, Status, Verdict, compare_bound, compare_exact

if TYPE_CHECKING:
    from toeplitz_core.testing.case import Case
    from toeplitz_core.testing.subjects.base import Runner

# A linear mistake in one output row is then more likely to go unnoticed than to show.
MISTRUSTED_MISS_PROBABILITY = 0.5
# A bound of half the sum of magnitudes would let a result pass that has lost half of what was summed.
MISTRUSTED_SHARPNESS = 0.5

# What a call that did not return a result means for the law.
_STATUSES = {
    "unsupported": Status.UNSUPPORTED,
    "raised": Status.FAIL,
    "spoiled": Status.FAIL,
    "crashed": Status.CRASH,
    "timed out": Status.TIMEOUT,
}


def forward_verdict(
    subject: Runner, case: Case, operands: Operands | None = None, outputs: torch.Tensor | None = None
) -> Verdict:
    """Judge the result for a case, wholly or at chosen outputs (flat indices), by the kind of its data recipe."""
    operands = draw(case) if operands is None else operands
    outcome = subject.run(case, operands)
    if outcome.status != "returned":
        return Verdict(_STATUSES[outcome.status], case, outcome.message, printed=outcome.printed)
    actual = outcome.output
    if (message := _contract(case, actual)) is not None or actual is None:
        return Verdict(Status.FAIL, case, message or "", printed=outcome.printed)
    kind, arithmetic = RECIPES[case.data].kind, outcome.arithmetic
    finite = operands if kind != "special" else _finite(operands)
    reference = expected(
        case.geometry, finite.input, finite.weight, finite.bias, outputs=outputs, algorithms=arithmetic.algorithms
    )
    actual = actual.detach().cpu()
    actual = actual if outputs is None else actual.reshape(-1)[outputs]
    if kind == "special":
        verdict = _judge_special(arithmetic, case, operands, actual, reference, outputs)
    elif kind == "real" or not _is_exact(arithmetic, case, reference):
        verdict = _judge_bound(arithmetic, case, actual, reference)
    else:
        verdict = _judge_exact(arithmetic, case, operands, actual, reference)
    return verdict.replace(assumed=str(arithmetic))


def _is_exact(arithmetic: Arithmetic, case: Case, reference: Expected) -> bool:
    """Whether exact data has exact results in this arithmetic.

    Not where operands are rounded before they are multiplied or transformed, and not where sums are kept in less than
    the recipe counts on.
    """
    if case.dtype == "int64":
        return True
    transformed = any(sums.magnitude is not None for sums in reference.alternatives)
    if RECIPES[case.data].kind == "storage":
        formats = [arithmetic.accumulator, arithmetic.partial_format or arithmetic.output]
        narrow = any(fmt.precision < arithmetic.output.precision for fmt in formats)
    else:
        narrow = arithmetic.accumulator.precision < Arithmetic.strictest(case.torch_dtype).accumulator.precision
        narrow |= arithmetic.partial_format is not None and arithmetic.partial_sums > 0
    return not (arithmetic.input_rounding or transformed or narrow)


def _finite(operands: Operands) -> Operands:
    """The same with zeros for what is not finite."""

    def clean(values: torch.Tensor) -> torch.Tensor:
        return torch.where(values.isfinite(), values, 0)

    bias = None if operands.bias is None else clean(operands.bias)
    return replace(operands, input=clean(operands.input), weight=clean(operands.weight), bias=bias)


def _contract(case: Case, actual: object) -> str | None:
    """What is wrong with a result before its values are looked at."""
    if not isinstance(actual, torch.Tensor):
        return f"returned {type(actual).__name__}, not a torch.Tensor"
    if tuple(actual.shape) != case.output_shape:
        return f"returned shape {tuple(actual.shape)}, not {case.output_shape}"
    if actual.dtype != case.torch_dtype:
        return f"returned dtype {actual.dtype}, not {case.torch_dtype}"
    return None


def _judge_exact(
    arithmetic: Arithmetic, case: Case, operands: Operands, actual: torch.Tensor, reference: Expected
) -> Verdict:
    values = torch.view_as_real(actual) if reference.is_complex else actual
    wanted = reference.value.to(values.dtype)
    comparison = compare_exact(values, wanted)
    if comparison is not None and arithmetic.bias_after_rounding:
        # Rounded before and after the bias is added: the other exact value that this arithmetic may return.
        before = (reference.value - reference.offset).to(values.dtype)
        wanted = (before.to(reference.value.dtype) + reference.offset).to(values.dtype)
        comparison = compare_exact(values, wanted)
    if comparison is not None:
        return _failure(case, comparison, values, wanted)
    miss = operands.miss_probability
    vacuous = bool(reference.products.any()) and not bool((reference.magnitude > reference.bias).any())
    if actual.numel() and (miss > MISTRUSTED_MISS_PROBABILITY or vacuous):
        message = f"a wrong output row would go unnoticed with probability up to {miss:.2g}"
        return Verdict(Status.MISTRUSTED, case, message, miss_probability=miss)
    return Verdict(Status.PASS, case, miss_probability=miss)


def _judge_bound(arithmetic: Arithmetic, case: Case, actual: torch.Tensor, reference: Expected) -> Verdict:
    values = torch.view_as_real(actual) if reference.is_complex else actual
    bound = reference.bound(arithmetic, has_bias=case.bias)
    overflow = reference.overflow(arithmetic, bound, has_bias=case.bias)
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
        return _failure(case, comparison, values, wanted, ratio=comparison.ratio)
    if overflow.anything.all():
        message = "every sum may overflow, so that any result would be right"
        return Verdict(Status.MISTRUSTED, case, message, ratio=comparison.ratio)
    if sharpness > MISTRUSTED_SHARPNESS:
        message = f"the bound is {sharpness:.2g} of the sum of magnitudes: too wide to tell right from wrong"
        return Verdict(Status.MISTRUSTED, case, message, ratio=comparison.ratio, sharpness=sharpness)
    return Verdict(Status.PASS, case, ratio=comparison.ratio, sharpness=sharpness)


def _judge_special(
    arithmetic: Arithmetic,
    case: Case,
    operands: Operands,
    actual: torch.Tensor,
    reference: Expected,
    outputs: torch.Tensor | None,
) -> Verdict:
    found = classes(case.geometry, operands.input, operands.weight, operands.bias, arithmetic.algorithms)
    special, may_be_nan = (t.flatten() if outputs is None else t.flatten()[outputs] for t in found)
    found = Classes(special.reshape(actual.shape), may_be_nan.reshape(actual.shape))
    wanted = torch.where(found.special == 0, reference.value, found.special)
    right = found.settles(actual)
    if _is_exact(arithmetic, case, reference):
        comparison = compare_exact(torch.where(right, 0, actual.double()), torch.where(right, 0, wanted))
    else:
        right |= (found.special != 0) & (actual == found.special)
        error = torch.where(right, 0, actual.double() - wanted)
        comparison = compare_bound(error.abs(), reference.bound(arithmetic, has_bias=case.bias))
        comparison = comparison if comparison is not None and comparison.ratio > 1 else None
    if comparison is not None:
        return _failure(case, comparison, actual, wanted)
    if actual.numel() and bool(found.may_be_nan.all()):
        return Verdict(Status.MISTRUSTED, case, "any result may be NaN")
    return Verdict(Status.PASS, case, miss_probability=operands.miss_probability)


def _failure(
    case: Case, found: Comparison, actual: torch.Tensor, wanted: torch.Tensor, ratio: float | None = None
) -> Verdict:
    got, should = actual[found.index].item(), wanted[found.index].item()
    amount = "" if ratio is None else f", an error of {ratio:.4g} times the bound"
    where = ", ".join(map(str, found.index))
    message = (
        f"out[{where}]={got:.9g}, but should be {should:.9g}{amount} ({found.wrong} of {found.total} elements wrong)"
    )
    return Verdict(Status.FAIL, case, message, ratio=ratio, index=found.index, expected=should, actual=got)


def _forward(subject: Runner, case: Case) -> Verdict:
    return forward_verdict(subject, case)


FORWARD_EXACT = Law(
    "forward-exact",
    "On integers whose sums are exact in the accumulator, the result is T x + b, rounded once.",
    _forward,
    recipes=tuple(name for name, recipe in RECIPES.items() if recipe.kind in ("storage", "accumulator")),
    dtypes=tuple(DTYPES),
)
FORWARD_BOUND = Law(
    "forward-bound",
    "On real numbers, no element of the result is further from T x + b than rounding errors can take it.",
    _forward,
    recipes=tuple(name for name, recipe in RECIPES.items() if recipe.kind == "real"),
    dtypes=tuple(name for name in DTYPES if name != "int64"),
)
SPECIAL_VALUES = Law(
    "special-values",
    "NaN and infinities reach the results that depend on them, and no others.",
    _forward,
    recipes=tuple(name for name, recipe in RECIPES.items() if recipe.kind == "special"),
    # What infinity times a complex number is, libraries define differently.
    dtypes=tuple(name for name, dtype in DTYPES.items() if dtype.is_floating_point),
)
