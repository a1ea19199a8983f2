"""The command line: its output, its exit codes, and that printed commands can be run."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

import toeplitz_core
from tests.helpers.paths import CHECKOUT
from tests.helpers.workers import share_fork_servers
from toeplitz_core.testing import cli
from toeplitz_core.testing.case.case import Case
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.result import Result as Found
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.run import judgement
from toeplitz_core.testing.run.pyproject import VARIABLE
from toeplitz_core.testing.search.search import find
from toeplitz_core.testing.subjects import SUBJECTS

ONE = "input=1x1x1x1 weight=1x1x1x1"
TWO_LAWS = "--law forward-exact --law forward-bound"

# A user's implementations, in a file outside of the repository.
KERNELS = '''
import sys
import torch
from toeplitz_core import conv2d

def right(*args):
    return conv2d(*args)

def no_groups(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    """Takes the first group for all of them."""
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    return y.zero_() if groups > 1 else y

def refuses(*args):
    raise NotImplementedError("some day")

def only_float32(x, *args):
    if x.dtype != torch.float32:
        raise NotImplementedError(f"{x.dtype}")
    return conv2d(x, *args)

def colours(*args):
    raise RuntimeError("\\x1b[31mred\\x1b[0m \\u2297 [bold]not markup[/bold] stride[1]")

def leaves(*args):
    sys.exit(0)

def interrupts(*args):
    raise KeyboardInterrupt

class Namespace:
    conv = staticmethod(conv2d)

number = 3
'''


@pytest.fixture(autouse=True)
def one_fork_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process share one fork server, keep their journals here, and get no subject from the environment."""
    share_fork_servers(monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a file of implementations."""
    (tmp_path / "kernels.py").write_text(KERNELS, encoding="utf-8")
    (tmp_path / "unfinished.py").write_text("def conv2d(:\n", encoding="utf-8")
    (tmp_path / "needy.py").write_text("import no_such_package_of_mine\n", encoding="utf-8")
    (tmp_path / "leaving.py").write_text("raise SystemExit(0)\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def call(line: str) -> Result:
    """Run the command line in this process, on a narrow terminal, so that folded lines show."""
    return CliRunner().invoke(cli.app, shlex.split(line), prog_name="toeplitz-core", env={"COLUMNS": "60"})


def process(*command: str, directory: Path = CHECKOUT, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a new process, with the package of the checkout."""
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(
        [sys.executable, *command], cwd=directory, env=environment, capture_output=True, encoding="utf-8", check=False
    )


def replayed(output: str) -> str:
    """The replay command that a failure printed, without ``python -m toeplitz_core``."""
    found = re.search(r"^  replay: python -m toeplitz_core (.*)$", output, flags=re.MULTILINE)
    assert found, output
    return found[1]


def test_version():
    """``--version`` prints the program and its version."""
    result = call("--version")
    assert (result.exit_code, result.output) == (0, f"toeplitz-core {toeplitz_core.__version__}\n")


def test_check_torch():
    """A run prints what was checked, the number of cases, the largest error, and what was not run."""
    result = call(
        f"check torch --inline --profile smoke --examples 4 --seed 1 --dtype float32 --dtype int64 {TWO_LAWS}"
    )
    assert result.exit_code == 0, result.output
    for said in (
        f"toeplitz-core {toeplitz_core.__version__}, torch {torch.__version__}",
        "subjects torch; laws forward-exact, forward-bound; devices cpu, cuda; profile smoke: 4 cases",
        "cases per law and dtype, seed 1",
        "Checked against T x + b",
        "largest error in units of the bound",
        "torch forward-exact float32 cpu: pass, 4 cases",
        "12 cases; 3 of 3 hold" if not torch.cuda.is_available() else "24 cases; 6 of 6 hold",
        "not run: layout channels_last: not run inline, because torch on a CPU can crash",
        "not run: layout channel_slice: ",
    ):
        assert said in result.output, said
    if not torch.cuda.is_available():
        assert "not run: torch on cuda: torch sees no CUDA device" in result.output
    rows = [line.split() for line in result.output.splitlines() if line.startswith(" forward-")]
    assert [(row[0], row[-2]) for row in rows] == [("forward-exact", "8"), ("forward-bound", "4")]
    assert rows[0][1:3] == ["exact", "exact"]
    assert 0 < float(rows[1][1]) <= 1


def test_check_runs_every_dtype_of_every_law(monkeypatch: pytest.MonkeyPatch):
    """Without options every law is searched for every dtype to which it applies."""
    monkeypatch.setattr(
        judgement, "find", lambda *_, tally, **__: Found(tally.step, Status.PASS, Counter({Status.PASS: 1}))
    )
    result = call("check toeplitz --device cpu --inline")
    assert result.exit_code == 0, result.output
    for law in LAWS.values():
        for dtype in law.dtypes:
            checked = f"toeplitz {law.name} {dtype} cpu: " in result.output
            assert checked == (law.procedure != "transposed")  # which toeplitz does not support
    assert set(CASE_DTYPES) == set(LAWS["forward-exact"].dtypes)


def test_failure_can_be_replayed(kernels: Path):
    """A failing implementation ends the run with 1, and its printed replay command fails again."""
    result = call(f"check kernels:no_groups --dtype float32 --device cpu {TWO_LAWS}")
    assert result.exit_code == 1, result.output
    assert "FAIL kernels:no_groups, forward-exact: out[" in result.output
    assert "  case:   input=1x2x1x1 weight=2x1x1x1 groups=2" in result.output
    assert "0 of 2 hold" in result.output
    assert "Falsifying" not in result.output
    line = replayed(result.output)
    assert line.endswith('law=forward-exact" --subject kernels:no_groups')
    again = call(f"{line} --runs 2")
    assert again.exit_code == 1
    assert replayed(again.output) == line
    assert call(f"{line} --runs 2".replace("no_groups", "right")).exit_code == 0
    # Also in a separate process, in the directory of the file.
    again = process("-m", "toeplitz_core", *shlex.split(line), "--inline", directory=kernels)
    assert again.returncode == 1
    assert replayed(again.stdout) == line


def test_what_a_failing_subject_prints_is_shown(kernels: Path):
    """The last lines that a subject wrote before a crash or a wrong result are printed with the failure."""
    (kernels / "talks.py").write_text(
        "import os, torch\n"
        "def wrong(x, weight, *rest):\n"
        "    print(*range(6), 'its last words', sep='\\n')\n"
        "    return torch.nn.functional.conv2d(x, weight, *rest) + 1\n"
        "def dead(*args):\n"
        "    os.write(2, b'not enough workspace\\n')\n"
        "    os.abort()\n"
    )
    found = call('replay "input=1x1x3x3 weight=1x1x1x1 law=forward-exact" --subject talks:wrong --runs 1')
    said = [line.partition("printed: ")[2] for line in found.output.splitlines() if "printed: " in line]
    assert said == ["2", "3", "4", "5", "its last words"]
    found = call('replay "input=1x1x3x3 weight=1x1x1x1 law=forward-exact" --subject talks:dead --runs 1')
    assert "  printed: not enough workspace" in found.output


@pytest.fixture(scope="module")
def run_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, object]]:
    """The output and the report of a separate process, on a terminal with ASCII only."""
    directory = tmp_path_factory.mktemp("elsewhere")
    (directory / "kernels.py").write_text(KERNELS, encoding="utf-8")
    variables = {"PYTHONHASHSEED": "1", "PYTHONIOENCODING": "ascii", "TERM": "xterm-256color"}
    done = process("-m", "toeplitz_core", *GATE.split(), directory=directory, **variables)
    assert done.returncode == 1, done.stderr
    return done.stdout + done.stderr, json.loads((directory / "run.json").read_text(encoding="utf-8"))


