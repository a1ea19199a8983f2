"""What a subject refuses is not drawn again, and others are judged in its place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.helpers.running import hunt
from toeplitz_core import conv2d
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status

Conv2d = Callable[..., torch.Tensor]


def refusing(refuses: Callable[..., bool]) -> Conv2d:
    """A right convolution that refuses some calls, with a message of its own."""

    def function(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):  # noqa: ANN001, ANN202  # F.conv2d's signature
        if refuses(x=x, w=w, b=b, stride=stride, padding=padding, dilation=dilation, groups=groups):
            raise NotImplementedError(f"not for an input of {x.shape[-1]} columns")
        return conv2d(x, w, b, stride, padding, dilation, groups)

    return function


@pytest.mark.parametrize(
    "refuses",
    [
        lambda x, **_: x.ndim == 3,
        lambda x, **_: len(x) == 0,
        lambda padding, **_: isinstance(padding, str),
        lambda groups, **_: groups > 1,
        lambda dilation, **_: max(dilation) > 1,
        lambda stride, **_: max(stride) > 1,
        lambda b, **_: b is not None,
        lambda x, padding, **_: x.ndim == 3 or isinstance(padding, str),
    ],
    ids=["unbatched", "empty", "words", "groups", "dilation", "stride", "bias", "unbatched or words"],
)
def test_a_feature_that_is_refused_twice_is_not_drawn_again(refuses: Callable[..., bool]):
    """After some refusals the feature is left out, and as many cases are judged as for others."""
    result = hunt(refusing(refuses))
    assert result.status is Status.PASS
    assert result.counts[Status.UNSUPPORTED] <= 12
    assert result.cases - result.counts[Status.UNSUPPORTED] >= 95


def test_a_dtype_that_is_refused_costs_two_cases():
    """A subject that refuses a dtype is asked twice for it, and no more, by each law."""
    asked: list[torch.dtype] = []

    def only_float32(x, w, *rest):  # noqa: ANN001, ANN002, ANN202  # F.conv2d's signature
        asked.append(x.dtype)
        if x.dtype != torch.float32:
            raise NotImplementedError(f"no {x.dtype}")
        return conv2d(x, w, *rest)

    for name in ("forward-exact", "matrix", "groups", "special-values"):
        asked.clear()
        result = hunt(only_float32, law=LAWS[name], dtype="float16")
        assert result.status is Status.UNSUPPORTED
        assert result.counts == {Status.UNSUPPORTED: 2}
        assert result.message == "NotImplementedError: no torch.float16"
        assert asked.count(torch.float16) < 30
    assert hunt(only_float32).status is Status.PASS


def test_a_procedure_that_is_refused_costs_two_cases():
    """The same for a kind of call, such as a backward pass."""

    class NoBackward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *args):  # noqa: ANN001, ANN002, ANN205, ARG004
            return conv2d(*args)

        @staticmethod
        def backward(ctx, *_):  # noqa: ANN001, ANN002, ANN205
            raise NotImplementedError("no backward pass")

    result = hunt(NoBackward.apply, law=LAWS["gradients-exact"])
    assert result.status is Status.UNSUPPORTED
    assert result.counts == {Status.UNSUPPORTED: 2}


def test_a_refused_size_is_not_mistaken_for_a_dtype():
    """A subject for one kernel size refuses most cases of every dtype, and is judged on the others."""
    result = hunt(refusing(lambda w, **_: tuple(w.shape[2:]) != (1, 1)))
    assert result.counts[Status.PASS] >= 30
    assert result.status is Status.PASS


def test_refusals_that_occur_together_are_told_apart():
    """A subject that refuses many features proves as much as others, with few cases lost."""

    def refuses(x, w, b, stride, padding, dilation, groups):  # noqa: ANN001, ANN202, ARG001  # F.conv2d's operands
        return (
            x.ndim == 3 or len(x) == 0 or isinstance(padding, str) or groups > 1 or max(dilation) > 1 or b is not None
        )

    for name in ("forward-exact", "forward-bound"):
        result = hunt(refusing(refuses), law=LAWS[name])
        assert result.status is Status.PASS
        assert result.counts[Status.UNSUPPORTED] <= 25
        assert result.cases - result.counts[Status.UNSUPPORTED] >= 95


def test_a_kernel_for_few_cases_is_told_of_the_domain():
    """Where too few cases are judged, the message names the option that limits them."""
    result = hunt(refusing(lambda w, **_: tuple(w.shape[2:]) != (2, 2)))
    assert result.status is Status.UNSUPPORTED
    assert 0 < result.counts[Status.PASS] < 50
    assert '--where "kernel_size == (2, 2)" gives the cases that a kernel is for' in result.message


def test_a_kernel_for_few_cases_of_no_simple_kind_is_told_of_the_option_alone():
    """If no simple condition tells the judged cases from the refused ones, the message has none."""
    result = hunt(refusing(lambda x, **_: x.shape[-1] % 16 != 9))
    assert result.status is Status.UNSUPPORTED
    assert result.counts[Status.PASS] > 2
    assert "; --where gives the cases that a kernel is for" in result.message
