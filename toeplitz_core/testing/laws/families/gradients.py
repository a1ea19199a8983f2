"""Gradients, compared with the adjoint of ``T`` and its derivative in the weight, never with finite differences.

The result of the convolution comes first: if it is wrong, its gradients say nothing of their own.

This also checks the kernels of float32 and of half precision, where a finite difference is lost in rounding noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch

from toeplitz_core.testing.case.dtypes import ROUNDED_DTYPES
from toeplitz_core.testing.case.recipe_table import RECIPES
from toeplitz_core.testing.data.gradient_operands import draw_with_directions, draw_with_gradient
from toeplitz_core.testing.data.kept import KEPT_BYTES, Kept
from toeplitz_core.testing.laws.families.forward import judged_results
from toeplitz_core.testing.laws.judging import (
    alike,
    call_of,
    exact_on_integers,
    gravest,
    in_words,
    judge_finite,
    same_bits,
    unanswered,
)
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.oracle.algorithms import MatrixUnits
from toeplitz_core.testing.oracle.expected_gradients import expected_by_image, expected_derivatives, expected_gradients
from toeplitz_core.testing.subjects.outcome import OUTPUT, ResultName, Results
from toeplitz_core.testing.subjects.pytorch.derivatives import AGAIN
from toeplitz_core.testing.subjects.symptom import Symptom

if TYPE_CHECKING:
    from toeplitz_core.bound import Arithmetic
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.data.operands import Operands
    from toeplitz_core.testing.oracle.expected import Expected
    from toeplitz_core.testing.subjects.interface import Implementation, Procedure


# The operands of gradients. Results with other names are not gradients, such as a derivative along a direction.
_VARIABLES = ("input", "weight", "bias", "grad")
# The quantity of a failure without a result.
_DERIVATIVE = "derivative"
_EMPTY = "there is no derivative to judge, because the result is empty"


@dataclass(frozen=True, slots=True)
class DerivativeCheck:
    """The check of a law: how to draw data, which procedure to run, which results to expect."""

    draw: Callable[[Case], Operands]
    procedure: Procedure
    expected: Callable[[Case, Operands], Mapping[str, Expected]]

    def __call__(self, subject: Implementation, case: Case, operands: Operands | None = None) -> Verdict:
        operands = self.draw(case) if operands is None else operands
        outcome = subject.run(case, operands, self.procedure)
        if outcome.status != "returned":
            return unanswered(case, outcome).replace(call=call_of(case), quantity=_DERIVATIVE)
        if not outcome.results:
            return Verdict(Status.MISTRUSTED, case, _EMPTY)
        wanted = self._wanted(case, operands)
        outputs = {name: y for name, y in outcome.results.items() if name.of == OUTPUT.of}
        verdicts = []
        if outputs:
            verdicts.append(judged_results(case, operands, outcome, outputs).replace(call=call_of(case)))
            if verdicts[0].status.is_failure:
                return verdicts[0]
        judged: list[tuple[str, torch.Tensor]] = []
        for result, actual in outcome.results.items():
            name, when = result
            if result in outputs or any(name == other and alike(actual, values) for other, values in judged):
                continue
            judged.append((name, actual))
            said = (f"{name} gradient" if name in _VARIABLES else name) + (f" ({when})" if when else "")
            arithmetic = outcome.gradients.get(name, outcome.arithmetic)
            verdict = judged_gradient(case, arithmetic, operands.miss_probability, actual, wanted[name], said)
            verdicts.append(verdict.replace(call=_call(case, name), quantity=name))
        verdict = gravest(verdicts)
        if outcome.message and not verdict.status.is_failure:
            return Verdict(Status.UNSUPPORTED, case, outcome.message)
        if not verdict.status.is_failure and subject.claims.repeatable and (again := _changed(outcome.results)):
            message = f"each gradient is right, but another backward pass gave other bits in its {again}"
            return Verdict(Status.FAIL, case, message, symptom=Symptom.CHANGING)
        return verdict.replace(printed=outcome.printed)

    def _wanted(self, case: Case, operands: Operands) -> Mapping[str, Expected]:
        """What is expected, kept for the next call with the same operands."""
        key = self.expected, case.replace(law=None, device="cpu"), id(operands)
        return _KEPT.get(key, lambda: _Entry(operands, self.expected(case, operands))).expected


class _Entry(NamedTuple):
    """Expected derivatives with the operands, whose identity is a part of the key."""

    operands: Operands
    expected: Mapping[str, Expected]


_KEPT: Kept[_Entry] = Kept(
    KEPT_BYTES, lambda entry: entry.operands.nbytes + sum(e.nbytes for e in entry.expected.values())
)


def _call(case: Case, name: str) -> Case | None:
    """The simplest call that returns a result of this name, or the one that it is derived from; None without one."""
    if name.startswith(OUTPUT.of):  # also those of several weights or biases
        return call_of(case)
    return call_of(case, "gradients") if name in (*_VARIABLES, "weights") else None


def _changed(results: Results) -> str | None:
    """The operand whose gradient changes in a second backward pass, or None."""
    pairs = ((name, results.get(ResultName(name.of, AGAIN))) for name in results if not name.when)
    return next((name.of for name, again in pairs if again is not None and not same_bits(results[name], again)), None)


# Judges the gradients in input, weight and bias.
gradients_verdict = DerivativeCheck(draw_with_gradient, "gradients", expected_gradients)


def _adjoint(subject: Implementation, case: Case) -> Verdict:
    """``<T x, g> = <x, T' g>`` in integers modulo 2^64: the values are exact, but their products may be large."""
    operands = draw_with_gradient(case)
    plain, unbiased = case.replace(bias=False), replace(operands, bias=None)
    forward, backward = subject.run(plain, unbiased), subject.run(plain, unbiased, "gradients")
    if forward.status != "returned":
        return unanswered(case, forward).replace(call=call_of(plain))
    verdict = judged_results(plain, unbiased, forward, forward.results)
    if verdict.status.is_failure:
        return verdict.replace(case=case, call=call_of(plain))
    if backward.status != "returned":
        return unanswered(case, backward).replace(call=call_of(plain, "gradients"))
    if not backward.results:
        return Verdict(Status.MISTRUSTED, case, _EMPTY)
    result, gradient = forward.results[OUTPUT], backward.results[ResultName("input")]
    wanted, arithmetic = expected_gradients(plain, unbiased)["input"], backward.gradients["input"]
    verdict = judged_gradient(plain, arithmetic, operands.miss_probability, gradient, wanted, "input gradient")
    if verdict.status.is_failure:
        return verdict.replace(case=case, call=call_of(plain, "gradients"), quantity="input")
    if not all(exact_on_integers(a, case) for a in (forward.arithmetic, arithmetic)):
        return Verdict(Status.UNSUPPORTED, case, f"its arithmetic is not exact on integers: {forward.arithmetic}")
    left, right = _inner_product(result, operands.gradient), _inner_product(operands.input, gradient)
    if left != right:
        said = [f"{numbers[0]}{f'{numbers[1]:+}i' if numbers[1:] else ''}" for numbers in (left, right)]
        message = f"each result is right, but <T x, g> = {said[0]}, and <x, T' g> = {said[1]}"
        return Verdict(Status.FAIL, case, message, symptom=Symptom.RELATION)
    if not any(left):
        return Verdict(Status.MISTRUSTED, case, "both products are 0, and could be 0 for wrong results too")
    return Verdict(Status.PASS, case, miss_probability=operands.miss_probability)


