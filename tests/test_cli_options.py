"""The sources of the command line's options, and the files that a run leaves."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest

import toeplitz_core
from tests.helpers.command_line import call, process, unfolded
from toeplitz_core.testing.run import session
from toeplitz_core.testing.run.options import OPTIONS
from toeplitz_core.testing.run.rounds import tasks

TABLE = """
[tool.toeplitz_core]
subject = "toeplitz"
profile = "nightly"
seed = 1
examples = 3
dtype = ["float32", "float64"]
law = "forward-bound"
device = "cpu"
known = "listed/known.toml"
"""
ONE = "input=1x1x1x1 weight=1x1x1x1 law=forward-exact"
KNOWN = """
[[failure]]
name = "{}"
subject = "torch"
law = "forward-exact"
condition = "groups > 1"
example = "input=1x2x1x1 weight=2x1x1x1 groups=2"
reason = "It is so."
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a table and lists of known failures."""
    (tmp_path / "pyproject.toml").write_text(TABLE, encoding="utf-8")
    (tmp_path / "listed").mkdir()
    for name in ("known", "more"):
        (tmp_path / "listed" / f"{name}.toml").write_text(KNOWN.format(name), encoding="utf-8")
    monkeypatch.chdir(tmp_path / "listed")
    monkeypatch.delenv("TOEPLITZ_SUBJECT", raising=False)
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return tmp_path


def test_the_table_has_defaults(directory: Path):
    """The table of the project has the defaults, and the header shows the options in effect."""
    result = call("check --inline -v")
    assert result.exit_code == 0, result.output
    assert "subjects toeplitz; laws forward-bound; devices cpu\nprofile nightly: 3 cases per law" in result.output
    assert f"--known {directory / 'listed' / 'known.toml'}; --inline" in result.output
    assert "toeplitz forward-bound float64 cpu: pass, 3 cases" in result.output


def test_time_jobs_and_lists_of_the_table(directory: Path):
    """The table may have ``time``, ``jobs``, ``fail-fast`` and several lists of known failures."""
    more = 'known = ["listed/known.toml", "listed/more.toml"]\ntime = 0.2\nfail-fast = true\n'
    table = TABLE.replace('known = "listed/known.toml"\n', more)
    (directory / "pyproject.toml").write_text(table, encoding="utf-8")
    result = call("check --inline")
    assert result.exit_code == 0, result.output
    lists = ", ".join(str(directory / "listed" / f"{name}.toml") for name in ("known", "more"))
    assert f"--time 0.2; --known {lists}; --fail-fast; --inline\n" in result.output
    assert "--time 0.1; --known" in call("check --time 0.1 --inline").output
    (directory / "pyproject.toml").write_text(f"{table}jobs = 2\n", encoding="utf-8")
    result = call("check --inline")
    assert result.exit_code == 2
    assert "jobs=2 needs separate processes, so it cannot be combined with inline" in unfolded(result.stderr)
    assert call("check --inline --jobs 1").exit_code == 0


def test_the_command_line_wins(monkeypatch: pytest.MonkeyPatch):
    """The command line overrides the environment, and the environment overrides the table."""
    monkeypatch.setenv("TOEPLITZ_SUBJECT", "torch torch-native")
    result = call("check --inline --examples 2 --dtype float16")
    assert result.exit_code == 0, result.output
    assert "subjects torch, torch-native; laws forward-bound; devices cpu\nprofile nightly: 2 cases" in result.output
    assert "float64" not in result.output.partition("Checked against")[0]
    assert "subjects torch-native;" in call("check torch-native --inline --examples 1").output
    assert ", seed 1\n" in result.output
    assert ", seed 0\n" in call("check --inline --examples 1 --seed 0").output


@pytest.mark.parametrize("name", [option.name for option in OPTIONS.values() if option.kind is bool])
def test_a_flag_of_the_table_can_be_switched_off(directory: Path, name: str):
    """``--no-`` before the name of a flag overrides the table."""
    (directory / "pyproject.toml").write_text(f"{TABLE}{name} = true\n", encoding="utf-8")
    assert f"--{name}" in call("check --examples 1 --dtype float32").output
    result = call(f"check --no-{name} --examples 1 --dtype float32")
    assert result.exit_code == 0, result.output
    assert f"--{name}" not in result.output


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("check --examples 0", "examples=0 must be a whole number >= 1"),
        ("check --seed -1", "seed=-1 must be a whole number >= 0"),
        ("check --jobs -1", "jobs=-1 must be a whole number >= 0"),
        ("check --time 0", "time=0.0 must be a number from 0.1 to 1e+09"),
        ("check --sweep 9", "sweep=9 must be a whole number from 1 to 8"),
        (f"replay '{ONE}' --timeout 0.01", "timeout=0.01 must be a number from 0.1 to 1e+06"),
        (f"replay '{ONE}' --runs 0", "runs=0 must be a whole number >= 1"),
    ],
)
def test_a_number_out_of_range_is_named(command: str, said: str):
    """A number out of range ends the command with 2; the error has the option, its value and the rule."""
    result = call(command)
    assert result.exit_code == 2
    assert said in unfolded(result.stderr)


def test_no_subject_anywhere(directory: Path):
    """If no subject is named anywhere, the error says how to name one."""
    (directory / "pyproject.toml").unlink()
    result = call("check --inline")
    assert result.exit_code == 2
    for said in ("no subject: name one", "check package.module:callable", "TOEPLITZ_SUBJECT", "[tool.toeplitz_core]"):
        assert said in unfolded(result.stderr)


def test_a_wrong_table_is_a_usage_error(directory: Path):
    """An unknown key ends check with 2; commands that do not read the table still work."""
    (directory / "pyproject.toml").write_text('[tool.toeplitz_core]\nprofil = "gate"\n', encoding="utf-8")
    result = call("check torch")
    assert result.exit_code == 2
    assert "did you mean 'profile'?" in unfolded(result.stderr)
    assert call("laws").exit_code == 0


def test_several_lists_of_known_failures():
    """``--known`` may be repeated; two entries with one name are an error, the same file twice is not."""
    line = "check torch --inline --known known.toml"
    result = call(f"{line} --known more.toml")
    assert result.exit_code == 0, result.output
    assert "--known known.toml, more.toml" in result.output
    assert "--known known.toml; --inline" in call(f"{line} --known known.toml").output
    Path("copy.toml").write_text(KNOWN.format("known"), encoding="utf-8")
    result = call(f"{line} --known copy.toml")
    assert result.exit_code == 2
    assert "name='known' must be the name of one entry only" in unfolded(result.stderr)


def test_by_which_arithmetic_is_said():
    """After the table, a remark names each arithmetic, with the subjects and dtypes that were judged by it."""
    result = call("check torch toeplitz --inline --dtype float64 --dtype float16")
    assert result.exit_code == 0, result.output
    assert "judged by: sums in float64 (torch float64; toeplitz float64), sums in float32," in result.output
    assert "rounded to float16 (torch float16; toeplitz float16)" in result.output


def test_time_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run with a time prints the time, the number of rounds, and what was not run."""
    moments = itertools.count()  # a clock that advances by one second with every reading
    monkeypatch.setattr(session, "tasks", partial(tasks, clock=lambda: float(next(moments))))
    result = call("check torch --inline --time 0.1 --json run.json")
    assert result.exit_code == 0, result.output
    assert "\n--time 0.1; --known" in result.output
    assert "time: 0 rounds in 0.1 s, each with its own seed" in result.output
    assert "not run: 1 of 2 (each law with each dtype): the time budget was spent" in result.output
    said = (tmp_path / "listed" / "run.json").read_text(encoding="utf-8")
    assert '"rounds": 0' in said
    assert '"message": "the time budget was spent"' in said
    assert '"ended": "completed"' in said


