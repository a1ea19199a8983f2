"""Results of every status and a record of them, for the tests of reports."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.conditions import Condition
from toeplitz_core.testing.findings.known_failures.entry import Entry
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.findings.known_failures.staleness import Stale
from toeplitz_core.testing.laws.difference import Difference, Range, Sample
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.run.record import Record

LINE = "input=1x2x1x1 weight=2x1x1x1 groups=2"
CASE = Case.parse(f"{LINE} law=forward-bound")
STEP = Step("torch", "forward-bound", "float32", "cpu")
LISTED = Entry(
    "listed", ("torch",), ("forward-bound",), Condition("groups > 1"), CASE, "It is so.", link="https://x.org"
)


# What is wrong with a result, and where a subject raised.
DIFFERENCE = Difference(
    3,
    12,
    (Range("output channel", 2, 1, 1, 1, 1), Range("column", 6, 3, 5, 1, 3)),
    (Sample("out[0, 1, 0, 3]", "nan", "1"), Sample("out[0, 1, 0, 4]", "2", "3"), Sample("out[0, 1, 0, 5]", "4", "5")),
    float("inf"),
    "image 0, output channel 1",
    ("...Xxx",),
)
TRACEBACK = """\
Traceback (most recent call last):
  File "kernels.py", line 9, in conv2d
    helper(weight)
  File "kernels.py", line 5, in helper
    raise ValueError("x")
ValueError: x
"""


def result(status: Status, message: str = "", *, cases: int = 3, ratio: float | None = None, **other: object) -> Result:
    """A result of this status; a failing result has its case."""
    failure = Verdict(status, CASE, message, ratio=ratio, index=(0, 1)) if status.is_failure else None
    counts = Counter({status: cases}) if cases else Counter()
    values = {"counts": counts, "max_ratio": 0.5, "failure": failure, "message": message} | other
    return Result(STEP, status, **values)


def of_step(found: Result, **names: str) -> Result:
    """The same result for another subject, law, dtype or device."""
    return replace(found, step=replace(found.step, **names))


def failed(found: Result, **changes: object) -> Result:
    """The same result with changes of the verdict on its case."""
    assert found.failure is not None
    return replace(found, failure=found.failure.replace(**changes))


# One result of each kind.
RESULTS = [
    result(Status.PASS, assumed=Counter({"sums in float32": 3})),
    result(Status.PASS, max_ratio=None),
    result(Status.FAIL, "out[0]=0, but should be 1", ratio=3.5),
    failed(result(Status.FAIL, "out[0]=nan, but should be 1", ratio=float("inf")), difference=DIFFERENCE),
    failed(result(Status.CRASH, "killed by signal 11 (SIGSEGV)"), traceback=TRACEBACK),
    result(Status.TIMEOUT, "took longer than 10 s"),
    result(Status.MISTRUSTED, "nothing proven: only 0 of 3 cases could be judged"),
    result(
        Status.UNSUPPORTED,
        "nothing proven: only 1 of 3 cases could be judged",
        counts=Counter({Status.UNSUPPORTED: 2, Status.PASS: 1}),
    ),
    result(Status.UNSUPPORTED, "forward-bound is not for int64", cases=0),
    result(Status.KNOWN, known=Counter({"listed": 3})),
    result(Status.SHARED, shared=Counter({"vmap-of-an-empty-batch": 2, "unlisted": 1})),
    result(Status.NOT_RUN, "torch sees no CUDA device", cases=0),
]
RECORD = Record(
    RESULTS,
    exit_code=1,
    options={"profile": "gate", "seed": 0, "devices": ["cpu"]},
    known=KnownFailures((LISTED,)),
    stale=[Stale(LISTED, "torch", "its example holds")],
)

# A pass with many refused cases.
GAPS = result(
    Status.PASS,
    counts=Counter({Status.PASS: 15, Status.UNSUPPORTED: 20, Status.MISTRUSTED: 5}),
    refused="NotImplementedError: no bias gradient",
)
