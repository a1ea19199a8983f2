"""A failure that another arithmetic would explain says which."""

from __future__ import annotations

import re

import pytest
import torch
from torch.nn.functional import conv2d

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.findings.explanation import explained
from toeplitz_core.testing.findings.replay import replay
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Verdict
from toeplitz_core.testing.oracle.algorithms import winograd_matrices
from toeplitz_core.testing.subjects import TorchSubject, resolve
from toeplitz_core.testing.subjects.declared import Declared
from toeplitz_core.testing.subjects.interface import Subject

POINT = "input=1x1x1x1 weight=1x1x1x1"
LINE = f"{POINT} law=forward-exact"
SQUARE = "input=1x2x5x4 weight=3x2x3x3"


def failure(subject: Subject, line: str) -> Verdict:
    """The failing verdict on a case."""
    case = Case.parse(line)
    found = LAWS[str(case.law)](subject, case)
    assert found.status.is_failure
    return found


@pytest.mark.parametrize(
    ("name", "line", "explains"),
    [
        ("arithmetic:rounds_to_tf32", f"{POINT} law=forward-exact", "tf32"),
        ("arithmetic:rounds_to_tf32", f"{SQUARE} data=normal law=forward-bound", "tf32"),
        ("arithmetic:rounds_to_tf32", f"{POINT} data=nonfinite seed=6 law=special-values", "tf32"),
        ("arithmetic:rounds_weight_to_bfloat16", f"{POINT} law=forward-exact", "bfloat16-operands"),
        ("arithmetic:flushes_subnormals", f"{POINT} data=subnormal law=forward-bound", "flush"),
        (
            "arithmetic:sums_bfloat16_narrowly",
            "input=1x1x4x1 weight=1x1x3x1 dtype=bfloat16 data=normal law=forward-bound",
            "bfloat16-accumulator",
        ),
        (
            "arithmetic:sums_float16_narrowly",
            "input=1x1x3x1 weight=1x1x3x1 dtype=float16 data=accumulator law=forward-exact",
            "float16-accumulator",
        ),
        (
            "arithmetic:adds_bias_after_rounding",
            "input=1x1x1x1 weight=3x1x1x1 bias dtype=float16 data=probe law=forward-exact",
            "bias-after-rounding",
        ),
    ],
)
def test_an_arithmetic_explains_a_failure(name: str, line: str, explains: str):
    """A fault that computes as a named arithmetic does is explained by it."""
    subject = resolve(f"tests.faults.{name}")
    found = failure(subject, line)
    assert explained(subject, found).message == f"{found.message} (within the bound of --arithmetic {explains})"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("indexing:flips_kernel", f"{SQUARE} data=normal law=forward-bound"),
        ("indexing:flips_kernel", f"{SQUARE} dtype=bfloat16 data=normal law=forward-bound"),
        ("indexing:swaps_strides", f"{SQUARE} stride=2x1 law=forward-exact"),
        ("arithmetic:saturates_its_input", f"{SQUARE} data=normal law=forward-bound"),
    ],
)
def test_no_arithmetic_explains_a_wrong_convolution(name: str, line: str):
    """A wrong convolution is explained by no arithmetic, also in a narrow dtype."""
    subject = resolve(f"tests.faults.{name}")
    found = failure(subject, line)
    assert explained(subject, found) == found


def test_one_good_case_is_no_explanation():
    """An error that is within a bound on the failing case is not explained if fresh data exceeds that bound."""
    case = Case.parse(f"{POINT} data=normal law=forward-bound")
    first = draw(case).input

    def nearly(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return conv2d(x, *rest) * (1 + 2**-12)

    def at_first(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return nearly(x, *rest) + (0 if torch.equal(x, first) else 1)

    always, once = TorchSubject("nearly", nearly), TorchSubject("at-first", at_first)
    assert explained(always, failure(always, str(case))).message.endswith("(within the bound of --arithmetic tf32)")
    found = failure(once, str(case))
    assert explained(once, found) == found


def test_a_failure_that_does_not_repeat_is_not_explained():
    """A right result in the next run explains nothing about the wrong one."""
    wrong = TorchSubject("wrong", lambda x, *rest: conv2d(x, *rest) + 1)
    found = failure(wrong, LINE)
    assert explained(TorchSubject("right", conv2d), found) == found


def test_winograd_explains_a_failure():
    """Winograd's algorithm in float32 is named where its error exceeds the bound of direct sums."""
    output, kernel, data = (torch.tensor([list(map(float, row)) for row in m]) for m in winograd_matrices(4))

    def winograd(x: torch.Tensor, w: torch.Tensor, *_: object) -> torch.Tensor:
        """One tile: 4 x 4 results of 6 x 6 pixels."""
        products = torch.einsum("ocij,ncij->noij", kernel @ w @ kernel.T, data @ x @ data.T)
        return output @ products @ output.T

    subject = TorchSubject("winograd", winograd)
    found = failure(subject, "input=1x2x6x6 weight=2x2x3x3 law=forward-exact")
    assert re.search(r"within the bound of --arithmetic winograd-\dx\d", explained(subject, found).message)


def test_gradients_are_explained_too():
    """A backward pass with operands that are rounded to bfloat16 is explained."""

    def rounded(x: torch.Tensor) -> torch.Tensor:
        return x + (x.bfloat16().to(x.dtype) - x).detach()

    subject = TorchSubject("rounded", lambda x, w, *rest: conv2d(rounded(x), rounded(w), *rest))
    found = failure(subject, f"{SQUARE} data=normal law=gradients-bound")
    assert "--arithmetic bfloat16-operands" in explained(subject, found).message


def test_a_subject_that_declares_is_told_no_option():
    """A registered subject cannot be given the option, so the message names the arithmetic alone."""
    subject = resolve("tests.faults.arithmetic:rounds_to_tf32")
    subject.name = "torch"
    assert "(within the bound of the arithmetic tf32)" in explained(subject, failure(subject, LINE)).message


def test_the_arithmetic_that_is_chosen_explains_nothing():
    """The arithmetic by which the subject is judged already is not named."""
    subject = resolve("tests.faults.arithmetic:rounds_weight_to_bfloat16")
    subject.declare(Declared(arithmetic=("tf32",)))
    found = failure(subject, LINE)
    assert "tf32" not in explained(subject, found).message.partition(" (within")[2]


def test_a_replayed_failure_is_explained():
    """Replay says the same as the search."""
    subject = resolve("tests.faults.arithmetic:rounds_to_tf32")
    (replayed,) = replay(Case.parse(LINE), subject, runs=2)
    assert replayed.verdict.message.endswith("(within the bound of --arithmetic tf32)")
