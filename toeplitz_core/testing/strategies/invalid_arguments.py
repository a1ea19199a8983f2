"""Ways to break a call: each replaces some arguments of a valid call.

Not every break makes the call invalid: an empty batch or an unusual spelling of an integer is legal. This module does
not decide which calls are valid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from toeplitz_core.geometry import ConvGeometry
from toeplitz_core.testing.case.call import TensorSpec
from toeplitz_core.testing.case.dtypes import DTYPES
from toeplitz_core.testing.strategies.argument_spellings import (
    BEYOND_INT32,
    BEYOND_INT64,
    BOOL_PAIRS,
    BOOLS,
    FLOAT_PAIRS,
    FLOATS,
    HUGE,
    INTEGER_SPELLINGS,
    NOT_NUMBER_PAIRS,
    NOT_NUMBERS,
    NOT_TENSORS,
    NUMPY_INTEGER_PAIRS,
    NUMPY_INTEGERS,
    PADDING_STRINGS,
    Table,
)
from toeplitz_core.testing.strategies.choices import weighted

# Most pixels of an axis in addition to those that the first output needs: with 2 x padding this bounds every result.
SPARE_PIXELS = 6

# The simplest dtype comes first, because examples shrink towards it.
CONVOLVED = ("float32", *(name for name, dtype in DTYPES.items() if dtype.convolved and name != "float32"))
_UNSUPPORTED = tuple(name for name, dtype in DTYPES.items() if not dtype.convolved)

PER_AXIS = ("stride", "padding", "dilation")
PARAMETERS = (*PER_AXIS, "groups")


Changes = dict[str, str]


@dataclass(frozen=True, slots=True)
class Base:
    """A valid call before its arguments are written as text.

    Parameters
    ----------
    geometry : ConvGeometry
        Sizes, stride, padding, dilation and groups of the convolution.
    batch : int or None
        Number of images; None if unbatched.
    dtype : str
        The dtype of every operand.
    bias : bool
        Whether the call has a bias.
    device : str
        The device of every operand.
    """

    geometry: ConvGeometry
    batch: int | None
    dtype: str
    bias: bool
    device: str = "cpu"

    def operand(self, name: str, shape: tuple[int, ...] | None = None) -> TensorSpec:
        """An operand of the call, optionally with another shape."""
        return TensorSpec(self.dtype, self.shape(name) if shape is None else shape, self.device)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an operand: ``input``, ``weight`` or ``bias``."""
        g = self.geometry
        if name == "input":
            return self.images(g.in_channels, *g.input_size)
        return g.weight_shape if name == "weight" else (g.out_channels,)

    def number(self, name: str) -> int:
        """A number that is valid for a parameter on every axis; for ``"same"`` and ``"valid"``, the largest pad."""
        g = self.geometry
        if name == "groups":
            return g.groups
        if name == "padding":
            return max(pad for pads in g.pads for pad in pads)
        numbers: tuple[int, ...] = getattr(g, name)
        return min(numbers)

    def images(self, channels: int, *size: int) -> tuple[int, ...]:
        """The shape of an input with these channels and this size, batched only if the call is."""
        return (channels, *size) if self.batch is None else (self.batch, channels, *size)


Break = Callable[[st.DrawFn, Base], Changes]


def _rank(name: str, *legal: int) -> Break:
    def wrong_rank(draw: st.DrawFn, base: Base) -> Changes:
        shape = base.shape(name)
        shapes = (shape[1:], (1, *shape), (*shape, 1), shape[:-1], shape[-2:], shape[-1:], ())
        wrong = dict.fromkeys(s for s in shapes if len(s) not in legal)
        return {name: str(base.operand(name, draw(st.sampled_from(tuple(wrong)))))}

    return wrong_rank


def _bias_length(draw: st.DrawFn, base: Base) -> Changes:
    outputs = base.geometry.out_channels
    length = draw(st.sampled_from((outputs + 1, outputs - 1, outputs * 2, 0)))
    return {"bias": str(base.operand("bias", (length,)))}


