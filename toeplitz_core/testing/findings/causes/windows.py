"""Mistakes in the index arithmetic of windows: kernel, stride, dilation and padding."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.findings.causes.hypothesis import Hypothesis, computing, reading, weighing
from toeplitz_core.testing.findings.causes.reading import Outside, Reading, taps_of
from toeplitz_core.testing.findings.causes.trial import Trial

# The axes of an image, with the name of each.
_AXES = ((0, "rows"), (1, "columns"))
_BOTH = ((0, 1), "")
# The parameters that are a distance, and the largest that is common: kernels often have no code for others.
_STEPS, _COMMON = ("stride", "dilation"), 2


def hypotheses(_: Trial) -> Iterator[Hypothesis]:
    """The mistakes of this kind that may explain a trial."""
    yield from _kernel()
    for parameter in wrong_parameters():
        yield from _taps(parameter)
    yield from _short()
    yield from _modes()


def wrong_parameters() -> Iterator[WrongParameter]:
    """Each wrong use of stride, dilation or padding."""
    for name in ("stride", "dilation", "padding"):
        yield from _swapped(name)
        yield from _ignored(name)
    yield from _shifted()


class WrongParameter(NamedTuple):
    """A parameter that some axes use in a wrong way.

    Parameters
    ----------
    cause, detail : str
        The identifier in the catalogue, and more in words.
    axes : tuple of int
        The axes of the image.
    of : callable
        From a geometry and an axis to what is used there: ``stride``, ``dilation``, and the zeros ``before`` and
        ``after`` the image. What is missing is used rightly.
    """

    cause: str
    detail: str
    axes: tuple[int, ...]
    of: Callable[[ConvGeometry, int], dict[str, int]]


def _sets() -> Iterator[tuple[tuple[int, ...], str]]:
    """Both axes, and each alone, with words for a detail."""
    yield _BOTH
    for axis, name in _AXES:
        yield (axis,), f"the {name}"


def _kernel() -> Iterator[Hypothesis]:
    for axes, words in _sets():
        flipped = [axis - 2 for axis in axes]
        yield weighing("kernel-flipped", words, partial(lambda dims, _, w: w.flip(dims), flipped))
    yield weighing("kernel-transposed", "", lambda _, w: w.mT if w.shape[-1] == w.shape[-2] else None)
    yield weighing("kernel-transposed", "its numbers are taken column by column", lambda _, w: w.mT.reshape(w.shape))


def _taps(parameter: WrongParameter) -> Iterator[Hypothesis]:
    """Results of the right shape; windows that leave the image read zeros, or are moved back inside."""
    cause, detail, axes, of = parameter
    for inside in (False, True):

        def change(trial: Trial, right: Reading, inside: bool = inside) -> Reading:
            g = trial.case.geometry
            taps = [right.rows, right.columns]
            for axis in axes:
                used = of(g, axis)
                used.pop("after", None)
                taps[axis] = taps_of(g, axis, kept_inside=inside, **used)
            if inside:  # such a window begins in the image, even where another mistake moves its taps
                before = [
                    of(g, axis).get("before", g.pads[axis][0]) if axis in axes else g.pads[axis][0] for axis in (0, 1)
                ]
                limits = [g.padded_size[a] - g.kernel_extent[a] - before[a] for a in (0, 1)]
                taps = [
                    t - (t[:, :1] - limit).clamp(min=0) if t.numel() else t
                    for t, limit in zip(taps, limits, strict=True)
                ]
            return right.replace(rows=taps[0], columns=taps[1])

        words = f"{detail}{', with windows kept inside' * inside}".removeprefix(", ")
        yield reading(cause, words, change)


def _swapped(name: str) -> Iterator[WrongParameter]:
    def of(g: ConvGeometry, axis: int) -> dict[str, int]:
        if name == "padding":
            return dict(zip(("before", "after"), g.pads[1 - axis], strict=True))
        return {name: getattr(g, name)[1 - axis]}

    yield WrongParameter(f"{name}-swapped", "", (0, 1), of)
    yield WrongParameter(f"{name}-swapped", "columns have that of rows", (1,), of)
    yield WrongParameter(f"{name}-swapped", "rows have that of columns", (0,), of)


def _ignored(name: str) -> Iterator[WrongParameter]:
    def none(g: ConvGeometry, axis: int) -> dict[str, int]:  # noqa: ARG001  # as the other one
        return {"before": 0, "after": 0} if name == "padding" else {name: 1}

    def short(g: ConvGeometry, axis: int) -> dict[str, int]:
        return {"stride": min(g.stride[axis], g.kernel_extent[axis])}

    for axes, words in _sets():
        yield WrongParameter(f"{name}-ignored", words, axes, none)
    if name in _STEPS:  # only 1 and 2 have been written

        def common(g: ConvGeometry, axis: int) -> dict[str, int]:
            step = getattr(g, name)[axis]
            return {name: step if step <= _COMMON else 1}

        yield WrongParameter(f"{name}-ignored", f"where it is more than {_COMMON}", (0, 1), common)
    if name == "stride":
        yield WrongParameter("stride-ignored", "beyond the extent of the kernel", (0, 1), short)


def _shifted() -> Iterator[WrongParameter]:
    yield WrongParameter(
        "padding-shifted",
        "before and behind swapped",
        (0, 1),
        lambda g, axis: dict(zip(("after", "before"), g.pads[axis], strict=True)),
    )
    for (axes, words), by in itertools.product(_sets(), (1, -1)):

        def of(g: ConvGeometry, axis: int, by: int = by) -> dict[str, int]:
            # There is one zero to move to the other side.
            before, behind = g.pads[axis]
            return {"before": before + by, "after": behind - by} if (behind if by > 0 else before) else {}

        side = "one too many before" if by > 0 else "one too few before"
        yield WrongParameter("padding-shifted", f"{side} {words}".rstrip(), axes, of)
    for (axes, words), before in itertools.product(_sets(), (True, False)):

        def all_on_one_side(g: ConvGeometry, axis: int, before: bool = before) -> dict[str, int]:
            total = sum(g.pads[axis])
            return {"before": total * before, "after": total * (not before)}

        side = f"all zeros {'before' if before else 'behind'} {words}".rstrip()
        yield WrongParameter("padding-shifted", side, axes, all_on_one_side)


def _short() -> Iterator[Hypothesis]:
    """Outputs that would read the outermost zeros are not computed."""
    for (axes, words), behind, kept in itertools.product(_sets(), (True, False), ("zero", "the bias")):

        def compute(
            trial: Trial,
            x: torch.Tensor,
            w: torch.Tensor,
            b: torch.Tensor | None,
            axes: tuple[int, ...] = axes,
            behind: bool = behind,
            kept: str = kept,
        ) -> torch.Tensor | None:
            g, right = trial.case.geometry, trial.reading
            y = right(x, w, b)
            if y is None:
                return None
            there = torch.ones(y.shape[-2:], dtype=torch.bool)
            for axis in axes:
                before, after = g.pads[axis]
                taps = (right.rows, right.columns)[axis]
                if not (after if behind else before):
                    continue
                read = taps[:, -1] >= g.input_size[axis] + after - 1 if behind else taps[:, 0] <= -before
                there &= ~(read[:, None] if axis == 0 else read)
            other = torch.zeros_like(y)
            return torch.where(there, y, other if kept == "zero" or b is None else other + b[:, None, None])

        side = "behind" if behind else "before"
        yield computing("padding-short", f"{side} {words or 'both axes'}: {kept} in its place", compute)


def _modes() -> Iterator[Hypothesis]:
    modes: tuple[tuple[Outside, str], ...] = (
        ("edge", "the nearest pixel"),
        ("reflect", "the mirrored pixel"),
        ("circular", "the pixel of the opposite side"),
        ("memory of rows", "the pixel that follows or precedes in memory"),
        ("memory", "the pixel that follows or precedes in memory, of other channels too"),
        (float("nan"), "NaN"),
        (1.0, "one"),
        (-1.0, "minus one"),
    )
    for mode, words in modes:
        yield reading(
            "padding-mode", f"{words} in place of zero", partial(lambda mode, _, r: r.replace(outside=mode), mode)
        )
    for mode, words in modes[:5]:
        # Only behind each row: before it there is zero.
        yield computing("padding-mode", f"{words} in place of zero, behind rows only", _behind(mode))
    for side in ("below", "above"):
        yield computing("padding-mode", f"NaN in place of zero {side} the image", _nan(side))


def _behind(mode: Outside) -> Callable[..., torch.Tensor | None]:
    def compute(trial: Trial, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None) -> torch.Tensor | None:
        right = trial.reading
        width, nowhere = x.shape[-1], -(10**6)
        outside = right.columns >= width
        inner, outer = torch.where(outside, nowhere, right.columns), torch.where(outside, right.columns, nowhere)
        one = right.replace(columns=inner)(x, w, b)
        rows = torch.where((right.rows >= 0) & (right.rows < x.shape[-2]), right.rows, nowhere)
        far = right.replace(rows=rows, columns=outer)
        if mode in ("edge", "reflect", "circular"):
            columns = {
                "edge": torch.full_like(outer, width - 1),
                "reflect": (2 * (width - 1) - outer).clamp(0, width - 1),
                "circular": outer % width,
            }[str(mode)]
            far = far.replace(columns=torch.where(outside, columns, nowhere))
        else:
            far = right.replace(columns=torch.where(outside, right.columns, nowhere), outside=mode)
        other = far(x, w, None)
        return None if one is None or other is None else one + other

    return compute


def _nan(side: str) -> Callable[..., torch.Tensor | None]:
    def compute(trial: Trial, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None) -> torch.Tensor | None:
        right = trial.reading
        y = right(x, w, b)
        if y is None or not y.is_floating_point():
            return None
        outside = right.rows >= x.shape[-2] if side == "below" else right.rows < 0
        return y.masked_fill(outside.any(1)[:, None], float("nan"))

    return compute
