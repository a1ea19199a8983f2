"""The domain of a subject: cases are moved into it, and others are not tried."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given

from tests.helpers.running import search
from toeplitz_core import conv2d
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.conditions import Condition
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.strategies.cases import cases
from toeplitz_core.testing.strategies.domain import Domain
from toeplitz_core.testing.strategies.reshaped import reshaped
from toeplitz_core.testing.subjects import Claims, Subject, TorchSubject


def domain(text: str, limit: int | None = None) -> Domain:
    """The domain of a condition."""
    return Domain((Condition(text),), limit)


@pytest.mark.parametrize(
    "text",
    [
        "kernel_size == (3, 3) and stride == (1, 1)",
        "kernel_size in ((1, 1), (3, 3)) and groups == 1 and batched",
        "kernel_size[0] == 5 and max(dilation) == 1 and not bias",
        "padding == ((1, 1), (1, 1)) and kernel_size == (3, 3) and batch == 2",
        "padding_name == 'same' and stride == (1, 1)",
        "padding_name == '' and bias and not batched",
        "depthwise and groups == 4",
        "in_channels == 3 and out_channels == 8",
    ],
)
@given(case=cases(gradient=True))
def test_simple_conditions_hold_by_construction(text: str, case: Case):
    """Every case is moved into the domain of a simple condition, and keeps its data and dtype."""
    where = domain(text)
    moved = where.moved(case)
    assert where.contains(moved), moved
    assert (moved.seed, moved.data, moved.dtype) == (case.seed, case.data, case.dtype)
    assert where.moved(moved) == moved


@given(case=cases())
def test_sizes_are_limited(case: Case):
    """With a limit on products, cases lose images and channels until they have few enough, or nothing more to lose."""
    limit = Domain(max_products=2**12)
    moved = limit.moved(case)
    assert limit.contains(moved) or (moved.batch in (None, 0, 1) and moved.geometry.group_channels <= 1)


@given(case=cases())
def test_reshaping_keeps_the_outputs(case: Case):
    """A case with another kernel, stride or dilation has as many outputs, if the padding leaves an image for them."""
    changed = reshaped(case, kernel_size=(3, 2), dilation=(1, 2))
    if min(changed.geometry.input_size) > 1:
        assert changed.geometry.output_size == case.geometry.output_size
    assert reshaped(case) == case


def three_by_three(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):  # noqa: ANN001  # as F.conv2d
    """Right for 3x3 kernels and stride 1; wrong without a word for others."""
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    return y if tuple(w.shape[2:]) == (3, 3) and tuple(stride) == (1, 1) else y + 1


def test_a_kernel_for_one_thing_is_judged_on_that_thing():
    """Within its domain such a kernel passes every law that can be asked there, and none calls it elsewhere."""
    subject, where = TorchSubject("mine", three_by_three), domain("kernel_size == (3, 3) and stride == (1, 1)")
    assert search(LAWS["forward-exact"], subject, dtype="float32").status is Status.FAIL
    judged = {}
    for name, law in LAWS.items():
        if law.procedure in ("forward", "contract", "gradients"):
            result = search(law, subject, dtype="float32", examples=12, domain=where)
            assert not result.status.is_failure, f"{name}: {result.failure}"
            judged[name] = result.counts[Status.PASS]
    # A case of the recipe "impulse" may prove too little.
    assert min(judged[name] for name in ("forward-exact", "forward-bound", "gradients-exact")) >= 10
    assert judged["stride"] == 0  # it compares two strides


def test_a_wrong_kernel_fails_within_its_domain():
    """A fault inside of the domain is found, with a case of the domain."""

    def wrong(*args: torch.Tensor) -> torch.Tensor:
        y = three_by_three(*args)
        return y * 2 if args[-1] > 1 else y

    where = domain("kernel_size == (3, 3) and stride == (1, 1)")
    result = search(LAWS["forward-exact"], TorchSubject("mine", wrong), dtype="float32", domain=where)
    assert result.failure is not None
    assert where.contains(result.failure.case)
    assert result.failure.case.groups > 1


def test_what_is_outside_is_counted():
    """A condition that is not simple leaves out the cases for which it does not hold, and counts them."""
    where = domain("in_channels > out_channels")
    result = search(LAWS["forward-exact"], TorchSubject("mine", conv2d), dtype="float32", domain=where)
    assert result.outside > 0
    assert result.status is Status.PASS
    assert result.cases >= 100


def test_a_subject_declares_its_domain():
    """``Claims`` takes a condition, and refuses a wrong one."""

    class Mine(Subject):
        name, claims = "mine", Claims(where="groups == 1")

    assert Mine.claims.where == "groups == 1"
    assert Domain().within("groups == 1") == domain("groups == 1")
    with pytest.raises(ValueError, match="unknown name 'grups'; did you mean 'groups'"):
        Claims(where="grups == 1")
