"""The wrong elements of a result: where they lie, what some of them are, and what they should be."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case

# The largest map: what a terminal of 80 columns shows next to a label, and an eye takes in at once.
MAP_ROWS, MAP_COLUMNS = 16, 32
RIGHT, WRONG, WORST = ".", "x", "X"
# The number of values that are shown next to the worst one.
_OTHERS = 3
# The axes of the pixels of an image or a kernel, the last ones first.
_PIXELS = ("column", "row", "slice")
_PART = "part"
# What is in the text of a number that is not finite.
_ODD = ("nan", "inf")
# When values may change.
BETWEEN_RUNS, WITH_MEMORY = "between runs", "with what new memory held before"


@dataclass(frozen=True, slots=True)
class Range:
    """The indices of the wrong elements along one axis.

    Parameters
    ----------
    axis : str
        The name of one index, such as ``output channel``.
    size : int
        The size of the axis.
    first, last : int
        The smallest and the largest index.
    step : int
        The distance between neighbours if it is always the same (1 if there is only one index), else 0.
    count : int
        The number of indices.

    Examples
    --------
    >>> str(Range("column", 7, 4, 6, 1, 3)), str(Range("row", 9, 1, 7, 2, 4)), str(Range("image", 3, 2, 2, 1, 1))
    ('columns 4.. of 7', 'rows 1, 3, .. of 9', 'image 2 of 3')
    """

    axis: str
    size: int
    first: int
    last: int
    step: int
    count: int

    @classmethod
    def of(cls, axis: str, there: torch.Tensor) -> Range:
        """The indices at which a vector of booleans is true; there must be one."""
        indices = there.nonzero().flatten()
        steps = indices.diff()
        regular = not len(steps) or bool((steps == steps[0]).all())
        step = (int(steps[0]) if len(steps) else 1) if regular else 0
        return cls(axis, len(there), int(indices[0]), int(indices[-1]), step, len(indices))

    def __str__(self) -> str:
        if self.axis == _PART:
            return "real and imaginary parts" if self.count > 1 else ("imaginary parts" if self.first else "real parts")
        if self.count == 1:
            return f"{self.axis} {self.first} of {self.size}"
        many, first, last = f"{self.axis}s", self.first, self.last
        if self.step == 1:
            return f"{many} {first}..{'' if last == self.size - 1 else last} of {self.size}"
        if self.count == 2:
            return f"{many} {first} and {last} of {self.size}"
        if self.step:
            if self.count == 3 and last + self.step < self.size:
                return f"{many} {first}, {first + self.step} and {last} of {self.size}"
            end = "" if last + self.step >= self.size else f", {last}"
            return f"{many} {first}, {first + self.step}, ..{end} of {self.size}"
        return f"{self.count} of {self.size} {many}, from {first} to {last}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One wrong element, as text.

    Parameters
    ----------
    element : str
        Its name, such as ``out[0, 1, 0, 0]``.
    actual, expected : str
        Its value, which is empty if it is not the same in every run, and what it should be.
    """

    element: str
    actual: str
    expected: str

    def __str__(self) -> str:
        return f"{self.element}={self.actual}, not {self.expected}"


