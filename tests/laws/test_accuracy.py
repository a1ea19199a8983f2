"""The accuracy that reports compare: errors on operands that are the same in every run."""

from __future__ import annotations

import math

import pytest
import torch

from toeplitz_core import conv2d
from toeplitz_core.testing.case.dtypes import ROUNDED_DTYPES
from toeplitz_core.testing.laws.accuracy import Errors, accuracy
from toeplitz_core.testing.subjects import TorchSubject


def rounded_once(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None = None, *rest: object) -> torch.Tensor:
    """The exact result of short formats: sums in float64."""
    return conv2d(x.double(), w.double(), None if b is None else b.double(), *rest).to(x.dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_result_that_is_rounded_once_errs_by_half_an_ulp(dtype: str):
    """The largest error is half a unit in the last place, and half of the errors are at most a quarter."""
    found = accuracy(TorchSubject("once", rounded_once), dtype, "cpu")
    assert found is not None
    assert found.geometries == 12
    assert found.ulps.largest == pytest.approx(0.5, abs=1e-3)
    assert found.ulps.median == pytest.approx(0.25, abs=0.02)
    assert found.of_bound.largest <= 1


@pytest.mark.parametrize("dtype", ROUNDED_DTYPES)
def test_it_is_the_same_each_time(dtype: str):
    """The operands, and so the errors, do not depend on anything."""
    subject = TorchSubject("mine", conv2d)
    found = accuracy(subject, dtype, "cpu")
    assert found == accuracy(subject, dtype, "cpu")
    assert found is not None
    assert found.of_bound.largest < 1


def test_errors_that_double_are_seen():
    """A kernel that rounds its result once more has larger errors, though both are within the bound."""

    def again(*args: torch.Tensor) -> torch.Tensor:
        y = conv2d(*args)
        return y * (1 + 2**-22)

    before, after = (accuracy(TorchSubject("mine", f), "float32", "cpu") for f in (conv2d, again))
    assert before is not None
    assert after is not None
    assert after.ulps.median > 1.3 * before.ulps.median


def test_what_is_refused_is_left_out():
    """Geometries that a subject refuses, or whose result has a wrong shape, are not measured."""

    def no_groups(x: torch.Tensor, w: torch.Tensor, *rest: object) -> torch.Tensor:
        if rest[-1] != 1:
            raise NotImplementedError
        return conv2d(x, w, *rest)

    found = accuracy(TorchSubject("mine", no_groups), "float32", "cpu")
    assert found is not None
    assert found.geometries == 9
    assert accuracy(TorchSubject("mine", lambda *_: torch.zeros(1)), "float32", "cpu") is None
    few = accuracy(TorchSubject("mine", conv2d), "float32", "cpu", lambda case: case.bias)
    assert few is not None
    assert few.geometries == 3


def test_an_error_that_is_no_number_is_infinite():
    """NaN and infinities count as infinitely large errors, without harm to the median."""
    assert Errors.of(torch.tensor([0.0, 1.0, math.nan])) == Errors(1.0, math.inf, math.inf)