GATE = (
    "check kernels:no_groups kernels:colours --law forward-exact --dtype float32 --device cpu --inline --json run.json"
)


def test_gate_finds_the_same_case_in_every_process(kernels: Path, run_elsewhere: tuple[str, dict[str, object]]):
    """The result of the gate does not depend on the hash seed or on earlier runs."""
    assert call(GATE).exit_code == 1
    here = json.loads((kernels / "run.json").read_text(encoding="utf-8"))
    assert here["results"] == run_elsewhere[1]["results"]
    assert [result["status"] for result in here["results"]] == ["fail", "fail"]


def test_no_control_characters(run_elsewhere: tuple[str, dict[str, object]]):
    """Output to a file has no control characters; those of a subject's message are escaped."""
    printed = run_elsewhere[0]
    assert all(character.isprintable() or character == "\n" for character in printed)
    assert r"raised RuntimeError: \x1b[31mred\x1b[0m \u2297 [bold]not markup[/bold] stride[1]" in printed


def test_check_goes_on_after_a_failure(kernels: Path):  # noqa: ARG001  # the working directory
    """After a failure the other subjects are still checked, unless ``--fail-fast`` is given."""
    line = "check kernels:colours kernels:right --dtype float32 --device cpu --law forward-exact --examples 30"
    result = call(line)
    assert result.exit_code == 1
    assert "kernels:right forward-exact float32 cpu: pass, 30 cases" in result.output
    assert "1 of 2 hold" in result.output
    result = call(f"{line} --fail-fast")
    assert result.exit_code == 1
    assert "kernels:right forward-exact" not in result.output
    assert "not run: 1 of 2 (each law with each dtype): stopped at the first failure" in result.output