def _bias_of_one(draw: st.DrawFn, base: Base) -> Changes:
    g = base.geometry
    outputs = g.groups * draw(st.sampled_from((2, 3)))  # more than one for any number of groups
    return {
        "weight": str(base.operand("weight", (outputs, g.group_channels, *g.kernel_size))),
        "bias": str(base.operand("bias", (1,))),
    }


def _input_channels(draw: st.DrawFn, base: Base) -> Changes:
    g = base.geometry
    channels = draw(
        st.sampled_from((g.in_channels + 1, g.in_channels - 1, g.in_channels * 2, g.in_channels + g.groups))
    )
    return {"input": str(base.operand("input", base.images(channels, *g.input_size)))}


def _weight_channels(draw: st.DrawFn, base: Base) -> Changes:
    g = base.geometry
    channels = draw(st.sampled_from((g.group_channels + 1, g.group_channels - 1, g.group_channels * 2)))
    return {"weight": str(base.operand("weight", (g.out_channels, channels, *g.kernel_size)))}


def _out_channels_not_divisible(draw: st.DrawFn, base: Base) -> Changes:
    g = base.geometry
    groups = draw(st.integers(2, 4))
    outputs = draw(st.integers(0, 2)) * groups + draw(st.integers(1, groups - 1))
    return {
        "input": str(base.operand("input", base.images(g.group_channels * groups, *g.input_size))),
        "weight": str(base.operand("weight", (outputs, g.group_channels, *g.kernel_size))),
        "bias": str(base.operand("bias", (outputs,))) if base.bias else "None",
        "groups": str(groups),
    }


def _other_groups(draw: st.DrawFn, base: Base) -> Changes:
    return {"groups": str(draw(st.sampled_from([groups for groups in range(1, 9) if groups != base.geometry.groups])))}


def _too_small(name: str) -> Break:
    smallest = 0 if name == "padding" else 1

    def below(draw: st.DrawFn, base: Base) -> Changes:
        # Most often the neighbour of the smallest legal value, where checks are off by one.
        value = smallest - draw(st.sampled_from((1,) * 8 + (2, 3, 2**31, 2**31 + 1, 2**62, 2**63, 2**63 + 1)))
        if name == "groups":
            return {name: str(value)}
        other = getattr(base.geometry, name)
        valid = smallest if isinstance(other, str) else other[0]
        spelled = (value, value, (value, value), (value, valid), (valid, value), [value])
        changes = {name: repr(draw(st.sampled_from(spelled)))}
        if name == "padding":
            # The image is large: negative padding crops it, the kernel must still fit, and nothing else may be wrong.
            size = (extent + SPARE_PIXELS for extent in base.geometry.kernel_extent)
            changes["input"] = str(base.operand("input", base.images(base.geometry.in_channels, *size)))
        return changes

    return below


def _dtype_of(name: str) -> Break:
    def mismatched(draw: st.DrawFn, base: Base) -> Changes:
        other = draw(st.sampled_from([dtype for dtype in (*CONVOLVED, *_UNSUPPORTED) if dtype != base.dtype]))
        return {name: str(replace(base.operand(name), dtype=other))}

    return mismatched


def _unsupported_dtype(draw: st.DrawFn, base: Base) -> Changes:
    dtype = draw(st.sampled_from(_UNSUPPORTED))
    names = ("input", "weight", "bias") if base.bias else ("input", "weight")
    return {name: str(replace(base.operand(name), dtype=dtype)) for name in names}


def _device(draw: st.DrawFn, base: Base) -> Changes:
    names = draw(st.sampled_from((("weight",), ("input",), ("bias",), ("input", "weight"), ("weight", "bias"))))
    device = draw(st.sampled_from(("meta",) if base.device == "cpu" else ("meta", "cpu")))
    return {name: str(replace(base.operand(name), device=device)) for name in names}


