"""The matrix of a subject, read off its results for basis images."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d

from toeplitz_core.matrix import toeplitz_matrix
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.matrices import Matrices
from toeplitz_core.testing.findings.recovery import recovered
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.oracle.strictest import strictest
from toeplitz_core.testing.subjects import TorchSubject
from toeplitz_core.testing.subjects.outcome import Outcome
from toeplitz_core.testing.subjects.symptom import Symptom

LINE = "input=1x2x3x4 weight=2x2x2x2 stride=1x2 padding=1x0 law=forward-exact"


def subject_of(change: Callable[..., Any]) -> TorchSubject:
    """Torch's own convolution with other arguments."""
    return TorchSubject("mine", lambda x, w, b, *rest: conv2d(*change(x, w, b), *rest))


def failing(change: Callable[..., Any], line: str = LINE) -> tuple[TorchSubject, Verdict]:
    """A subject with a fault, and its failure on a case."""
    subject, case = subject_of(change), Case.parse(line)
    verdict = LAWS[str(case.law)](subject, case)
    assert verdict.status is Status.FAIL, verdict.message
    return subject, verdict


def flipped(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None) -> tuple[Any, ...]:
    """The kernel is reversed along its rows."""
    return x, w.flip(-1), b


@pytest.mark.parametrize("batch", ["1x2x3x4", "2x3x4", "2x2x3x4"])
def test_the_right_matrix_is_t_and_the_other_that_of_the_mistake(batch: str):
    """The expected matrix is T of the numbered weight, block by block of images; the actual one that of the flip."""
    found = recovered(*failing(flipped, LINE.replace("1x2x3x4", batch)))
    assert isinstance(found, Matrices)
    weight = torch.arange(1.0, 17.0, dtype=torch.float64).view(2, 2, 2, 2)
    images = 2 if batch == "2x2x3x4" else 1
    for entries, taps in ((found.expected, weight), (found.actual, weight.flip(-1))):
        one = toeplitz_matrix(taps, (3, 4), (1, 2), (1, 0)).numpy()
        assert np.array_equal(np.array(entries), np.kron(np.eye(images), one))
    assert found.numbered
    assert found.rows == (images, 2, 4, 2)
    assert found.columns == (images, 2, 3, 4)
    assert len(found.wrong) == np.count_nonzero(np.array(found.expected) != np.array(found.actual)) > 0
    assert found.wrong_offsets == ()


def test_a_bias_is_in_the_offset():
    """A bias that is missing is seen in the results for zeros, and the matrix itself is right."""
    found = recovered(*failing(lambda x, w, b: (x, w, torch.zeros_like(b)), f"{LINE} bias"))
    assert isinstance(found, Matrices)
    assert found.wrong == ()
    assert len(found.wrong_offsets) == len(found.offset) == 16
    assert (found.offset[0], found.offset[-1], set(found.actual_offset)) == (1, 2, {0})
    assert found.differ


GRADIENTS = f"{LINE.removesuffix('forward-exact')}gradients-exact"


def test_an_input_gradient_has_the_transpose_of_t():
    """The matrix of an input gradient maps the incoming gradient to it: it is the transpose of T."""
    found = recovered(*failing(lambda x, w, b: (x * 2 - x.detach(), w, b), GRADIENTS))
    assert isinstance(found, Matrices)
    assert (found.quantity, found.offset) == ("input", ())
    T = toeplitz_matrix(torch.arange(1.0, 17.0, dtype=torch.float64).view(2, 2, 2, 2), (3, 4), (1, 2), (1, 0))
    assert np.array_equal(np.array(found.expected), T.mT.numpy())
    assert np.array_equal(np.array(found.actual), 2 * T.mT.numpy())