def test_nested_name(kernels: Path):  # noqa: ARG001  # the working directory
    """A callable in a class or submodule is named with dots."""
    result = call("check kernels:Namespace.conv --dtype float32 --device cpu --law forward-exact --examples 2")
    assert result.exit_code == 0, result.output


def test_leaving_is_a_failure(kernels: Path):  # noqa: ARG001  # the working directory
    """An implementation that calls ``sys.exit(0)`` fails, and does not end the run."""
    result = call(f"check kernels:leaves --dtype float32 --device cpu --examples 2 {TWO_LAWS}")
    assert result.exit_code == 1
    assert "raised SystemExit: 0" in result.output


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("check torhc", ["no subject 'torhc'", "did you mean 'torch'?", "package.module:callable"]),
        ("check kernels.right", ["did you mean 'kernels:right'?"]),
        ("check kernles:right", ["cannot import kernles", "No module named 'kernles'; nearest: kernels"]),
        ("check torch --dtype fp32", ["dtype='fp32' is unknown; did you mean 'float32'?", "bfloat16"]),
        ("check torch --dtype half", ["did you mean 'float16'?"]),
        ("check kernels", ["'kernels' is a module", "did you mean 'kernels:conv2d'?", "package.module:callable"]),
        ("check unfinished:conv2d", ["cannot import unfinished", "SyntaxError"]),
        ("check needy:conv2d", ["cannot import needy", "no_such_package_of_mine"]),
        ("check leaving:conv2d", ["cannot import leaving", "SystemExit"]),
        ("check kernels:rigth", ["kernels has no 'rigth'", "nearest: right"]),
        ("check kernels:number", ["must be a callable or a Subject, not int"]),
        ("check :conv2d", ["':conv2d' must be module:callable, but has no module"]),
        (
            "check torch --law forward-exakt",
            ["law='forward-exakt' is unknown; did you mean 'forward-exact'? legal: forward-exact, forward-bound"],
        ),
        ("check torch --dtype float31", ["dtype='float31' is unknown; did you mean 'float32'?", "bfloat16"]),
        ("check torch --profile gaet", ["profile='gaet' is unknown; did you mean 'gate'? legal: smoke, gate, nightly"]),
        ("check torch --device gpu", ["device=gpu", "cpu, cuda, cuda:1"]),
        ("check torch --examples 0", ["examples=0 must be"]),
        ("check torch --seed -1", ["seed=-1 must be"]),
        ("check torch --sweep 0", ["sweep=0 must be a whole number from 1 to 8"]),
        ("check torch --sweep 9", ["sweep=9 must be a whole number from 1 to 8"]),
        ("check torch --law forward-bound --dtype int64", ["nothing to check: forward-bound: not for int64"]),
        ("check torch --sweep 1 --law errors", ["nothing to check: errors: it is checked on calls"]),
        (
            "check torch --sweep 2 --examples 5",
            ["sweep=2 checks every convolution, so it cannot be combined with examples"],
        ),
        ("check torch --sweep 2 --seed 5", ["sweep=2 checks every convolution, so it cannot be combined with seed"]),
        ("check torch --sweep 2 --time 5", ["sweep=2 checks every convolution, so it cannot be combined with time"]),
        (
            "check torch --sweep 2 --profile gate",
            ["sweep=2 checks every convolution, so it cannot be combined with profile"],
        ),
        (
            "check torch --sweep 2 --write-known k.toml",
            ["sweep=2 does not shrink failures, so it cannot be combined with write-known"],
        ),
        ("check torch --exampels 3", ["--exampels", "--examples"]),
        ("check", ["subject"]),
        ("chekc torch", ["chekc", "check"]),
        (f"replay '{ONE} strid=2'", ["word 3 'strid=2'", "did you mean 'stride'?"]),
        (f"replay '{ONE} stride=0'", ["stride[0]=0 must be >= 1"]),
        (f"replay '{ONE} law=forward-exakt'", ["law=forward-exakt", "did you mean 'forward-exact'?"]),
        (f"replay '{ONE}' --subject torhc", ["did you mean 'torch'?"]),
    ],
)
def test_usage_errors(kernels: Path, line: str, said: list[str]):  # noqa: ARG001  # the working directory
    """A wrong word ends the command with 2 before anything runs, and the error suggests a correction."""
    result = call(line)
    assert result.exit_code == 2, result.output
    for part in said:
        assert part in result.output


