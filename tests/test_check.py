"""``toeplitz_core.testing.check``, the command as a Python function."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.helpers.paths import CHECKOUT
from toeplitz_core import testing
from toeplitz_core.testing import check
from toeplitz_core.testing.isolation.isolated_subject import SubjectError
from toeplitz_core.testing.laws.verdict import Status
from toeplitz_core.testing.run.exit_code import ExitCode
from toeplitz_core.testing.run.pyproject import VARIABLE
from toeplitz_core.testing.run.record import Record
from toeplitz_core.testing.subjects import Subject, TorchSubject

KERNELS = """
import os
from toeplitz_core import conv2d

def elsewhere(*args):
    if os.environ.get("HERE") == str(os.getpid()):
        raise RuntimeError("in the process of the tests")
    return conv2d(*args)
"""
# One small search.
FEW = {"law": "forward-exact", "dtype": "float32", "device": "cpu", "examples": 3}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with an implementation, and no subject in the environment."""
    (tmp_path / "mine.py").write_text(KERNELS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # of journals
    yield tmp_path
    sys.modules.pop("mine", None)  # what was run in this process


def ended(record: Record) -> list[tuple[str, str, str, str, int]]:
    """Subject, law, dtype, status and number of cases of each step."""
    return [(r.subject, r.law, r.dtype, r.status.value, r.cases) for r in record.results]


def local(function: Callable[..., torch.Tensor] = torch.conv2d) -> Callable[..., torch.Tensor]:
    """A local function, which no other process can import."""

    def conv2d(*args: torch.Tensor) -> torch.Tensor:
        return function(*args)

    return conv2d


def wrong(*args: torch.Tensor) -> torch.Tensor:
    """A convolution that is off by one."""
    return torch.conv2d(*args) + 1


def test_no_module_has_the_name_of_a_door():
    """No module has the name of a public function, because importing it would replace the function."""
    assert set(testing.__all__) == {"assert_conv2d", "check", "parametrize_with_laws"}
    for name in testing.__all__:
        assert find_spec(f"{testing.__name__}.{name}") is None
        assert callable(getattr(testing, name))


def test_the_record_says_what_came_of_it():
    """The record has results, exit code, options with the seed, and how the run ended."""
    record = check(local(), **FEW, quiet=True)
    assert ended(record) == [("conv2d", "forward-exact", "float32", "pass", 3)]
    assert (record.exit_code, record.ended, record.error) == (0, "completed", "")
    assert [record.options[key] for key in ("subjects", "examples", "seed")] == [["conv2d"], 3, 0]


def test_a_failure_is_in_the_record():
    """A failure is in the record with its smallest case, and the exit code is that of the command."""
    record = check(wrong, **FEW, quiet=True, inline=True)
    (found,) = record.results
    assert (record.exit_code, found.status) == (1, Status.FAIL)
    assert found.failure is not None
    assert str(found.failure.case) == "input=1x1x1x1 weight=1x1x1x1 law=forward-exact"


def test_what_can_be_a_subject():
    """Names, callables and Subjects are accepted, also several; duplicates are dropped."""
    subject: Subject = TorchSubject("mine", torch.conv2d)
    record = check(["toeplitz", subject, local(), local(), "toeplitz"], **FEW, quiet=True)
    assert [result.subject for result in record.results] == ["toeplitz", "mine", "conv2d", "conv2d-2"]
    assert record.exit_code == 0


def test_what_another_process_can_import_runs_in_a_worker(monkeypatch: pytest.MonkeyPatch):
    """An importable function runs in a worker; a local function, and any with ``inline``, runs in this process."""
    import mine

    monkeypatch.setenv("HERE", str(os.getpid()))
    assert ended(check(mine.elsewhere, **FEW, quiet=True)) == [
        ("mine:elsewhere", "forward-exact", "float32", "pass", 3)
    ]
    assert check(mine.elsewhere, **FEW, quiet=True, inline=True).exit_code == 1
    assert check(local(mine.elsewhere), **FEW, quiet=True).exit_code == 1


def test_what_is_not_said_is_in_the_table(directory: Path, monkeypatch: pytest.MonkeyPatch):
    """Arguments, also 0 and False, override the environment, which overrides pyproject.toml."""
    table = 'subject = "toeplitz"\nlaw = "forward-bound"\ndtype = "float64"\ndevice = "cpu"\n'
    table += "seed = 4\nexamples = 2\nfail-fast = true\n"
    (directory / "pyproject.toml").write_text(f"[tool.toeplitz_core]\n{table}", encoding="utf-8")
    record = check(quiet=True, inline=True)
    assert ended(record) == [("toeplitz", "forward-bound", "float64", "pass", 2)]
    assert (record.options["seed"], record.options["fail_fast"]) == (4, True)
    record = check(quiet=True, inline=True, laws=["forward-exact"], seed=0, fail_fast=False)
    assert ended(record) == [("toeplitz", "forward-exact", "float64", "pass", 2)]
    assert (record.options["seed"], record.options["fail_fast"]) == (0, False)
    monkeypatch.setenv(VARIABLE, "naive")
    assert [result.subject for result in check(quiet=True, inline=True).results] == ["naive"]
    assert [result.subject for result in check("torch", quiet=True, inline=True).results] == ["torch"]


def test_it_prints_unless_it_is_quiet(capsys: pytest.CaptureFixture[str], directory: Path):
    """``check`` prints what the command prints; with ``quiet`` it prints nothing but still writes its reports."""
    check("toeplitz", **FEW, inline=True)
    printed = capsys.readouterr()
    assert "seed 0\n" in printed.out
    assert "3 cases; 1 of 1 hold" in printed.out
    check("toeplitz", **FEW, inline=True, quiet=True, json=directory / "run.json", junit="run.xml")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")
    assert json.loads((directory / "run.json").read_text(encoding="utf-8"))["options"]["seed"] == 0
    assert (directory / "run.xml").is_file()
    check("toeplitz", **FEW, inline=True, json="-")
    printed = capsys.readouterr()
    assert json.loads(printed.out)["summary"]["exit_code"] == 0
    assert "3 cases; 1 of 1 hold" in printed.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"subject": "trch"}, r"no subject 'trch'; did you mean 'torch'\?"),
        ({"subject": ()}, "no subject: name one"),
        ({"subject": None}, "no subject: name one"),
        ({"subject": 5}, "subject=5 must be a callable, a Subject, a name, or a sequence of them"),
        ({"subjects": "naive"}, "the first argument and 'subjects' are the same option: give only one of them"),
        ({"known": Path("nowhere.toml")}, "nowhere.toml: "),
        ({"json": "a", "junit": "./a"}, "junit='./a' is also the file of json: each needs its own"),
        ({"exampels": 3}, r"unknown option 'exampels'; did you mean 'examples'\? legal: subject, law, dtype"),
        ({"law": "forward-exat"}, r"law='forward-exat' is unknown; did you mean 'forward-exact'\?"),
        ({"law": "matrix", "laws": "matrix"}, "'laws' and 'law' are the same option: give only one of them"),
        ({"laws": []}, r"law=\[\] must be a string or a list of strings"),
        ({"fail_fast": 1}, "fail-fast=1 must be true or false"),
        ({"seed": -1}, "seed=-1 must be a whole number >= 0"),
        ({"known": "nowhere.toml"}, "nowhere.toml: "),
        ({"json": "nowhere/run.json"}, "'nowhere/run.json' must be in a directory that exists"),
        ({"law": "forward-bound", "dtype": "int64"}, "nothing to check: forward-bound: not for int64"),
        ({"resume": "nowhere.jsonl"}, "nowhere.jsonl: "),
        (
            {"resume": "nowhere.jsonl", "subject": None, "seed": 3},
            "resume=nowhere.jsonl uses the options of the journal, so it cannot be combined with seed",
        ),
    ],
)
def test_a_wrong_value_is_an_error(options: dict[str, object], said: str):
    """A wrong value is an error before anything runs, with the option, its value and the rule."""
    given = {"subject": None if "resume" in options else "torch"} | options
    with pytest.raises(ValueError, match=f"^{said}"):
        check(**given, quiet=True)