def _inner_product(a: torch.Tensor, b: torch.Tensor) -> tuple[int, ...]:
    """The sum of ``conj(a) b`` of integers, modulo 2^64; real and imaginary part for complex numbers."""
    if not a.is_complex():
        return (int((a.long() * b.long()).sum()),)
    (ar, ai), (br, bi) = (torch.view_as_real(t).long().unbind(-1) for t in (a, b))
    return int((ar * br + ai * bi).sum()), int((ar * bi - ai * br).sum())


def _input_gradient(case: Case, operands: Operands) -> dict[str, Expected]:
    return {"input": expected_gradients(case, operands)["input"]}


def _tangent(case: Case, operands: Operands) -> dict[str, Expected]:
    """The derivative of the result along the directions."""
    found = expected_derivatives(case, operands)
    return {"tangent": found["grad"]} | found


def judged_gradient(
    case: Case, arithmetic: Arithmetic, miss: float, actual: torch.Tensor, wanted: Expected, name: str
) -> Verdict:
    """The verdict on one gradient."""
    shape = tuple(wanted.value.shape[:-1] if wanted.is_complex else wanted.value.shape)
    if tuple(actual.shape) != shape or actual.dtype != case.torch_dtype:
        message = f"{name} has shape {tuple(actual.shape)} and dtype {actual.dtype}, not {shape} and {case.torch_dtype}"
        symptom = Symptom.WRONG_DTYPE if tuple(actual.shape) == shape else Symptom.WRONG_SHAPE
        return Verdict(Status.FAIL, case, message, symptom=symptom)
    if any(not isinstance(algorithm, MatrixUnits) for algorithm in arithmetic.algorithms):
        # A derivative that is computed by Winograd or another transforming algorithm.
        return Verdict(Status.UNSUPPORTED, case, f"no error bound for {name} is derived for {arithmetic}")
    verdict = judge_finite(arithmetic, case, miss, actual, wanted, name, has_bias=False)
    return verdict.replace(assumed=in_words(case, arithmetic))