def test_a_sweep_takes_nothing_from_the_table():
    """A sweep ignores options of a search in the table."""
    result = call("check --sweep 1 --inline --dtype float32 --verbose")
    assert result.exit_code == 0, result.output
    assert "devices cpu\nsweep: all 17 convolutions up to 1 step from the smallest, in the subject's" in result.output
    assert "toeplitz forward-bound float32 cpu: pass, 17 cases" in result.output
    assert "seed" not in result.output
    assert "profile" not in result.output


def test_a_journal_is_no_table(directory: Path):
    """A resumed run ignores the table, and refuses other options as a usage error."""
    result = call("check --resume none.jsonl --seed 1")
    assert result.exit_code == 2
    assert "resume=none.jsonl uses the options of the journal, so it cannot be combined with seed" in unfolded(
        result.stderr
    )
    (directory / "none.jsonl").write_text("{}\n", encoding="utf-8")
    result = call("check --resume ../none.jsonl")
    assert result.exit_code == 2
    assert "../none.jsonl:1: not a line of a journal: key 'event' is missing" in unfolded(result.stderr)


def test_a_run_leaves_nothing_where_it_was_started(tmp_path: Path):
    """A run leaves no file in the working directory and no temporary file."""
    (empty := tmp_path / "empty").mkdir()
    temporary = tmp_path / "temporary"
    checkout = str(Path(toeplitz_core.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": checkout, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    command = "-m toeplitz_core check torch --profile smoke --device cpu --dtype float32 --examples 20"
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=empty, env=environment, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert f"\njournal: {temporary / 'toeplitz-core-run-'}" in done.stdout, done.stderr
    assert list(empty.iterdir()) == list(temporary.iterdir()) == []


WITHOUT_TORCH = """
import sys
from toeplitz_core.testing import cli
sys.argv[1:] = {words!r}
try:
    cli.main()
finally:
    print({{"torch", "hypothesis", "rich"}} & set(sys.modules), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "completed", "printed"),
    [
        (["--help"], None, "Commands:"),
        (["--version"], None, toeplitz_core.__version__),
        (["check", "--help"], None, "--fail-fast"),
        ([], "toeplitz-core check --fail-", "--fail-fast"),
    ],
)
def test_help_and_completions_need_no_torch(words: list[str], completed: str | None, printed: str):
    """Help texts, the version and completions come at once, because they import neither torch nor Hypothesis."""
    asked = {} if completed is None else {"COMP_WORDS": completed, "COMP_CWORD": "2"}
    asked |= {} if completed is None else {"_TOEPLITZ_CORE_COMPLETE": "complete_bash"}
    done = process("-c", WITHOUT_TORCH.format(words=words), **asked)
    assert printed in done.stdout
    assert done.stderr.strip() == "set()"
