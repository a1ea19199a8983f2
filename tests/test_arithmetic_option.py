"""``--arithmetic``: through every driver, in workers and judge processes, in reports, and refused where it must be."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.command_line import call, replayed
from toeplitz_core.bound import Arithmetic
from toeplitz_core.testing import check, parametrize_with_laws, plugin
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.decorator import LawTest
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.oracle.arithmetics import ARITHMETICS
from toeplitz_core.testing.subjects import ArraySubject, Subject, TorchSubject
from toeplitz_core.testing.subjects.declared import Declared

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("own_journals", "own_command_line")

KERNELS = """
import torch
from torch.nn.functional import conv2d
from toeplitz_core.testing.subjects import ArraySubject, TorchSubject

def rounds(x, w, *rest):
    x, w = ((t.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32) for t in (x, w))
    return conv2d(x, w, *rest)

wrapped = TorchSubject("wrapped", rounds)
declared = TorchSubject("declared", rounds, arithmetic=lambda case: None)
"""
FEW = "--dtype float32 --device cpu --law forward-exact --law forward-bound --examples 10"
LINE = "input=1x1x1x1 weight=1x1x1x1 data=normal law=forward-bound"


@pytest.fixture(autouse=True)
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a kernel that rounds its operands to TF32."""
    (tmp_path / "tf32_kernels.py").write_text(KERNELS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


@pytest.mark.parametrize(
    ("name", "more"), [("rounds", ""), ("rounds", "--inline"), ("rounds", "--jobs 2"), ("wrapped", "--inline")]
)
def test_a_kernel_is_judged_by_the_arithmetic_that_is_chosen(name: str, more: str):
    """A TF32 kernel fails, and passes with ``--arithmetic tf32``: in a worker, inline, and in several processes."""
    subject = f"tf32_kernels:{name}"
    assert call(f"check {subject} {FEW} --arithmetic float32=tf32 {more}").exit_code == 0
    if more != "--jobs 2":
        result = call(f"check {subject} {FEW} --arithmetic flush {more}")
        assert result.exit_code == 1
        assert "(within the bound of --arithmetic tf32)" in result.output


def test_reports_have_the_arithmetic(kernels: Path):
    """The header and the JSON have the option, and the replay command repeats it for the dtype of the case."""
    words = "--arithmetic flush --arithmetic bfloat16=bfloat16-accumulator"
    result = call(f"check tf32_kernels:rounds {FEW} --inline {words} --json {kernels / 'run.json'}")
    assert "--arithmetic flush, bfloat16=bfloat16-accumulator" in result.output
    command = replayed(result.output)
    assert command.endswith("--subject tf32_kernels:rounds --arithmetic flush")
    assert call(f"{command} --inline").exit_code == 1
    document = json.loads((kernels / "run.json").read_text(encoding="utf-8"))
    assert document["options"]["arithmetic"] == ["flush", "bfloat16=bfloat16-accumulator"]
    assert all(found["arithmetic"] == ["flush"] for found in document["results"])
    assert all(found["replay"].endswith("--arithmetic flush") for found in document["results"])


def test_replay_takes_the_arithmetic(kernels: Path):
    """``replay`` judges by the arithmetic of its option, or of the project's table."""
    command = f'replay "{LINE}" --subject tf32_kernels:rounds --inline'
    assert [call(f"{command} {more}").exit_code for more in ("", "--arithmetic tf32")] == [1, 0]
    (kernels / "pyproject.toml").write_text('[tool.toeplitz_core]\narithmetic = "tf32"\n', encoding="utf-8")
    assert [call(f"{command} {more}").exit_code for more in ("", "--arithmetic strict")] == [0, 1]


def test_python_has_the_option():
    """``check()`` and the decorator take it; a local function, which runs in this process, is judged by it too."""
    import tf32_kernels

    few = {"dtypes": ["float32"], "devices": ["cpu"], "laws": ["forward-bound"], "examples": 5}

    def local(*args: torch.Tensor) -> torch.Tensor:
        return tf32_kernels.rounds(*args)

    subject = TorchSubject("mine", local)
    for one in (local, subject):
        assert check(one, **few, quiet=True).exit_code == 1
        assert check(one, **few, quiet=True, arithmetic="tf32").exit_code == 0
        assert check(one, **few, quiet=True).exit_code == 1  # an object keeps nothing of an earlier run
    mark = parametrize_with_laws(local, **few, arithmetic=["tf32"])
    law = mark.args[1][0].values[0]
    assert isinstance(law, LawTest)
    assert law.session.result(law.step).status is Status.PASS


@pytest.mark.parametrize("command", ["check {}", f'replay "{LINE}" --subject {{}}'])
@pytest.mark.parametrize(
    ("subject", "said"),
    [
        ("torch", "but 'torch' is registered and declares its own"),
        ("naive", "but 'naive' is registered and declares its own"),
        ("torch.nn.functional:conv2d", "but 'torch.nn.functional:conv2d' declares its own"),
        ("tf32_kernels:declared", "but 'tf32_kernels:declared' declares its own"),
    ],
)
def test_a_declaration_is_not_overridden(command: str, subject: str, said: str):
    """A registered subject, and one that declares its arithmetic, is refused with exit code 2."""
    result = call(f"{command.format(subject)} --arithmetic tf32")
    assert result.exit_code == 2
    assert f"arithmetic=tf32 is for subjects that declare none, {said}" in " ".join(result.stderr.split())


def test_what_declares_its_arithmetic():
    """A subject declares it by an argument, or by a method of its class."""

    class Own(Subject):
        name = "own"

        def arithmetic(self, case: Case) -> Arithmetic:
            return Arithmetic.of_dtype(case.torch_dtype)

        def forward(self, case: Case, operands: object) -> torch.Tensor:
            raise NotImplementedError

    declares = {"arithmetic": lambda case: Arithmetic.of_dtype(case.torch_dtype)}
    for kind, function in ((TorchSubject, torch.conv2d), (ArraySubject, print)):
        assert not kind("plain", function).declares_arithmetic
        assert kind("declared", function, **declares).declares_arithmetic
    assert Own().declares_arithmetic
    with pytest.raises(ValueError, match="'own' declares its own"):
        Own().declare(Declared(arithmetic=("tf32",)))


def test_pytest_takes_the_option_for_decorated_tests(pytester: pytest.Pytester):
    """Without a subject, the suite of the plugin checks torch, which declares its own; the option is no error then."""
    load = ("-p", "toeplitz_core.testing.plugin", "-p", "no:cacheprovider")
    config = pytester.parseconfigure(*load, "--arithmetic", "tf32")
    assert config.stash[plugin.SESSION].options.arithmetic == ()
    config = pytester.parseconfigure(*load, "--arithmetic", "tf32", "--subject", "tf32_kernels:rounds")
    assert config.stash[plugin.SESSION].options.arithmetic == ("tf32",)
    with pytest.raises(pytest.UsageError, match="arithmetic='tf33' is unknown"):
        pytester.parseconfigure(*load, "--arithmetic", "tf33")


def test_the_list_has_every_name():
    """``toeplitz-core arithmetics`` lists each name, its dtypes and a sentence."""
    lines = call("arithmetics").output.splitlines()
    assert [line.partition(",")[0] for line in lines] == list(ARITHMETICS)
    assert all(line.endswith(entry.statement) for line, entry in zip(lines, ARITHMETICS.values(), strict=True))
