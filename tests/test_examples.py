"""The kernels in ``examples/``: each passes, and is found out with its faulty line."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import CHECKOUT
from toeplitz_core.testing import check
from toeplitz_core.testing.laws.verdict import Status

EXAMPLES = CHECKOUT / "examples"
# A right line after a comment with a faulty one.
FAULT = re.compile(r"^( *)(?:#|//) wrong: (.*)\n.*$", re.MULTILINE)
# The file with the fault, the law that finds it, and the dtypes that the kernel supports. The README has the causes.
FLOATS = ("float64", "float32", "float16", "bfloat16")
KERNELS = {
    "wrapper": ("wrapper.py", "forward-exact", (*FLOATS, "complex64", "int64")),
    "autograd_function": ("autograd_function.py", "gradients-exact", FLOATS),
    "double_inside": ("double_inside.py", "forward-exact", FLOATS),
    "unfold": ("unfold.py", "forward-exact", (*FLOATS, "complex64")),
    "c_kernel": ("conv.c", "forward-exact", ("float32",)),
    "triton_kernel": ("triton_kernel.py", "forward-exact", ("float32",)),
}


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> str:
    """The name of each example. Those that cannot run here are skipped as not run."""
    name: str = request.param
    if name == "triton_kernel" and importlib.util.find_spec("triton") is None:
        pytest.skip("not run: triton is not installed")
    if name == "c_kernel" and shutil.which("cc") is None:
        pytest.skip("not run: there is no C compiler")
    return name


def test_every_example_is_tested():
    """Each file of the folder with a kernel is in the table, and has one faulty line."""
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(KERNELS)
    for file, _, _ in KERNELS.values():
        assert len(FAULT.findall((EXAMPLES / file).read_text(encoding="utf-8"))) == 1, file


def test_examples_pass(kernel: str):
    """An example passes where it is right, in each of its dtypes."""
    _, law, dtypes = KERNELS[kernel]
    laws = ["forward-exact", "no-channels", "stride", *{law} - {"forward-exact"}]
    options = {"law": laws, "dtype": dtypes, "device": "cpu", "examples": 8, "inline": True, "quiet": True}
    record = check(f"examples.{kernel}:conv2d", **options)
    assert record.exit_code == 0, [result.failure for result in record.results if result.failure]
    assert {result.status for result in record.results} <= {Status.PASS, Status.SHARED, Status.UNSUPPORTED}
    passed = [result.status is Status.PASS for result in record.results if result.law == "forward-exact"]
    assert passed == [True] * len(dtypes)


def test_examples_are_found_out(kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With its faulty line, an example breaks a law. Its findings have the causes that the README names."""
    file, law, dtypes = KERNELS[kernel]
    for path in EXAMPLES.glob("*.[cp]*"):
        shutil.copy(path, tmp_path)
    source = tmp_path / file
    source.write_text(FAULT.sub(r"\1\2", source.read_text(encoding="utf-8")), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, kernel, raising=False)
    conv2d = importlib.import_module(kernel).conv2d
    monkeypatch.delitem(sys.modules, kernel)
    record = check(conv2d, law=law, dtype=dtypes[0], device="cpu", inline=True, quiet=True)
    assert record.exit_code == 1
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    (cell,) = re.findall(rf"^\| `{kernel}\.py`.*\|(.*)\|$", readme, re.MULTILINE)
    if kernel != "triton_kernel":  # it reads what memory holds: in this process, that is rarely changed
        assert [finding.cause for finding in record.findings] == re.findall("`([\\w-]+)`", cell)
