"""Mistakes in what was computed: parts dropped, moved, repeated, scaled, or taken from another image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from toeplitz_core.testing.findings.causes.channels import BLOCKS
from toeplitz_core.testing.findings.causes.hypothesis import Hypothesis, reading
from toeplitz_core.testing.findings.causes.trial import Trial

Tensor = torch.Tensor
# Which indices along one axis of this size are concerned; None if the mistake does not apply.
Part = Callable[[int], slice | None]
# A gradient that is 0: after ``gradient-``, this is its cause.
MISSING = Hypothesis("missing", "it is 0 everywhere", lambda trial: torch.zeros_like(trial.truth))
# Where a mistake lies, in words, and the indices along an axis.
_PARTS: tuple[tuple[str, Part], ...] = (
    ("the last {}", lambda n: slice(n - 1, n)),
    ("the first {}", lambda _: slice(0, 1)),
    ("the last two {}s", lambda n: slice(n - 2, n) if n > 1 else None),
    *(
        (
            f"{{}}s after the last full block of {block}",
            partial(lambda b, n: slice(n // b * b, n) if n % b else None, block),
        )
        for block in BLOCKS
    ),
    *(
        (
            f"the last {{}} unless a block of {block} is full",
            partial(lambda b, n: slice(n - 1, n) if n % b else None, block),
        )
        for block in BLOCKS
    ),
)


def hypotheses(trial: Trial) -> Iterator[Hypothesis]:
    """The mistakes of this kind that may explain a trial."""
    if not trial.truth.numel():
        return
    yield from _batch(trial)
    yield from _everywhere(trial)
    yield from _shifted(trial)
    yield from _dropped(trial)
    yield from _duplicated(trial)


def _batch(trial: Trial) -> Iterator[Hypothesis]:
    if trial.quantity in ("weight", "bias"):
        yield from _summed_over_images()
    if trial.axes[0] != "image":
        return
    changes: list[tuple[str, Callable[[Tensor], Tensor]]] = [
        ("the result of the first image for all", lambda y: y[:1].expand(y.shape)),
        ("the result of the last image for all", lambda y: y[-1:].expand(y.shape)),
        ("images in reverse order", lambda y: y.flip(0)),
        ("the result of the next image", lambda y: y.roll(-1, 0)),
        ("the result of the previous image", lambda y: y.roll(1, 0)),
        ("the sum over all images", lambda y: y.sum(0, keepdim=True).expand(y.shape)),
    ]
    bad = trial.wrong_along(0)
    for start in [*BLOCKS, bad[0]] if bad else []:
        changes += [
            (
                f"the result of the first image from image {start} on",
                partial(lambda s, y: torch.cat((y[:s], y[:1].expand(y[s:].shape))), start),
            ),
            (
                f"the result of the image before image {start} from there on",
                partial(lambda s, y: torch.cat((y[:s], y[s - 1 : s].expand(y[s:].shape))) if s <= len(y) else y, start),
            ),
            (
                f"the images again from the first, from image {start} on",
                partial(lambda s, y: y[torch.arange(len(y)) % s] if s else y, start),
            ),
        ]
    for words, change in changes:
        yield Hypothesis("batch-mixed", words, partial(lambda change, t: change(t.truth), change))

    def images(t: Trial) -> Tensor | None:
        """Each image's result is that of some image."""
        found = []
        for y in t.actual:
            same = next((other for other in t.truth if torch.equal(other, y)), None)
            if same is None:
                return None
            found.append(same)
        return torch.stack(found) if found else None

    yield Hypothesis("batch-mixed", "each result is that of some image", images)


def _everywhere(trial: Trial) -> Iterator[Hypothesis]:
    """All elements are scaled, or a constant is added, or only the wrong part of them."""
    truth, actual = trial.truth, trial.actual
    usable = (truth != 0) & truth.isfinite() & actual.isfinite()
    for factor in _single(actual[usable] / truth[usable], trial):
        if factor not in (0.0, 1.0):
            yield Hypothesis("outputs-scaled", f"by {factor:g}", partial(lambda f, t: t.truth * f, factor))
    usable = truth.isfinite() & actual.isfinite()
    for offset in _single(actual[usable] - truth[usable], trial):
        if offset != 0:
            yield Hypothesis("constant-added", f"{offset:g}", partial(lambda c, t: t.truth + c, offset))
    wrong = trial.wrong & usable & (truth != 0)
    for axis, name in enumerate(trial.axes):
        for words, part in _PARTS:
            at = part(truth.shape[axis])
            if at is None or not _only(trial.wrong, axis, at):
                continue
            for factor in _single(actual[wrong] / truth[wrong], trial):
                if factor not in (0.0, 1.0):
                    yield _partly(
                        "outputs-scaled",
                        f"{words.format(name)} by {factor:g}",
                        axis,
                        part,
                        partial(lambda f, y, _: y * f, factor),
                    )
            for offset in _single((actual - truth)[wrong], trial):
                yield _partly(
                    "constant-added",
                    f"{offset:g} to {words.format(name)}",
                    axis,
                    part,
                    partial(lambda c, y, _: y + c, offset),
                )


