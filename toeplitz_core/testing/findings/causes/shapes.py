"""Mistakes that give the result another shape: a wrong parameter in the number of outputs too, or outputs left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.causes.hypothesis import Hypothesis
from toeplitz_core.testing.findings.causes.trial import AXES, Trial
from toeplitz_core.testing.findings.causes.windows import wrong_parameters

# From a geometry and an axis to the parameters that are used there.
_Of = Callable[[ConvGeometry, int], dict[str, int]]


def hypotheses(trial: Trial) -> Iterator[Hypothesis]:
    """The mistakes of this kind that may explain a trial, which may also have the right shape."""
    if trial.quantity != "output":
        return
    for cause, detail, axes, of in wrong_parameters():
        yield Hypothesis(cause, detail, partial(_natural, axes, of, False))
        if trial.case.padding == "same":
            words = f"{detail}, with the zeros of the right convolution".removeprefix(", ")
            yield Hypothesis(cause, words, partial(_natural, axes, of, True))
    for axis, name in enumerate(AXES["output"]):
        for words, part in (("last", slice(None, -1)), ("first", slice(1, None))):
            yield Hypothesis("outputs-dropped", f"the {words} {name} is missing", partial(_without, axis, part))


def have_no_window(cause: str, case: Case) -> bool:
    """Whether a mistake with this identifier leaves no window that fits into the image, so that nothing is returned."""
    return any(
        _taps(case, parameter.axes, parameter.of, kept) is None
        for parameter in wrong_parameters()
        for kept in (False, True)
        if parameter.cause == cause
    )


def _natural(axes: tuple[int, ...], of: _Of, kept: bool, trial: Trial) -> torch.Tensor | None:
    """The convolution with other parameters, and with as many outputs as they give; None if they give none."""
    taps = _taps(trial.case, axes, of, kept)
    if taps is None:
        return None
    changed = trial.reading.replace(rows=taps[0], columns=taps[1])
    return changed(trial.input, trial.weight, trial.bias)


def _taps(case: Case, axes: tuple[int, ...], of: _Of, kept: bool) -> list[torch.Tensor] | None:
    """The pixels that the taps read along each axis; None if no window fits.

    The zeros of padding='same' follow from the other parameters, unless those of the right ones are ``kept``.
    """
    g = case.geometry
    taps = []
    for axis in range(2):
        used = of(g, axis) if axis in axes else {}
        stride, dilation = used.get("stride", g.stride[axis]), used.get("dilation", g.dilation[axis])
        before, after = used.get("before", g.pads[axis][0]), used.get("after", g.pads[axis][1])
        if case.padding == "same" and "before" not in used and not kept:
            total = dilation * (g.kernel_size[axis] - 1)
            before, after = total // 2, total - total // 2
        free = g.input_size[axis] + before + after - dilation * (g.kernel_size[axis] - 1) - 1
        if free < 0:
            return None
        starts = torch.arange(free // stride + 1) * stride - before
        taps.append(starts[:, None] + torch.arange(g.kernel_size[axis]) * dilation)
    return taps


def _without(axis: int, part: slice, trial: Trial) -> torch.Tensor | None:
    """The right result without some outputs along an axis."""
    size = trial.truth.shape[axis]
    return trial.truth.index_select(axis, torch.arange(size)[part]) if size > 1 else None
