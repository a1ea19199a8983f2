"""A trial: what a subject computed for a case, next to what is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from toeplitz_core.products import by_image, forward
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.recipe_table import RECIPES
from toeplitz_core.testing.data.operands import Operands, wide
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.data.whole_numbers import storage_limit
from toeplitz_core.testing.findings.causes.reading import Reading
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.families.gradients import DerivativeCheck, gradients_verdict
from toeplitz_core.testing.laws.judging import exact_on_integers
from toeplitz_core.testing.oracle.expected import Expected
from toeplitz_core.testing.oracle.results import expected
from toeplitz_core.testing.subjects.interface import Implementation
from toeplitz_core.testing.subjects.outcome import OUTPUT, Outcome
from toeplitz_core.testing.subjects.placement import place

# How many times the largest bound, or the spacing of large integers, a prediction may be off.
_SLACK = 4
# The names of a trial's numbers along each axis; the bias gradient has the first one only.
AXES = {
    "output": ("image", "output channel", "row", "column"),
    "input": ("image", "input channel", "row", "column"),
    "weight": ("output channel", "input channel", "kernel row", "kernel column"),
    "bias": ("output channel",),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """What a subject computed for a case, next to what is right. All tensors have a batch axis, and a wide dtype.

    Parameters
    ----------
    case : Case
        The convolution.
    quantity : str
        What was computed: the ``output``, or the gradient in ``input``, ``weight`` or ``bias``.
    input, weight : float64, complex128 or int64 tensor
        The operands.
    bias, grad : tensor, optional
        The bias, and the gradient of the result; None if there is none.
    exact, truth, actual : tensor
        The exact quantity, the same rounded once to the dtype of the case, and what the subject returned. An output may
        have another shape.
    bound : float64 tensor, optional
        The allowed error of each element; None if the result must be exact.
    operands : Operands
        The operands in the dtype of the case.
    plain : bool
        Whether the quantity is the result of a convolution, or its first gradient.
    when : str
        In which of several calls the numbers were wrong; empty for the plain one.
    rounds : bool
        Whether the declared arithmetic may round whole numbers, whose sums are exact in others.
    meets_padding : bool
        Whether ``exact`` and ``truth`` are NaN where a weight that is not finite meets a zero of the padding.
    other_truth : tensor, optional
        What is right too: ``truth`` with the other choice of ``meets_padding``. None where both are the same.
    """

    case: Case
    quantity: str
    input: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor | None
    grad: torch.Tensor | None
    exact: torch.Tensor
    truth: torch.Tensor
    actual: torch.Tensor
    bound: torch.Tensor | None
    operands: Operands
    plain: bool = True
    when: str = ""
    rounds: bool = False
    meets_padding: bool = False
    other_truth: torch.Tensor | None = None

    @property
    def reading(self) -> Reading:
        """The index arithmetic that is right."""
        return Reading.of(self.case.geometry).replace(meets_padding=self.meets_padding)

    @property
    def meeting_padding(self) -> Trial | None:
        """The same trial, with the truth of implementations that multiply weights by the zeros of the padding.

        None if that is the same.
        """
        if self.other_truth is None or self.meets_padding:
            return None
        other = self.other_truth
        return replace(self, exact=other, truth=other, other_truth=self.truth, meets_padding=True)

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of the axes of the quantity."""
        return AXES.get(self.quantity, AXES["output"])[-self.truth.ndim :]

    @property
    def wrong(self) -> torch.Tensor:
        """Which elements are wrong."""
        if self.is_misshapen:
            return torch.ones_like(self.truth, dtype=torch.bool)
        right = self._equal(self.truth, self.actual)
        if self.other_truth is not None:
            right |= self._equal(self.other_truth, self.actual)
        return ~right if self.bound is None else ~(right | ((self.actual - self.exact).abs() <= self.bound))

    @property
    def is_wrong(self) -> bool:
        """Whether any element is wrong."""
        return self.is_misshapen or bool(self.wrong.any())

    @property
    def is_misshapen(self) -> bool:
        """Whether the result has another shape."""
        return self.actual.shape != self.truth.shape

    def wrong_along(self, axis: int) -> list[int]:
        """The indices along an axis at which any element is wrong."""
        others = [at for at in range(self.wrong.ndim) if at != axis]
        found = self.wrong.sum(others) if others else self.wrong
        return found.nonzero().flatten().tolist()

    def explained_by(self, predicted: torch.Tensor | None, other: torch.Tensor | None = None) -> bool:
        """Whether a prediction is what the subject returned, and is not what is right.

        Each element may also be that of another prediction: the one in which weights meet the zeros of the padding.

        A prediction has other sums than the right result. Those beyond the integers of the format are rounded where
        the right ones are not. For real numbers it has rounding errors of its own.
        """
        if predicted is None or predicted.shape != self.actual.shape:
            return False
        close = self._equal(predicted, self.actual)
        if other is not None and other.shape == self.actual.shape:
            close |= self._equal(other, self.actual)
        error, dtype = (self.actual - predicted).abs(), self.case.torch_dtype
        if self.bound is not None and self.bound.numel():
            close |= error <= _SLACK * self.bound.max()
        elif RECIPES[self.case.data].kind == "storage" and self.case.dtype != "int64":
            spacing = torch.finfo(dtype).eps * torch.where(predicted.isfinite(), predicted.abs(), 0)
            close |= (predicted.abs() > storage_limit(self.case)) & (error <= _SLACK * spacing)
        if self.is_misshapen:
            return bool(close.all())
        wrong = self.wrong
        says_nothing = bool(self._equal(predicted, self.truth)[wrong].any())
        return bool(close.all()) and bool(wrong.any()) and not says_nothing

    def _equal(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Where two tensors have the same number when they are rounded; NaN equals NaN."""
        one, other = rounded_to(self.case, one), rounded_to(self.case, other)
        return (one == other) | (one.isnan() & other.isnan())

    def placed(self, operand: str) -> torch.Tensor:
        """An operand as the subject gets it: in the strides and the dtype of the case."""
        return place(self.case, operand, getattr(self.operands, operand))


def rounded_to(case: Case, values: torch.Tensor) -> torch.Tensor:
    """Wide numbers rounded to the dtype of a case."""
    if values.is_complex() and not case.torch_dtype.is_complex:
        values = values.real
    return wide(values.to(case.torch_dtype))


def tried(
    subject: Implementation,
    case: Case,
    quantity: str = OUTPUT.of,
    change: Callable[[Operands], Operands] = lambda operands: operands,
) -> Trial | Outcome:
    """The trial of a subject on a case, or the outcome if the subject returned no such quantity.

    Parameters
    ----------
    case : Case
        Its law decides which procedure computes the quantity, if that is no plain result or gradient.
    quantity : str
        ``output``, the operand whose gradient is asked for, or another result of the law's procedure.
    change : callable
        Takes the operands that the case draws, and returns those of the call.
    """
    check = LAWS[case.law].check if case.law in LAWS else None
    of = check if isinstance(check, DerivativeCheck) else gradients_verdict
    if quantity == OUTPUT.of and of is not check:
        operands, reference = change(draw(case)), None
        outcome = subject.run(case, operands)
    else:
        operands = change(of.draw(case))
        outcome = subject.run(case, operands, of.procedure)
        reference = None if quantity == OUTPUT.of else of.expected(case, operands).get(quantity)
    results = [(name.when, y) for name, y in outcome.results.items() if name.of == quantity]
    if reference is None and quantity != OUTPUT.of:
        return outcome
    if not results:
        return outcome
    exact, bound = _exact(case, operands, outcome, reference, quantity)
    truth = rounded_to(case, exact)
    # The first wrong one of several results of the same quantity.
    when, actual = next((one for one in results if not torch.equal(wide(one[1].cpu()), truth)), results[0])
    comparable = actual.shape == truth.shape or (quantity == OUTPUT.of and actual.ndim == truth.ndim)
    if not comparable or actual.dtype != case.torch_dtype:
        return outcome
    added = (None,) if case.batch is None and quantity in ("output", "input") else (...,)
    x = wide(operands.input)
    grad = None if operands.grad is None else wide(operands.grad)
    if case.batch is None:
        x, grad = x[None], None if grad is None else grad[None]
    return _with_other_truth(
        Trial(
            case,
            quantity,
            x,
            wide(operands.weight),
            None if operands.bias is None else wide(operands.bias),
            grad,
            exact[added],
            truth[added],
            wide(actual.detach().cpu())[added],
            None if bound is None else bound[added],
            operands,
            plain=quantity == OUTPUT.of or of.procedure in ("gradients", "functional_gradients", "transposed"),
            when=when,
            rounds=not exact_on_integers(outcome.gradients.get(quantity, outcome.arithmetic), case),
        )
    )


def trial_of(case: Case, operands: Operands, outcome: Outcome, *, of_any_shape: bool = False) -> Trial | None:
    """The trial of a call whose operands may be any numbers; None if it returned nothing that can be compared.

    Parameters
    ----------
    of_any_shape : bool
        Whether a result of another shape, with as many axes, can be compared.
    """
    y = outcome.output
    if y is None or y.dtype != case.torch_dtype:
        return None
    if tuple(y.shape) != case.output_shape and not (of_any_shape and y.ndim == len(case.output_shape)):
        return None
    exact, bound = _exact(case, operands, outcome, None, OUTPUT.of)
    added = (None,) if case.batch is None else (...,)
    x, bias = wide(operands.input), operands.bias
    return _with_other_truth(
        Trial(
            case,
            OUTPUT.of,
            x[added],
            wide(operands.weight),
            None if bias is None else wide(bias),
            None,
            exact[added],
            rounded_to(case, exact)[added],
            wide(y.detach().cpu())[added],
            None if bound is None else bound[added],
            operands,
        )
    )


def _with_other_truth(trial: Trial) -> Trial:
    """The trial with both truths where a weight that is not finite meets padding: it is skipped, or multiplied."""
    if trial.quantity != OUTPUT.of or trial.truth.is_complex() or bool(trial.weight.isfinite().all()):
        return trial
    # The oracle's sums may contain products with padding.
    skipped, met = (
        trial.reading.replace(meets_padding=meets)(trial.input, trial.weight, trial.bias) for meets in (False, True)
    )
    if skipped is None or met is None:
        return trial
    truth, other = rounded_to(trial.case, skipped), rounded_to(trial.case, met)
    same = bool((truth.isnan() == other.isnan()).all())
    return replace(trial, exact=skipped, truth=truth, other_truth=None if same else other)


def _exact(
    case: Case, operands: Operands, outcome: Outcome, reference: Expected | None, quantity: str
) -> tuple[torch.Tensor, torch.Tensor | None]:
    exact = RECIPES[case.data].kind != "real"
    if reference is None:
        if exact:
            g, bias = case.geometry, operands.bias
            value = forward(g, wide(operands.weight), by_image(g, wide(operands.input)))
            value = value if bias is None else value + wide(bias)[:, None]
            return value.reshape(case.output_shape), None
        reference = expected(case.geometry, operands.input, operands.weight, operands.bias)
        arithmetic, has_bias = outcome.arithmetic, case.bias
    else:
        arithmetic, has_bias = outcome.gradients.get(quantity, outcome.arithmetic), False
    value = torch.ldexp(reference.value.double(), torch.tensor(reference.exponent))
    bound = None
    if not exact:
        bound = torch.ldexp(reference.bound(arithmetic, has_bias=has_bias), torch.tensor(reference.exponent))
    if reference.is_complex:
        value = torch.view_as_complex(value.contiguous())
        bound = None if bound is None else bound.expand(*value.shape, 2).sum(-1)
    return value, None if bound is None else bound.expand(value.shape)