def _single(values: Tensor, trial: Trial) -> list[complex]:
    """The only value, if all are the same; for bounded results, the rounded median."""
    if not values.numel():
        return []
    if values.is_complex():
        first = values[0]
        return [complex(first)] if bool(((values - first).abs() < 1e-9).all()) else []
    values = values.double()
    middle = float(values.median())
    if not math.isfinite(middle):
        return []
    if trial.bound is not None:
        return [float(f"{middle:.3g}")]
    return [middle] if bool(((values - middle).abs() <= 1e-9 * max(1.0, abs(middle))).all()) else []


def _only(wrong: Tensor, axis: int, at: slice) -> bool:
    """Whether there are wrong elements, all of them at these indices."""
    outside = torch.ones(wrong.shape[axis], dtype=torch.bool)
    outside[at] = False
    return bool(wrong.any()) and not bool(wrong.movedim(axis, 0)[outside].any())


def _partly(
    cause: str, words: str, axis: int, part: Part, change: Callable[[Tensor, Trial], Tensor | None]
) -> Hypothesis:
    """A mistake at some indices along one axis."""

    def predict(trial: Trial) -> Tensor | None:
        y = trial.truth
        if axis >= y.ndim:
            return None
        at = part(y.shape[axis])
        new = None if at is None else change(y, trial)
        if new is None:
            return None
        chosen = torch.zeros(y.shape[axis], dtype=torch.bool)
        chosen[at] = True
        return torch.where(chosen.view(-1, *(1,) * (y.ndim - axis - 1)), new, y)

    return Hypothesis(cause, words, predict)


def _shifted(trial: Trial) -> Iterator[Hypothesis]:
    for axis, name in list(enumerate(trial.axes))[1:]:
        for by in (1, -1):
            words = f"by one {name}, {'forwards' if by > 0 else 'backwards'}"
            yield Hypothesis(
                "outputs-shifted", f"{words}, round the end", partial(lambda a, b, t: t.truth.roll(b, a), axis, by)
            )

            def moved(t: Trial, axis: int = axis, by: int = by) -> Tensor:
                y = t.truth.roll(by, axis)
                y.select(axis, 0 if by > 0 else -1).zero_()
                return y

            yield Hypothesis("outputs-shifted", words, moved)
    for axis in (2, 3):
        if axis < trial.truth.ndim:
            yield Hypothesis(
                "outputs-shifted", f"{trial.axes[axis]}s in reverse order", partial(lambda a, t: t.truth.flip(a), axis)
            )
    if trial.truth.ndim == 4:
        yield Hypothesis(
            "outputs-shifted",
            "rows and columns swapped",
            lambda t: t.truth.mT if t.truth.shape[-1] == t.truth.shape[-2] else t.truth.mT.reshape(t.truth.shape),
        )
        if trial.quantity == "weight":
            yield Hypothesis("kernel-flipped", "", lambda t: t.truth.flip(-1, -2))


def _summed_over_images() -> Iterator[Hypothesis]:
    """Gradients in which the sum over the images is wrong."""
    right = reading("batch-mixed", "", lambda _, right: right)
    for words, part in (
        ("of the first image alone", slice(0, 1)),
        ("of the last image alone", slice(-1, None)),
        ("of all images but the first", slice(1, None)),
        ("of all images but the last", slice(0, -1)),
    ):

        def predict(trial: Trial, part: slice = part) -> Tensor | None:
            grad = None if trial.grad is None else trial.grad[part]
            return right.predict(replace(trial, input=trial.input[part], grad=grad))

        yield Hypothesis("batch-mixed", words, predict)
    yield Hypothesis("batch-mixed", "the mean over the images", lambda t: t.exact / max(1, len(t.input)))


def _others(trial: Trial) -> list[tuple[str, Callable[[Tensor, Trial], Tensor | None]]]:
    """What stands in the place of dropped elements: zero, the bias, NaN or another constant."""
    found: list[tuple[str, Callable[[Tensor, Trial], Tensor | None]]] = [
        ("0 in its place", lambda y, _: torch.zeros_like(y)),
    ]
    if trial.bias is not None and trial.quantity == "output":
        found.append(("the bias in its place", _only_bias))
    wrong = trial.actual[trial.wrong]
    if wrong.numel() and not wrong.is_complex() and bool((wrong == wrong[0]).all() | wrong.isnan().all()):
        value = wrong[0].item()
        if value != 0:
            found.append((f"{value:g} in its place", lambda y, _: torch.full_like(y, value)))
    return found