@pytest.mark.skipif(torch.cuda.is_available(), reason="not run: there is a CUDA device")
def test_required_device_is_absent():
    """A missing device that was named ends the run with 3, even if all laws hold elsewhere."""
    result = call(f"check torch --device cpu --device cuda --dtype float32 --examples 2 {TWO_LAWS}")
    assert result.exit_code == 3
    assert "torch forward-exact float32 cpu: pass" in result.output
    assert "not run: torch on cuda: torch sees no CUDA device" in result.output
    result = call(f"check torch --device cuda --dtype float32 --examples 2 {TWO_LAWS}")
    assert result.exit_code == 3
    assert "0 cases" in result.output


def test_nothing_proven(kernels: Path):  # noqa: ARG001  # the working directory
    """If a subject refuses every case, nothing is proven: 3. A subject that refuses one dtype can pass."""
    result = call(f"check kernels:refuses --dtype float32 --device cpu --examples 5 {TWO_LAWS}")
    assert result.exit_code == 3
    assert "0 of 0 hold" in result.output
    assert "unsupported: kernels:refuses on cpu: forward-exact, forward-bound, float32: NotImpl" in result.output
    result = call(f"check kernels:only_float32 --dtype float32 --dtype float64 --device cpu --examples 5 {TWO_LAWS}")
    assert result.exit_code == 0
    assert "2 of 2 hold" in result.output
    assert "unsupported: kernels:only_float32 on cpu: forward-exact, forward-bound, float64: Not" in result.output
    assert call(f"check kernels:only_float32 --dtype float32 --device cpu --examples 5 {TWO_LAWS}").exit_code == 0


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (f"replay '{ONE}' --runs 1 --inline", 0, "PASS torch, forward-exact"),
        (f"replay '{ONE} data=normal bias' --runs 1 --inline", 0, "of the bound"),
        (f"replay '{ONE} law=forward-bound'", 3, "UNSUPPORTED torch, forward-bound: forward-bound is not for"),
        (f"replay '{ONE} dtype=int64 data=normal law=forward-bound'", 3, "UNSUPPORTED"),
        (f"replay '{ONE} law=forward-exact' --subject kernels:right --runs 1", 0, "PASS kernels:right"),
        (
            f"replay '{ONE} law=forward-exact' --subject kernels:refuses --runs 1",
            3,
            "UNSUPPORTED kernels:refuses, forward-exact: NotImpl",
        ),
        (
            f"replay '{ONE} law=forward-exact' --subject kernels:leaves --runs 1",
            1,
            "FAIL kernels:leaves, forward-exact: raised SystemExit: 0",
        ),
        (f"replay '{ONE} device=cuda:77'", 3, "not run: torch on cuda:77: torch sees "),
    ],
)
def test_replay(kernels: Path, line: str, code: int, said: str):  # noqa: ARG001  # the working directory
    """``replay`` ends with 0 if the case passes, 1 if it fails, 3 if it is unsupported or its device is missing."""
    result = call(line)
    assert result.exit_code == code, result.output
    assert said in result.output


