"""A Python script that shows one failure without this package: only torch, NumPy and the library under test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.recipe_table import RECIPES
from toeplitz_core.testing.data.gradient_operands import draw_with_directions, draw_with_gradient
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.findings.reproducer import parts
from toeplitz_core.testing.findings.reproducer.call_script import call_script
from toeplitz_core.testing.findings.reproducer.derivatives import DERIVED
from toeplitz_core.testing.findings.reproducer.literals import PACKED, WRITTEN_OUT, laid_out, values
from toeplitz_core.testing.findings.reproducer.targets import NotExportable, Target, target
from toeplitz_core.testing.findings.reproducer.wrapping import assembled
from toeplitz_core.testing.laws.families.forward import finite_part
from toeplitz_core.testing.laws.judging import is_exact
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.oracle.expected import Expected
from toeplitz_core.testing.oracle.expected_gradients import expected_by_image, expected_gradients
from toeplitz_core.testing.oracle.results import expected
from toeplitz_core.testing.oracle.special_values import classes
from toeplitz_core.testing.subjects.declared import Declared
from toeplitz_core.testing.subjects.outcome import OUTPUT

# The laws that a script can show, with the test in the script.
_TESTS = {
    **dict.fromkeys(("forward-exact", "forward-bound", "special-values", "no-channels"), parts.FORWARD),
    **dict.fromkeys(("gradients-exact", "gradients-bound", "adjoint"), parts.GRADIENTS),
    **DERIVED,
    "contract": parts.CONTRACT,
    "vmap": parts.VMAP,
    "stale-memory": parts.FORWARD,
    "in-bounds": parts.FORWARD,
}
# What the law in-bounds says of a call.
_BEYOND = re.compile(r"(?:reads|writes) memory (before|behind) (.*?)(?: while it computes (gradients))?;")
_OPERANDS = ("input", "weight", "bias", "grad")


@dataclass(frozen=True, slots=True)
class Shown:
    """What is known of a failure that a script is to show.

    Parameters
    ----------
    status : Status
        A crash or a timeout is shown in a separate process.
    message : str
        The message of the failure. It tells which memory is accessed.
    memory : bool
        Whether the failure depends on what newly allocated memory held.
    quantity : str
        What is wrong: the ``output``, or the operand whose gradient is wrong.
    """

    status: Status = Status.FAIL
    message: str = ""
    memory: bool = False
    quantity: str = OUTPUT.of


def script(case: Case | Call, subject: str, shown: Shown | None = None, declared: Declared | None = None) -> str:
    """A script that exits with 1 while a failure exists, with 0 when it is mended, and with 2 if it cannot run.

    Parameters
    ----------
    case : Case or Call
        The failing case with its law, or the failing call.
    subject : str
        The name of the subject.
    shown : Shown, optional
        What is known of the failure.
    declared : Declared, optional
        What the options of the run declare about the subject.

    Raises
    ------
    NotExportable
        If a script cannot show the failure. The message says why.
    ValueError
        If there is no such subject.
    """
    shown = Shown() if shown is None else shown
    found = target(subject)
    if declared is not None:
        found.subject.declare(declared)
    if isinstance(case, Call):
        return call_script(case, subject, found, apart=shown.status in (Status.CRASH, Status.TIMEOUT))
    if case.geometry.rank != 2:
        raise NotExportable(f"the case has {case.geometry.rank} axes; only cases with 2 axes are exported")
    if not exportable(case):
        raise NotExportable(
            f"law '{case.law}' compares several calls, and none of them is known to be wrong alone; a script can show "
            f"{', '.join(_TESTS)} and errors"
        )
    return _Script(case, subject, found, shown).text()


def exportable(case: Case | Call) -> bool:
    """Whether a script can show a failure under the law of a case."""
    return isinstance(case, Call) or case.law in _TESTS


class _Script:
    """The script of a case."""

    def __init__(self, case: Case, name: str, found: Target, shown: Shown) -> None:
        self.case, self.name, self.target, self.shown = case, name, found, shown
        self.test = _TESTS[str(case.law)]
        self.beyond = _BEYOND.match(shown.message) if case.law == "in-bounds" else None
        if case.law == "in-bounds" and self.beyond is None:
            raise NotExportable(f"the failure does not say which memory is accessed: {shown.message}")
        of_gradients = self.beyond[3] if self.beyond else case.law == "stale-memory" and shown.quantity != OUTPUT.of
        if of_gradients:
            self.test = parts.GRADIENTS
        if self.test == parts.VMAP and case.batch is None:
            raise NotExportable("law 'vmap' makes a batch of an input without one; only batches are exported")
        self.derived = self.test in (parts.GRADIENTS, parts.VMAP, *DERIVED.values())
        draws = draw_with_directions if "DIRECTIONS" in self.test else draw_with_gradient
        self.operands = draws(case) if self.derived else draw(case)
        self.used: dict[str, str] = {}

    def text(self) -> str:
        """The script."""
        case, g = self.case, self.case.geometry
        needed = self._expected()
        given = {name: getattr(self.operands, name) for name in _OPERANDS}
        shapes = {"out": case.output_shape, **{name: tuple(t.shape) for name, t in given.items() if t is not None}}
        if "weight of each image" in needed:
            shapes["weight of each image"] = (1 if case.batch is None else case.batch, *case.weight)
        constants = [
            f"STRIDE, PADDING, DILATION, GROUPS = {g.stride}, {g.padding!r}, {g.dilation}, {g.groups}",
            f"DTYPE = {case.torch_dtype}",
            f"SHAPES = {shapes}",
        ]
        constants += [f"PADS, OUTPUTS = {g.pads}, {g.output_size}"] if self.used else []
        constants += [f"SUMS = torch.{'int64' if case.dtype == 'int64' else 'float64'}"] if self.used else []
        operands = [f"{_variable(name)} = {values(t) if t is not None else None}" for name, t in given.items()]
        operands = operands[: 4 if self.derived else 3]
        if "DIRECTIONS" in self.test:
            directions = [f"    {name!r}: {values(t)}," for name, t in self.operands.directions.items()]
            operands += ["DIRECTIONS = {", *directions, "}"]
        lines = [f"    {name!r}: {text}," for name, text in needed.items()]
        wanted = ["EXPECTED = {", *lines, "}"] if lines else []
        placed = [line for name, t in given.items() if t is not None for line in self._placed(name, t)]
        helpers = [parts.DIFFERS, *self.used.values(), *[parts.GUARDED] * (self.beyond is not None)]
        if any("packed(" in line for line in (*operands, *wanted)):
            helpers.append(PACKED)
        return assembled(
            title=f"{self.name}: {_sentence(case, self.shown)}",
            case=case.replace(law=None).text(),
            target=self.target,
            constants=constants,
            helpers=helpers,
            body=[*operands, "", *wanted, *(["", *placed] if placed else [])],
            test=self.test,
            apart=self.shown.status in (Status.CRASH, Status.TIMEOUT) or self.beyond is not None,
            memory=self.shown.memory or case.law == "stale-memory",
        )

    def _placed(self, name: str, tensor: torch.Tensor) -> list[str]:
        """The lines that put an operand on its device and into its strides."""
        variable, case = _variable(name), self.case
        lines = [] if case.device == "cpu" else [f"{variable} = {variable}.to({case.device!r})"]
        layout = case.layout(name)
        if layout is None and name != "bias" and tensor.ndim == 4:
            layout = self.target.layout
        lines += laid_out(variable, layout, tensor)
        if self.beyond is not None and ("incoming gradient" if name == "grad" else f"its {name}") in self.beyond[2]:
            lines.append(f"{variable} = guarded({variable}, behind={self.beyond[1] == 'behind'})")
        return lines

    def _expected(self) -> dict[str, str]:
        """The expected values with their bounds, as text, by the names of the results."""
        case, operands, subject = self.case, self.operands, self.target.subject
        arithmetic = subject.arithmetic(case)
        finite = finite_part(operands) if RECIPES[case.data].kind == "special" else operands
        g = case.geometry
        reference = expected(g, finite.input, finite.weight, finite.bias, algorithms=arithmetic.algorithms)
        bounded = not is_exact(arithmetic, case, reference)
        bound = reference.bound(arithmetic, has_bias=case.bias) if bounded else None
        if bound is not None and bool(reference.overflow(arithmetic, bound, has_bias=case.bias).nan.any()):
            raise NotExportable("a sum may overflow, so that a script would have to know which results may be infinite")
        if RECIPES[case.data].kind == "special":
            return {"out": _special(case, operands, reference, bound, arithmetic.algorithms)}
        if self.test in DERIVED.values():
            hows = [subject.gradient_arithmetic(case, name) for name in ("input", "weight")]
            if bounded or not all(is_exact(how, case, reference) for how in hows):
                raise NotExportable("its derivatives are judged within a bound, which a script cannot derive")
            self.used |= {"wide": parts.WIDE, "reference": parts.REFERENCE}
            return {}
        found = {"out": self._one("out", reference, bound)}
        if self.test == parts.GRADIENTS:
            for name, one in expected_gradients(case, operands).items():
                how = subject.gradient_arithmetic(case, name)
                limit = None if is_exact(how, case, one) else one.bound(how, has_bias=False)
                found[name] = self._one(name, one, limit)
        if self.test == parts.VMAP:
            each = expected_by_image(case, operands)["weights"]
            found["weight of each image"] = f"({values(each.value)},)"
        return found

    def _one(self, name: str, one: Expected, bound: torch.Tensor | None) -> str:
        """The expected value and its bound: numbers, or index arithmetic where they are too many."""
        value = torch.ldexp(one.value, torch.tensor(one.exponent)) if one.exponent else one.value
        limit = None
        if bound is not None:
            limit = bound if one.residual is None else bound + one.residual.abs()
            limit = torch.ldexp(limit, torch.tensor(one.exponent)) if one.exponent else limit
            limit = limit.expand(value.shape)
        # float64 sums of float64 numbers are rounded themselves.
        rounded = self.case.dtype in ("float64", "complex128") and RECIPES[self.case.data].kind == "real"
        if value.numel() <= WRITTEN_OUT or rounded or (limit is not None and one.is_complex):
            return f"({values(value.contiguous())}, {'None' if limit is None else values(limit.contiguous())})"
        self.used |= {"wide": parts.WIDE, "reference": parts.REFERENCE}
        self.used |= {"gradient": parts.GRADIENT} if name != "out" else {}
        text = _computed(name, "wide")
        text = f"torch.view_as_real({text})" if one.is_complex else text
        if limit is None:
            return f"({text},)"
        share = float((limit / one.magnitude.expand(limit.shape))[one.magnitude.expand(limit.shape) > 0].max())
        return f"({text}, {share!r} * {_computed(name, 'size')})"


def _computed(name: str, numbers: str) -> str:
    """An expression for a result by index arithmetic, from operands that a function widens."""
    if name == "out":
        return f"reference(*map({numbers}, (x, weight, bias)))"
    return f"gradient({name!r}, {numbers})"


def _special(
    case: Case, operands: Operands, reference: Expected, bound: torch.Tensor | None, algorithms: Sequence[object]
) -> str:
    """The expected NaN, infinities and finite numbers, and where NaN is right too."""
    g = case.geometry
    special, may_be_nan = classes(g, operands.input, operands.weight, operands.bias, algorithms)  # type: ignore[arg-type]  # of an Arithmetic
    special, may_be_nan = special.reshape(case.output_shape), may_be_nan.reshape(case.output_shape)
    wanted = torch.where(special == 0, reference.value, special)
    if bound is None:
        wanted = wanted.to(case.torch_dtype).double()
    limit = "None" if bound is None else values(bound.expand(wanted.shape).contiguous())
    return f"({values(wanted)}, {limit}, {values(may_be_nan)})"


def _variable(name: str) -> str:
    return "x" if name == "input" else name


def _sentence(case: Case, shown: Shown) -> str:
    """What the script shows."""
    if shown.message:
        return f"{shown.message.partition(chr(10))[0]} (law {case.law})"
    if shown.status in (Status.CRASH, Status.TIMEOUT):
        return f"{'a crash' if shown.status is Status.CRASH else 'a call that does not return'} (law {case.law})"
    return f"a call that breaks the law {case.law}"