def _not_a_tensor(name: str) -> Break:
    def other_object(draw: st.DrawFn, _: Base) -> Changes:
        return {name: draw(st.sampled_from(NOT_TENSORS))}

    return other_object


def _kernel_too_large(draw: st.DrawFn, base: Base) -> Changes:
    g = base.geometry
    padding = 0 if isinstance(g.padding, str) else None
    pads = g.pads if padding is None else ((0, 0),) * g.rank
    kernel = list(g.kernel_size)
    axis = draw(st.integers(0, g.rank - 1))
    padded = g.input_size[axis] + sum(pads[axis])
    # The smallest kernel whose extent, (kernel - 1) * dilation + 1, is larger than the padded input.
    kernel[axis] = (padded - 1) // g.dilation[axis] + 2 + draw(st.integers(0, 2))
    changes = {"weight": str(base.operand("weight", (g.out_channels, g.group_channels, *kernel)))}
    return changes if padding is None else {**changes, "padding": str(padding)}


def _spelled(name: str, numbers: Table, pairs: Table = ()) -> Break:
    """The spelling of a number, or of a pair if the parameter has an entry for each axis."""
    table = numbers if name == "groups" else numbers + pairs

    def spelled(draw: st.DrawFn, base: Base) -> Changes:
        return {name: draw(weighted(*table)).replace("{}", str(base.number(name)))}

    return spelled


def _bool(name: str) -> Break:
    spelled = _spelled(name, BOOLS, BOOL_PAIRS)

    def truth_value(draw: st.DrawFn, base: Base) -> Changes:
        changes = spelled(draw, base)
        if name == "groups":
            # The weight for one group, because True is equal to 1.
            g = base.geometry
            changes["weight"] = str(base.operand("weight", (g.out_channels, g.in_channels, *g.kernel_size)))
        return changes

    return truth_value


def _length(name: str) -> Break:
    def wrong_length(draw: st.DrawFn, base: Base) -> Changes:
        lengths = (0, 3, 4, 1, 2) if name == "groups" else (0, 3, 4, 3)
        entries = [base.number(name)] * draw(st.sampled_from(lengths))
        return {name: repr(draw(st.sampled_from((tuple(entries), entries))))}

    return wrong_length


def _same_with_stride(draw: st.DrawFn, _: Base) -> Changes:
    return {
        "padding": "'same'",
        "stride": draw(st.sampled_from(("2", "(1,2)", "(2,1)", "[3]", "0", "-1", "()", "(1,1,1)"))),
    }


def _padding_string(draw: st.DrawFn, _: Base) -> Changes:
    return {"padding": draw(weighted(*PADDING_STRINGS)), "stride": "1"}  # 'same' needs stride 1


def _empty_axis(draw: st.DrawFn, base: Base) -> Changes:
    size = list(base.geometry.input_size)
    size[draw(st.integers(0, 1))] = 0
    return {"input": str(base.operand("input", base.images(base.geometry.in_channels, *size)))}


def _no_input_channels(_: st.DrawFn, base: Base) -> Changes:
    g = base.geometry
    return {
        "input": str(base.operand("input", base.images(0, *g.input_size))),
        "weight": str(base.operand("weight", (g.out_channels, 0, *g.kernel_size))),
    }


def _empty_kernel(draw: st.DrawFn, base: Base) -> Changes:
    g = base.geometry
    kernel = draw(st.sampled_from(((0, 0), (0, g.kernel_size[1]), (g.kernel_size[0], 0))))
    return {"weight": str(base.operand("weight", (g.out_channels, g.group_channels, *kernel)))}


def _no_out_channels(_: st.DrawFn, base: Base) -> Changes:
    g = base.geometry
    bias = str(base.operand("bias", (0,))) if base.bias else "None"
    return {"weight": str(base.operand("weight", (0, g.group_channels, *g.kernel_size))), "bias": bias}


