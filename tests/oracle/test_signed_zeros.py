"""Signs of zeros are compared with IEEE 754 in index order, and are counted but not judged."""

from __future__ import annotations

import io
import itertools
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tests.helpers.definition import entries_by_definition
from tests.helpers.operands import distinct, seeds, small_geometries
from tests.helpers.running import search
from toeplitz_core import ConvGeometry
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.families.forward import forward_verdict
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.oracle.signed_zeros import negative_zeros
from toeplitz_core.testing.reports.remarks import print_remarks
from toeplitz_core.testing.run.record import read_result, result_document
from toeplitz_core.testing.search.tally import merged_results
from toeplitz_core.testing.subjects import TorchSubject

# A case in which zeros meet negative weights, and a window lies in padding.
LINE = "input=2x1x6x6 weight=3x1x1x2 padding=1x0 dtype=float32"


def signed(shape: tuple[int, ...], seed: int, values: tuple[float, ...]) -> torch.Tensor:
    """A tensor with random elements from these values."""
    generator = torch.Generator().manual_seed(seed)
    return torch.tensor(values)[torch.randint(len(values), shape, generator=generator)]


def in_index_order(g: ConvGeometry, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> list[float]:
    """The results as Python's floats add them up, product after product, with the bias last."""
    numbered = distinct(g.weight_shape)
    entries = entries_by_definition(numbered, g.input_size, g.stride, g.padding, g.dilation, g.groups)
    taps, results = weight.flatten().tolist(), []
    for image in x.flatten(1).tolist():
        terms: list[list[float]] = [[] for _ in range(g.matrix_shape[0])]
        for (row, column), number in entries.items():
            terms[row].append(taps[int(number) - 1] * image[column])
        for row, summed in enumerate(terms):
            of_row = summed if bias is None else [*summed, float(bias[row // g.positions])]
            results.append(list(itertools.accumulate(of_row))[-1] if of_row else 0.0)
    return results


@settings(max_examples=60)
@given(
    g=small_geometries(),
    seed=seeds(),
    bias=st.sampled_from((None, (0.0, -0.0), (-0.0, 1.0))),
    zeros=st.sampled_from(((0.0, -0.0), (0.0, -0.0, 1.0, -1.0), (0.0, 1.0))),
)
def test_negative_zeros_are_those_of_ieee(
    g: ConvGeometry, seed: int, bias: tuple[float, float] | None, zeros: tuple[float, ...]
) -> None:
    """The results that are -0 agree with a sum of the products in index order, with padding left out."""
    x, weight = (
        signed((2, g.in_channels, *g.input_size), seed, zeros),
        signed(g.weight_shape, seed + 1, (-1.0, -0.0, 0.5)),
    )
    offset = None if bias is None else signed((g.out_channels,), seed + 2, bias)
    wanted = [v == 0 and math.copysign(1, v) < 0 for v in in_index_order(g, x, weight, offset)]
    assert negative_zeros(g, x, weight, offset).flatten().tolist() == wanted
    chosen = torch.arange(0, len(wanted), 3)
    assert negative_zeros(g, x, weight, offset, outputs=chosen).tolist() == wanted[::3]


def _turned(x: torch.Tensor, *rest: object) -> torch.Tensor:
    """The right result, with the opposite sign on every zero."""
    y = torch.nn.functional.conv2d(x, *rest)
    return torch.where(y == 0, -y, y)


@pytest.mark.parametrize("law", ["forward-exact", "special-values"])
def test_signs_of_zeros_are_counted_and_not_judged(law: str) -> None:
    """Zeros of the opposite sign pass; they are counted, and so are all zeros."""
    case = Case.parse(f"{LINE} data={'integers' if law == 'forward-exact' else 'nonfinite'}")
    plain, turned = (LAWS[law](TorchSubject("mine", f), case) for f in (torch.nn.functional.conv2d, _turned))
    assert plain.status is turned.status is Status.PASS
    assert plain.zeros == turned.zeros > 0
    assert plain.zero_signs + turned.zero_signs == plain.zeros
    assert turned.zero_signs > 0


def test_signs_are_counted_at_chosen_outputs() -> None:
    """If a layer is judged only at some outputs, only their zeros count."""
    case = Case.parse(LINE)
    chosen = torch.arange(0, math.prod(case.output_shape), 2)
    subject, operands = TorchSubject("mine", _turned), draw(case)
    whole, some = forward_verdict(subject, case, operands), forward_verdict(subject, case, operands, chosen)
    assert 0 < some.zero_signs < whole.zero_signs
    assert 0 < some.zeros < whole.zeros


@pytest.mark.parametrize(
    "line", [f"{LINE} data=normal", LINE.replace("float32", "complex64"), LINE.replace("float32", "int64")]
)
def test_no_signs_are_counted_where_there_are_none(line: str) -> None:
    """No zeros are counted for rounded sums, complex numbers and integers."""
    law = "forward-bound" if "normal" in line else "forward-exact"
    verdict = LAWS[law](TorchSubject("mine", torch.nn.functional.conv2d), Case.parse(line))
    assert verdict.status is Status.PASS
    assert (verdict.zeros, verdict.zero_signs) == (0, 0)


def test_a_search_adds_up_the_signs_of_its_cases() -> None:
    """A result counts the zeros of all its cases, and merging rounds adds up their counts."""
    law = LAWS["forward-exact"]
    plain, turned = (
        search(law, TorchSubject("mine", f), dtype="float32", examples=30)
        for f in (torch.nn.functional.conv2d, _turned)
    )
    assert plain.status is turned.status is Status.PASS
    assert plain.zeros == turned.zeros > 0
    assert plain.zero_signs + turned.zero_signs == plain.zeros
    both = merged_results([plain, turned])
    assert (both.zeros, both.zero_signs) == (2 * plain.zeros, plain.zeros)


def test_a_report_says_how_many_signs_differ() -> None:
    """The summary has a line for each subject that returned zeros, and JSON has the counts of each result."""
    results = [
        Result(Step("mine", "forward-exact", "float32", "cpu"), Status.PASS, Counter({Status.PASS: 9}), **zeros)
        for zeros in ({"zeros": 40, "zero_signs": 3}, {"zeros": 2, "zero_signs": 1}, {})
    ]
    others = [
        replace(results[0], step=replace(results[0].step, subject="yours"), zero_signs=0),
        replace(results[2], step=replace(results[0].step, subject="theirs")),
    ]
    printed = io.StringIO()
    print_remarks(Console(file=printed, width=80), [*results, *others])
    lines = [line for line in printed.getvalue().splitlines() if line.startswith("signed zeros")]
    assert lines == [
        "signed zeros: mine on cpu: 4 of 42 differ from a sum in index order; not judged",
    ]
    document = result_document(results[0])
    assert (document["zeros"], document["zero_signs"]) == (40, 3)
    assert read_result(document) == results[0]
    del document["zeros"], document["zero_signs"]  # a report of version 1.1
    assert read_result(document) == replace(results[0], zeros=0, zero_signs=0)
