"""The cause of a failure: the true one for each planted fault, and none for what is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from tests.faults.causes import MISSED, PLANTED, Planted
from toeplitz_core.testing.case.call import parse_line
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.causes.catalogue import CAUSES, GRADIENT, UNKNOWN, definition, names
from toeplitz_core.testing.findings.causes.diagnosis import Diagnosis, diagnosed, explains
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.attribution import attributed
from toeplitz_core.testing.search.repetition import without_chance
from toeplitz_core.testing.subjects import Implementation, TorchSubject, resolve

IN_PROCESSES = ("memory", "process", "bounds", "plans", "contracts", "arguments")
# The share of the planted faults whose true cause must be named.
TRUE_SHARE = 0.95


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Processes for the faults."""
    with Sandbox(timeout=3) as processes:
        yield processes


def diagnosis(sandbox: Sandbox, planted: Planted) -> Diagnosis:
    """What a run finds out about a planted fault."""
    # A process of its own for each fault that keeps state or ends its process; the others are faster in this one.
    module, _, function = planted.name.partition(":")
    needs_process = module in IN_PROCESSES or "memory" in function
    subject: Implementation = IsolatedSubject(sandbox, planted.path) if needs_process else resolve(planted.path)
    case = parse_line(planted.line)
    law = LAWS[str(case.law)]
    tried = (subject, subject, *subject.poisoned())  # what depends on memory may be right by chance
    failure = next(v for each in tried if (v := law(each, case)).status.is_failure)
    failure = without_chance(attributed(failure, subject), law, subject)
    return diagnosed(subject, failure)


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name.partition(":")[2])
def test_the_true_cause_is_named(sandbox: Sandbox, planted: Planted):
    """The diagnosis of a planted fault names its cause, except for those that are listed as missed."""
    found = diagnosis(sandbox, planted)
    if planted.name.partition(":")[2] in MISSED:
        assert found.cause != planted.cause, "it is found now: take it off the list"
    else:
        assert found.cause == planted.cause, found.evidence
    assert found.evidence


def test_nearly_all_causes_are_named():
    """At least 95% of the planted faults are not on the list of those that are missed."""
    assert {planted.name.partition(":")[2] for planted in PLANTED} >= set(MISSED)
    assert len(MISSED) <= (1 - TRUE_SHARE) * len(PLANTED)


def test_every_cause_has_a_definition():
    """Each identifier, also of a gradient, is defined in one sentence."""
    assert {planted.cause for planted in PLANTED} <= names()
    for name in names():
        assert definition(name).endswith(".")
    assert GRADIENT + "kernel-flipped" in names()
    assert GRADIENT + "gradient-missing" not in names()
    assert UNKNOWN in CAUSES


Pair = tuple[int, int]


def _columns_with_the_stride_of_rows(
    x: Tensor, w: Tensor, b: Tensor | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    """Columns are as far apart as rows are; beyond the image, there is zero."""
    (s, t), (p, q), (d, e) = stride, padding, dilation
    columns = (x.shape[-1] + 2 * q - e * (w.shape[3] - 1) - 1) // t + 1
    wide = pad(x, (q, q + s * columns + e * w.shape[3], p, p))
    return conv2d(wide, w, b, (s, s), 0, (d, e), groups)[..., :columns]


def _bias_of_the_first_group_alone(x: Tensor, w: Tensor, b: Tensor, s: Pair, p: Pair, d: Pair, groups: int) -> Tensor:
    first = len(b) // groups
    return conv2d(x, w, torch.cat((b[:first], b[first:] * 0)), s, p, d, groups)


def _bias_of_all_but_the_last(x: Tensor, w: Tensor, b: Tensor, s: Pair, p: Pair, d: Pair, groups: int) -> Tensor:
    return conv2d(x, w, torch.cat((b[:-1], b[-1:] * 0)), s, p, d, groups)


@pytest.mark.parametrize(
    ("fault", "line", "cause", "words"),
    [
        (
            _columns_with_the_stride_of_rows,
            "input=1x1x1x2 weight=1x1x1x1 stride=2x1",
            "stride-swapped",
            "here: columns have that of rows; predicts every number for 5 random inputs, and for 8 of 8 failing cases",
        ),
        (
            _bias_of_the_first_group_alone,
            "input=1x2x1x1 weight=2x1x1x1 groups=2 bias",
            "bias-missing",
            "here: in all groups but the first; predicts every number for 5 random inputs, and for 8 of 8",
        ),
        (
            _bias_of_all_but_the_last,
            "input=1x1x1x1 weight=2x1x1x1 bias",
            "bias-missing",
            "here: in the last channel; predicts every number for 5 random inputs, and for 8 of 8 failing cases",
        ),
    ],
)
def test_the_evidence_says_which_mistake_it_is(fault: Callable[..., Tensor], line: str, cause: str, words: str):
    """Of several mistakes with one identifier, the one that predicts all results is named, with what was predicted.

    Further failures with real numbers are predicted too, although their bound is that of the right result.
    """
    subject = TorchSubject("fault", fault, differentiable=False)
    case = Case.parse(f"{line} law=forward-exact")
    failure = LAWS["forward-exact"](subject, case)
    others = [case.replace(data="wide", seed=seed, law="forward-bound") for seed in range(8)]
    found = diagnosed(subject, failure, others=others)
    assert (found.cause, found.evidence.startswith(words)) == (cause, True), found.evidence
    assert found.hypothesis is not None
    wide = next(v for other in others if (v := LAWS["forward-bound"](subject, other)).status.is_failure)
    assert explains(subject, found, wide)


def _takes_strides_beyond_two_as_one(
    x: Tensor, w: Tensor, b: Tensor | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    height, width = conv2d(x, w, b, stride, padding, dilation, groups).shape[-2:]
    steps = [1 if step > 2 else step for step in stride]
    return conv2d(x, w, b, steps, padding, dilation, groups)[..., :height, :width]


def test_a_stride_that_only_some_axes_ignore_is_one_mistake():
    """Rows of one case and columns of another may ignore their stride for the same reason: it is more than 2."""
    subject = TorchSubject("fault", _takes_strides_beyond_two_as_one, differentiable=False)
    rows, columns = (
        LAWS["forward-exact"](subject, Case.parse(f"{line} law=forward-exact"))
        for line in ("input=1x1x4x1 weight=1x1x1x1 stride=3x1", "input=1x1x3x4 weight=1x1x1x1 stride=2x3")
    )
    found = diagnosed(subject, rows)
    assert found.cause == "stride-ignored"
    assert explains(subject, found, columns)
