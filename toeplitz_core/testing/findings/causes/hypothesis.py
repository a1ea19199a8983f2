"""A hypothesis: a mistake of the catalogue with all its details, which predicts what a subject returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from toeplitz_core.testing.findings.causes.reading import Reading
from toeplitz_core.testing.findings.causes.trial import Trial

Tensor = torch.Tensor
# From a trial and its input, weight and bias, which may be variables of autograd, to a wrong result of the convolution.
Compute = Callable[[Trial, Tensor, Tensor, Tensor | None], Tensor | None]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A mistake that predicts what a subject returns.

    Parameters
    ----------
    cause : str
        The identifier in the catalogue.
    detail : str
        Which of the mistakes with this identifier it is, in words; empty if there is only one.
    of : callable
        Returns what the subject would return in a trial, or None. It may fail on sizes that it does not fit.
    """

    cause: str
    detail: str
    of: Callable[[Trial], Tensor | None]

    def predict(self, trial: Trial) -> Tensor | None:
        """What the subject would return in a trial; None if the mistake does not apply there."""
        try:
            return self.of(trial)
        except (IndexError, RuntimeError):  # such as a part that these sizes do not have
            return None

    def explains(self, trial: Trial) -> bool:
        """Whether the subject returned what the mistake predicts, and that is wrong."""
        other = trial.meeting_padding
        return trial.explained_by(self.predict(trial), None if other is None else self.predict(other))


def computing(cause: str, detail: str, compute: Compute) -> Hypothesis:
    """A mistake in the convolution itself. Gradients follow from it as autograd derives them."""

    def predict(trial: Trial) -> Tensor | None:
        if trial.quantity == "output":
            return compute(trial, trial.input, trial.weight, trial.bias)
        if not trial.plain:
            return None
        variables = {"input": trial.input, "weight": trial.weight, "bias": trial.bias}
        chosen = variables.get(trial.quantity)
        if chosen is None or trial.grad is None:
            return None
        variables[trial.quantity] = chosen = chosen.clone().requires_grad_()
        x, weight = variables["input"], variables["weight"]
        assert x is not None
        assert weight is not None
        y = compute(trial, x, weight, variables["bias"])
        if y is None or not y.requires_grad or y.shape != trial.grad.shape:
            return None
        return torch.autograd.grad(y, chosen, trial.grad)[0]

    return Hypothesis(cause, detail, predict)


def reading(cause: str, detail: str, change: Callable[[Trial, Reading], Reading | None]) -> Hypothesis:
    """A mistake in the index arithmetic alone."""

    def compute(trial: Trial, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        changed = change(trial, trial.reading)
        return None if changed is None else changed(x, weight, bias)

    return computing(cause, detail, compute)


def weighing(cause: str, detail: str, change: Callable[[Trial, Tensor], Tensor | None]) -> Hypothesis:
    """A mistake in the weight alone: the convolution is right for another weight."""

    def compute(trial: Trial, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
        changed = change(trial, weight)
        return None if changed is None else trial.reading(x, changed, bias)

    return computing(cause, detail, compute)
