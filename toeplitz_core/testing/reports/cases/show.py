"""Explain a case as text: geometry, data, expected result, and the matrix if it is small."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from toeplitz_core.matrix import toeplitz_matrix
from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import OPERANDS
from toeplitz_core.testing.case.recipe_table import RECIPES
from toeplitz_core.testing.data.gradient_operands import draw_with_directions, draw_with_gradient
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.difference import BETWEEN_RUNS, WITH_MEMORY
from toeplitz_core.testing.laws.families.contract import STALE_MEMORY
from toeplitz_core.testing.laws.families.errors import definition
from toeplitz_core.testing.laws.judging import alike, is_exact
from toeplitz_core.testing.oracle.expected_gradients import expected_by_image, expected_derivatives, expected_gradients
from toeplitz_core.testing.oracle.results import expected
from toeplitz_core.testing.oracle.special_values import Classes, classes
from toeplitz_core.testing.oracle.strictest import strictest
from toeplitz_core.testing.reports.cases.shown_numbers import ROWS, SMALL, WIDTH, field, number_text, sizes, tensor
from toeplitz_core.testing.subjects.outcome import OUTPUT, Outcome, ResultName

if TYPE_CHECKING:
    from toeplitz_core.bound import Arithmetic
    from toeplitz_core.testing.case.case import Case
    from toeplitz_core.testing.data.operands import Operands
    from toeplitz_core.testing.oracle.expected import Expected
    from toeplitz_core.testing.subjects.interface import Implementation, Procedure

# The expected result of a case with more products is not computed.
PRODUCTS = 2**20
# So many elements of a large result that differ are printed.
MOST = 5
_VARIABLES = (*OPERANDS, "grad")
_DRAWS = {
    **dict.fromkeys(("gradients", "functional_gradients", "vmap", "transposed"), draw_with_gradient),
    **dict.fromkeys(("double_backward", "forward_mode"), draw_with_directions),
}
_DERIVATIVES = {
    **dict.fromkeys(("gradients", "functional_gradients", "transposed"), expected_gradients),
    **dict.fromkeys(("double_backward", "forward_mode"), expected_derivatives),
    "vmap": expected_by_image,
}
# One character for each tap, and one for all taps after these.
_TAPS = string.ascii_lowercase + string.ascii_uppercase + string.digits
_MORE = "*"


def show_case(case: Case | Call, subject: Implementation | None = None) -> str:
    r"""Explain a case or a call. Only the line with the case itself may be longer than ``WIDTH`` characters.

    Parameters
    ----------
    subject : Implementation, optional
        What it returns is shown too.

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
    lines = _call_lines(case, subject) if isinstance(case, Call) else _lines(case, subject)
    return "\n".join(line.rstrip() for line in lines)


def _call_lines(call: Call, subject: Implementation | None) -> Iterator[str]:
    yield str(call)
    yield field("law", f"{call.law}: {LAWS[call.law].statement}")
    right = definition(call)
    yield field("must be", str(right))
    if right.value is not None and not right.value.is_meta:
        yield from tensor("result", right.value)
    if subject is not None:
        answer = subject.answer(call)
        said = f"{answer.status}: {answer.message}" if answer.message else answer.status
        yield field("actual", f"{subject.name} {said}")
        if answer.result is not None and not answer.result.is_meta:
            yield from tensor("", answer.result)


def _procedure(case: Case) -> Procedure:
    """The procedure of the law of a case, if it gives derivatives; else ``forward``, or ``gradients`` of ``grad``."""
    procedure = LAWS[case.law].procedure if case.law else "forward"
    if procedure in _DERIVATIVES:
        return procedure
    return "gradients" if not case.law and "grad" in dict(case.layouts) else "forward"


def _lines(case: Case, subject: Implementation | None) -> Iterator[str]:
    g = case.geometry
    yield f"{'case':<10}{case}"
    yield field("in full", case.text(full=True))
    yield field("output", f"{sizes(case.output_shape)} for an input of {sizes(case.input)}")
    rows, columns = g.matrix_shape
    density = f" (density {g.nnz / (rows * columns):.3g})" if rows * columns else ""
    dtype = case.torch_dtype
    yield field(
        "T",
        f"{rows:,} x {columns:,}, {g.nnz:,} nonzeros{density}; {g.nbytes(dtype=dtype):,} bytes dense, "
        f"{g.nbytes(torch.sparse_csr, dtype):,} as CSR",
    )
    recipe = RECIPES[case.data]
    yield field("data", f"{case.data}, seed {case.seed}: {recipe.statement}")
    named = [case.law] if case.law else [law.name for law in LAWS.values() if case.data in law.recipes]
    for name in named:
        yield field("law", f"{name}: {LAWS[name].statement}")
    procedure = _procedure(case)
    operands = _DRAWS.get(procedure, draw)(case)
    for name in OPERANDS:
        values = getattr(operands, name)
        if values is not None:
            yield from tensor(name, values)
    if operands.grad is not None and procedure != "forward_mode":
        yield from tensor("gradient of the result", operands.grad)
    for name, values in operands.directions.items():
        yield from tensor(f"direction of the {name}", values)
    yield from _results(case, procedure, operands, subject)
    yield from _picture(case)