def _empty_batch(_: st.DrawFn, base: Base) -> Changes:
    return {"input": str(base.operand("input", (0, base.geometry.in_channels, *base.geometry.input_size)))}


def _empty_batch_empty_axis(draw: st.DrawFn, base: Base) -> Changes:
    size = list(base.geometry.input_size)
    size[draw(st.integers(0, 1))] = 0
    return {"input": str(base.operand("input", (0, base.geometry.in_channels, *size)))}


def _huge(name: str, *groups: tuple[int, ...]) -> Break:
    def huge(draw: st.DrawFn, _: Base) -> Changes:
        value = draw(weighted(*((1, values) for values in groups)))
        pairs = () if name == "groups" else ((value, value), (1, value), (value, 1))
        return {name: repr(draw(st.sampled_from((value,) * 9 + pairs)))}

    return huge


def _huge_padding(draw: st.DrawFn, _: Base) -> Changes:
    # The stride grows with the padding, so the result has a few outputs per axis, or the call fails. It never fills the
    # memory.
    value = draw(st.sampled_from(HUGE))
    stride = min(value, 2**63 - 1) // draw(st.sampled_from((1, 2)))
    return {"padding": str(value), "stride": str(stride)}


def _huge_result(draw: st.DrawFn, _: Base) -> Changes:
    # 2^48 elements and more: beyond any address space, so that an allocator must refuse. Only one axis is huge, so that
    # no product of sizes overflows.
    padding = draw(st.sampled_from((f"({2**47},0)", f"(0,{2**47})")))
    return {"padding": padding, "stride": "1", "dilation": "1"}


BREAKS: dict[str, Break] = {
    "input: wrong rank": _rank("input", 3, 4),
    "weight: wrong rank": _rank("weight", 4),
    "bias: wrong rank": _rank("bias", 1),
    "bias: wrong length": _bias_length,
    "bias: one number for several channels": _bias_of_one,
    "input: wrong channels": _input_channels,
    "weight: wrong channels": _weight_channels,
    "groups: does not divide out_channels": _out_channels_not_divisible,
    "groups: another number": _other_groups,
    **{f"{name}: zero or negative": _too_small(name) for name in PARAMETERS},
    **{f"{name}: another dtype": _dtype_of(name) for name in ("input", "weight", "bias")},
    "dtype: not supported": _unsupported_dtype,
    "device: another": _device,
    **{f"{name}: not a tensor": _not_a_tensor(name) for name in ("input", "weight", "bias")},
    "weight: kernel larger than padded input": _kernel_too_large,
    **{f"{name}: a float": _spelled(name, FLOATS, FLOAT_PAIRS) for name in PARAMETERS},
    **{f"{name}: a bool": _bool(name) for name in PARAMETERS},
    **{f"{name}: not a number": _spelled(name, NOT_NUMBERS, NOT_NUMBER_PAIRS) for name in PARAMETERS},
    **{f"{name}: an integer of NumPy": _spelled(name, NUMPY_INTEGERS, NUMPY_INTEGER_PAIRS) for name in PARAMETERS},
    **{f"{name}: an integer by another name": _spelled(name, INTEGER_SPELLINGS) for name in PARAMETERS},
    **{f"{name}: wrong length": _length(name) for name in PARAMETERS},
    "padding: 'same' with a stride": _same_with_stride,
    "padding: unknown string": _padding_string,
    "input: empty axis": _empty_axis,
    "input: no channels": _no_input_channels,
    "input: empty batch": _empty_batch,
    "input: empty batch and axis": _empty_batch_empty_axis,
    "weight: empty kernel": _empty_kernel,
    "weight: no output channels": _no_out_channels,
    **{f"{name}: huge": _huge(name, HUGE, BEYOND_INT32) for name in ("stride", "dilation", "groups")},
    **{f"{name}: beyond int64": _huge(name, BEYOND_INT64) for name in ("stride", "dilation", "groups")},
    "padding: huge": _huge_padding,
    "padding: huge result": _huge_result,
}
