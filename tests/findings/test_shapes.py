"""A result of another shape has a cause too, and is no other bug than wrong numbers of the same cause."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from toeplitz_core import conv2d
from toeplitz_core.testing import check
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.causes.diagnosis import diagnosed
from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.subjects import TorchSubject


def swaps_strides(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """The columns have the stride of the rows, also in the number of outputs."""
    return conv2d(x, w, b, (stride[0], stride[0]), padding, dilation, groups)


def forgets_dilation_of_groups(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's
    """With groups the dilation is 1, also in the number of outputs and in padding='same'."""
    return conv2d(x, w, b, stride, padding, 1 if groups > 1 else dilation, groups)


def pads_less(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's signature
    """Rows are not padded."""
    return conv2d(x, w, b, stride, padding if isinstance(padding, str) else (0, padding[1]), dilation, groups)


def leaves_out_the_last_column(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001  # F.conv2d's
    """More than four columns are one too few."""
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    return y[..., :-1] if y.shape[-1] > 4 else y


def found(fault: Callable[..., Tensor], *laws: str, examples: int | None = None) -> tuple[Finding, ...]:
    """The findings in a gate's forward laws, or in these laws, with a gate's number of cases, or this one."""
    record = check(
        TorchSubject("planted", fault), law=laws or ("forward-exact", "forward-bound"), device="cpu", quiet=True,
        dtype="float32", profile="gate", examples=examples,
    )  # fmt: skip
    return tuple(record.findings)


@pytest.mark.parametrize(
    ("fault", "cause", "needs"),
    [
        (swaps_strides, "stride-swapped", "stride[0] != stride[1]"),
        (forgets_dilation_of_groups, "dilation-ignored", "groups > 1"),
        (pads_less, "padding-ignored", "padding[0] > 0"),
        (leaves_out_the_last_column, "outputs-dropped", "output width >= 5"),
    ],
)
def test_a_wrong_shape_and_wrong_numbers_of_one_bug_are_one_finding(
    fault: Callable[..., Tensor], cause: str, needs: str
):
    """The mistake predicts the shape and the numbers in it; the needs are those of both."""
    (finding,) = found(fault)
    assert finding.cause == cause
    assert needs in finding.needs


def test_a_shape_that_no_mistake_predicts():
    """The shape alone is no cause: the numbers must be predicted too."""
    findings = found(lambda *call: swaps_strides(*call) + 1)
    # Where the strides differ and the shape is right by chance, both mistakes are in the numbers.
    assert {finding.cause for finding in findings} - {"unknown"} == {"wrong-shape", "constant-added"}


def test_a_gradient_of_a_wrong_result_is_no_finding_of_its_own():
    """An exception in the gradient of a result whose shape is wrong belongs to that result."""
    (finding,) = found(forgets_dilation_of_groups, "forward-exact", "functional-gradients", examples=100)
    assert finding.cause == "dilation-ignored"
    assert set(finding.laws) == {"forward-exact", "functional-gradients"}


def test_a_wrong_gradient_of_the_bias_has_a_cause():
    """The gradient of the bias has one axis, unlike the others."""

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(_: torch.autograd.function.FunctionCtx, b: Tensor) -> Tensor:
            return b.clone()

        @staticmethod
        def backward(_: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
            return grad * (torch.arange(len(grad)) < len(grad) - 1)

    def fault(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001, ANN202  # F.conv2d's signature
        return conv2d(x, w, None if b is None else Wrong.apply(b), stride, padding, dilation, groups)

    subject = TorchSubject("planted", fault)
    case = Case.parse("input=2x2x4x4 weight=3x2x2x2 bias law=gradients-exact")
    failure = LAWS["gradients-exact"](subject, case)
    assert failure.quantity == "bias"
    assert diagnosed(subject, failure).cause in ("gradient-outputs-dropped", "gradient-bias-missing")
