"""Explain a case as text: geometry, data, expected result, and the matrix if it is small."""

from __future__ import annotations

import math
import string
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from toeplitz_core.matrix import toeplitz_matrix
from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.recipe_table import RECIPES
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.families.errors import definition
from toeplitz_core.testing.oracle.results import expected
from toeplitz_core.testing.oracle.strictest import strictest

if TYPE_CHECKING:
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.data.operands import Operands

WIDTH = 80
# Larger tensors are summarised.
SMALL = 64
# Matrices with more rows are not drawn.
ROWS = 48
# The expected result of a case with more products is not computed.
PRODUCTS = 2**20
# One character for each tap, and one for all taps after these.
_TAPS = string.ascii_lowercase + string.ascii_uppercase + string.digits
_MORE = "*"


def show_case(case: Case | Call) -> str:
    r"""Explain a case or a call. Only the line with the case itself may be longer than ``WIDTH`` characters.

    Examples
    --------
    >>> from toeplitz_core.testing.case.case import Case
    >>> shown = show_case(Case.parse("input=1x1x2x3 weight=1x1x2x2 padding=1 stride=2"))
    >>> print(shown.partition("row by row\n")[2])
    d.....
    .cd...
    ...b..
    ....ab
    """
    lines = _call_lines(case) if isinstance(case, Call) else _lines(case)
    return "\n".join(line.rstrip() for line in lines)


def _call_lines(call: Call) -> Iterator[str]:
    yield str(call)
    yield _field("law", f"{call.law}: {LAWS[call.law].statement}")
    right = definition(call)
    yield _field("must be", str(right))
    if right.value is not None and not right.value.is_meta:
        yield from _tensor("result", right.value)


def _lines(case: Case) -> Iterator[str]:
    g = case.geometry
    yield f"{'case':<10}{case}"
    yield _field("in full", case.text(full=True))
    yield _field("output", f"{_sizes(case.output_shape)} for an input of {_sizes(case.input)}")
    rows, columns = g.matrix_shape
    density = f" (density {g.nnz / (rows * columns):.3g})" if rows * columns else ""
    dtype = case.torch_dtype
    yield _field(
        "T",
        f"{rows:,} x {columns:,}, {g.nnz:,} nonzeros{density}; {g.nbytes(dtype=dtype):,} bytes dense, "
        f"{g.nbytes(torch.sparse_csr, dtype):,} as CSR",
    )
    recipe = RECIPES[case.data]
    yield _field("data", f"{case.data}, seed {case.seed}: {recipe.statement}")
    named = [case.law] if case.law else [law.name for law in LAWS.values() if case.data in law.recipes]
    for name in named:
        yield _field("law", f"{name}: {LAWS[name].statement}")
    operands = draw(case)
    for name in ("input", "weight", "bias"):
        values = getattr(operands, name)
        if values is not None:
            yield from _tensor(name, values)
    yield from _result(case, operands)
    yield from _picture(case)


def _field(name: str, text: str) -> str:
    return textwrap.fill(f"{name:<10}{text}", WIDTH, subsequent_indent=" " * 10, break_long_words=False)


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _tensor(name: str, values: torch.Tensor) -> Iterator[str]:
    """The numbers of a small tensor, or a summary of a large one."""
    if values.numel() <= SMALL and (printed := _numbers(name, values)):
        yield from printed
        return
    parts = torch.view_as_real(values) if values.is_complex() else values
    low, high = (_number(v) for v in torch.aminmax(parts.double().nan_to_num()))
    odd = values.numel() - int(values.isfinite().sum()) if values.dtype.is_floating_point else 0
    said = f"{values.numel():,} numbers, {int(values.count_nonzero()):,} not zero, from {low} to {high}"
    yield _field(name, said + f", {odd:,} NaN or infinite" * bool(odd))


