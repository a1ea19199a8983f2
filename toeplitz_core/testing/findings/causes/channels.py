"""Mistakes in the weights, the channels, the groups and the bias."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import torch

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.findings.causes.hypothesis import Hypothesis, computing, reading, weighing
from toeplitz_core.testing.findings.causes.reading import Reading, channels_of
from toeplitz_core.testing.findings.causes.trial import Trial

# The sizes of blocks in which kernels work. Where several would explain a failure, the largest is named.
BLOCKS = (64, 32, 16, 8, 4, 2)


def hypotheses(trial: Trial) -> Iterator[Hypothesis]:
    """The mistakes of this kind that may explain a trial."""
    yield from _bias(trial)
    yield from _groups()
    yield from _taps(trial)
    yield from _channels(trial)
    yield from _weights(trial)


def _bias(trial: Trial) -> Iterator[Hypothesis]:
    outputs = trial.case.geometry.out_channels
    blocks = dict.fromkeys((*(2**n for n in range(1, outputs.bit_length()) if 2**n < outputs), outputs - 1))
    changes: list[tuple[str, str, Callable[[Trial, torch.Tensor], torch.Tensor | None]]] = [
        ("bias-missing", "", lambda _, b: b * 0),
        ("bias-missing", "in all groups but the first", lambda t, b: torch.where(_right(t.case.geometry) == 0, b, 0)),
        ("bias-missing", "in the last channel", lambda _, b: torch.cat((b[:-1], b[-1:] * 0))),
        ("bias-doubled", "", lambda _, b: b * 2),
        ("bias-permuted", "in reverse order", lambda _, b: b.flip(0)),
        ("bias-permuted", "that of the next channel", lambda _, b: b.roll(-1)),
        ("bias-permuted", "that of the previous channel", lambda _, b: b.roll(1)),
        ("bias-permuted", "that of the first channel for all", lambda _, b: b[:1].expand(b.shape)),
        ("bias-permuted", "as if groups alternated", lambda t, b: b[_interleaved(t.case.geometry)]),
    ]
    for size in blocks:  # such as the channels of a vector
        if size > 1:
            words = f"that of channel c % {size} for output channel c"
            changes.append(("bias-permuted", words, lambda _, b, size=size: b[torch.arange(len(b)) % size]))  # type: ignore[misc]
    for name, words, change in changes:

        def compute(
            trial: Trial,
            x: torch.Tensor,
            w: torch.Tensor,
            b: torch.Tensor | None,
            change: Callable[[Trial, torch.Tensor], torch.Tensor | None] = change,
        ) -> torch.Tensor | None:
            return None if b is None else trial.reading(x, w, change(trial, b))

        yield computing(name, words, compute)


def _interleaved(g: ConvGeometry) -> torch.Tensor:
    return torch.arange(g.out_channels).view(g.groups, -1).mT.reshape(-1)


def _groups() -> Iterator[Hypothesis]:
    maps: tuple[tuple[str, str, Callable[[ConvGeometry], torch.Tensor | None]], ...] = (
        (
            "depthwise-order",
            "output channel o reads input channel o % channels",
            lambda g: _of_outputs(g) % g.groups if g.group_channels == 1 else None,
        ),
        ("groups-ignored", "every output channel reads the first group", lambda g: _of_outputs(g) * 0),
        ("groups-permuted", "output channel o belongs to group o % groups", lambda g: _of_outputs(g) % g.groups),
        ("groups-permuted", "in reverse order", lambda g: g.groups - 1 - _right(g)),
        ("groups-permuted", "the next group", lambda g: (_right(g) + 1) % g.groups),
        ("groups-permuted", "the previous group", lambda g: (_right(g) - 1) % g.groups),
        ("groups-ignored", "every output channel reads the last group", lambda g: _of_outputs(g) * 0 + g.groups - 1),
    )
    for name, words, of in maps:

        def change(
            trial: Trial, right: Reading, of: Callable[[ConvGeometry], torch.Tensor | None] = of
        ) -> Reading | None:
            g = trial.case.geometry
            group = of(g)
            return None if group is None else right.replace(channels=channels_of(g, group))

        yield reading(name, words, change)

    def shuffled(trial: Trial, right: Reading) -> Reading:
        """Input channels of a group lie ``groups`` apart."""
        g = trial.case.geometry
        return right.replace(channels=_right(g)[:, None] + torch.arange(g.group_channels) * g.groups)

    yield reading("groups-permuted", "input channels of a group lie apart", shuffled)

    def first_channels(trial: Trial, right: Reading) -> Reading:
        g = trial.case.geometry
        return right.replace(channels=torch.arange(g.group_channels).expand(g.out_channels, -1))

    yield reading("groups-ignored", "the first channels for all", first_channels)
    for name, words, order in (
        ("depthwise-order", "outputs in the order (multiplier, channel)", _interleaved),
        (
            "depthwise-order",
            "outputs in the order (channel, multiplier) of a kernel that has the other",
            _deinterleaved,
        ),
    ):

        def reordered(
            trial: Trial,
            x: torch.Tensor,
            w: torch.Tensor,
            b: torch.Tensor | None,
            order: Callable[[ConvGeometry], torch.Tensor] = order,
        ) -> torch.Tensor | None:
            g = trial.case.geometry
            y = trial.reading(x, w, b) if g.group_channels == 1 and g.groups > 1 else None
            return None if y is None else y[:, order(g)]

        yield computing(name, words, reordered)


def _of_outputs(g: ConvGeometry) -> torch.Tensor:
    return torch.arange(g.out_channels)


def _right(g: ConvGeometry) -> torch.Tensor:
    return _of_outputs(g) // (g.out_channels // g.groups)


def _deinterleaved(g: ConvGeometry) -> torch.Tensor:
    return torch.argsort(_interleaved(g))


def _masked(name: str, words: str, of: Callable[[torch.Tensor], tuple[slice | int, ...] | None]) -> Hypothesis:
    """Some weights are taken for zero."""

    def change(_: Trial, w: torch.Tensor) -> torch.Tensor | None:
        at = of(w)
        if at is None:
            return None
        kept = torch.ones_like(w.detach())
        kept[at] = 0
        return torch.where(kept != 0, w, 0)

    return weighing(name, words, change)


_ALL = slice(None)


def _taps(trial: Trial) -> Iterator[Hypothesis]:
    """Single taps, by their index from the start and from the end, and whole rows and columns of the kernel."""
    height, width = trial.case.geometry.kernel_size
    for part, channel in (("", _ALL), (" of the last channel", -1), (" of the first channel", 0)):
        for axis, name in ((2, "row"), (3, "column")):
            for at, words in ((-1, "last"), (0, "first")):
                index = (_ALL, channel, at, _ALL) if axis == 2 else (_ALL, channel, _ALL, at)
                yield _masked(
                    "tap-dropped",
                    f"the {words} {name} of the kernel{part}",
                    partial(lambda axis, index, w: index if w.shape[axis] > 1 else None, axis, index),
                )
        for row, column in itertools.product(range(min(height, 7)), range(min(width, 7))):
            # From the end and from the start: which one it is shows on other kernels.
            for down, across in {(row - height, column - width), (row, column)}:
                words = " ".join(_place(at) for at in (down, across))
                yield _masked(
                    "tap-dropped",
                    f"tap ({words}){part}",
                    partial(
                        lambda down, across, channel, w: (
                            (_ALL, channel, down, across) if _is_in(w, down, across) else None
                        ),
                        down,
                        across,
                        channel,
                    ),
                )


def _place(at: int) -> str:
    return "last" if at == -1 else f"last{at + 1}" if at < 0 else str(at)


def _is_in(w: torch.Tensor, down: int, across: int) -> bool:
    return all(-n <= at < n for at, n in zip((down, across), w.shape[2:], strict=True))


def _channels(trial: Trial) -> Iterator[Hypothesis]:
    """Input channels that are left out, or read in the place of others."""
    cuts: list[tuple[str, Callable[[int], slice | None]]] = [
        ("the last one", lambda n: slice(n - 1, n) if n > 1 else None),
        ("the first one", lambda n: slice(0, 1) if n > 1 else None),
        ("all but the first one", lambda n: slice(1, n) if n > 1 else None),
    ]
    channels = trial.case.geometry.group_channels
    for block in (size for size in BLOCKS if size < channels):  # a block that is not there explains nothing
        cuts.append(
            (
                f"those after the last full block of {block}",
                partial(lambda b, n: slice(n // b * b, n) if n % b else None, block),
            )
        )
        cuts.append(
            (
                f"those after the last full block of {block}, if there is one",
                partial(lambda b, n: slice(n // b * b, n) if n % b and n > b else None, block),
            )
        )
    cuts += [
        (f"those from {at} on", partial(lambda at, n: slice(at, n) if n > at else None, at))
        for at in range(1, min(channels, 257))
    ]
    cuts += [
        (f"channel {at}", partial(lambda at, n: slice(at, at + 1) if n > at else None, at))
        for at in range(min(channels, 65))
    ]
    for words, cut in cuts:

        def at(w: torch.Tensor, cut: Callable[[int], slice | None] = cut) -> tuple[slice, ...] | None:
            chosen = cut(w.shape[1])
            return None if chosen is None else (_ALL, chosen)

        yield _masked("channels-dropped", f"{words} of each group", at)
    for words, change in (
        ("the first one is read for the last one", lambda c: torch.cat((c[:, :-1], c[:, :1]), 1)),
        ("the last one but one is read for the last one", lambda c: torch.cat((c[:, :-1], c[:, -2:-1]), 1)),
        ("the first one is read for all", lambda c: c[:, :1].expand(c.shape)),
        ("in reverse order", lambda c: c.flip(1)),
        ("the next one is read for each", lambda c: c.roll(-1, 1)),
        ("the previous one is read for each", lambda c: c.roll(1, 1)),
    ):
        yield reading(
            "channels-dropped",
            words,
            partial(
                lambda change, _, r: r.replace(channels=change(r.channels)) if r.channels.shape[1] > 1 else None, change
            ),
        )


# A tap that has the weight of another: its number, that of the other, and both in words.
_INSTEAD = (
    (-1, 0, "the first tap in place of the last"),
    (0, -1, "the last tap in place of the first"),
    (-1, -2, "the last tap but one in place of the last"),
    (0, 1, "the second tap in place of the first"),
)


def _weights(trial: Trial) -> Iterator[Hypothesis]:
    """The convolution is right for another weight."""

    def at(words: str, index: tuple[int | slice, ...], change: Callable[[torch.Tensor], torch.Tensor]) -> Hypothesis:
        def changed(_: Trial, w: torch.Tensor) -> torch.Tensor | None:
            if not w.numel():
                return None
            chosen = torch.zeros_like(w.detach(), dtype=torch.bool)
            chosen[index] = True
            return torch.where(chosen, change(w), w)

        return weighing("weight-altered", words, changed)

    if trial.weight.is_complex():
        yield weighing("weight-altered", "conjugated", lambda _, w: w.conj())
        yield weighing("weight-altered", "its imaginary part dropped", lambda _, w: w.real + 0j)
    for words, channel in (("", _ALL), (" of the last channel", -1), (" of the first channel", 0)):
        for axis, name in ((3, "a row"), (2, "a column")):

            def swapped(w: torch.Tensor, axis: int = axis) -> torch.Tensor:
                size = w.shape[axis]
                if size < 2:
                    return w
                order = torch.arange(size)
                order[-2:] = order[-2:].flip(0)
                return w.index_select(axis, order)

            yield at(f"the last two taps of {name} swapped{words}", (_ALL, channel), swapped)
            for to, of, said in _INSTEAD:

                def instead(w: torch.Tensor, axis: int = axis, to: int = to, of: int = of) -> torch.Tensor:
                    order = torch.arange(size := w.shape[axis])
                    order[to % size] = of % size
                    return w.index_select(axis, order) if size > 1 else w

                yield at(f"{said} of {name}{words}", (_ALL, channel), instead)
    places: tuple[tuple[str, tuple[int | slice, ...]], ...] = (
        ("the last element", (-1, -1, -1, -1)),
        ("the first element", (0, 0, 0, 0)),
        ("the last output channel", (-1,)),
        ("the first output channel", (0,)),
        ("the last input channel", (_ALL, -1)),
        ("the last tap", (_ALL, _ALL, -1, -1)),
        ("the first tap", (_ALL, _ALL, 0, 0)),
    )
    for words, index in places:
        yield at(f"{words} is 0", index, lambda w: w * 0)
        yield at(f"{words} has the other sign", index, lambda w: -w)
        for factor in (2, 0.5, 1.0001, 1.001, 1.01):
            if trial.weight.dtype == torch.int64 and factor != 2:
                continue
            yield at(
                f"{words} times {factor:g}", index, partial(lambda factor, t, w: _scaled(t, w, factor), factor, trial)
            )
    yield weighing(
        "weight-altered",
        "input and output channels swapped",
        lambda _, w: w.transpose(0, 1) if w.shape[0] == w.shape[1] else None,
    )
    yield weighing("weight-altered", "output channels in reverse order", lambda _, w: w.flip(0))
    yield weighing("weight-altered", "input channels in reverse order", lambda _, w: w.flip(1))
    yield weighing("weight-altered", "the magnitude in place of the number", lambda _, w: w.abs().to(w.dtype))


def _scaled(trial: Trial, w: torch.Tensor, factor: float) -> torch.Tensor:
    """The weight plus a small part of it that is rounded to the dtype of the case first."""
    if factor in (2, 0.5):
        return w * factor
    return w + (w * (factor - 1)).to(trial.case.torch_dtype).to(w.dtype)
