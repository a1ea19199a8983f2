"""Kernels without gradients: forward only, unless they are declared differentiable or have gradients elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from tests.helpers.command_line import call
from toeplitz_core.testing import check
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.subjects import TorchSubject
from toeplitz_core.testing.subjects.declared import Declared
from toeplitz_core.testing.subjects.pytorch.derivatives import DERIVATIVES

Function = Callable[..., torch.Tensor]
LINE = "input=2x3x5x6 weight=4x3x2x3"
OF_DERIVATIVES = [name for name, law in LAWS.items() if law.procedure in DERIVATIVES]


def plain(t: torch.Tensor) -> torch.Tensor:
    """The values alone, as a library in C sees them: without a graph and without tangents."""
    return torch.autograd.forward_ad.unpack_dual(t.detach()).primal


def in_c(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, *rest: Any) -> torch.Tensor:
    """A kernel outside of torch, with a result detached from autograd."""
    return torch.nn.functional.conv2d(plain(x), plain(w), None if b is None else plain(b), *rest)


def torch_adds_the_bias(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, *rest: Any) -> torch.Tensor:
    """A kernel in C that refuses operands which require gradients. torch adds the bias, and with it its tangent."""
    if any(t is not None and t.requires_grad for t in (x, w, b)):
        raise NotImplementedError("no gradients")
    y = in_c(x, w, None, *rest)
    return y if b is None else y + b[:, None, None]


def as_numpy(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, *rest: Any) -> torch.Tensor:
    """A kernel on NumPy arrays, which torch refuses to make of tensors that require gradients."""
    for t in (x, w):
        t.numpy()
    return in_c(x, w, b, *rest)


def detached_in(**where: str) -> Function:
    """A convolution whose results are detached in one dtype."""

    def some(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        y = torch.nn.functional.conv2d(x, *rest)
        return y.detach() if x.dtype == getattr(torch, where["dtype"]) else y

    return some


def judged(function: Function, law: str, dtype: str = "float32", differentiable: bool | None = None) -> Verdict:
    """The verdict on one case."""
    data = "normal" if law == "gradients-bound" else "integers"
    subject = TorchSubject("own", function, differentiable=differentiable)
    return LAWS[law](subject, Case.parse(f"{LINE} bias data={data} dtype={dtype}"))


@pytest.mark.parametrize("law", OF_DERIVATIVES)
@pytest.mark.parametrize("function", [in_c, torch_adds_the_bias, as_numpy])
def test_a_kernel_without_gradients_is_forward_only(function: Function, law: str) -> None:
    """A kernel that is always detached, or refuses operands with gradients, is forward only, also in forward mode."""
    verdict = judged(function, law)
    assert (verdict.status, verdict.message[:14]) == (Status.UNSUPPORTED, "forward only: "), verdict.message
    wanted = {
        in_c: "its result is not attached to autograd, so it has no gradients",
        torch_adds_the_bias: "if an operand requires a gradient, it raises NotImplementedError: no gradients",
        as_numpy: "if an operand requires a gradient, it raises RuntimeError: Can't call numpy() on Tensor that",
    }
    assert verdict.message[14:].startswith(wanted[function])


@pytest.mark.parametrize("law", OF_DERIVATIVES)
@pytest.mark.parametrize("function", [in_c, torch_adds_the_bias, as_numpy])
def test_differentiable_makes_it_a_failure(function: Function, law: str) -> None:
    """If gradients or tangents were declared, a kernel without them fails the laws of derivatives."""
    assert judged(function, law, differentiable=True).status is Status.FAIL


def test_a_case_that_the_kernel_refuses_stays_unsupported() -> None:
    """A refusal that has nothing to do with gradients is unsupported, even if gradients were declared."""

    def no_stride(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, *rest: Any) -> torch.Tensor:
        if rest[0] != (1, 1):
            raise NotImplementedError("stride")
        return torch_adds_the_bias(x, w, b, *rest)

    subject = TorchSubject("own", no_stride, differentiable=True)
    verdict = LAWS["gradients-exact"](subject, Case.parse(f"{LINE} stride=2"))
    assert (verdict.status, verdict.message) == (Status.UNSUPPORTED, "NotImplementedError: stride")


@pytest.mark.parametrize("law", [name for name in OF_DERIVATIVES if name != "forward-mode"])
def test_detached_in_some_dtypes_is_a_failure(law: str) -> None:
    """A result that is detached in one dtype and attached in another is a failure in the first one only."""
    function = detached_in(dtype="float16")
    verdict = judged(function, law, "float16")
    assert (verdict.status, verdict.message) == (
        Status.FAIL,
        "its result is not attached to autograd, so it has no gradients, unlike with dtype=float64",
    )
    assert judged(function, law, "float32").status is Status.PASS


def test_tangents_in_some_dtypes_only_are_a_failure() -> None:
    """A result that has a tangent in one dtype and none in another is a failure too."""

    def some(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | None, *rest: Any) -> torch.Tensor:
        y = torch.nn.functional.conv2d(x, w, b, *rest)
        return torch.autograd.forward_ad.unpack_dual(y).primal if x.dtype == torch.float64 else y

    verdict = judged(some, "forward-mode", "float64")
    assert (verdict.status, verdict.message) == (
        Status.FAIL,
        "its result has no forward-mode derivative along its input and weight and bias, unlike with dtype=float32",
    )
    assert judged(some, "forward-mode", "float32").status is Status.PASS


@pytest.mark.parametrize("by", ["claims", "run"])
def test_dtypes_that_nobody_asked_for_are_not_called(by: str) -> None:
    """Only dtypes that the subject claims and the run asks for are tried, since a kernel may not check its dtype."""
    called = set()

    def some(x: torch.Tensor, *rest: Any) -> torch.Tensor:
        called.add(x.dtype)
        return torch.nn.functional.conv2d(x, *rest).detach()

    subject = TorchSubject("own", some, dtypes=("float16", "float32") if by == "claims" else None)
    subject.declared = Declared(dtypes=("float16", "float32") if by == "run" else ())
    verdict = LAWS["gradients-exact"](subject, Case.parse(f"{LINE} dtype=float16"))
    assert verdict.status is Status.UNSUPPORTED
    assert called == {torch.float16, torch.float32}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with kernels."""
    (tmp_path / "without.py").write_text(
        "import torch\n\ndef detached(*args):\n    with torch.no_grad():\n        return torch.conv2d(*args)\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def unfolded(result: Result) -> str:
    """The output of a command with its lines joined."""
    return " ".join(result.output.split())


@pytest.mark.usefixtures("directory")
def test_check_says_it_in_one_line() -> None:
    """Check has one line for all laws and dtypes of a kernel that is forward only, and passes it."""
    line = "check without:detached --dtype float32 --dtype float64 --examples 5"
    result = call(f"{line} --law forward-exact --law gradients-exact --law double-backward --law vmap")
    assert result.exit_code == 0, result.output
    reason = "its result is not attached to autograd, so it has no gradients"
    more = "3 laws of derivatives not checked (--differentiable makes this a failure)"
    assert unfolded(result).count("autograd") == 1
    assert f" forward only: {reason}; {more} " in unfolded(result)


def test_check_names_the_dtypes_without_gradients(directory: Path) -> None:
    """If a kernel has gradients in some dtypes, the line names those without. A refused dtype does not count."""
    (directory / "half.py").write_text(
        "import torch\n\ndef refuses(x, *rest, other=()):\n"
        "    if x.dtype in other:\n        raise NotImplementedError('no')\n"
        "    if x.dtype == torch.float16 and x.requires_grad:\n        raise NotImplementedError('half')\n"
        "    return torch.conv2d(x, *rest)\n\n"
        "def alone(*args):\n    return refuses(*args, other=[torch.float32])\n",
        encoding="utf-8",
    )
    more = "--dtype float32 --dtype float16 --examples 5 --law gradients-exact --law double-backward --inline"
    reason = "if an operand requires a gradient, it raises NotImplementedError: half; 2 laws of"
    assert f" forward only: float16: {reason} " in unfolded(call(f"check half:refuses {more}"))
    assert f" forward only: {reason} " in unfolded(call(f"check half:alone {more}"))


@pytest.mark.usefixtures("directory")
def test_the_option_makes_it_a_failure() -> None:
    """``--differentiable`` reaches workers and inline subjects, from check, replay and the table."""
    line = "check without:detached --dtype float32 --examples 5 --law gradients-exact --differentiable"
    result = call(line)
    assert result.exit_code == 1
    assert "; --differentiable" not in result.output
    assert re.search("^--differentiable$", result.output, flags=re.MULTILINE)
    message = "its result is not attached to autograd, so it has no gradients. It was declared differentiable case: "
    assert f"wrong: {message}" in unfolded(result)
    assert call(f"{line} --inline").exit_code == 1
    replayed = f"replay '{LINE} law=gradients-exact' --subject without:detached --inline"
    assert call(replayed).exit_code == 3
    assert call(f"{replayed} --differentiable").exit_code == 1
    Path("pyproject.toml").write_text("[tool.toeplitz_core]\ndifferentiable = true\n", encoding="utf-8")
    assert call(replayed).exit_code == 1
    assert call(f"{replayed} --no-differentiable").exit_code == 3


def test_python_says_it_too() -> None:
    """``check(differentiable=True)`` declares a function that only this process has."""

    def local(*args: Any) -> torch.Tensor:
        return torch.conv2d(*args).detach()

    options: dict[str, Any] = {"law": "gradients-exact", "dtype": "float32", "device": "cpu", "examples": 5}
    assert check(local, quiet=True, **options).results[0].status is Status.UNSUPPORTED
    assert check(local, quiet=True, differentiable=True, **options).results[0].status is Status.FAIL