@dataclass(frozen=True, slots=True)
class Difference:
    """Which elements of a result are wrong.

    Parameters
    ----------
    wrong, total : int
        The number of wrong elements, and of all elements.
    ranges : tuple of Range
        For each axis the indices of the wrong elements.
    samples : tuple of Sample
        The worst element, and the first of the others.
    ratio : float, optional
        The error of the worst element in units of the bound; None for an exact comparison.
    plane : str
        The image and the channel of the map, in words.
    map : tuple of str
        The lines of a map of wrong elements around the worst one; empty if a map would say nothing.
    varies : str
        When the values change, such as ``between runs``; empty if they were the same each time.
    """

    wrong: int
    total: int
    ranges: tuple[Range, ...]
    samples: tuple[Sample, ...]
    ratio: float | None = None
    plane: str = ""
    map: tuple[str, ...] = ()
    varies: str = ""

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Difference:
        """Read it back from its dictionary. Other keys are ignored."""
        ranges = tuple(Range(**one) for one in document["ranges"])
        samples = tuple(Sample(**one) for one in document["samples"])
        values = {key: document[key] for key in ("wrong", "total", "plane", "varies")}
        ratio = None if document["ratio"] is None else float(document["ratio"])
        return cls(ranges=ranges, samples=samples, map=tuple(document["map"]), ratio=ratio, **values)

    def document(self) -> dict[str, Any]:
        """It as a dictionary for JSON, which has no infinity."""
        infinite = self.ratio is not None and not math.isfinite(self.ratio)
        found = asdict(self) | {"ratio": "inf" if infinite else self.ratio, "where": self.where}
        return found | {name: list(found[name]) for name in ("ranges", "samples", "map")}

    @property
    def where(self) -> str:
        """Where the wrong elements lie, in words; empty if every element is wrong, or if there is only one."""
        if self.wrong in (0, 1, self.total) or not self.ranges:
            return ""
        said = ", ".join(str(one) for one in self.ranges if one.count < one.size)
        box = math.prod(one.count for one in self.ranges)
        if not said:
            return "scattered over the whole result"
        return said if box == self.wrong else f"{self.wrong} of the {box} elements in {said}"

    def located(self, whole: Callable[[int], tuple[int, ...]]) -> Difference:
        """It for chosen elements of a result; ``whole`` gives the index of an element in the whole result.

        Where the wrong elements lie is not said, because the others were not judged.
        """
        samples = []
        for sample in self.samples:
            name, chosen, part = re.split(r"\[(\d+)\]", sample.element)
            element = f"{name}[{', '.join(map(str, whole(int(chosen))))}]{part}"
            samples.append(replace(sample, element=element))
        return replace(self, ranges=(), samples=tuple(samples), plane="", map=())

    def varying(self, how: str) -> Difference:
        """It without what is not the same each time: the values, and where they are wrong."""
        unknown = tuple(replace(sample, actual="") for sample in self.samples[:1])
        return replace(self, ranges=(), samples=unknown, ratio=None, plane="", map=(), varies=how)

    def __str__(self) -> str:
        worst, counted = self.samples[0], f"{self.wrong} of {self.total} elements wrong"
        if self.varies:
            return (
                f"{worst.element} should be {worst.expected}, but its value changes {self.varies} "
                f"({counted} in one run)"
            )
        return f"{worst.element}={worst.actual}, but should be {worst.expected}{self._amount} ({counted})"

    @property
    def _amount(self) -> str:
        """How large the error is, in words; empty if an exact comparison found it, or if no number says more."""
        if self.ratio is None:
            return ""
        if math.isfinite(self.ratio):
            return f", an error of {self.ratio:.4g} times the bound"
        infinite = any(word in value for value in (self.samples[0].actual, self.samples[0].expected) for word in _ODD)
        return "" if infinite else ", where no error is allowed"


def difference(
    case: Case | Call,
    name: str,
    index: tuple[int, ...],
    wrong: torch.Tensor,
    actual: torch.Tensor,
    wanted: torch.Tensor,
    ratio: float | None = None,
) -> Difference:
    """Describe the wrong elements of a result.

    Parameters
    ----------
    name : str
        What messages call the result: ``out``, or for instance ``weight gradient``. It also says what its axes are.
    index : tuple of int
        The worst element.
    wrong : bool tensor of the shape of ``actual``
    actual, wanted : tensor
        The result, and the exact result. The parts of complex numbers are on a last axis.
    ratio : float, optional
        The error of the worst element in units of the bound.
    """
    names = axes(case, name, wrong.ndim)
    ranges = []
    if wrong.any():
        for axis, called in enumerate(names):
            ranges.append(Range.of(called, wrong.movedim(axis, 0).flatten(1).any(1) if wrong.ndim > 1 else wrong))
    first = [tuple(int(at) for at in one) for one in wrong.nonzero()[: _OTHERS + 1]]
    others = [one for one in first if one != index][:_OTHERS]
    plane, drawn = _map(names, index, wrong)
    return Difference(
        int(wrong.sum()),
        wrong.numel(),
        tuple(ranges),
        tuple(_sample(name, one, actual, wanted, parts=names[-1:] == (_PART,)) for one in (index, *others)),
        ratio,
        plane,
        drawn,
    )


