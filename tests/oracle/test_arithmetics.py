"""The arithmetics that have a name, and what ``--arithmetic`` chooses."""

from __future__ import annotations

import re

import pytest
import torch

from toeplitz_core.bound import BFLOAT16, Arithmetic
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES, ROUNDED_DTYPES
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.oracle.arithmetics import (
    ARITHMETICS,
    arithmetic_for,
    by_dtype,
    chosen_arithmetic,
    concerning,
)
from toeplitz_core.testing.oracle.results import expected
from toeplitz_core.testing.oracle.strictest import strictest

CASE = Case.parse("input=2x3x6x7 weight=4x3x3x3 padding=1 bias data=normal")


@pytest.mark.parametrize("name", ARITHMETICS)
@pytest.mark.parametrize("dtype", ROUNDED_DTYPES)
def test_no_bound_is_narrower_than_the_strictest(name: str, dtype: str):
    """An arithmetic by name allows at least the error of the strictest one, in each element."""
    case = CASE.replace(dtype=dtype)
    if dtype not in ARITHMETICS[name].dtypes:
        with pytest.raises(ValueError, match=f"not for {dtype}"):
            arithmetic_for(case, name)
        return
    operands = draw(case)

    def bound(arithmetic: Arithmetic) -> torch.Tensor:
        x, weight, bias = operands.input, operands.weight, operands.bias
        reference = expected(case.geometry, x, weight, bias, algorithms=arithmetic.algorithms)
        return reference.bound(arithmetic, has_bias=True)

    chosen, strict = arithmetic_for(case, name), strictest(case)
    assert (bound(chosen) >= bound(strict)).all()
    assert (chosen == strict) == (name == "strict")


def test_a_choice_for_one_dtype_wins():
    """``DTYPE=NAME`` wins over ``NAME``; dtypes that no choice is for have the strictest arithmetic."""
    names = ("tf32", "complex64=flush", "bfloat16=bfloat16-accumulator")
    assert by_dtype(names) == {"float32": "tf32", "complex64": "flush", "bfloat16": "bfloat16-accumulator"}
    assert chosen_arithmetic(names, CASE).input_rounding == 2**-10
    assert chosen_arithmetic(names, CASE.replace(dtype="bfloat16")).accumulator == BFLOAT16
    for dtype in ("float64", "int64"):
        case = CASE.replace(dtype=dtype, data="integers")
        assert chosen_arithmetic(names, case) == strictest(case)
    assert [concerning(dtype, names) for dtype in ("float32", "complex64", "int64")] == [
        ("tf32",),
        ("complex64=flush",),
        (),
    ]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["tf23"], "arithmetic='tf23' is unknown; did you mean 'tf32'? legal: strict, "),
        (["float23=flush"], "arithmetic='float23=flush': dtype 'float23' is unknown; did you mean 'float"),
        (["half=flush"], "did you mean 'float16'?"),
        (["=flush"], "dtype '' is unknown"),
        (["float64=tf32"], "arithmetic='float64=tf32': tf32 is for float32 and complex64"),
        (["int64=flush"], "flush is for float64, "),
        (["tf32", "flush"], "arithmetic='flush': tf32 and flush are both for float32; choose one with float32=NAME"),
        (["float32=tf32", "float32=flush"], "arithmetic='float32=flush': tf32 and flush are both for float32"),
    ],
)
def test_a_wrong_choice_is_refused(names: list[str], said: str):
    """A name that is unknown, or not for its dtype, and two choices for one dtype are refused."""
    with pytest.raises(ValueError, match=re.escape(said)):
        by_dtype(names)


def test_every_arithmetic_has_a_sentence_and_dtypes():
    """Each entry of the list has one sentence and the dtypes that it is for."""
    for name, entry in ARITHMETICS.items():
        assert name == entry.name
        assert entry.statement.endswith(".")
        assert entry.dtypes
        assert set(entry.dtypes) <= set(CASE_DTYPES)
