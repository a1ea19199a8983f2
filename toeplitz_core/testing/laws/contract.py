"""What a call may do besides returning its result: nothing to its operands, to earlier results, to what is not its."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from toeplitz_core.matrix import toeplitz_matrix
from toeplitz_core.testing.arithmetics import NNPACK_BATCH
from toeplitz_core.testing.case import DTYPES
from toeplitz_core.testing.data import draw
from toeplitz_core.testing.laws.base import Law
from toeplitz_core.testing.laws.forward import forward_verdict, judged_results
from toeplitz_core.testing.laws.gradients import gradients_verdict
from toeplitz_core.testing.laws.judgement import gravest, same_bits, unanswered
from toeplitz_core.testing.laws.relation import Convolution, Relation, Sides
from toeplitz_core.testing.layouts import LAYOUTS
from toeplitz_core.testing.operands import wide
from toeplitz_core.testing.verdict import Status, Verdict

if TYPE_CHECKING:
    from toeplitz_core.testing.case import Case
    from toeplitz_core.testing.subjects.base import Runner

# Layouts that a law may choose where a case names none; all others are for those who asked for them.
_HARMLESS = ("offset", "sliced", "transposed", "permuted", "odd_strides")
# Basis images in one call: fewer than the batches for which libraries take inexact algorithms.
_BASIS_BATCH = NNPACK_BATCH - 1


def _contract(subject: Runner, case: Case) -> Verdict:
    operands = draw(case)
    outcome = subject.run(case, operands, "contract")
    if outcome.status != "returned":
        return unanswered(case, outcome)
    verdict = judged_results(case, operands, outcome, outcome.results)
    if verdict.status.is_failure or not subject.repeatable:
        return verdict
    first, *others = (y for name, y in outcome.results.items() if not name.startswith("output-of-another"))
    if not all(same_bits(first, other) for other in others):
        return Verdict(Status.FAIL, case, "calls with the same operands gave different results")
    return verdict


def _stale_memory(subject: Runner, case: Case) -> Verdict:
    poisoned = subject.poisoned()
    if not poisoned:
        return Verdict(Status.UNSUPPORTED, case, "memory can be poisoned in a process of its own only")
    verdicts = [forward_verdict(runner, case) for runner in poisoned]
    if "gradients" in subject.procedures and case.dtype != "int64":
        of_gradients = gradients_verdict(poisoned[-1], case)  # one of them, for they are many calls
        verdicts += [of_gradients] if of_gradients.status is not Status.UNSUPPORTED else []
    return gravest(verdicts)


def _strides_do_not_matter(c: Convolution) -> Sides:
    """The result of a case in its strides, and of its operands apart in others, is that of contiguous ones."""
    shapes = {"input": c.case.input, "weight": c.case.weight} | ({"bias": c.case.weight[:1]} if c.case.bias else {})
    plain = c.of()
    results = [c.result()]
    for operand, shape in shapes.items():
        legal = [name for name in _HARMLESS if len(shape) in LAYOUTS[name][2]]
        results.append(c.of(layouts=((operand, legal[c.choice(f"layout {operand}", len(legal))]),)))
    return torch.stack(results), torch.stack((plain,) * len(results))


def _matrix(c: Convolution) -> Sides:
    """The results of basis images, without the bias, are the columns of ``T``."""
    g = c.geometry
    columns = g.matrix_shape[1]
    basis = torch.eye(columns, dtype=c.x.dtype).view(columns, g.in_channels, *g.input_size)
    found = [c.of(block) - c.offset for block in basis.split(_BASIS_BATCH)]
    c.miss_probability = 0.0  # whatever the weight, any other matrix differs from its
    T = toeplitz_matrix(wide(c.weight), g.input_size, g.stride, g.padding, g.dilation, g.groups)
    return torch.cat(found).flatten(1).mT, T


CONTRACT = Law(
    "contract",
    "A call leaves its operands, what lies beside them and earlier results as they were; its "
    "result shares no memory with them, is right however often it is computed, and has the memory format that the "
    "subject promises, and the same bits each time if it promises that.",
    "a kernel that uses its operands as scratch, or hands out a buffer that it writes again",
    _contract,
    recipes=("normal", "integers"),
    dtypes=tuple(DTYPES),
    procedure="contract",
    effort=0.25,
)
STALE_MEMORY = Law(
    "stale-memory",
    "No result or gradient depends on what memory held before: it is right whatever the allocator leaves there.",
    "results that are right only where new memory is zero",
    _stale_memory,
    recipes=("integers", "normal"),
    dtypes=tuple(DTYPES),
    effort=0.1,
)
STRIDES = Law(
    "strides",
    "The same values in any strides, each operand apart, give the same result.",
    "a kernel that takes an operand for contiguous",
    Relation(_strides_do_not_matter),
    recipes=("integers",),
    dtypes=tuple(DTYPES),
    effort=0.15,
)
MATRIX = Law(
    "matrix",
    "The results of all basis images are the columns of T, entry by entry: a proof for a geometry and a weight.",
    "any wrong entry, whatever the data: taps that only some data would show",
    Relation(_matrix),
    recipes=("integers",),
    dtypes=tuple(DTYPES),
    max_products=2**10,
    effort=0.15,
)
MEMORY = (CONTRACT, STRIDES, STALE_MEMORY)
