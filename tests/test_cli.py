"""The command line: its output, its exit codes, and that printed commands can be run."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import toeplitz_core
from tests.helpers.command_line import ONE, TWO_LAWS, call, process, replayed, unfolded
from tests.helpers.projects import KERNELS
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.laws.result import Result as Found
from toeplitz_core.testing.laws.verdict import Status, Verdict
from toeplitz_core.testing.run.execution import judgement
from toeplitz_core.testing.subjects import SUBJECTS

pytestmark = pytest.mark.usefixtures("own_journals")


def test_version():
    """``--version`` prints the program and its version."""
    result = call("--version")
    assert (result.exit_code, result.output) == (0, f"toeplitz-core {toeplitz_core.__version__}\n")


def test_check_torch():
    """A run prints what was checked, the number of cases, the largest error, and what was not run."""
    result = call(
        f"check torch --inline --profile smoke --examples 4 --seed 1 -v --dtype float32 --dtype int64 {TWO_LAWS}"
    )
    assert result.exit_code == 0, result.output
    for said in (
        f"toeplitz-core {toeplitz_core.__version__}, torch {torch.__version__}",
        "subjects torch; laws forward-exact, forward-bound; devices cpu, cuda\nprofile smoke: 4 cases",
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
    result = call("check toeplitz --device cpu --inline -v")
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


@pytest.mark.parametrize("flags", ["--differentiable", "--strict", "--differentiable --strict"])
def test_replay_repeats_flags(kernels: Path, flags: str):
    """The printed replay command has the options that decide whether a case fails, also in the JSON and in a replay."""
    run = f"check kernels:no_groups --dtype float32 --device cpu --law forward-exact --inline {flags}"
    line = replayed(call(f"{run} --json {kernels / 'run.json'}").output)
    assert line.endswith(f" --subject kernels:no_groups {flags}")
    assert replayed(call(f"{line} --inline --runs 1").output) == line
    (found,) = json.loads((kernels / "run.json").read_text(encoding="utf-8"))["results"]
    assert found["replay"].endswith(f" --subject kernels:no_groups {flags}")
    assert found["flags"] == flags.split()


def test_what_a_failing_subject_prints_is_shown(kernels: Path):
    """The first and last lines that a subject wrote before a crash or a wrong result are printed with the failure."""
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
    assert said == ["0", "1", "... 3 lines ...", "5", "its last words"]
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
    said = r"raised RuntimeError: \x1b[31mred\x1b[0m \u2297 [bold]not markup[/bold] stride[1]"
    assert said in unfolded(printed)


def test_check_goes_on_after_a_failure(kernels: Path):  # noqa: ARG001  # the working directory
    """After a failure the other subjects are still checked, unless ``--fail-fast`` is given."""
    line = "check kernels:colours kernels:right --dtype float32 --device cpu --law forward-exact --examples 30 -v"
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


@pytest.mark.skipif(torch.cuda.is_available(), reason="not run: there is a CUDA device")
def test_required_device_is_absent():
    """A missing device that was named ends the run with 3, even if all laws hold elsewhere."""
    result = call(f"check torch --device cpu --device cuda --dtype float32 --examples 2 -v {TWO_LAWS}")
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
    assert "unsupported: forward-exact, forward-bound; float32: NotImplementedError: some" in result.output
    result = call(f"check kernels:only_float32 --dtype float32 --dtype float64 --device cpu --examples 5 {TWO_LAWS}")
    assert result.exit_code == 0
    assert "2 of 2 hold" in result.output
    assert "unsupported: forward-exact, forward-bound; float64: NotImplementedError:" in result.output
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


def test_subjects():
    """``subjects`` lists each subject, and says how to name others."""
    lines = call("subjects").output.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == list(SUBJECTS)
    assert lines[-1].startswith("package.module:callable")


def test_module_is_the_command():
    """``python -m toeplitz_core`` works from a checkout that is not installed."""
    result = process("-m", "toeplitz_core", "--version", PYTHONPATH="")
    assert (result.returncode, result.stdout) == (0, f"toeplitz-core {toeplitz_core.__version__}\n")


def test_a_wrong_call_that_several_laws_find_is_printed_once(kernels: Path):  # noqa: ARG001  # the working directory
    """Two laws that find the same wrong call fail, and the call is printed once."""
    result = call("check kernels:no_groups --inline --device cpu --dtype float32 --law forward-exact --law groups")
    assert result.exit_code == 1
    assert "0 of 2 hold" in result.output
    lines = [line for line in result.output.splitlines() if line.startswith("  case: ")]
    assert len(lines) == len(set(lines)) > 0
