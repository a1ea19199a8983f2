"""Gradients: against the adjoint of ``T`` and its derivative in the weight, never by finite differences.

So the kernels of float32 and of half precision are reached, which a finite difference cannot tell from noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from toeplitz_core.testing.case.dtypes import ROUNDED_DTYPES
from toeplitz_core.testing.case.recipes import RECIPES
from toeplitz_core.testing.data.gradients import draw_with_directions, draw_with_gradient
from toeplitz_core.testing.laws.forward import judged_results
from toeplitz_core.testing.laws.judging import (
    alike,
    exact_on_integers,
    gravest,
    in_words,
    is_exact,
    judge_bound,
    judge_exact,
    same_bits,
    shape_or_dtype,
    unanswered,
)
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.oracle.algorithms import MatrixUnits
from toeplitz_core.testing.oracle.gradients import expected_by_image, expected_derivatives, expected_gradients

if TYPE_CHECKING:
    from toeplitz_core.bound import Arithmetic
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.data.operands import Operands
    from toeplitz_core.testing.oracle.expected import Expected
    from toeplitz_core.testing.subjects.interface import Implementation, Procedure


# What a gradient can be in: results of other names are none, such as a derivative along a direction.
_VARIABLES = ("input", "weight", "bias", "grad")
_EMPTY = "there is no derivative to be judged, since the result is empty"


@dataclass(frozen=True, slots=True)
class _Gradients:
    """A law's check: what data to draw, what to ask of the subject, what its results must be."""

    draw: Callable[[Case], Operands]
    procedure: Procedure
    expected: Callable[[Case, Operands], Mapping[str, Expected]]

    def __call__(self, subject: Implementation, case: Case) -> Verdict:
        operands = self.draw(case)
        outcome = subject.run(case, operands, self.procedure)
        if outcome.status != "returned":
            return unanswered(case, outcome)
        if not outcome.results:
            return Verdict(Status.MISTRUSTED, case, _EMPTY)
        if subject.claims.repeatable and (again := _changed(outcome.results)):
            return Verdict(Status.FAIL, case, f"another backward pass gave another gradient in its {again}")
        wanted = self.expected(case, operands)
        outputs = {name: y for name, y in outcome.results.items() if name.partition(" ")[0] == "output"}
        verdicts = [judged_results(case, operands, outcome, outputs)] if outputs else []
        judged: list[tuple[str, torch.Tensor]] = []
        for result, actual in outcome.results.items():
            # "input alone" is the gradient in the input when no other operand has one.
            name, _, when = result.partition(" ")
            if result in outputs or any(name == other and alike(actual, values) for other, values in judged):
                continue
            judged.append((name, actual))
            said = (f"{name} gradient" if name in _VARIABLES else name) + (f" ({when})" if when else "")
            arithmetic = outcome.gradients.get(name, outcome.arithmetic)
            verdicts.append(judged_gradient(case, arithmetic, operands.miss_probability, actual, wanted[name], said))
        verdict = gravest(verdicts)
        if outcome.message and not verdict.status.is_failure:
            return Verdict(Status.UNSUPPORTED, case, outcome.message)
        return verdict.replace(printed=outcome.printed)


def _changed(results: Mapping[str, torch.Tensor]) -> str | None:
    """The operand whose gradient has other bits in a second backward pass."""
    pairs = ((name, results.get(f"{name} a second time")) for name in results)
    return next((name for name, again in pairs if again is not None and not same_bits(results[name], again)), None)


# Of the gradients in input, weight and bias.
gradients_verdict = _Gradients(draw_with_gradient, "gradients", expected_gradients)


def _adjoint(subject: Implementation, case: Case) -> Verdict:
    """``<T x, g> = <x, T' g>``, in whole numbers modulo 2^64: they are exact, but their products may be large."""
    operands = draw_with_gradient(case)
    plain, unbiased = case.replace(bias=False), replace(operands, bias=None)
    outcomes = subject.run(plain, unbiased), subject.run(plain, unbiased, "gradients")
    for outcome in outcomes:
        if outcome.status != "returned":
            return unanswered(case, outcome)
    if not outcomes[1].results:
        return Verdict(Status.MISTRUSTED, case, _EMPTY)
    if not all(exact_on_integers(a, case) for a in (outcomes[0].arithmetic, outcomes[1].gradients["input"])):
        return Verdict(Status.UNSUPPORTED, case, f"its arithmetic is not exact on integers: {outcomes[0].arithmetic}")
    if (message := shape_or_dtype(case, outcomes[0].output)) is not None:
        return Verdict(Status.FAIL, case, message)
    results = (outcomes[0].results["output"], operands.more["grad"], operands.input, outcomes[1].results["input"])
    if results[3].shape != operands.input.shape:
        return Verdict(Status.FAIL, case, f"the gradient in the input has shape {tuple(results[3].shape)}")
    left, right = _inner_product(*results[:2]), _inner_product(*results[2:])
    if left != right:
        said = [f"{numbers[0]}{f'{numbers[1]:+}i' if numbers[1:] else ''}" for numbers in (left, right)]
        return Verdict(Status.FAIL, case, f"<T x, g> = {said[0]}, but <x, T' g> = {said[1]}")
    if not any(left):
        return Verdict(Status.MISTRUSTED, case, "both products are 0, as they would be for wrong results")
    return Verdict(Status.PASS, case, miss_probability=operands.miss_probability)


