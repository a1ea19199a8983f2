"""Runs with any number of findings, without a subject, for the tests of the page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from tests.reports.records import DIFFERENCE, RECORD, TRACEBACK
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.findings.causes.catalogue import CAUSES
from toeplitz_core.testing.findings.finding import Finding
from toeplitz_core.testing.findings.matrices import Matrices
from toeplitz_core.testing.findings.reproducer.apart import Script
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.accuracy import Accuracy, Errors
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.reports.page.page import page
from toeplitz_core.testing.run.record import Record
from toeplitz_core.testing.subjects.symptom import Symptom

CASE = Case.parse("input=1x1x3x3 weight=2x1x2x2 stride=2 padding=1 bias law=forward-exact")
DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "complex64")


def matrices() -> Matrices:
    """A kernel of two taps that is flipped, and a bias that is missing in the second row."""
    shape = (1, 1, 1, 3)
    right, wrong = ((1.0, 2.0, 0.0), (0.0, 1.0, 2.0)), ((2.0, 1.0, 0.0), (0.0, 2.0, float("nan")))
    return Matrices("output", True, (1, 1, 1, 2), (1, 1, 1, 2), shape, right, wrong, (1.0, 1.0), (1.0, 0.0))


def finding(number: int = 1, **changes: object) -> Finding:
    """A finding of wrong numbers with all that a card can show."""
    message = f"out[0, 1, 1, 1]=3, but should be {number}"
    failure = Verdict(
        Status.FAIL,
        CASE,
        message,
        index=(0, 1, 1, 1),
        difference=replace(DIFFERENCE, ratio=None),
        traceback=TRACEBACK,
        printed="hello",
        assumed="sums in float32",
        symptom=Symptom.VALUES,
    ).replace(**{name: value for name, value in changes.items() if name in Verdict.__dataclass_fields__})
    names = list(CAUSES)
    laws = list(LAWS)
    step = Step("kernels:conv2d", laws[number % len(laws)], DTYPES[number // len(laws) % len(DTYPES)], "cpu")
    found = Finding(
        step.subject,
        failure,
        names[number % 12],
        "predicts every number for 5 random inputs",
        ("stride > 1",),
        ((step, str(failure.case)),),
        "holds without oneDNN",
        number,
        matrices(),
    )
    return replace(found, **{name: value for name, value in changes.items() if name in Finding.__dataclass_fields__})


def run(findings: Sequence[Finding], **changes: object) -> Record:
    """The record of a run with these findings, after results of every status."""
    counts = Counter({Status.FAIL: 2, Status.PASS: 8})
    results = [
        Result(found.steps[0], Status.FAIL, counts, 0.5, found.failure, found.failure.message) for found in findings
    ]
    accuracy = [
        Accuracy("kernels:conv2d", "float32", "cpu", 12, 100, Errors(0.1, 0.5, 0.9), Errors(0.25, 1.5, float("inf")))
    ]
    record = replace(RECORD, results=[*RECORD.results, *results], findings=findings, accuracy=accuracy)
    return replace(record, **changes)


def written(record: Record, **more: object) -> str:
    """The page of a run; no module of a subject is imported for scripts."""
    return page(record, write=lambda found: [Script("import torch\n")] * len(found), **more)