def _results(case: Case, procedure: Procedure, operands: Operands, subject: Implementation | None) -> Iterator[str]:
    """The expected results with their error bounds; the actual ones of a subject below each."""
    if case.geometry.nnz * (1 if case.batch is None else case.batch) > PRODUCTS:
        yield field("expected", f"not computed: more than {PRODUCTS:,} products")
        return
    outcome = Outcome("returned", strictest(case)) if subject is None else subject.run(case, operands, procedure)
    if subject is not None and (outcome.status != "returned" or outcome.message):
        yield field("actual", f"{subject.name} {outcome.message}")
    when_else, changing = ("", {}) if subject is None else _changing(subject, case, operands, procedure, outcome)
    for name, wanted in _expected(case, procedure, operands, outcome.arithmetic).items():
        arithmetic = outcome.gradients.get(name, outcome.arithmetic)
        words = "" if name == OUTPUT.of else f" {name} gradient" if name in _VARIABLES else f" {name}"
        digits = 6 if subject is None else 9
        yield from tensor(f"expected{words}", wanted.values, digits=digits)
        if wanted.note:
            yield field("", wanted.note)
        shown: list[torch.Tensor] = []
        for result, actual in outcome.results.items():
            if result.of != name or any(alike(actual, other) for other in shown):
                continue
            when = f" ({result.when})" if result.when and shown else ""
            shown.append(actual)
            unknown = (when_else, changing[result]) if result in changing else None
            label = f"actual{words}{when}"
            yield from _actual(label, case, arithmetic, wanted, actual.detach().cpu(), digits, unknown)
        if RECIPES[case.data].kind == "real":
            bound = wanted.bound(arithmetic)
            yield from tensor(f"bound{words}", bound)
            declared = "; a subject may declare another arithmetic" if subject is None else ""
            yield field("", f"for {arithmetic}{declared}")
        elif name == OUTPUT.of:
            yield field("bound", "none: compared with ==, after rounding to the dtype")


def _changing(
    subject: Implementation, case: Case, operands: Operands, procedure: Procedure, outcome: Outcome
) -> tuple[str, dict[ResultName, torch.Tensor]]:
    """When results change, and which of their elements: in another call, or with other old memory contents."""
    further: list[tuple[str, Callable[[], Sequence[Implementation]]]] = [
        (BETWEEN_RUNS, lambda: (subject,)),
        (WITH_MEMORY, subject.poisoned),
    ]
    # Old memory contents may change between runs too. The law on them says what it is about.
    for when, others in further[::-1] if case.law == STALE_MEMORY.name else further:
        again = [other.run(case, operands, procedure).results for other in others()]
        changing: dict[ResultName, torch.Tensor] = {}
        for name, first in outcome.results.items():
            same = [found[name] for found in again if name in found and found[name].shape == first.shape]
            # NaN is the same as NaN.
            changed = [((first != other) & ~(first.isnan() & other.isnan())).cpu() for other in same]
            if changed and (elements := torch.stack(changed).any(0)).any():
                changing[name] = elements
        if changing:
            return when, changing
    return "", {}