# Integers whose sums fit in every accumulator format, so that the order of summation does not matter.
_STORAGE = ("integers",)

ADJOINT = Law(
    "adjoint",
    "The gradient in the input is T' g, the adjoint applied to g: <T x, g> = <x, T' g>.",
    "a backward pass that belongs to a different convolution than the forward pass",
    _adjoint,
    recipes=_STORAGE,
    dtypes=ROUNDED_DTYPES,
    procedure="gradients",
)
GRADIENTS_EXACT = Law(
    "gradients-exact",
    "On integers whose sums are exact, the gradients in input, weight and bias (T' g for the input) equal the exact "
    "ones, rounded once, for any set of operands that require them. They stay right in a second backward pass, next to "
    "another graph, and after an optimizer step has changed the operands. The result is right whether or not autograd "
    "records it.",
    "a backward kernel with wrong taps; a gradient that is right only if another one is also requested; a workspace of "
    "the backward pass that the next call overwrites",
    gradients_verdict,
    recipes=tuple(name for name, r in RECIPES.items() if r.has_gradients and r.kind != "real"),
    dtypes=ROUNDED_DTYPES,
    procedure="gradients",
)
GRADIENTS_BOUND = Law(
    "gradients-bound",
    "On real numbers, every gradient and its result lie within the derived rounding error bound of the exact values.",
    "a backward pass with less precision than the forward pass; gradients that were never written",
    gradients_verdict,
    recipes=tuple(name for name, r in RECIPES.items() if r.has_gradients and r.kind == "real"),
    dtypes=ROUNDED_DTYPES,
    procedure="gradients",
)
DOUBLE_BACKWARD = Law(
    "double-backward",
    "On integers, the gradients of the gradients are exact, of all gradients together and of each alone. They are T' "
    "and its derivative, with a direction in place of an operand.",
    "gradients that autograd treats as constants",
    DerivativeCheck(draw_with_directions, "double_backward", expected_derivatives),
    recipes=_STORAGE,
    dtypes=ROUNDED_DTYPES,
    procedure="double_backward",
)
FORWARD_MODE = Law(
    "forward-mode",
    "In forward mode on integers, the derivative is exactly T dx + dT x + db, or one of these terms alone. The result "
    "computed with it is right.",
    "a direction that is dropped",
    DerivativeCheck(draw_with_directions, "forward_mode", _tangent),
    recipes=_STORAGE,
    dtypes=ROUNDED_DTYPES,
    procedure="forward_mode",
)
FUNCTIONAL_GRADIENTS = Law(
    "functional-gradients",
    "torch.func.vjp and torch.func.grad give the gradients of the backward pass, and vjp the right result.",
    "gradients that are wrong only under torch.func",
    DerivativeCheck(draw_with_gradient, "functional_gradients", expected_gradients),
    recipes=_STORAGE,
    dtypes=ROUNDED_DTYPES,
    procedure="functional_gradients",
)
VMAP = Law(
    "vmap",
    "torch.func.vmap over images gives the result and the weight gradient of each image. Over weights or biases it "
    "gives the result of each. The position of the mapped axis does not matter.",
    "a batching rule that mixes images or maps the wrong axis",
    DerivativeCheck(draw_with_gradient, "vmap", expected_by_image),
    recipes=_STORAGE,
    dtypes=ROUNDED_DTYPES,
    procedure="vmap",
)
TRANSPOSED = Law(
    "transposed",
    "conv_transpose2d with the same weight equals the gradient in the input.",
    "a different order of taps or a different output padding in the transposed convolution",
    DerivativeCheck(draw_with_gradient, "transposed", _input_gradient),
    recipes=_STORAGE,
    dtypes=ROUNDED_DTYPES,
    procedure="transposed",
)
GRADIENTS = (
    ADJOINT,
    GRADIENTS_EXACT,
    GRADIENTS_BOUND,
    DOUBLE_BACKWARD,
    FORWARD_MODE,
    FUNCTIONAL_GRADIENTS,
    VMAP,
    TRANSPOSED,
)
