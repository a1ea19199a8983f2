"""Conditions over a case or a call, as text: which ones a known failure speaks for.

A condition is a Python expression over the names in ``ATTRIBUTES``, or for calls over those in ``CALL_ATTRIBUTES``, and
nothing else of Python: comparisons, ``and``,
``or``, ``not``, ``in``, integer arithmetic, indices, tuples, and the functions in ``FUNCTIONS``, which take a generator
too. It comes from a file that somebody may have sent, so it is interpreted here and never given to ``eval``.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from toeplitz_core.testing.case.call import Call, TensorSpec
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.support.spelling import nearest_word

# Longer than any condition that a reader can check; it bounds what one evaluation costs.
MAX_LENGTH = 1000
# Numbers of a case fit in 64 bits; longer ones serve only to make arithmetic slow.
MAX_NUMBER = 2**64


class Attribute(NamedTuple):
    """What a name in a condition means, and its value for a case or a call."""

    meaning: str
    of: Callable[[Any], Any]


def _all_padding(case: Case) -> bool:
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
    meaning = f"layout of the {operand} that the case names; 'default' where it names none"
    return Attribute(meaning, lambda case: case.layout(operand) or "default")


ATTRIBUTES: dict[str, Attribute] = {
    "dtype": Attribute("as in the case: 'float32', ...", lambda case: case.dtype),
    "device": Attribute("kind of device, without its number: 'cpu', 'cuda', ...", lambda c: c.device.partition(":")[0]),
    "data": Attribute("name of the data recipe: 'integers', ...", lambda case: case.data),
    "seed": Attribute("of the data", lambda case: case.seed),
    "bias": Attribute("whether there is one", lambda case: case.bias),
    "batched": Attribute("whether the input has an axis for the batch", lambda case: case.batch is not None),
    "batch": Attribute("number of images; 1 if unbatched", lambda case: 1 if case.batch is None else case.batch),
    "groups": Attribute("number of groups", lambda case: case.groups),
    "in_channels": Attribute("of all groups together", lambda case: case.geometry.in_channels),
    "out_channels": Attribute("of all groups together", lambda case: case.geometry.out_channels),
    "group_channels": Attribute("input channels of one group", lambda case: case.weight[1]),
    "depthwise": Attribute(
        "one input channel in each of several groups", lambda case: case.groups > 1 and case.weight[1] == 1
    ),
    "rank": Attribute("number of axes of an image: 2", lambda case: case.geometry.rank),
    "input_size": Attribute("per axis", lambda case: case.geometry.input_size),
    "kernel_size": Attribute("per axis", lambda case: case.geometry.kernel_size),
    "stride": Attribute("per axis", lambda case: case.geometry.stride),
    "dilation": Attribute("per axis", lambda case: case.geometry.dilation),
    "padding": Attribute("zeros (before, after) per axis, 'same' worked out", lambda case: case.geometry.pads),
    "padding_name": Attribute(
        "'same' or 'valid' where the padding is given so, else ''",
        lambda case: case.padding if isinstance(case.padding, str) else "",
    ),
    "output_size": Attribute("per axis", lambda case: case.geometry.output_size),
    "nnz": Attribute("products of an image that are not of padding; 0 if only that is read", lambda c: c.geometry.nnz),
    "all_padding": Attribute("whether some output's window lies wholly in the padding", _all_padding),
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
        raise TypeError(f"{operand} is no tensor")
    return value


def _numbers(parameter: str) -> Attribute:
    return Attribute(
        f"entries of {parameter}, one for each of the two axes, if they are integers",
        lambda call: _per_axis(call[parameter]),
    )


def _per_axis(value: object) -> tuple[int, ...]:
    entries = tuple(value) if isinstance(value, tuple | list) else (value,)
    numbers = tuple(operator.index(entry) for entry in entries)  # TypeError: it does not fit
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


# What a parameter is can be anything in a call: the names differ from those of a case.
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

FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (any, all, min, max, len, sum, zip)
}

_ARITHMETIC: dict[type[ast.AST], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type[ast.AST], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda value, values: value in values,
    ast.NotIn: lambda value, values: value not in values,
}
# What a condition that was not made for a case (another number of axes, another type) may raise.
_UNFIT = (TypeError, IndexError, ValueError, ZeroDivisionError)


@dataclass(frozen=True, slots=True)
class Condition:
    """An expression that holds for a case or a call, or not.

    Raises
    ------
    ValueError
        With the part of the expression that is not allowed, and what is.

    Examples
    --------
    >>> from toeplitz_core.testing.case.case import Case
    >>> condition = Condition("groups > 1 and any(k > 1 for k in kernel_size)")
    >>> condition.holds(Case.parse("input=1x2x3x3 weight=2x1x1x3 groups=2"))
    True
    >>> Condition("dtype.__class__")
    Traceback (most recent call last):
        ...
    ValueError: 'dtype.__class__' is not allowed in a condition, which consists of comparisons, and, or, not, in, ...
    """

    text: str
    tree: ast.expr = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.text) > MAX_LENGTH:
            raise ValueError(f"it has {len(self.text)} characters and must have at most {MAX_LENGTH}")
        try:
            tree = ast.parse(self.text.strip(), mode="eval").body
            _check(tree, frozenset())
        except SyntaxError as error:
            raise ValueError(f"it must be a Python expression: {error.msg}") from None
        except (RecursionError, MemoryError):
            raise ValueError("it is nested too deeply") from None
        object.__setattr__(self, "tree", tree)

    def holds(self, case: Case | Call) -> bool:
        """Whether it is true of a case or call; where it cannot be evaluated (an axis that is not there), it is not."""
        try:
            return bool(_value(self.tree, case, {}))
        except _UNFIT:
            return False


def _check(node: ast.AST, bound: frozenset[str]) -> None:
    """Refuse whatever is not part of a condition; ``bound`` are the variables of the generator around it."""
    match node:
        case ast.Constant(value=value) if isinstance(value, bool | str):
            return
        case ast.Constant(value=value) if type(value) is int:
            if value > MAX_NUMBER:
                raise ValueError(f"{value} must be at most 2**64")
            return
        case ast.Name(id=name):
            if name not in (*bound, *ATTRIBUTES, *CALL_ATTRIBUTES):
                raise ValueError(
                    f"unknown name '{name}'; {nearest_word(name, (*ATTRIBUTES, *CALL_ATTRIBUTES))}Legal: "
                    f"{', '.join(ATTRIBUTES)}; for calls: {', '.join(CALL_ATTRIBUTES)}"
                )
            return
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.BoolOp(values=parts):
            pass
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            parts = [operand]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            parts = [left, right]
        case ast.Compare(left=left, ops=ops, comparators=rest) if all(type(op) in _COMPARISONS for op in ops):
            parts = [left, *rest]
        case ast.Subscript(value=value, slice=index) if not isinstance(index, ast.Slice):
            parts = [value, index]
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            if any(isinstance(argument, ast.GeneratorExp) for argument in arguments):
                _check_generator(node, arguments, bound)
                return
            parts = list(arguments)
        case _:
            raise ValueError(
                f"'{ast.unparse(node)}' is not allowed in a condition, which consists of comparisons, and, or, not, "
                f"in, + - * // %, indices, tuples, {', '.join(f'{name}()' for name in FUNCTIONS)} and the attributes "
                "of a case"
            )
    for part in parts:
        _check(part, bound)


def _check_generator(call: ast.AST, arguments: list[ast.expr], bound: frozenset[str]) -> None:
    generator = arguments[0]
    single = isinstance(generator, ast.GeneratorExp) and len(arguments) == len(generator.generators) == 1
    if bound or not isinstance(generator, ast.GeneratorExp) or not single or generator.generators[0].is_async:
        raise ValueError(f"'{ast.unparse(call)}' must have one generator with one 'for', and none within another")
    loop = generator.generators[0]
    targets = loop.target.elts if isinstance(loop.target, ast.Tuple) else [loop.target]
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    if len(names) != len(targets) or set(names) & {*ATTRIBUTES, *CALL_ATTRIBUTES, *FUNCTIONS}:
        raise ValueError(f"'{ast.unparse(loop.target)}' must be variables that have no name of an attribute")
    _check(loop.iter, bound)
    for part in (generator.elt, *loop.ifs):
        _check(part, bound | frozenset(names))


def _value(node: ast.AST, case: Case | Call, variables: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return variables[name] if name in variables else _attribute(name, case)
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return tuple(_value(part, case, variables) for part in parts)
        case ast.BoolOp(op=op, values=parts):
            decides = all if isinstance(op, ast.And) else any
            return decides(_value(part, case, variables) for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, case, variables)
        case ast.UnaryOp(operand=operand):
            return -_value(operand, case, variables)
        case ast.BinOp(left=left, op=op, right=right):
            numbers = _value(left, case, variables), _value(right, case, variables)
            if not all(isinstance(number, int) for number in numbers):
                raise TypeError("arithmetic is for integers")  # a tuple times a large number would fill the memory
            return _ARITHMETIC[type(op)](*numbers)
        case ast.Compare(left=left, ops=ops, comparators=rest):
            values = [_value(part, case, variables) for part in (left, *rest)]
            return all(_COMPARISONS[type(op)](*pair) for op, *pair in zip(ops, values[:-1], values[1:], strict=True))
        case ast.Subscript(value=value, slice=index):
            return _value(value, case, variables)[_value(index, case, variables)]
        case ast.Call(func=ast.Name(id=name), args=[ast.GeneratorExp() as generator]):
            return FUNCTIONS[name](_generated(generator, case, variables))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return FUNCTIONS[name](*(_value(argument, case, variables) for argument in arguments))
    raise AssertionError(f"_check lets nothing else through: {ast.dump(node)}")


def _attribute(name: str, case: Case | Call) -> Any:
    table = CALL_ATTRIBUTES if isinstance(case, Call) else ATTRIBUTES
    if name not in table:
        raise TypeError(f"'{name}' is nothing that a {type(case).__name__.lower()} has")
    return table[name].of(case)


def _generated(generator: ast.GeneratorExp, case: Case | Call, variables: Mapping[str, Any]) -> Iterator[Any]:
    loop = generator.generators[0]
    for item in _value(loop.iter, case, variables):
        if isinstance(loop.target, ast.Tuple):
            names = [target.id for target in loop.target.elts if isinstance(target, ast.Name)]
            bound = dict(zip(names, item, strict=True))
        else:
            assert isinstance(loop.target, ast.Name)
            bound = {loop.target.id: item}
        if all(_value(condition, case, bound) for condition in loop.ifs):
            yield _value(generator.elt, case, bound)


def necessary(case: Case | Call) -> Condition:
    """What a shrunk case says of the failure it stands for: every attribute that is not at its simplest is needed.

    Sizes then hold from that value on, choices only as they are. What shrinking could make simplest is left open. A
    call speaks for itself alone.
    """
    if isinstance(case, Call):
        return Condition(f"call == {str(case)!r}")
    geometry = case.geometry
    parts = [f"dtype == '{case.dtype}'", f"device == '{ATTRIBUTES['device'].of(case)}'"]
    # Of each kind of law the recipe that its search begins with.
    if case.data not in ("integers", "normal"):
        parts.append(f"data == '{case.data}'")
    if case.batch is None:
        parts.append("not batched")
    sizes = {"batch": 1 if case.batch is None else case.batch, "groups": case.groups, "group_channels": case.weight[1]}
    if geometry.out_channels > case.groups:
        sizes["out_channels"] = geometry.out_channels
    for name, values in (
        ("input_size", geometry.input_size),
        ("kernel_size", geometry.kernel_size),
        ("stride", geometry.stride),
        ("dilation", geometry.dilation),
    ):
        sizes |= {f"{name}[{axis}]": value for axis, value in enumerate(values)}
    parts += [f"{name} {'==' if value == 0 else '>='} {value}" for name, value in sizes.items() if value != 1]
    for axis, pads in enumerate(geometry.pads):
        parts += [f"padding[{axis}][{side}] >= {pad}" for side, pad in enumerate(pads) if pad]
    if isinstance(case.padding, str):
        parts.append(f"padding_name == '{case.padding}'")
    if _all_padding(case):
        parts.append("all_padding")
    if case.bias:
        parts.append("bias")
    parts += [f"layout_{operand} == '{layout}'" for operand, layout in case.layouts]
    return Condition(" and ".join(parts))