def _actual(
    name: str,
    case: Case,
    arithmetic: Arithmetic,
    wanted: _Wanted,
    actual: torch.Tensor,
    digits: int,
    unknown: tuple[str, torch.Tensor] | None = None,
) -> Iterator[str]:
    """An actual result, with the elements marked that differ from the expected one.

    Elements that change have no number; ``unknown`` says when they change and which they are.
    """
    if unknown is not None:
        when, elements = unknown
        yield from tensor(name, actual.masked_fill(elements, 0), elements, digits=digits, unknown=True)
        first = [f"[{', '.join(map(str, index))}]" for index in elements.nonzero()[:MOST].tolist()]
        more = ", ..." * (int(elements.sum()) > MOST)
        yield field("", f"{int(elements.sum()):,} of {elements.numel():,} change {when}: {', '.join(first)}{more}")
        return
    if actual.shape != wanted.values.shape or actual.dtype != case.torch_dtype:
        yield from tensor(name, actual, digits=digits)
        yield field("", f"shape {tuple(actual.shape)} and dtype {actual.dtype}, not {tuple(wanted.values.shape)}")
        return
    wrong = wanted.wrong(case, arithmetic, actual)
    yield from tensor(name, actual, wrong, digits=digits)
    if not wrong.any():
        yield field("", "as expected")
        return
    pairs = []
    for index in map(tuple, wrong.nonzero()[:MOST].tolist() if actual.numel() > SMALL else ()):
        got, should = (number_text(values[index], digits) for values in (actual, wanted.values))
        pairs.append(f"[{', '.join(map(str, index))}]={got}, not {should}")
    yield field("", f"{int(wrong.sum()):,} of {wrong.numel():,} differ{': ' * bool(pairs)}{'; '.join(pairs)}")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An expected result: its values, and what is needed to compare an actual one with it."""

    values: torch.Tensor
    reference: Expected
    special: Classes | None = None
    has_bias: bool = False
    note: str = ""

    @classmethod
    def of(cls, reference: Expected, shape: tuple[int, ...], *, has_bias: bool = False) -> _Wanted:
        values = _scaled(reference.value, reference.exponent)
        values = torch.view_as_complex(values.contiguous()) if reference.is_complex else values
        return cls(values.reshape(shape), reference, has_bias=has_bias)

    def bound(self, arithmetic: Arithmetic) -> torch.Tensor:
        bound = _scaled(self.reference.bound(arithmetic, has_bias=self.has_bias), self.reference.exponent)
        return bound.reshape(*self.values.shape, *bound.shape[len(self.values.shape) :])

    def wrong(self, case: Case, arithmetic: Arithmetic, actual: torch.Tensor) -> torch.Tensor:
        """Which elements of an actual result, of the right shape, differ from this one by more than they may."""
        reference = self.reference
        values = torch.view_as_real(actual) if reference.is_complex else actual
        shaped = values.reshape(reference.value.shape)
        if RECIPES[case.data].kind != "real" and is_exact(arithmetic, case, reference):
            wrong = shaped != reference.value.to(shaped.dtype)
        else:
            bound = reference.bound(arithmetic, has_bias=self.has_bias)
            excused = reference.overflow(arithmetic, bound, has_bias=self.has_bias).excuses(shaped)
            error = reference.in_units(shaped) - reference.value
            error = error if reference.residual is None else error - reference.residual
            wrong = ~(excused | (error.abs() <= bound))
        wrong = (wrong.any(-1) if reference.is_complex else wrong).reshape(self.values.shape)
        if self.special is None:
            return wrong
        wrong = torch.where(self.special.special == 0, wrong, actual != self.special.special)
        return wrong & ~self.special.settles(actual)


def _expected(case: Case, procedure: Procedure, operands: Operands, arithmetic: Arithmetic) -> dict[str, _Wanted]:
    """The expected results by the names that a procedure gives them."""
    found = {} if procedure == "transposed" else {OUTPUT.of: _result(case, operands, arithmetic)}
    derivatives = _DERIVATIVES[procedure](case, operands) if procedure in _DERIVATIVES else {}
    if procedure == "transposed":
        derivatives = {"input": derivatives["input"]}
    if procedure == "forward_mode":
        along = {name: wanted for name, wanted in derivatives.items() if name.startswith("along-")}
        derivatives = {"tangent": derivatives["grad"], **along}
    for name, wanted in derivatives.items():
        shape = tuple(wanted.value.shape)
        found[name] = _Wanted.of(wanted, shape[:-1] if wanted.is_complex else shape)
    return found


def _result(case: Case, operands: Operands, arithmetic: Arithmetic) -> _Wanted:
    algorithms = arithmetic.algorithms
    if RECIPES[case.data].kind != "special":
        x, weight, bias = operands.input, operands.weight, operands.bias
        reference = expected(case.geometry, x, weight, bias, algorithms=algorithms)
        return _Wanted.of(reference, case.output_shape, has_bias=case.bias)
    x, weight = _finite(operands.input), _finite(operands.weight)
    bias = None if operands.bias is None else _finite(operands.bias)
    reference = expected(case.geometry, x, weight, bias, algorithms=algorithms)
    finite = _Wanted.of(reference, case.output_shape, has_bias=case.bias)
    if not case.torch_dtype.is_floating_point:
        return replace(finite, note="where an output reads NaN or an infinity, it is NaN or an infinity instead")
    found = classes(case.geometry, operands.input, operands.weight, operands.bias, algorithms)
    found = Classes(*(t.reshape(case.output_shape) for t in found))
    wanted = torch.where(found.special == 0, finite.values, found.special)
    also = int((found.may_be_nan & ~found.special.isnan()).sum())
    return replace(finite, values=wanted, special=found, note=f"NaN is right too for {also:,} of them" * bool(also))


def _finite(values: torch.Tensor) -> torch.Tensor:
    return torch.where(values.isfinite(), values, 0)


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
        yield field("picture", f"none: only matrices of up to {ROWS} rows and {WIDTH} columns are drawn")
        return
    taps = int(np.prod(g.kernel_size))
    labels = torch.arange(1, taps + 1, dtype=torch.float64).reshape(g.kernel_size).expand(g.weight_shape)
    matrix = toeplitz_matrix(labels.contiguous(), g.input_size, g.stride, g.padding, g.dilation, g.groups)
    names = "." + _TAPS[:taps] + _MORE * (taps - len(_TAPS))
    yield ""
    yield field("", f"T, with the taps {names[1]} to {names[-1]} row by row" if taps > 1 else "T, with its one tap a")
    for number, row in enumerate(matrix.to(torch.int64).tolist()):
        if number and number % g.positions == 0:
            yield ""
        cells = "".join(names[label] for label in row)
        yield " ".join(cells[begin : begin + g.pixels] for begin in range(0, len(cells), g.pixels))
