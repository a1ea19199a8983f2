"""Conditions on a case or a call, as text: they select the cases that a known failure covers.

A condition is a Python expression over the names in ``case.attributes``: ``ATTRIBUTES`` for cases and
``CALL_ATTRIBUTES`` for calls. It may contain comparisons, ``and``, ``or``, ``not``, ``in``, integer arithmetic,
indices, tuples, and the functions in ``FUNCTIONS``, which also take a generator, but nothing else of Python. The file
with a condition may come from somebody else, so the condition is interpreted here and never passed to ``eval``.
"""

from __future__ import annotations

import ast
import itertools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from toeplitz_core.testing.case.attributes import ATTRIBUTES, CALL_ATTRIBUTES, is_all_padding
from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.support.spelling import nearest_word

# Longer than any condition that a reader can check; it bounds the cost of an evaluation.
MAX_LENGTH = 1000
# The numbers of a case fit in 64 bits; larger ones would only make arithmetic slow.
MAX_NUMBER = 2**64


FUNCTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (any, all, min, max, len, sum, zip)
}

# What has an entry for each axis, and what the entry is.
_PER_AXIS = {
    **dict.fromkeys(("input_size", "kernel_size", "stride", "dilation", "output_size"), "a number"),
    "padding": "a pair (before, after)",
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
# Exceptions of a condition that does not fit a case, which may have another number of axes or another type.
_UNFIT = (TypeError, IndexError, ValueError, ZeroDivisionError)


@dataclass(frozen=True, slots=True)
class Condition:
    """A boolean expression on a case or a call.

    Parameters
    ----------
    text : str
        The expression.

    Attributes
    ----------
    tree : ast.expr
        The parsed expression.

    Raises
    ------
    ValueError
        With the part of the expression that is not allowed, and the list of what is.

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
        """Whether it is true for a case or call. It is not if it cannot be evaluated (such as for a missing axis)."""
        try:
            return bool(_value(self.tree, case, {}))
        except _UNFIT:
            return False


def _check(node: ast.AST, bound: frozenset[str]) -> None:
    """Refuse every node that is not allowed; ``bound`` holds the variables of the generator around it."""
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
                    f"unknown name '{name}'; {nearest_word(name, (*ATTRIBUTES, *CALL_ATTRIBUTES))}legal: "
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
            for comparison, pair in zip(ops, itertools.pairwise(parts), strict=True):
                if not isinstance(comparison, ast.In | ast.NotIn):
                    _check_axes(*pair)
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


def _check_axes(left: ast.expr, right: ast.expr) -> None:
    """Refuse to compare one number with what has one for each axis: that would hold for no case."""
    for one, other in ((left, right), (right, left)):
        match one, other:
            case ast.Name(id=name), ast.Constant(value=value) if name in _PER_AXIS and type(value) is int:
                pair = f"(({value}, {value}), ({value}, {value}))" if name == "padding" else f"({value}, {value})"
                raise ValueError(f"{name} has {_PER_AXIS[name]} for each axis: compare it with {pair}, or {name}[0]")


def _check_generator(call: ast.AST, arguments: list[ast.expr], bound: frozenset[str]) -> None:
    generator = arguments[0]
    single = isinstance(generator, ast.GeneratorExp) and len(arguments) == len(generator.generators) == 1
    if bound or not isinstance(generator, ast.GeneratorExp) or not single or generator.generators[0].is_async:
        raise ValueError(f"'{ast.unparse(call)}' must have one generator with one 'for', not nested in another")
    loop = generator.generators[0]
    targets = loop.target.elts if isinstance(loop.target, ast.Tuple) else [loop.target]
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    if len(names) != len(targets) or set(names) & {*ATTRIBUTES, *CALL_ATTRIBUTES, *FUNCTIONS}:
        raise ValueError(f"'{ast.unparse(loop.target)}' must be variables not named like an attribute or function")
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
                raise TypeError("arithmetic is for integers")  # a tuple times a large integer would fill the memory
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
        raise TypeError(f"a {type(case).__name__.lower()} has no attribute '{name}'")
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
    """The condition of the failure that a shrunk case shows: every attribute that is not at its simplest is needed.

    A size must be at least the value of the case; a choice must be the same. Attributes that shrinking made simplest
    are left open. The condition of a call matches that call only.
    """
    if isinstance(case, Call):
        return Condition(f"call == {str(case)!r}")
    parts = [f"dtype == '{case.dtype}'", f"device == '{ATTRIBUTES['device'].of(case)}'"]
    # These are the recipes that searches start with.
    if case.data not in ("integers", "normal"):
        parts.append(f"data == '{case.data}'")
    return Condition(" and ".join((*parts, *_of_shapes(case))))


def necessary_shapes(case: Case) -> tuple[Condition, ...]:
    """The conditions of :func:`necessary` on sizes, parameters and layouts, whatever the dtype and the data are."""
    return tuple(map(Condition, _of_shapes(case)))


def _of_shapes(case: Case) -> list[str]:
    geometry, parts = case.geometry, []
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
    if is_all_padding(case):
        parts.append("all_padding")
    if case.bias:
        parts.append("bias")
    return [*parts, *(f"layout_{operand} == '{layout}'" for operand, layout in case.layouts)]


# What a kernel is most often for. A condition on one of these is one that a user would write.
_OF_KERNELS = (
    "kernel_size", "stride", "dilation", "groups", "bias", "batched", "padding", "padding_name", "depthwise",
)  # fmt: skip
# With fewer cases, what they have in common may be chance.
_FEWEST = 3


def common(cases: Sequence[Case], others: Sequence[Case]) -> Condition | None:
    """A short condition that all of the cases meet, and none of the others; None if there is no simple one.

    Each part of it is a value that all of the cases have. The part that leaves out most of the others comes first.

    Examples
    --------
    >>> lines = "input=1x1x3x3 weight=1x1x3x3", "input=2x1x5x5 weight=1x1x3x3 padding=1", "input=3x3x3 weight=1x3x3x3"
    >>> common([Case.parse(line) for line in lines], [Case.parse("input=1x1x3x3 weight=1x1x1x3")]).text
    'kernel_size == (3, 3)'
    """
    if len(cases) < _FEWEST:
        return None
    parts = []
    for name in _OF_KERNELS:
        value, *more = {ATTRIBUTES[name].of(case) for case in cases}
        if not more:
            text = ("not " * (not value) + name) if isinstance(value, bool) else f"{name} == {value!r}"
            parts.append(Condition(text))
    chosen: list[Condition] = []
    left = list(others)
    while left:
        kept = {part.text: [case for case in left if part.holds(case)] for part in parts}
        best = min(parts, key=lambda part: len(kept[part.text]), default=None)
        if best is None or len(kept[best.text]) == len(left):
            return None
        chosen.append(best)
        left = kept[best.text]
    return Condition(" and ".join(part.text for part in chosen)) if chosen else None
