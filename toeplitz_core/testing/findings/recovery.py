"""Read the matrix of a subject off its results for basis images, one column from each."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from toeplitz_core.testing.case.call import Call
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.recipe_table import RECIPES
from toeplitz_core.testing.data.operands import Operands
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.data.whole_numbers import storage_limit
from toeplitz_core.testing.findings.causes.trial import Trial, tried
from toeplitz_core.testing.findings.matrices import Matrices, Rows
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.families.gradients import DerivativeCheck
from toeplitz_core.testing.laws.relation import can_have
from toeplitz_core.testing.laws.verdict import Verdict
from toeplitz_core.testing.subjects.interface import Implementation, Procedure
from toeplitz_core.testing.subjects.outcome import OUTPUT
from toeplitz_core.testing.subjects.symptom import Symptom

# The largest matrix that is read: larger ones cannot be drawn so that an entry can be seen.
MOST_ROWS, MOST_COLUMNS = 64, 64
# Seconds after which no further column is read. A slow subject needs about a second for a call.
SECONDS = 5.0
# Symptoms of results that are not the same each time.
_CHANGING = (Symptom.CHANGING, Symptom.STALE, Symptom.BUFFER)
# The procedures that compute the gradients of one call.
_GRADIENTS: tuple[Procedure, ...] = ("gradients", "functional_gradients", "transposed")


class _Unread(Exception):  # noqa: N818  # its message is the answer
    """There is no matrix. The message says why."""


def recovered(subject: Implementation, failure: Verdict, *, seconds: float = SECONDS) -> Matrices | str:
    """The matrix of a subject for the case of a failure, or the reason why it is missing.

    The weight holds 1, 2, 3, ... if that shows the fault, and otherwise the numbers of the case. The calls are those of
    the case, with basis images, so a subject that crashes or hangs ends the reading and nothing else.

    Returns
    -------
    Matrices or str
        The text is empty if a matrix would say nothing about such a failure, as for a crash.
    """
    try:
        return _recovered(subject, failure, time.monotonic() + seconds)
    except _Unread as reason:
        return str(reason)
    except Exception as error:  # noqa: BLE001  # the finding is worth more than its picture
        return f"The matrix was not read, because of {type(error).__name__}: {error}"


def _recovered(subject: Implementation, failure: Verdict, end: float) -> Matrices | str:
    case, quantity = failure.call or failure.case, failure.quantity
    if failure.symptom in _CHANGING or (failure.difference is not None and failure.difference.varies):
        return "The results change from call to call, so they have no matrix."
    if failure.symptom not in (Symptom.VALUES, Symptom.WRONG_SHAPE) or isinstance(case, Call):
        return ""
    check = LAWS[str(case.law)].check if case.law in LAWS else None
    procedure = check.procedure if isinstance(check, DerivativeCheck) else "gradients"
    if quantity not in (OUTPUT.of, "input", "weight", "bias") or (
        quantity != OUTPUT.of and procedure not in _GRADIENTS
    ):
        return f"A matrix is drawn of results and of their first gradients, not of the {quantity}."
    if case.torch_dtype.is_complex:
        return "A matrix of complex numbers is not drawn."
    sizes = [math.prod(shape) for shape in _shapes(case, quantity)]
    if sizes[0] > MOST_ROWS or sizes[1] > MOST_COLUMNS:
        return (
            f"The matrix has {sizes[0]:,} rows and {sizes[1]:,} columns. Only matrices of up to {MOST_ROWS} rows and "
            f"{MOST_COLUMNS} columns are drawn."
        )
    if not all(sizes):
        return "The matrix is empty."
    found = None
    for numbered, operands in _operands(case):
        found = _read(subject, case, quantity, operands, end, numbered=numbered)
        if found.differ:
            return found
    if found is None:
        return "The matrix is not drawn: its entries would not be whole numbers."
    return (
        "The matrix is right: with one 1 in an image of zeros, every result is as it should be. The fault needs other "
        "numbers."
    )


def _shapes(case: Case, quantity: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of the result and of the basis: images for an output, gradients of the output for a gradient."""
    output = case.output_shape if case.batch is not None else (1, *case.output_shape)
    image = case.input if case.batch is not None else (1, *case.input)
    if quantity == OUTPUT.of:
        return output, image
    return {"input": image, "weight": case.weight, "bias": case.weight[:1]}[quantity], output