def axes(case: Case | Call, name: str, count: int) -> tuple[str, ...]:
    """What an index along each axis of a result counts, by the name of the result.

    Examples
    --------
    >>> axes(Case.parse("input=1x1x4x4 weight=1x1x3x3"), "weight gradient", 4)
    ('output channel', 'input channel', 'kernel row', 'kernel column')
    """
    rank = case.geometry.rank if isinstance(case, Case) else 2
    pixels = _PIXELS[:rank][::-1]
    output = ("image", "output channel", *pixels)
    weight = ("output channel", "input channel", *(f"kernel {axis}" for axis in pixels))
    known = {
        "out": output,
        "tangent": output,
        "grad": output,
        "outputs": ("weight", *output),
        "outputs-of-biases": ("bias", *output),
        "input": ("image", "input channel", *pixels),
        "weight": weight,
        "weights": ("image", *weight),
        "bias": ("output channel",),
    }.get(name.partition(" ")[0], ())
    if isinstance(case, Case) and case.torch_dtype.is_complex:
        return (*axes(case.replace(dtype="float32"), name, count - 1), _PART)
    if known and count == len(known) - 1 and "image" in known:  # without a batch
        known = tuple(axis for axis in known if axis != "image")
    return known if count == len(known) else tuple(f"axis {axis} position" for axis in range(count))


def written(actual: complex, wanted: complex) -> tuple[str, str]:
    """Two numbers with enough digits to tell them apart; 17 always are."""
    digits = next((n for n in (9, 17) if f"{actual:.{n}g}" != f"{wanted:.{n}g}"), 9)
    one, other = (str(value) if isinstance(value, int) else f"{value:.{digits}g}" for value in (actual, wanted))
    return one, other


def _sample(name: str, index: tuple[int, ...], actual: torch.Tensor, wanted: torch.Tensor, *, parts: bool) -> Sample:
    got, should = actual[index].item(), wanted[index].item()
    one, other = written(got, should)
    rounded = wanted[index].to(actual.dtype).item()
    if not isinstance(should, complex) and math.isinf(rounded) and math.isfinite(should):
        other = f"{rounded} (exactly {other})"
    part = (".real", ".imag")[index[-1]] if parts else ""
    return Sample(f"{name}[{', '.join(map(str, index[:-1] if parts else index))}]{part}", one, other)


def _map(names: tuple[str, ...], index: tuple[int, ...], wrong: torch.Tensor) -> tuple[str, tuple[str, ...]]:
    """The wrong elements of the last two axes around the worst one, and the other indices in words."""
    if names[-1:] == (_PART,):
        names, index, wrong = names[:-1], index[:-1], wrong.any(-1)
    if not names:
        return "", ()
    front = max(0, len(names) - 2)
    plane = torch.atleast_2d(wrong[index[:front]])
    if plane.numel() < 2 or plane.all():
        return "", ()
    words = [f"{axis} {at}" for axis, at in zip(names[:front], index[:front], strict=True)]
    at = (0, *index)[-2:]
    windows = list(_windows(at, tuple(plane.shape)))
    for axis, size, window in zip(("", *names)[-2:], plane.shape, windows, strict=True):
        if len(window) < size:
            words.append(f"{axis}s {window[0]}..{window[-1]} of {size}")
    lines = [
        "".join(WORST if (row, column) == at else WRONG if plane[row, column] else RIGHT for column in windows[1])
        for row in windows[0]
    ]
    return ", ".join(words), tuple(lines)


def _windows(at: tuple[int, ...], sizes: tuple[int, ...]) -> Iterator[range]:
    """The rows and columns of a map that is small enough, with the worst element near its centre."""
    for centre, size, limit in zip(at, sizes, (MAP_ROWS, MAP_COLUMNS), strict=True):
        begin = max(0, min(centre - limit // 2, size - limit))
        yield range(begin, min(begin + limit, size))