def test_replay_of_a_mistrusted_case(monkeypatch: pytest.MonkeyPatch):
    """The replay of a mistrusted case ends with 3."""
    law = LAWS["forward-exact"]
    doubtful = replace(law, check=lambda _, case: Verdict(Status.MISTRUSTED, case))
    monkeypatch.setitem(LAWS, law.name, doubtful)
    result = call(f"replay '{ONE} law=forward-exact' --runs 1")
    assert result.exit_code == 3
    assert "MISTRUSTED torch" in result.output


def test_laws():
    """``laws`` lists each law with its statement."""
    result = call("laws")
    assert result.exit_code == 0
    assert result.output.splitlines() == [f"{law.name}: {law.statement}" for law in LAWS.values()]


def test_interrupted(monkeypatch: pytest.MonkeyPatch):
    """Ctrl-C ends a run with 130; earlier results and the command that resumes the run are printed."""
    searches = []

    def interrupted(*args: object, **options: object) -> Found:
        searches.append(args)
        if len(searches) == 2:
            raise KeyboardInterrupt
        return find(*args, **options)

    monkeypatch.setattr(judgement, "find", interrupted)
    result = call(f"check torch --inline --dtype float32 --dtype float64 --device cpu --examples 3 {TWO_LAWS}")
    assert result.exit_code == 130
    assert "torch forward-exact float32 cpu: pass, 3 cases" in result.output
    assert "3 cases; 1 of 1 hold" in result.output
    assert "not run: 3 of 4 (each law with each dtype): interrupted" in result.output
    line = re.search("^to resume this run: python -m toeplitz_core (check --resume .*)$", result.output, re.MULTILINE)
    assert line is not None
    rest = call(line[1])
    assert rest.exit_code == 0, rest.output
    assert "12 cases; 4 of 4 hold" in rest.output
    assert len(searches) == 5


def test_interrupted_while_shrinking(monkeypatch: pytest.MonkeyPatch):
    """A failure that was not yet shrunk at Ctrl-C is printed with its case."""
    cases = []

    def interrupted(_: object, case: Case) -> Verdict:
        cases.append(case)
        if len(cases) == 2:
            raise KeyboardInterrupt
        return Verdict(Status.FAIL, case, "out[0]=1, but should be 2")

    law = LAWS["forward-exact"]
    monkeypatch.setitem(LAWS, law.name, replace(law, check=interrupted))
    result = call("check torch --inline --device cpu")
    assert result.exit_code == 130
    assert result.output.count("FAIL torch, forward-exact: out[0]=1, but should be 2 (not shrunk to the end)") == 1
    assert replayed(result.output).startswith(f'replay "{cases[0]}"')
    assert "0 of 1 hold" in result.output


