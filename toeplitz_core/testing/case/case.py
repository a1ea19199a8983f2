"""A case: everything that one test of a convolution depends on, as a value with a one-line text form."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.case.dtypes import ALIASES, CASE_DTYPES, DTYPES
from toeplitz_core.testing.case.layouts import LAYOUTS, check_layout, layouts_of
from toeplitz_core.testing.case.recipe_table import RECIPES
from toeplitz_core.testing.support.spelling import legal_words

# Cases differ more often in their data than in their geometry.
_geometry = functools.lru_cache(2**12)(ConvGeometry.from_weight)
OPERANDS = ("input", "weight", "bias")
# The devices of a run if none is named. A case may have any device that torch knows.
DEVICES = ("cpu", "cuda")
# Tensors whose layout a case may name; ``grad`` is the gradient of the result.
_LAID_OUT = (*OPERANDS, "grad")
# The fields on which neither the geometry nor the checks of its sizes depend.
_WITHOUT_GEOMETRY = {"bias", "dtype", "layouts", "device", "data", "seed", "law"}


@dataclass(frozen=True, slots=True)
class Case:
    """One convolution with its data, on which a law is checked. ``str(case)`` parses back to an equal case.

    Parameters
    ----------
    input, weight : tuple of int
        Shapes. The weight decides the number of axes; an input with one axis fewer than the weight is unbatched.
    stride, padding, dilation, groups
        As for :class:`toeplitz_core.ConvGeometry`, and normalised in the same way.
    bias : bool
        Whether the convolution has a bias.
    dtype : str
        One of ``CASE_DTYPES``.
    layouts : tuple of (operand, layout)
        Layouts of ``input``, ``weight``, ``bias`` and ``grad``. The subject chooses the layout of an operand that is
        not named.
    data : str
        A recipe of :mod:`toeplitz_core.testing.data.recipes`.
    seed : int
        Seed of the data, in [0, 2**64).
    device : str
        A device of torch: ``cpu``, ``cuda``, ``cuda:1``, ...
    law : str, optional
        The law that failed on this case.

    Attributes
    ----------
    geometry : ConvGeometry
        The sizes and parameters of the convolution, computed from the fields above.

    Examples
    --------
    >>> case = Case.parse("input=2x3x8x8 weight=4x3x3x3 stride=2x1 bias layout=channels_last")
    >>> case.geometry.output_size, case.bias, case.layout("weight")
    ((3, 6), True, 'channels_last')
    >>> str(case)
    'input=2x3x8x8 weight=4x3x3x3 stride=2x1 bias layout=channels_last'
    >>> Case.parse("input=2x3x8x8 weight=4x3x3x3 strides=2")
    Traceback (most recent call last):
        ...
    ValueError: in case word 3 'strides=2': unknown key 'strides'; did you mean 'stride'? legal: input, weight, ...
    """

    input: tuple[int, ...]
    weight: tuple[int, ...]
    stride: tuple[int, ...] = (1,)
    padding: tuple[int, ...] | str = (0,)
    dilation: tuple[int, ...] = (1,)
    groups: int = 1
    bias: bool = False
    dtype: str = "float32"
    layouts: tuple[tuple[str, str], ...] = ()
    device: str = "cpu"
    data: str = "integers"
    seed: int = 0
    law: str | None = None
    geometry: ConvGeometry = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "geometry", self._checked_geometry())
        for name in ("stride", "padding", "dilation", "groups"):
            object.__setattr__(self, name, getattr(self.geometry, name))
        self._check_rest()

    def _checked_geometry(self) -> ConvGeometry:
        """The geometry, after a check that the shapes agree with it."""
        if len(self.input) not in (len(self.weight), len(self.weight) - 1):
            raise ValueError(
                f"input={_sizes(self.input)} must have as many axes as weight={_sizes(self.weight)}, or one fewer "
                "(unbatched)"
            )
        channel_axis = len(self.input) - len(self.weight) + 1
        size = self.input[channel_axis + 1 :]
        geometry = _geometry(self.weight, size, self.stride, self.padding, self.dilation, self.groups)
        if self.input[channel_axis] != geometry.in_channels:
            raise ValueError(
                f"input={_sizes(self.input)} has {self.input[channel_axis]} channels, but weight={_sizes(self.weight)} "
                f"with groups={self.groups} needs {geometry.in_channels}"
            )
        if geometry.pixels == 0 and geometry.in_channels and self.input[:channel_axis] != (0,):
            raise ValueError(f"input={_sizes(self.input)} has no pixels: only the batch and the channels may be empty")
        if len(self.input) == len(self.weight) and self.input[0] < 0:
            raise ValueError(f"input={_sizes(self.input)} has batch {self.input[0]}, which must be >= 0")
        return geometry

    def _check_rest(self) -> None:
        """Check what the geometry does not depend on."""
        if self.dtype not in CASE_DTYPES:
            raise ValueError(f"dtype={self.dtype} must be one of {', '.join(CASE_DTYPES)}")
        if self.data not in RECIPES:
            raise ValueError(f"data={self.data} must be one of {', '.join(RECIPES)}")
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**64:
            raise ValueError(f"seed={self.seed} must be in [0, 2**64)")
        check_device(self.device)
        if unknown := [operand for operand, _ in self.layouts if operand not in _LAID_OUT]:
            raise ValueError(f"layout.{unknown[0]}: the operand must be one of {', '.join(_LAID_OUT)}")
        object.__setattr__(self, "layouts", tuple(sorted(self.layouts, key=lambda item: _LAID_OUT.index(item[0]))))
        shapes = {"input": self.input, "weight": self.weight, "bias": self.weight[:1], "grad": self.output_shape}
        for operand, layout in self.layouts:
            check_layout(operand, layout, shapes[operand])

    @classmethod
    def of(cls, geometry: ConvGeometry, batch: int | None = 1, **rest: Any) -> Case:
        """The case of a geometry; it is unbatched if ``batch`` is None."""
        front = () if batch is None else (batch,)
        return cls(
            (*front, geometry.in_channels, *geometry.input_size),
            geometry.weight_shape,
            geometry.stride,
            geometry.padding,
            geometry.dilation,
            geometry.groups,
            **rest,
        )

    @property
    def batch(self) -> int | None:
        """Number of images; None if unbatched."""
        return self.input[0] if len(self.input) == len(self.weight) else None

    @property
    def output_shape(self) -> tuple[int, ...]:
        front = () if self.batch is None else (self.batch,)
        return (*front, self.weight[0], *self.geometry.output_size)

    @property
    def nbytes(self) -> int:
        """Bytes of the operands and the result."""
        numbers = sum(math.prod(shape) for shape in (self.input, self.weight, self.output_shape))
        return numbers * self.torch_dtype.itemsize

    @property
    def torch_dtype(self) -> torch.dtype:
        return DTYPES[self.dtype].torch

    def layout(self, operand: str) -> str | None:
        """The layout that the case names for an operand; None if the subject chooses it."""
        return dict(self.layouts).get(operand)

    def replace(self, **changes: Any) -> Case:
        """A copy with some fields changed."""
        if not changes.keys() <= _WITHOUT_GEOMETRY:
            return replace(self, **changes)
        # A search and a sweep change these fields of every case, and making a geometry takes longer than the rest.
        copy = object.__new__(Case)
        for name in Case.__slots__:
            object.__setattr__(copy, name, changes[name] if name in changes else getattr(self, name))
        if changes.keys() != {"law"}:
            copy._check_rest()
        return copy

    @classmethod
    def parse(cls, line: str) -> Case:
        """The case that a line of text describes; a ``ValueError`` names the wrong word."""
        values: dict[str, Any] = {}
        for number, word in enumerate(line.split(), start=1):
            key, equals, text = word.partition("=")
            try:
                _check_key(key, has_value=bool(equals), seen=values)
                values[key] = _PARSERS[key](text)
            except ValueError as error:
                raise ValueError(f"in case word {number} '{word}': {error}") from None
        for needed in ("input", "weight"):
            if needed not in values:
                raise ValueError(f"the case names no {needed}; it needs input=NxCxHxW and weight=OxCxKxK")
        layouts: dict[str, str] = {}
        if "layout" in values:
            layouts = {"input": values["layout"], "weight": values["layout"]}
        layouts |= {operand: values[f"layout.{operand}"] for operand in _LAID_OUT if f"layout.{operand}" in values}
        own = {f.name for f in fields(cls) if f.init}
        return cls(**{k: v for k, v in values.items() if k in own}, layouts=tuple(layouts.items()))

    def __str__(self) -> str:
        return self.text()

    def text(self, *, full: bool = False) -> str:
        """The case as one line, without defaults, or with them if ``full``."""
        words = [f"input={_sizes(self.input)}", f"weight={_sizes(self.weight)}"]
        for name, default in (("stride", 1), ("padding", 0), ("dilation", 1)):
            value = getattr(self, name)
            if full or value != (default,) * self.geometry.rank:
                words.append(f"{name}={_amount(value)}")
        if full or self.groups != 1:
            words.append(f"groups={self.groups}")
        if self.bias:
            words.append("bias")
        if full or self.dtype != "float32":
            words.append(f"dtype={self.dtype}")
        layouts = dict(self.layouts)
        if "input" in layouts and layouts["input"] == layouts.get("weight"):
            words.append(f"layout={layouts.pop('input')}")
            del layouts["weight"]
        words += [f"layout.{operand}={layout}" for operand, layout in layouts.items()]
        words += [
            f"{name}={getattr(self, name)}"
            for name, usual in (("device", "cpu"), ("data", "integers"), ("seed", 0))
            if full or getattr(self, name) != usual
        ]
        if self.law is not None:
            words.append(f"law={self.law}")
        return " ".join(words)


def check_device(name: str) -> str:
    """The name itself; ``ValueError`` if torch does not know the kind of device. The device need not be present."""
    try:
        torch.device(name)
    except RuntimeError:
        raise ValueError(f"device={name} must be a device as torch names them: cpu, cuda, cuda:1, ...") from None
    return name


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _amount(value: tuple[int, ...] | str) -> str:
    if isinstance(value, str):
        return value
    return str(value[0]) if len(set(value)) == 1 else _sizes(value)


_SIZES = re.compile(r"\d+(x\d+)*", flags=re.ASCII)


def _sizes_from(least: int, example: str) -> Callable[[str], tuple[int, ...]]:
    # The geometry checks the minimum, because its message can name the axis.
    def parse(text: str) -> tuple[int, ...]:
        if not _SIZES.fullmatch(text):
            raise ValueError(f"must be whole numbers joined by x, each >= {least}, such as {example}")
        return tuple(map(int, text.split("x")))

    return parse


def _parse_padding(text: str) -> tuple[int, ...] | str:
    if _SIZES.fullmatch(text):
        return tuple(map(int, text.split("x")))
    if text in ("same", "valid"):
        return text
    raise ValueError("must be whole numbers joined by x, each >= 0, such as 2x1, or same or valid")


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d+", text, flags=re.ASCII) or int(text) < least:
            raise ValueError(f"must be a whole number >= {least}")
        return int(text)

    return parse


def _one_of(*legal: str, aliases: Mapping[str, str] | None = None) -> Any:
    def parse(text: str) -> str:
        if text not in legal:
            raise ValueError(legal_words(text, legal, aliases))
        return text

    return parse


def _parse_word(text: str) -> str:
    if not text:
        raise ValueError("must have a value after '='")
    return text


_PARSERS: dict[str, Any] = {
    "input": _sizes_from(0, "2x3x8x8"),
    "weight": _sizes_from(0, "4x3x3x3"),
    "stride": _sizes_from(1, "2x1"),
    "padding": _parse_padding,
    "dilation": _sizes_from(1, "2x1"),
    "groups": _whole(1),
    "bias": lambda _: True,
    "dtype": _one_of(*CASE_DTYPES, aliases=ALIASES),
    "layout": _one_of(*LAYOUTS),
    **{f"layout.{operand}": _one_of(*layouts_of(operand)) for operand in _LAID_OUT},
    "device": check_device,
    "data": _one_of(*RECIPES),
    "seed": _whole(0),
    "law": _parse_word,
}


def _check_key(key: str, *, has_value: bool, seen: dict[str, Any]) -> None:
    if key not in _PARSERS:
        raise ValueError(f"unknown key '{key}'; {legal_words(key, _PARSERS)}")
    if key in seen:
        raise ValueError(f"'{key}' is named twice")
    if has_value == (key == "bias"):
        raise ValueError("'bias' takes no value" if key == "bias" else f"'{key}' needs a value: {key}=...")