def _operands(case: Case) -> Sequence[tuple[bool, Operands]]:
    """The operands that stay the same in all calls: 1, 2, 3 and so on; then those of the case, if they are whole."""
    found = []
    sizes = (case.input, case.weight, case.weight[:1])
    if math.prod(case.weight) + case.weight[0] <= storage_limit(case) >= math.prod(case.input):
        x, weight, bias = (torch.arange(1, math.prod(size) + 1).view(size).to(case.torch_dtype) for size in sizes)
        found.append((True, Operands(x, weight, bias if case.bias else None, 0.0)))
    if RECIPES[case.data].kind == "storage":
        found.append((False, draw(case)))
    return found


def _read(
    subject: Implementation, case: Case, quantity: str, operands: Operands, end: float, *, numbered: bool
) -> Matrices:
    """The matrix, column by column."""
    varied = "input" if quantity == OUTPUT.of else "grad"
    rows, columns = _shapes(case, quantity)
    basis = torch.eye(math.prod(columns), dtype=case.torch_dtype)
    shape = case.input if varied == "input" else case.output_shape
    first = _given(operands, varied, basis[0].view(shape))
    # A basis image may not repeat itself, as some layouts ask for.
    kept = tuple((name, layout) for name, layout in case.layouts if can_have(first, name, layout))
    plain = case.replace(data="integers", layouts=kept)
    # The result for zeros comes first. It is subtracted from all others.
    vectors = [torch.zeros_like(basis[0]), *basis] if varied == "input" else list(basis)
    trials: list[Trial] = []
    for vector in vectors:
        if time.monotonic() > end:
            raise _Unread(f"The matrix was not read: its {len(vectors)} calls take too long.")
        given = _given(operands, varied, vector.view(shape))
        trial = tried(subject, plain, quantity, partial(_taken, given))
        if not isinstance(trial, Trial):
            why = trial.message.partition("\n")[0] or "another kind of result"
            raise _Unread(f"The matrix was not read: for one of the basis images, the subject had no result ({why}).")
        if trial.rounds:
            raise _Unread("The matrix is not drawn: the declared arithmetic rounds whole numbers too.")
        if trials and trial.actual.shape != trials[0].actual.shape:
            raise _Unread("The matrix was not read: the shape of the result changes from image to image.")
        if trial.actual.numel() > MOST_ROWS:
            raise _Unread(f"The matrix is not drawn: the subject returns {trial.actual.numel():,} elements.")
        trials.append(trial)
    right, actual = (_columns([getattr(t, name) for t in trials]) for name in ("truth", "actual"))
    returned = tuple(trials[0].actual.shape)
    if varied == "grad":
        return Matrices(quantity, numbered, rows, returned, columns, _entries(right), _entries(actual))
    offset, actual_offset = (tuple(side[:, 0].tolist()) for side in (right, actual))
    expected, found = (_entries(side[:, 1:] - side[:, :1]) for side in (right, actual))
    return Matrices(quantity, numbered, rows, returned, columns, expected, found, offset, actual_offset)


def _given(operands: Operands, varied: str, values: torch.Tensor) -> Operands:
    """The operands with other images, or with another incoming gradient."""
    return replace(operands, input=values) if varied == "input" else replace(operands, grad=values)


def _taken(given: Operands, _: Operands) -> Operands:
    """The given operands in place of those that were drawn."""
    return given


def _columns(results: Sequence[torch.Tensor]) -> torch.Tensor:
    """Results as the columns of a float64 matrix."""
    return torch.stack([result.flatten().double() for result in results], dim=1)


def _entries(matrix: torch.Tensor) -> Rows:
    return tuple(map(tuple, matrix.tolist()))
