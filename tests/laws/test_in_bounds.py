"""The law in-bounds: an access before or behind an operand is named, even if its value is dropped."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import CORRECT
from tests.helpers.running import search, share
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.attribution import attributed
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.subjects import resolve

LAW = LAWS["in-bounds"]
LINE = "input=1x2x4x4 weight=2x2x3x3 padding=1 bias"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pages are protected with mprotect")


@pytest.fixture(scope="module")
def isolation() -> Iterator[Sandbox]:
    """Processes that the faults may end."""
    with Sandbox() as processes:
        yield processes


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("reads_behind_its_weight", "reads memory behind its weight; where"),
        ("reads_before_its_input", "reads memory before its input; where"),
        ("reads_a_row_behind_its_input", "reads memory behind its input; where"),
        ("writes_behind_its_bias", "writes memory behind its bias; where"),
        (
            "reads_behind_the_incoming_gradient",
            "reads memory behind the incoming gradient while it computes gradients; where",
        ),
        ("reads_behind_its_array", "reads memory behind its weight; where"),
    ],
)
def test_the_operand_and_the_side_are_named(fault: str, message: str, isolation: Sandbox) -> None:
    """The message says whether memory is read or written, on which side and of which operand."""
    subject = IsolatedSubject(isolation, f"tests.faults.bounds:{fault}")
    for line in (LINE, f"{LINE} layout=channels_last", f"{LINE} layout=cropped"):
        verdict = LAW(subject, Case.parse(line))
        assert verdict.status is Status.FAIL
        assert verdict.message.startswith(message)
        assert "SIGSEGV" in verdict.message
        assert attributed(verdict, subject) is verdict


def test_a_crash_without_guards_is_a_crash(isolation: Sandbox) -> None:
    """A call that crashes whatever lies around its operands belongs to the call, and is no access beyond them."""
    subject = IsolatedSubject(isolation, "tests.helpers.hostile:segfault")
    verdict = LAW(subject, Case.parse(LINE))
    assert verdict.status is Status.CRASH
    assert "memory" not in verdict.message
    assert attributed(verdict, subject).case.law == "forward-exact"


def test_a_wrong_result_is_a_failure_too(isolation: Sandbox) -> None:
    """Results of guarded operands are judged as usual; what is wrong without guards belongs to the call alone."""
    for fault, law in (
        ("indexing:flips_kernel", "forward-exact"),
        ("gradients:doubles_weight_gradient_alone", "gradients-exact"),
    ):
        subject = IsolatedSubject(isolation, f"tests.faults.{fault}")
        verdict = LAW(subject, Case.parse(LINE))
        assert verdict.status is Status.FAIL
        assert verdict.index is not None
        assert attributed(verdict, subject).case.law == law


def test_it_needs_a_process_and_memory_of_the_cpu(isolation: Sandbox) -> None:
    """In this process an access would end the judge, and other devices have no such pages: both are not run."""
    inline = LAW(resolve("tests.faults.bounds:reads_behind_its_weight"), Case.parse(LINE))
    assert (inline.status, "separate process" in inline.message) == (Status.UNSUPPORTED, True)
    elsewhere = LAW(IsolatedSubject(isolation, "tests.helpers.hostile:correct"), Case.parse(f"{LINE} device=cuda"))
    assert (elsewhere.status, "not of cuda" in elsewhere.message) == (Status.UNSUPPORTED, True)


@pytest.mark.parametrize("path", ["numpy", "toeplitz", *CORRECT], ids=lambda path: path.rpartition(":")[2])
def test_correct_implementations_stay_in_bounds(path: str, isolation: Sandbox) -> None:
    """Unusual but correct implementations pass with guarded operands."""
    subject = IsolatedSubject(isolation, path)
    for dtype in ("float32", "int64"):
        result = search(LAW, subject, dtype=dtype, examples=share(LAW, 15))
        assert result.status is Status.PASS, result.message


# A direct convolution of contiguous operands without padding, dilation and groups. It loads each tap one iteration
# ahead, and so one element behind its weight in the last one.
_KERNEL = """
void conv2d(const float *x, const float *weight, float *y, const long *shape) {
    const long n = shape[0], c = shape[1], h = shape[2], w = shape[3], o = shape[4], k = shape[5], l = shape[6];
    const long rows = h - k + 1, columns = w - l + 1;
    for (long i = 0; i < n * o * rows * columns; i++) {
        const long image = i / (o * rows * columns), out = i / (rows * columns) % o;
        const long row = i / columns % rows, column = i % columns;
        const volatile float *tap = weight + out * c * k * l;
        float sum = 0, next = *tap;
        for (long j = 0; j < c * k * l; j++) {
            const float value = next;
            if (AHEAD || j + 1 < c * k * l)
                next = *++tap;
            sum += value * x[((image * c + j / (k * l)) * h + row + j / l % k) * w + column + j % l];
        }
        y[i] = sum;
    }
}
"""
_MODULE = """
import ctypes
import torch

library = ctypes.CDLL({library!r})


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    plain = (stride, padding, dilation, groups) == ((1, 1), (0, 0), (1, 1), 1)
    if bias is not None or x.ndim == 3 or x.dtype != torch.float32 or not plain or x.requires_grad:
        raise NotImplementedError
    x, weight = x.contiguous(), weight.contiguous()
    size = [a - b + 1 for a, b in zip(x.shape[2:], weight.shape[2:])]
    y = torch.empty(len(x), len(weight), *size)
    shape = (ctypes.c_long * 7)(*x.shape, len(weight), *weight.shape[2:])
    library.conv2d(*(ctypes.c_void_p(t.data_ptr()) for t in (x, weight, y)), shape)
    return y
"""


@pytest.mark.parametrize(("ahead", "status"), [(1, Status.FAIL), (0, Status.PASS)])
def test_a_compiled_kernel_that_reads_ahead_is_found(
    ahead: int, status: Status, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel in C whose last load lies behind its weight fails only this law; without that load it passes."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler (cc, gcc or clang) is on the path")
    name = f"kernel_ahead_{ahead}"
    source, library = tmp_path / f"{name}.c", tmp_path / f"lib{name}.so"
    source.write_text(_KERNEL, encoding="ascii")
    command = [compiler, "-O1", "-shared", "-fPIC", f"-DAHEAD={ahead}", str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    (tmp_path / f"{name}.py").write_text(_MODULE.format(library=str(library)), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    case = Case.parse("input=2x3x4x5 weight=2x3x2x3")
    with Sandbox() as isolation:  # the processes of the fixture may have started with another path
        subject = IsolatedSubject(isolation, f"{name}:conv2d")
        for law in (LAWS["forward-exact"], LAWS["contract"]):
            verdict = law(subject, case)
            assert verdict.status is Status.PASS, verdict.message
        verdict = LAW(subject, case)
    assert verdict.status is status
    assert verdict.message.startswith("reads memory behind its weight") == bool(ahead)
