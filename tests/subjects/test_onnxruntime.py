"""ONNX Runtime as a subject: it passes every law on what it supports, and refuses the rest with a reason."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest

from tests.helpers.running import Bench
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.data.recipes import draw
from toeplitz_core.testing.isolation.isolated_subject import IsolatedSubject
from toeplitz_core.testing.isolation.sandbox import Sandbox
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.subjects import SUBJECTS, environment, registry
from toeplitz_core.testing.subjects.libraries.onnx_runtime import OnnxRuntimeSubject

NAMES = ("onnxruntime", "onnxruntime-dynamic")
SUPPORTED = ("float32", "float16")
FORWARD = ("forward-exact", "forward-bound", "special-values")
# Cases per law and dtype.
EXAMPLES = 30

absent = SUBJECTS["onnxruntime"].absent
needs_onnxruntime = pytest.mark.skipif(bool(absent), reason=f"not run: {absent}")


@pytest.fixture(params=[True, False], ids=NAMES)
def subject(request: pytest.FixtureRequest) -> OnnxRuntimeSubject:
    """Both variants in this process."""
    return OnnxRuntimeSubject("onnxruntime", constant=request.param)


@needs_onnxruntime
@pytest.mark.parametrize("name", NAMES)
def test_laws_hold(name: str):
    """Every law passes for the supported dtypes."""
    with Sandbox() as isolation:
        bench = Bench(
            [IsolatedSubject(isolation, name, environment(name))],
            [LAWS[name] for name in FORWARD],
            SUPPORTED,
            examples=EXAMPLES,
        )
        results = bench.run().came
    assert {(r.law, r.dtype) for r in results} == {(law, dtype) for law in FORWARD for dtype in SUPPORTED}
    broken = [r for r in results if r.status is not Status.PASS]
    lines = (f"{r.law} {r.dtype}: {r.status} {r.message} {r.failure and r.failure.case}" for r in broken)
    assert not broken, "\n".join(lines)


@needs_onnxruntime
@pytest.mark.parametrize("dtype", [dtype for dtype in CASE_DTYPES if dtype not in SUPPORTED])
def test_unsupported_dtype(dtype: str, subject: OnnxRuntimeSubject):
    """ONNX Runtime itself refuses the dtypes that the subject does not claim, and the message names the others."""
    case = Case.parse(f"input=1x1x2x2 weight=1x1x1x1 dtype={dtype}")
    outcome = subject.run(case, draw(case))
    assert outcome.status == "unsupported"
    assert outcome.message == "supports only float32 and float16"
    with pytest.raises(Exception, match=r"NOT_IMPLEMENTED|INVALID_GRAPH"):
        subject.forward(case, draw(case))


@needs_onnxruntime
@pytest.mark.parametrize(
    "line",
    [
        "input=2x3x9 weight=4x3x3 stride=2 padding=1 bias",
        "input=2x4x9x8 weight=6x2x3x2 stride=2x1 padding=1x2 dilation=1x2 groups=2 bias",
        "input=2x3x5x6x7 weight=4x3x3x2x1 stride=1x2x3 padding=1x2x3 bias",
        "input=3x6x5 weight=2x3x2x4 padding=same dilation=1x2 bias",
        "input=0x3x5x5 weight=2x3x3x3 bias",
        "input=1x0x5x5 weight=2x0x3x3 bias",
        "input=2x2x4x4 weight=3x2x2x2 layout=channels_last layout.bias=sliced bias",
    ],
    ids=["1-D", "2-D", "3-D", "unbatched, unequal padding", "no images", "no channels", "layouts"],
)
@pytest.mark.parametrize("dtype", SUPPORTED)
def test_what_its_definition_allows(line: str, dtype: str, subject: OnnxRuntimeSubject):
    """ONNX Runtime computes 1 to 3 axes, every padding, groups, empty batches and every layout."""
    verdict = LAWS["forward-exact"](subject, Case.parse(f"{line} dtype={dtype}"))
    assert verdict.status in (Status.PASS, Status.MISTRUSTED), verdict.message


@needs_onnxruntime
def test_four_axes_are_unsupported(subject: OnnxRuntimeSubject):
    """Four axes are refused, with a message that names the number."""
    case = Case.parse("input=1x1x1x1x1x1 weight=1x1x1x1x1x1")
    assert "not 4" in subject.run(case, draw(case)).message


@needs_onnxruntime
@pytest.mark.parametrize(("constant", "inputs"), [(True, ["x"]), (False, ["x", "weight", "bias"])])
def test_weight_is_a_constant_or_an_input(
    constant: bool, inputs: list[str], monkeypatch: pytest.MonkeyPatch, subject: OnnxRuntimeSubject
):
    """The variants differ in the inputs of the model."""
    asked: list[list[str]] = []
    load = OnnxRuntimeSubject._session

    def session(self: OnnxRuntimeSubject, *arguments: Any) -> Any:
        loaded = load(self, *arguments)
        asked.append([i.name for i in loaded.get_inputs()])
        return loaded

    monkeypatch.setattr(OnnxRuntimeSubject, "_session", session)
    subject.constant = constant
    case = Case.parse("input=1x2x3x3 weight=2x2x3x3 bias")
    subject.forward(case, draw(case))
    assert asked == [inputs]


@pytest.mark.parametrize("name", NAMES)
def test_missing_package_is_said(name: str, monkeypatch: pytest.MonkeyPatch):
    """Without its packages, the subject gives the command that installs them."""

    def version(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(registry, "version", version)
    wanted = "onnxruntime and onnx are not installed: pip install 'toeplitz-core[onnxruntime]'"
    assert SUBJECTS[name].absent == wanted
