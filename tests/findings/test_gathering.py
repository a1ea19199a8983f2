"""Failures of one bug become one finding."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.gathering import Gathering
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.subjects import TorchSubject

CASES = ("input=2x2x4x4 weight=3x2x2x2 bias law=forward-exact", "input=1x3x5x5 weight=2x3x3x3 bias law=forward-bound")


def _drops_bias(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    if x.dtype == torch.float16:
        raise NotImplementedError("half precision")
    return torch.nn.functional.conv2d(x, w, None, stride, padding, dilation, groups)


SUBJECT = TorchSubject("drops-bias", _drops_bias, differentiable=False)


def _results() -> list[Result]:
    """The failure of each case."""
    found = []
    for line, data in zip(CASES, ("integers", "normal"), strict=True):
        case = Case.parse(line).replace(data=data)
        failure = LAWS[str(case.law)](SUBJECT, case)
        assert failure.status is Status.FAIL
        step = Step(SUBJECT.name, str(case.law), case.dtype, "cpu")
        found.append(Result(step, Status.FAIL, Counter({Status.FAIL: 1}), None, failure))
    return found


def test_failures_of_two_laws_are_one_finding():
    """One cause that predicts the failures of two laws is one finding, with the smallest case and what it needs."""
    gathering = Gathering(lambda _: SUBJECT, LAWS)
    gathering.gather(_results())
    (finding,) = gathering.findings
    assert (finding.cause, finding.needs) == ("bias-missing", ("bias",))
    assert finding.laws == ("forward-exact", "forward-bound")
    assert str(finding.failure.case) == "input=1x1x1x1 weight=1x1x1x1 bias law=forward-exact"


def test_failures_with_one_smallest_case_are_one_finding(monkeypatch: pytest.MonkeyPatch):
    """A failure that looks like another bug belongs to the finding whose smallest case is its own smallest case."""
    monkeypatch.setattr(Gathering, "_same", lambda *_: False)
    gathering = Gathering(lambda _: SUBJECT, LAWS)
    first, _ = _results()
    assert first.failure is not None
    other = LAWS["forward-exact"](SUBJECT, Case.parse(CASES[1]).replace(law="forward-exact"))
    gathering.add(first.step, first.failure)
    gathering.add(first.step, other)
    (finding,) = gathering.findings
    assert [line for _, line in finding.sightings] == [str(first.failure.case), str(other.case)]


def test_a_dtype_that_a_subject_does_not_support_is_no_need():
    """The needs name no dtypes, although one dtype does not fail: the subject does not support it."""
    gathering = Gathering(lambda _: SUBJECT, LAWS)
    finding = gathering.add(_results()[0].step, _results()[0].failure)
    assert finding.needs == ("bias",)
