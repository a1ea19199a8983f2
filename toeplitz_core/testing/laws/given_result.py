"""The verdict on a result that is already there, for operands that no recipe has drawn.

The data decides how the result is judged: exactly, if the operands are whole numbers whose sums are exact, else within
the error bound. Of a large result, only some elements are judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from toeplitz_core.bound import Arithmetic
from toeplitz_core.products import by_image
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.operands import Operands, size
from toeplitz_core.testing.data.whole_numbers import accumulator_limit, storage_limit
from toeplitz_core.testing.laws.families.forward import finite_part, judged_results
from toeplitz_core.testing.laws.families.gradients import judged_gradient
from toeplitz_core.testing.laws.judging import judge_special, located, shape_or_dtype
from toeplitz_core.testing.laws.verdict import Verdict
from toeplitz_core.testing.oracle.expected_gradients import chosen_gradients, expected_gradients
from toeplitz_core.testing.oracle.results import expected
from toeplitz_core.testing.oracle.sums import with_magnitude
from toeplitz_core.testing.subjects.outcome import OUTPUT, Outcome

# Up to this many multiplications and elements, every element is judged, which takes about two seconds. Sums in pairs of
# float64 take about eight times as long, and gradients about four times.
MOST_PRODUCTS, MOST_ELEMENTS = 2**27, 2**20
_PAIRS, _GRADIENTS = 8, 4
# Number of elements of a larger result that are judged; fewer if they depend on more than ``_FACTORS`` numbers in all.
CHOSEN = 512
_FACTORS, _LEAST = 2**24, 16
# Numbers that are checked at a time, so that a large operand needs no copy.
_BLOCK = 2**20


def result_verdict(case: Case, operands: Operands, arithmetic: Arithmetic, result: torch.Tensor) -> Verdict:
    """The verdict on the result of a case; its ``data`` and ``seed`` say nothing about the operands."""
    if (wrong := shape_or_dtype(case, result)) is not None:
        return wrong if case.dtype == "int64" else wrong.replace(case=case.replace(data="normal"))
    is_special = not are_finite(operands)
    finite = finite_part(operands) if is_special else operands
    whole = case.dtype == "int64" or _are_whole(finite.input, finite.weight, finite.bias)
    outputs = _chosen(case.output_shape, _products(case), cost=1 if whole else _cost(case))
    case = case.replace(data=_recipe(case, _largest_sum(case, finite, outputs)) if whole else "normal")
    if not is_special:
        results = {OUTPUT: result}
        verdict = judged_results(case, operands, Outcome("returned", arithmetic, results), results, outputs)
    else:
        geometry, algorithms = case.geometry, arithmetic.algorithms
        reference = expected(geometry, finite.input, finite.weight, finite.bias, outputs=outputs, algorithms=algorithms)
        values = result if outputs is None else result.reshape(-1)[outputs]
        verdict = judge_special(arithmetic, case, operands, values, reference, outputs)
        verdict = verdict if outputs is None else located(verdict, case.output_shape, outputs)
    return _counted(verdict, outputs, result)


def gradient_verdicts(
    case: Case, operands: Operands, arithmetic: Arithmetic, gradients: Mapping[str, torch.Tensor]
) -> list[Verdict]:
    """The verdict on each gradient, in input, weight or bias, for finite operands; ``operands.grad`` is given."""
    shapes = {"input": case.input, "weight": case.weight, "bias": case.weight[:1]}
    products = {"input": _products(case), "weight": _products(case), "bias": math.prod(case.output_shape)}
    whole = _are_whole(operands.input, operands.weight, operands.gradient)
    cost = _GRADIENTS * (1 if whole else _cost(case))
    chosen = {name: _chosen(shapes[name], products[name], cost=cost) for name in gradients}
    wanted = chosen_gradients(case, operands, {name: at for name, at in chosen.items() if at is not None})
    if small := [name for name, at in chosen.items() if at is None]:
        full = case.replace(bias=True, data="integers" if whole else "normal")
        found = expected_gradients(full, operands)
        if whole and any(_recipe(case, _most(found[name].magnitude)) == "normal" for name in small):
            found = expected_gradients(full.replace(data="normal"), operands)
        wanted |= {name: found[name] for name in small}
    verdicts = []
    for name, actual in gradients.items():
        elements, said = chosen[name], f"{name} gradient"
        data = _recipe(case, _most(wanted[name].magnitude)) if whole else "normal"
        if elements is None or tuple(actual.shape) != shapes[name]:
            if elements is not None:  # its shape is wrong, which is said of the whole gradient
                wanted[name] = replace(wanted[name], value=torch.empty(shapes[name], device="meta"), is_complex=False)
            verdict = judged_gradient(case.replace(data=data), arithmetic, 0.0, actual, wanted[name], said)
        else:
            values = actual.reshape(-1)[elements]
            verdict = judged_gradient(case.replace(data=data), arithmetic, 0.0, values, wanted[name], said)
            verdict = located(verdict, shapes[name], elements, said)
        verdicts.append(_counted(verdict, elements, actual))
    return verdicts


def are_finite(operands: Operands) -> bool:
    """Whether no operand has NaN or an infinity."""
    tensors = (operands.input, operands.weight, operands.bias, operands.grad)
    return all(bool(block.isfinite().all()) for t in tensors if t is not None for block in t.reshape(-1).split(_BLOCK))


def _are_whole(*tensors: torch.Tensor | None) -> bool:
    """Whether all numbers are whole; of complex numbers, both parts."""
    flat = [torch.view_as_real(t) if t.is_complex() else t for t in tensors if t is not None]
    return all(bool((block == block.trunc()).all()) for t in flat for block in t.reshape(-1).split(_BLOCK))


def _recipe(case: Case, largest: float) -> str:
    """The recipe whose data is judged like whole numbers with this largest sum of magnitudes."""
    if case.dtype == "int64" or largest <= storage_limit(case):
        return "integers"
    return "accumulator" if largest <= accumulator_limit(case) else "normal"


def _largest_sum(case: Case, operands: Operands, outputs: torch.Tensor | None) -> float:
    """The largest sum of magnitudes of the judged results; for complex numbers an upper limit of it."""
    x, weight, bias = by_image(case.geometry, operands.input), operands.weight, operands.bias
    x, weight = (size(x), size(weight)) if x.is_complex() else (x, weight)
    found = _most(with_magnitude(case.geometry, x, weight, outputs)[1])
    return found if bias is None else found + _most(size(bias))


def _most(values: torch.Tensor) -> float:
    return float(values.max()) if values.numel() else 0.0


def _products(case: Case) -> int:
    return case.geometry.nnz * (1 if case.batch is None else case.batch)


def _cost(case: Case) -> int:
    """The time that sums of real numbers take, in units of that of plain float64 sums."""
    return _PAIRS if case.dtype in ("float64", "complex128") else 1


def _chosen(shape: tuple[int, ...], products: int, *, cost: int) -> torch.Tensor | None:
    """Flat indices of the elements to judge: the first, the last, one from each of equal parts. None for all."""
    total = math.prod(shape)
    if cost * products <= MOST_PRODUCTS and cost * total <= MOST_ELEMENTS:
        return None
    count = min(total, CHOSEN, max(_LEAST, _FACTORS // max(1, products // total)))
    begin = np.arange(count + 1) * total // count
    # Not at equal distances, which could all lie in one column.
    words = np.asarray(np.random.PCG64(0).random_raw(count), dtype=np.uint64)
    elements = begin[:-1] + (words % np.diff(begin).astype(np.uint64)).astype(np.int64)
    elements[0], elements[-1] = 0, total - 1
    return torch.from_numpy(elements)


def _counted(verdict: Verdict, elements: torch.Tensor | None, values: torch.Tensor) -> Verdict:
    """A failure whose message says how many elements were judged, if not all were."""
    if elements is None or verdict.index is None:
        return verdict
    said = f"{verdict.message}; judged in {len(elements)} of {values.numel()} elements"
    return verdict.replace(message=said)