def test_a_weight_gradient_has_a_matrix_of_pixels():
    """The matrix of a weight gradient has a row for each tap, and its entries are pixels."""
    found = recovered(*failing(lambda x, w, b: (x, w * 2 - w.detach(), b), GRADIENTS))
    assert isinstance(found, Matrices)
    assert (found.quantity, found.rows, found.columns) == ("weight", (2, 2, 2, 2), (1, 2, 4, 2))
    assert found.expected[0][:4] == (0, 0, 1, 3)  # the first tap reads padding at first, then every second pixel
    assert np.array_equal(2 * np.array(found.expected), np.array(found.actual))


def test_another_shape_has_another_matrix():
    """A result of another shape has a matrix with other rows, and no entry is compared."""
    subject = TorchSubject("mine", lambda x, w, b, stride, *rest: conv2d(x, w, b, stride[::-1], *rest))
    verdict = LAWS["forward-exact"](subject, Case.parse(LINE))
    found = recovered(subject, verdict)
    assert isinstance(found, Matrices)
    assert (found.rows, found.actual_rows) == ((1, 2, 4, 2), (1, 2, 2, 3))
    assert (len(found.expected), len(found.actual), found.wrong, found.differ) == (16, 12, (), True)


REASONS = {
    "larger": ("input=1x1x9x9 weight=1x1x2x2 law=forward-exact", "The matrix has 64 rows and 81 columns."),
    "complex": (f"{LINE} dtype=complex64", "A matrix of complex numbers is not drawn."),
}


@pytest.mark.parametrize("why", REASONS)
def test_a_missing_matrix_has_a_reason(why: str):
    """What is too large, or complex, says so."""
    line, said = REASONS[why]
    assert str(recovered(*failing(flipped, line))).startswith(said)


def test_a_fault_of_the_numbers_has_no_picture():
    """If the matrix is right, because only other numbers show the fault, that is said."""
    subject = TorchSubject("mine", lambda x, *rest: conv2d(x, *rest) + (x.count_nonzero() > 1))
    verdict = LAWS["forward-exact"](subject, Case.parse(LINE))
    assert verdict.status is Status.FAIL
    assert str(recovered(subject, verdict)).startswith("The matrix is right:")


def test_results_that_change_have_no_matrix():
    """A failure whose values change has no matrix, and a crash is not asked for one."""
    subject, verdict = failing(flipped)
    assert "no matrix" in str(recovered(subject, verdict.replace(symptom=Symptom.CHANGING)))
    assert recovered(subject, verdict.replace(symptom=Symptom.CRASH, difference=None)) == ""


class _Ends:
    """A subject that is right for some calls and then ends in another way."""

    def __init__(self, subject: TorchSubject, end: Callable[[], Outcome]) -> None:
        self.subject, self.end, self.calls = subject, end, 0

    def run(self, case: Case, *rest: Any) -> Outcome:
        """Return a result, or end at the fourth call."""
        self.calls += 1
        return self.end() if self.calls > 3 else self.subject.run(case, *rest)


def broken() -> Outcome:
    """The process that forks workers has died."""
    raise RuntimeError("no more workers")


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda: Outcome("crashed", strictest(Case.parse(LINE)), message="was killed by SIGSEGV\nx"), "SIGSEGV"),
        (lambda: Outcome("timed out", strictest(Case.parse(LINE)), message="did not return"), "did not return"),
        (broken, "RuntimeError: no more workers"),
    ],
)
def test_a_subject_that_ends_leaves_a_sentence(end: Callable[[], Outcome], said: str):
    """If a basis image crashes the subject, or anything else breaks, the finding gets a sentence instead."""
    subject, verdict = failing(flipped)
    dying = _Ends(subject, end)
    found = recovered(dying, verdict)  # type: ignore[arg-type]  # it has what is called
    assert isinstance(found, str)
    assert said in found
    assert "\n" not in found
    assert dying.calls == 4


def test_time_is_limited():
    """Reading ends when its time is over, after the call that is being made."""
    subject, verdict = failing(flipped)
    slow = TorchSubject("slow", lambda *given: (time.sleep(0.02), subject.function(*given))[1])
    assert "take too long" in str(recovered(slow, verdict, seconds=0.05))
