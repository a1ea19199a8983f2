"""When a prediction is what a subject returned."""

from __future__ import annotations

import torch

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.causes.trial import Trial, tried
from toeplitz_core.testing.findings.causes.windows import hypotheses
from toeplitz_core.testing.subjects import TorchSubject


def flips_columns(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None, *rest: object) -> torch.Tensor:
    """Reverses each row of the kernel, and sums in float32."""
    return torch.nn.functional.conv2d(x, w.flip(-1), b, *rest)


def test_sums_beyond_the_integers_of_the_format_are_rounded():
    """A mistake may have larger sums than the right result. They are rounded, and still explained."""
    line = "input=1x8x43x7 weight=8x1x2x2 stride=3 padding=1 groups=8 bias seed=258"
    trial = tried(TorchSubject("flips", flips_columns), Case.parse(line))
    assert isinstance(trial, Trial)
    found = next(one for one in hypotheses(trial) if (one.cause, one.detail) == ("kernel-flipped", "the columns"))
    predicted = found.predict(trial)
    assert predicted is not None
    assert bool((predicted != trial.actual).any())
    assert found.explains(trial)
    assert not trial.explained_by(torch.where(trial.truth == trial.truth.max(), predicted + 2, predicted))
    assert not trial.explained_by(trial.truth)