def test_interrupt_in_replay(kernels: Path):  # noqa: ARG001  # the working directory
    """Ctrl-C in ``replay`` ends with 130 too."""
    result = call(f"replay '{ONE}' --subject kernels:interrupts --inline")
    assert result.exit_code == 130
    assert "interrupted after 0 cases" in result.output


def test_interrupt_by_a_subject_is_its_failure(kernels: Path):  # noqa: ARG001  # the working directory
    """A KeyboardInterrupt that a subject raises is its failure, and not the user's Ctrl-C."""
    result = call(f"replay '{ONE} law=forward-exact' --runs 2 --subject kernels:interrupts")
    assert result.exit_code == 1
    assert "FAIL kernels:interrupts, forward-exact: raised KeyboardInterrupt\n" in result.output


def test_subjects():
    """``subjects`` lists each subject, and says how to name others."""
    lines = call("subjects").output.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == list(SUBJECTS)
    assert lines[-1].startswith("package.module:callable")


def test_error_of_our_own(monkeypatch: pytest.MonkeyPatch):
    """A law that raises ends the run with 4; earlier results are printed, and the error is said to be ours."""

    def broken(_: object, case: Case) -> Verdict:
        if case.dtype == "float64":
            raise ZeroDivisionError("a bug in a law")
        return Verdict(Status.FAIL, case, "as planned")

    law = LAWS["forward-exact"]
    monkeypatch.setitem(LAWS, law.name, replace(law, check=broken))
    result = call("check torch --law forward-exact --dtype float32 --dtype float64 --device cpu")
    assert result.exit_code == 4
    assert "FAIL torch, forward-exact: as planned" in result.output
    assert "0 of 1 hold" in result.output
    assert "not run: 1 of 2 (each law with each dtype): an error of toeplitz-core" in result.output
    for said in ("ZeroDivisionError: a bug in a law", "LawError: law forward-exact could not judge subject torch on"):
        assert said in result.stderr
    assert "This is an error of toeplitz-core, not of the subject" in result.stderr


def test_error_of_our_own_in_replay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """An unexpected exception in any command ends the program with 4, and the error is said to be ours."""

    def broken(*_: object) -> Verdict:
        raise ZeroDivisionError("a bug in a law")

    law = LAWS["forward-exact"]
    monkeypatch.setitem(LAWS, law.name, replace(law, check=broken))
    monkeypatch.setattr(sys, "argv", ["toeplitz-core", "replay", ONE])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 4
    printed = capsys.readouterr().err
    assert "ZeroDivisionError: a bug in a law" in printed
    assert "This is an error of toeplitz-core" in printed


def test_module_is_the_command():
    """``python -m toeplitz_core`` works from a checkout that is not installed."""
    result = process("-m", "toeplitz_core", "--version", PYTHONPATH="")
    assert (result.returncode, result.stdout) == (0, f"toeplitz-core {toeplitz_core.__version__}\n")


WITHOUT = """
import runpy, sys
import torch

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
for package in ("typer", "rich", "hypothesis"):
    for name in list(sys.modules):
        if name.partition(".")[0] in ("toeplitz_core", "typer", "rich", "hypothesis"):
            del sys.modules[name]
    try:
        runpy.run_module("toeplitz_core", run_name="__main__")
    except SystemExit as error:
        print(error)
"""


def test_package_of_the_extra_is_missing():
    """Without a package of the extra, the command line says in one line how to install it."""
    result = process("-c", WITHOUT)
    assert result.stdout.splitlines() == [
        f"The command line needs {package}: python -m pip install 'toeplitz-core[testing]'"
        for package in ("typer", "rich", "hypothesis")
    ], result.stderr