def _numbers(name: str, values: torch.Tensor) -> list[str]:
    """The rows of a tensor, one per line; empty if a row is too long for a line, or if there are too many rows."""
    width = max((len(_number(v)) for v in values.flatten()), default=0)
    lines = []
    table = values.reshape(-1, values.shape[-1]) if values.numel() else values.reshape(0, 1)
    for number, row in enumerate(table):
        index = np.unravel_index(number, values.shape[:-1]) if values.dim() > 1 else ()
        label = f"{name if number == 0 else '':<10}"
        where = f"[{', '.join(str(int(i)) for i in index)}] " if index else ""
        lines.append(label + where + " ".join(f"{_number(v):>{width}}" for v in row))
    if not lines:
        return [f"{name:<10}no numbers"]
    return lines if max(map(len, lines)) <= WIDTH and len(lines) <= ROWS else []


def _number(value: torch.Tensor) -> str:
    number = value.item()
    if isinstance(number, complex):
        return f"{_real(number.real)}{'+' * (number.imag >= 0)}{_real(number.imag)}j"
    return _real(number)


def _real(number: float) -> str:
    # All digits of a whole number are printed, because it is compared with ==.
    whole = math.isfinite(number) and number == int(number) and abs(number) < 2**53
    return str(int(number)) if whole else f"{number:.6g}"


def _result(case: Case, operands: Operands) -> Iterator[str]:
    """The expected result and its error bound."""
    if case.geometry.nnz * (1 if case.batch is None else case.batch) > PRODUCTS:
        yield _field("expected", f"not computed: more than {PRODUCTS:,} products")
        return
    if RECIPES[case.data].kind == "special":
        yield _field("expected", "NaN or an infinity where an output reads one; the exact number elsewhere")
        return
    reference = expected(case.geometry, operands.input, operands.weight, operands.bias)
    value = _scaled(reference.value, reference.exponent)
    value = torch.view_as_complex(value.contiguous()) if reference.is_complex else value
    yield from _tensor("expected", value.reshape(case.output_shape))
    if RECIPES[case.data].kind == "real":
        arithmetic = strictest(case)
        bound = _scaled(reference.bound(arithmetic, has_bias=case.bias), reference.exponent)
        yield from _tensor("bound", bound.reshape(*case.output_shape, *bound.shape[len(case.output_shape) :]))
        yield _field("", f"for {arithmetic}; a subject may declare another arithmetic")
    else:
        yield _field("bound", "none: compared with ==, after rounding to the dtype")


def _scaled(values: torch.Tensor, exponent: int) -> torch.Tensor:
    """``values * 2^exponent``, in two steps because the power alone may overflow."""
    half = exponent // 2
    return values * 2.0**half * 2.0 ** (exponent - half) if exponent else values


def _picture(case: Case) -> Iterator[str]:
    """Draw T: a character for each tap, a dot for a zero, and a gap between blocks of channels."""
    g = case.geometry
    rows, columns = g.matrix_shape
    blocks = g.in_channels
    if not rows * columns or rows + g.out_channels > ROWS or columns + blocks > WIDTH:
        yield _field("picture", f"none: only matrices of up to {ROWS} rows and {WIDTH} columns are drawn")
        return
    taps = int(np.prod(g.kernel_size))
    labels = torch.arange(1, taps + 1, dtype=torch.float64).reshape(g.kernel_size).expand(g.weight_shape)
    matrix = toeplitz_matrix(labels.contiguous(), g.input_size, g.stride, g.padding, g.dilation, g.groups)
    names = "." + _TAPS[:taps] + _MORE * (taps - len(_TAPS))
    yield ""
    yield _field("", f"T, with the taps {names[1]} to {names[-1]} row by row" if taps > 1 else "T, with its one tap a")
    for number, row in enumerate(matrix.to(torch.int64).tolist()):
        if number and number % g.positions == 0:
            yield ""
        cells = "".join(names[label] for label in row)
        yield " ".join(cells[begin : begin + g.pixels] for begin in range(0, len(cells), g.pixels))
