"""The domain of a subject: the cases that it is for, by a condition and by a limit on their size."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.conditions import Condition
from toeplitz_core.testing.strategies.reshaped import reshaped


@dataclass(frozen=True, slots=True)
class Domain:
    """The cases that a subject is for. Others are not tried, and law and subject are not asked about them.

    Parameters
    ----------
    where : tuple of Condition
        What holds for every case. A condition says nothing about calls, whose arguments may be invalid.
    max_products : int, optional
        The limit on the products of a case, all its images together.
    """

    where: tuple[Condition, ...] = ()
    max_products: int | None = None

    def __bool__(self) -> bool:
        return bool(self.where) or self.max_products is not None

    def __str__(self) -> str:
        said = [f"where {condition.text}" for condition in self.where]
        return ", ".join(said + [f"at most {self.max_products} products"] * (self.max_products is not None))

    def within(self, where: str) -> Domain:
        """The part of the domain in which another condition holds too; an empty condition always holds."""
        return self if not where else Domain((*self.where, Condition(where)), self.max_products)

    def allows(self, case: Case | Call) -> bool:
        """Whether every condition holds. Sizes do not matter here: a law may need a call that is somewhat larger."""
        return isinstance(case, Call) or all(condition.holds(case) for condition in self.where)

    def contains(self, case: Case | Call) -> bool:
        """Whether the case is in the domain."""
        small = isinstance(case, Call) or self.max_products is None or _products(case) <= self.max_products
        return small and self.allows(case)

    def moved(self, case: Case) -> Case:
        """A case of the domain that is near this one, where that is simple; else a case that may be outside.

        It is simple for conditions that are joined by ``and``, and that each give a parameter one value or a choice of
        values.
        """
        if self.contains(case):
            return case
        parameters: dict[str, Any] = {}
        for condition in self.where:
            for part in _conjuncts(condition.tree):
                parameters |= _wanted(part, case, parameters)
        try:
            moved = reshaped(case, **parameters) if parameters else case
            return moved if self.max_products is None else _smaller(moved, self.max_products)
        except ValueError:
            return case  # no case near this one has all these parameters


EVERYTHING = Domain()


def _products(case: Case) -> int:
    return case.geometry.nnz * (1 if case.batch is None else case.batch)


def _smaller(case: Case, limit: int) -> Case:
    """The case with fewer images, then fewer channels, while it has too many products."""
    if _products(case) > limit and case.batch not in (None, 0, 1):
        case = reshaped(case, batch=1)
    if _products(case) > limit:
        case = reshaped(case, group_channels=min(case.geometry.group_channels, 1), out_channels=case.groups)
    return case


def _conjuncts(tree: ast.expr) -> list[ast.expr]:
    """The parts of a condition that must all hold."""
    if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And):
        return [part for value in tree.values for part in _conjuncts(value)]
    return [tree]


def _wanted(part: ast.expr, case: Case, sofar: dict[str, Any]) -> dict[str, Any]:
    """The parameters that one part of a condition asks for; none if it is not simple."""
    match part:
        case ast.Name(id="batched"):
            return {} if case.batch is not None else {"batch": 1}
        case ast.UnaryOp(op=ast.Not(), operand=ast.Name(id="batched")):
            return {"batch": None}
        case ast.Name(id="depthwise"):
            return {"groups": max(2, case.groups), "group_channels": 1} | sofar
        case ast.Name(id="bias"):
            return {"bias": True}
        case ast.UnaryOp(op=ast.Not(), operand=ast.Name(id="bias")):
            return {"bias": False}
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            return _set(left, right, case, sofar)
        case ast.Compare(left=left, ops=[ast.In()], comparators=[ast.Tuple(elts=values) | ast.List(elts=values)]):
            return _set(left, values[case.seed % len(values)], case, sofar) if values else {}
    return {}


def _set(left: ast.expr, right: ast.expr, case: Case, sofar: dict[str, Any]) -> dict[str, Any]:
    """The parameters that make an equation hold."""
    try:
        value = ast.literal_eval(right)
    except ValueError:
        return {}
    match left:
        case ast.Name(id="padding_name") if value == "" and isinstance(case.padding, str):
            return {"padding": tuple(before for before, _ in case.geometry.pads)}
        case ast.Name(id=name) if name in _SETTERS:
            return _SETTERS[name](value)
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=int(axis))) if name in _PER_AXIS:
            entries = list(sofar.get(name, getattr(case.geometry, name)))
            if -len(entries) <= axis < len(entries):
                entries[axis] = value
            return {name: tuple(entries)}
        case ast.Call(func=ast.Name(id="max" | "min"), args=[ast.Name(id=name)]) if name in _PER_AXIS:
            return {name: (value,) * case.geometry.rank}
    return {}


_PER_AXIS = ("kernel_size", "stride", "dilation")


def _padding(pads: Any) -> dict[str, Any]:
    """Zeros (before, after) per axis, as the attribute has them; unequal ones come from ``same`` alone."""
    equal = all(before == after for before, after in pads)
    return {"padding": tuple(before for before, _ in pads) if equal else "same"}


def _as_it_is(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: value}


_SETTERS: dict[str, Callable[[Any], dict[str, Any]]] = {
    **{name: _as_it_is(name) for name in (*_PER_AXIS, "groups", "batch", "bias", "group_channels", "out_channels")},
    "in_channels": lambda channels: {"groups": 1, "group_channels": channels},
    "padding": _padding,
    "padding_name": lambda name: {"padding": name} if name else {},
    "batched": lambda batched: {"batch": 1 if batched else None},
}