def test_a_script_runs_once(directory: Path):
    """Judges in processes of their own do not run the script again that asks for them."""
    (directory / "script.py").write_text(
        "import mine\nfrom toeplitz_core.testing import check\nprint('once')\n"
        f"print(check(mine.elsewhere, jobs=2, quiet=True, **{FEW}).ended)\n",
        encoding="utf-8",
    )
    variables = os.environ | {"PYTHONPATH": str(CHECKOUT), "TMPDIR": str(directory), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "script.py"], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["once", "completed"]
    assert not list(directory.glob("toeplitz-core-run-*"))


def test_an_interrupt_while_a_subject_is_imported(directory: Path):
    """An interrupt before the first case ends the run like a later one: the report is written, and nothing proven."""
    (directory / "mine.py").write_text("raise KeyboardInterrupt", encoding="utf-8")
    record = check("mine:elsewhere", **FEW, quiet=True, inline=True, json="run.json")
    assert (record.exit_code, record.ended) == (ExitCode.INTERRUPTED, "interrupted")
    assert json.loads((directory / "run.json").read_text(encoding="utf-8"))["summary"]["exit_code"] == 130


def test_a_subject_that_cannot_be_imported_is_an_error():
    """A subject that cannot be imported is an error, not a failure of a law."""
    with pytest.raises(SubjectError, match="mine has no 'elsehwere'; nearest: elsewhere"):
        check("mine:elsehwere", **FEW, quiet=True)


def test_a_run_goes_on_from_its_journal(capsys: pytest.CaptureFixture[str]):
    """A resumed run repeats no step, and its options, also a seed of 0, are those of the journal."""
    calls = []

    def impatient(*args: torch.Tensor) -> torch.Tensor:
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return torch.conv2d(*args)

    import mine

    mine.impatient = impatient
    more = {"profile": "nightly", "seed": 0, "inline": True}
    record = check("mine:impatient", **(FEW | {"dtype": ["float32", "float64"]}), **more)
    assert (record.exit_code, record.ended, len(record.results)) == (130, "interrupted", 1)
    journal = capsys.readouterr().out.rpartition("--resume ")[2].strip()
    rest = check(resume=journal, quiet=True)
    assert (rest.exit_code, len(calls)) == (0, 4 + 3)
    assert [result.dtype for result in rest.results] == ["float32", "float64"]
    assert rest.options["seed"] == 0
