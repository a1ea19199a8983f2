"""One 1 in the weight and one in the image: a single product of the convolution is 1."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toeplitz_core import conv2d
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.layouts import apply_layout
from toeplitz_core.testing.data.gradient_operands import draw_with_gradient
from toeplitz_core.testing.data.one_hot import one_hot, one_hot_cases
from toeplitz_core.testing.strategies.cases import cases
from toeplitz_core.testing.strategies.geometries import geometries

SMALL = geometries(max_products=2**10)


def test_each_product_has_a_seed() -> None:
    """The seeds count taps, positions and images: each product is the result of one seed, at its own index."""
    case = Case((2, 4, 4, 3), (4, 2, 2, 3), stride=(2, 1), padding=(1, 1), groups=2, data="one-hot")
    seen = set()
    total = math.prod(case.weight) * 2 * math.prod(case.geometry.output_size)
    for seed in range(total):
        drawn = draw_with_gradient(case.replace(seed=seed))
        result = conv2d(drawn.input, drawn.weight, None, case.stride, case.padding, case.dilation, case.groups)
        assert int(drawn.weight.sum()) == int(drawn.input.sum()) == int(drawn.gradient.sum()) == 1
        assert int(result.sum()) <= 1
        if torch.equal(result, drawn.gradient):  # the tap reads a pixel there
            seen.add((*map(tuple, drawn.weight.nonzero().tolist()), *map(tuple, result.nonzero().tolist())))
    read = conv2d(torch.ones(case.input), torch.ones(case.weight), None, case.stride, case.padding, 1, 2)
    assert len(seen) == int(read.sum())


@pytest.mark.parametrize("dtype", ["float32", "complex64", "int64"])
@settings(max_examples=50)
@given(drawn=st.data())
def test_a_layout_can_hold_them(dtype: str, drawn: st.DataObject) -> None:
    """In every layout, the operands are as they were drawn; all operands of an empty call are empty or zero."""
    case = drawn.draw(cases(geometry=SMALL, dtypes=(dtype,))).replace(data="one-hot")
    operands = one_hot(case)
    for name, values in (("input", operands.input), ("weight", operands.weight), ("bias", operands.bias)):
        if values is not None:
            layout = case.layout(name)
            assert layout is None or torch.equal(apply_layout(values, layout), values)
            assert not values.numel() or (values == 1).any()
            assert ((values == 0) | (values == 1)).all()


def test_a_few_of_many_products() -> None:
    """The first and the last product are among them, and none comes twice."""
    few = [case.seed for case in one_hot_cases(Case((1, 1, 9, 9), (2, 1, 3, 3)), 5)]
    assert few == [0, 220, 440, 661, 881]
    assert [case.seed for case in one_hot_cases(Case((1, 1, 2, 1), (1, 1, 1, 1)), 5)] == [0, 1]
    assert [case.seed for case in one_hot_cases(Case((0, 1, 2, 1), (1, 1, 1, 1)), 5)] == [0]
