"""Whether a wrong result comes from an earlier call: a result, a weight or a parameter that was kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch

from toeplitz_core.products import by_image, forward
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Operands, wide
from toeplitz_core.testing.findings.causes.trial import Trial, trial_of
from toeplitz_core.testing.laws.law import Law
from toeplitz_core.testing.subjects.interface import Implementation, Procedure
from toeplitz_core.testing.subjects.outcome import Outcome

# Earlier calls are compared up to this many calls back.
_LOOK_BACK = 24


class _Recorder:
    """A subject whose plain calls are kept, each with its operands and its outcome."""

    def __init__(self, subject: Implementation) -> None:
        self._subject = subject
        self.calls: list[tuple[Case, Operands, Outcome]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._subject, name)

    def run(self, case: Case, operands: Operands, procedure: Procedure = "forward") -> Outcome:
        outcome = self._subject.run(case, operands, procedure)
        if procedure == "forward":
            self.calls.append((case, operands, outcome))
        return outcome

    def poisoned(self) -> Sequence[Implementation]:
        return ()


@dataclass(frozen=True, slots=True)
class WrongCall:
    """A call of a law that returned wrong numbers.

    Parameters
    ----------
    trial : Trial
        The call.
    alone : bool
        Whether the same call with the same numbers is wrong in a fresh process too.
    kept : str
        What it took of an earlier call, in words; empty if it is not known or if it is wrong alone.
    """

    trial: Trial
    alone: bool
    kept: str = ""


def wrong_calls(subject: Implementation, law: Law, case: Case, draws: int) -> Iterator[WrongCall]:
    """The first wrong call of a law for a case, and for the same case with other numbers.

    Parameters
    ----------
    draws : int
        How often the law is checked, each time in a fresh process where that is possible.
    """
    for draw in range(draws):
        recorder = _Recorder(subject)
        subject.restart()
        law(cast("Implementation", recorder), case.replace(seed=(case.seed + draw) % 2**64))
        subject.restart()
        for at, (later, operands, outcome) in enumerate(recorder.calls):
            trial = trial_of(later, operands, outcome)
            if trial is None or not trial.is_wrong:
                continue
            again = trial_of(later, operands, subject.run(later, operands))
            if again is not None and again.is_wrong:
                yield WrongCall(trial, alone=True)
            else:
                yield WrongCall(trial, alone=False, kept=_kept(trial, recorder.calls[max(0, at - _LOOK_BACK) : at]))
            break


def _kept(trial: Trial, earlier: Sequence[tuple[Case, Operands, Outcome]]) -> str:
    """What a wrong call took of an earlier one, in words."""
    for before, others, _ in reversed(earlier):
        for words, predicted in _mixtures(trial.case, trial.operands, before, others):
            if predicted is not None and trial.explained_by(predicted.reshape(trial.actual.shape)):
                return words
    return ""


def _mixtures(
    later: Case, operands: Operands, before: Case, others: Operands
) -> Iterator[tuple[str, torch.Tensor | None]]:
    """What a call returns if it takes something of an earlier one."""
    if before.output_shape == later.output_shape:
        yield "the result of an earlier call", _computed(before, others)
    for name, changes in (
        ("weight", {"weight": others.weight}),
        ("input", {"input": others.input}),
        ("bias", {"bias": others.bias}),
        ("weight and bias", {"weight": others.weight, "bias": others.bias}),
        ("input and bias", {"input": others.input, "bias": others.bias}),
    ):
        given = {"input": operands.input, "weight": operands.weight, "bias": operands.bias} | changes
        shapes = all(
            (t is None) == (own is None) and (t is None or own is None or t.shape == own.shape)
            for t, own in ((given["input"], operands.input), (given["weight"], operands.weight))
        )
        if shapes:
            yield f"the {name} of an earlier call", _of(later, given["input"], given["weight"], given["bias"])
    for name in ("stride", "padding", "dilation", "groups"):
        if getattr(later, name) != getattr(before, name):
            try:
                mixed = later.replace(**{name: getattr(before, name)})
            except ValueError:
                continue
            if mixed.output_shape == later.output_shape:
                yield f"the {name} of an earlier call", _computed(mixed, operands)


def _computed(case: Case, operands: Operands) -> torch.Tensor | None:
    return _of(case, operands.input, operands.weight, operands.bias)


def _of(
    case: Case, x: torch.Tensor | None, weight: torch.Tensor | None, bias: torch.Tensor | None
) -> torch.Tensor | None:
    if x is None or weight is None:
        return None
    g = case.geometry
    y = forward(g, wide(weight), by_image(g, wide(x)))
    y = y if bias is None else y + wide(bias)[:, None]
    return y.reshape(case.output_shape)