def _inner_product(a: torch.Tensor, b: torch.Tensor) -> tuple[int, ...]:
    """The sum of ``conj(a) b`` of whole numbers, modulo 2^64; of complex ones real and imaginary part."""
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
        return Verdict(Status.FAIL, case, message)
    if any(not isinstance(algorithm, MatrixUnits) for algorithm in arithmetic.algorithms):
        # Winograd and the like in a convolution that is a part of a derivative.
        return Verdict(Status.UNSUPPORTED, case, f"how far off {name} may be is not derived for {arithmetic}")
    if RECIPES[case.data].kind == "real" or not is_exact(arithmetic, case, wanted):
        verdict = judge_bound(arithmetic, case, actual, wanted, name, has_bias=False)
    else:
        verdict = judge_exact(arithmetic, case, miss, actual, wanted, name)
    return verdict.replace(assumed=in_words(case, arithmetic))


# Whole numbers whose sums every format of a sum holds: how the sums are made does not matter.
_STORAGE = ("integers",)

ADJOINT = Law(
    "adjoint",
    "The product of the result with g is that of the input with the gradient in it: <T x, g> = <x, T' g>.",
    "a backward pass of another convolution than the forward one",
    _adjoint,
    recipes=_STORAGE,
    dtypes=ROUNDED_DTYPES,
    procedure="gradients",
)
GRADIENTS_EXACT = Law(
    "gradients-exact",
    "On integers whose sums are exact, a result is right whether autograd records it or not, and so are the gradients "
    "in input, weight and bias, or in some of them: T' g and its like, rounded once, also in a second backward pass, "
    "beside another graph, and after a step has changed the operands.",
    "a backward kernel with wrong taps; a gradient that is right only if another one is wanted too; a workspace of the "
    "backward pass that the next call writes",
    gradients_verdict,
    recipes=tuple(name for name, r in RECIPES.items() if r.has_gradients and r.kind != "real"),
    dtypes=ROUNDED_DTYPES,
    procedure="gradients",
)
GRADIENTS_BOUND = Law(
    "gradients-bound",
    "On real numbers, no gradient, nor what it is the gradient of, is further from the exact one than rounding errors "
    "can take it.",
    "a backward pass in less precision than the forward one; gradients that were never written",
    gradients_verdict,
    recipes=tuple(name for name, r in RECIPES.items() if r.has_gradients and r.kind == "real"),
    dtypes=ROUNDED_DTYPES,
    procedure="gradients",
)
DOUBLE_BACKWARD = Law(
    "double-backward",
    "The gradients of the gradients, of all together and of each alone, are exact on integers: T' and its derivative "
    "with a direction for an operand.",
    "gradients that autograd takes for constants",
    _Gradients(draw_with_directions, "double_backward", expected_derivatives),
    recipes=_STORAGE,
    dtypes=ROUNDED_DTYPES,
    procedure="double_backward",
)
FORWARD_MODE = Law(
    "forward-mode",
    "The derivative carried forward is T dx + dT x + db, or one of these alone, exactly on integers, beside a result "
    "that is right.",
    "a direction that is forgotten on the way",
    _Gradients(draw_with_directions, "forward_mode", _tangent),
    recipes=_STORAGE,
    dtypes=ROUNDED_DTYPES,
    procedure="forward_mode",
)
FUNCTIONAL_GRADIENTS = Law(
    "functional-gradients",
    "torch.func.vjp and torch.func.grad give the result and the gradients of the backward pass.",
    "gradients that differ under torch.func",
    _Gradients(draw_with_gradient, "functional_gradients", expected_gradients),
    recipes=_STORAGE,
    dtypes=ROUNDED_DTYPES,
    procedure="functional_gradients",
)
VMAP = Law(
    "vmap",
    "Mapped over the images of a batch, results and gradients in the weight are those of each image, and over weights "
    "or biases those of each, whichever axis is mapped.",
    "a batching rule that mixes images, or takes another axis",
    _Gradients(draw_with_gradient, "vmap", expected_by_image),
    recipes=_STORAGE,
    dtypes=ROUNDED_DTYPES,
    procedure="vmap",
)
TRANSPOSED = Law(
    "transposed",
    "conv_transpose2d with the same weight is the gradient in the input.",
    "another order of taps, or another output padding, in the transposed convolution",
    _Gradients(draw_with_gradient, "transposed", _input_gradient),
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