def _only_bias(y: Tensor, trial: Trial) -> Tensor | None:
    return None if trial.bias is None else torch.zeros_like(y) + trial.bias[:, None, None]


def _dropped(trial: Trial) -> Iterator[Hypothesis]:
    if not trial.is_wrong:
        return
    for other, value in _others(trial):
        words = "all" if trial.quantity != "output" else "all, whatever the operands are"
        yield Hypothesis("outputs-dropped", f"{words}: {other}", partial(lambda value, t: value(t.truth, t), value))
        for axis, name in enumerate(trial.axes):
            starts = trial.wrong_along(axis)
            first, size = (starts[0], trial.truth.shape[axis]) if starts else (0, 0)
            parts = list(_PARTS)
            if first > 0:
                parts.append((f"{{}}s from {first} on", partial(lambda s, n: slice(s, n) if n > s else None, first)))
            if starts and starts[-1] < size - 1:
                parts.append((f"{{}}s up to {starts[-1]}", partial(lambda s, _: slice(0, s + 1), starts[-1])))
            for words, part in parts:
                at = part(size)
                if at is not None and _only(trial.wrong, axis, at):
                    yield _partly("outputs-dropped", f"{words.format(name)}: {other}", axis, part, value)
        if trial.quantity == "output":
            yield Hypothesis("outputs-dropped", f"those whose window lies in padding: {other}", _in_padding(value))
        flat = trial.wrong.flatten().nonzero().flatten()
        if len(flat):
            first = int(flat[0])
            yield Hypothesis("outputs-dropped", f"from element {first} on: {other}", _from_element(first, value))
            for block in BLOCKS:
                yield Hypothesis(
                    "outputs-dropped",
                    f"elements after the last full block of {block}: {other}",
                    _behind_block(block, value),
                )


def _in_padding(value: Callable[[Tensor, Trial], Tensor | None]) -> Callable[[Trial], Tensor | None]:
    def predict(trial: Trial) -> Tensor | None:
        g, right = trial.case.geometry, trial.reading
        sizes = g.input_size
        live = [((t >= 0) & (t < n)).any(1) for t, n in zip((right.rows, right.columns), sizes, strict=True)]
        new = value(trial.truth, trial)
        return None if new is None else torch.where(live[0][:, None] & live[1], trial.truth, new)

    return predict


def _from_element(first: int, value: Callable[[Tensor, Trial], Tensor | None]) -> Callable[[Trial], Tensor | None]:
    def predict(trial: Trial) -> Tensor | None:
        new = value(trial.truth, trial)
        at = torch.arange(trial.truth.numel()).view(trial.truth.shape)
        return None if new is None else torch.where(at < first, trial.truth, new)

    return predict


def _behind_block(block: int, value: Callable[[Tensor, Trial], Tensor | None]) -> Callable[[Trial], Tensor | None]:
    def predict(trial: Trial) -> Tensor | None:
        return _from_element(trial.truth.numel() // block * block, value)(trial)

    return predict


def _duplicated(trial: Trial) -> Iterator[Hypothesis]:
    """Parts that hold what their neighbours, or the first ones, should hold."""
    for axis, name in list(enumerate(trial.axes)):
        if axis == 0 and name == "image":
            continue
        for words, part in _PARTS:
            at = part(trial.truth.shape[axis])
            if at is None or not _only(trial.wrong, axis, at):
                continue
            for source, of in (
                ("its neighbour", partial(lambda a, y, _: y.roll(1, a), axis)),
                ("the first", partial(lambda a, y, _: _first(y, a), axis)),
            ):
                yield _partly("outputs-duplicated", f"{words.format(name)} is {source}", axis, part, of)
        yield Hypothesis(
            "outputs-duplicated", f"the first {name} for all", partial(lambda a, t: _first(t.truth, a), axis)
        )
        for block in (*BLOCKS, *(() if not trial.is_wrong else (_start(trial, axis),))):
            yield Hypothesis(
                "outputs-duplicated",
                f"the {name}s again from the first, from {block} on",
                partial(
                    lambda a, b, t: t.truth.index_select(a, torch.arange(t.truth.shape[a]) % b) if b else None,
                    axis,
                    block,
                ),
            )


def _start(trial: Trial, axis: int) -> int:
    return trial.wrong_along(axis)[0]


def _first(y: Tensor, axis: int) -> Tensor:
    return y.narrow(axis, 0, 1).expand(y.shape)
