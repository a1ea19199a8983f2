"""The named attributes of a case and of a call that a condition may use."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from toeplitz_core.testing.case.call import Call, TensorSpec
from toeplitz_core.testing.case.case import Case


class Attribute(NamedTuple):
    """A name that a condition may use.

    Parameters
    ----------
    meaning : str
        What the name means.
    of : callable
        Computes its value for a case or a call.
    """

    meaning: str
    of: Callable[[Any], Any]


def is_all_padding(case: Case) -> bool:
    """Whether the window of some output lies wholly in the padding."""
    geometry = case.geometry
    if 0 in geometry.output_size:
        return False
    axes = zip(
        geometry.input_size,
        geometry.output_size,
        geometry.kernel_size,
        geometry.stride,
        geometry.dilation,
        geometry.pads,
        strict=True,
    )
    for size, outputs, taps, stride, dilation, (before, _) in axes:
        pixels = stride * np.arange(outputs)[:, None] + dilation * np.arange(taps) - before
        if not ((pixels >= 0) & (pixels < size)).any(axis=1).all():
            return True
    return False


def _idle_taps(case: Case) -> tuple[bool, ...]:
    geometry = case.geometry
    idle = []
    for axis, outputs in enumerate(geometry.output_size):
        taps = geometry.dilation[axis] * np.arange(geometry.kernel_size[axis])
        pixels = geometry.stride[axis] * np.arange(outputs)[:, None] + taps - geometry.pads[axis][0]
        idle.append(not ((pixels >= 0) & (pixels < geometry.input_size[axis])).any(axis=0).all())
    return tuple(idle)


def _layout(operand: str) -> Attribute:
    meaning = f"layout of the {operand} in the case; 'default' if the case does not name one"
    return Attribute(meaning, lambda case: case.layout(operand) or "default")


ATTRIBUTES: dict[str, Attribute] = {
    "dtype": Attribute("dtype of the case: 'float32', ...", lambda case: case.dtype),
    "device": Attribute("kind of device, without its number: 'cpu', 'cuda', ...", lambda c: c.device.partition(":")[0]),
    "data": Attribute("name of the data recipe: 'integers', ...", lambda case: case.data),
    "seed": Attribute("seed of the data", lambda case: case.seed),
    "bias": Attribute("whether the case has a bias", lambda case: case.bias),
    "batched": Attribute("whether the input has a batch axis", lambda case: case.batch is not None),
    "batch": Attribute("number of images; 1 if unbatched", lambda case: 1 if case.batch is None else case.batch),
    "groups": Attribute("number of groups", lambda case: case.groups),
    "in_channels": Attribute("input channels of all groups together", lambda case: case.geometry.in_channels),
    "out_channels": Attribute("output channels of all groups together", lambda case: case.geometry.out_channels),
    "group_channels": Attribute("input channels of one group", lambda case: case.weight[1]),
    "depthwise": Attribute(
        "one input channel in each of several groups", lambda case: case.groups > 1 and case.weight[1] == 1
    ),
    "rank": Attribute("number of axes of an image: 2", lambda case: case.geometry.rank),
    "input_size": Attribute("pixels per axis, without padding", lambda case: case.geometry.input_size),
    "kernel_size": Attribute("taps per axis", lambda case: case.geometry.kernel_size),
    "stride": Attribute("stride per axis", lambda case: case.geometry.stride),
    "dilation": Attribute("dilation per axis", lambda case: case.geometry.dilation),
    "padding": Attribute("zeros (before, after) per axis, also for 'same'", lambda case: case.geometry.pads),
    "padding_name": Attribute(
        "'same' or 'valid' if the padding is given by name, else ''",
        lambda case: case.padding if isinstance(case.padding, str) else "",
    ),
    "output_size": Attribute("outputs per axis", lambda case: case.geometry.output_size),
    "nnz": Attribute("products per image, without padding; 0 if every tap reads padding", lambda c: c.geometry.nnz),
    "all_padding": Attribute("whether the window of some output lies wholly in the padding", is_all_padding),
    "idle_taps": Attribute("per axis, whether some tap of the kernel never meets a pixel", _idle_taps),
    "layout_input": _layout("input"),
    "layout_weight": _layout("weight"),
    "layout_bias": _layout("bias"),
    "layout_grad": _layout("grad"),
}


def _shape(operand: str) -> Attribute:
    return Attribute(f"shape of the {operand}, if it is a tensor", lambda call: _tensor(call, operand).shape)


def _dtype(operand: str) -> Attribute:
    return Attribute(f"dtype of the {operand}, if it is a tensor", lambda call: _tensor(call, operand).dtype)


def _tensor(call: Call, operand: str) -> TensorSpec:
    value = call[operand]
    if not isinstance(value, TensorSpec):
        raise TypeError(f"{operand} is not a tensor")
    return value


def _numbers(parameter: str) -> Attribute:
    return Attribute(
        f"entries of {parameter}, one for each of the two axes, if they are integers",
        lambda call: _per_axis(call[parameter]),
    )


def _per_axis(value: object) -> tuple[int, ...]:
    entries = tuple(value) if isinstance(value, tuple | list) else (value,)
    numbers = tuple(operator.index(entry) for entry in entries)  # TypeError unless it is an integer
    return numbers * 2 if len(numbers) == 1 else numbers


def _types(parameter: str) -> Attribute:
    return Attribute(
        f"type of {parameter}: 'int', 'tuple', 'bool tensor', 'array of 0 axes', ...; and those of its entries",
        lambda call: _type_names(call[parameter]),
    )


def _type_names(value: object) -> tuple[str, ...]:
    if isinstance(value, torch.Tensor):
        return (f"{str(value.dtype).removeprefix('torch.')} tensor",)
    if isinstance(value, np.ndarray):
        return (f"array of {value.ndim} axes",)
    entries = value if isinstance(value, tuple | list) else ()
    return (type(value).__name__, *(_type_names(entry)[0] for entry in entries))


# The names differ from those of a case, because a parameter of a call can be any object.
CALL_ATTRIBUTES: dict[str, Attribute] = {
    "call": Attribute("the whole line", str),
    "input_shape": _shape("input"),
    "weight_shape": _shape("weight"),
    "bias_shape": _shape("bias"),
    "input_dtype": _dtype("input"),
    "weight_dtype": _dtype("weight"),
    "bias_dtype": _dtype("bias"),
    "devices": Attribute(
        "kinds of devices of the operands, each once", lambda call: tuple(dict.fromkeys(o.kind for o in call.operands))
    ),
    **{f"{parameter}_numbers": _numbers(parameter) for parameter in ("stride", "padding", "dilation", "groups")},
    **{f"{parameter}_types": _types(parameter) for parameter in ("stride", "padding", "dilation", "groups")},
}
