"""The table of pyproject.toml and the environment variable: who wins, and what is said of a mistake."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from toeplitz_core.testing.run.configuration import VARIABLE, read_table
from toeplitz_core.testing.run.options import KEYS, default_subjects


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, which is the working directory, and no environment variable."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


def write(directory: Path, table: str) -> None:
    """A pyproject.toml with these lines in the table."""
    (directory / "pyproject.toml").write_text(f"[tool.toeplitz_core]\n{table}\n", encoding="utf-8")


def test_every_key_is_read(project: Path):
    """Names become tuples, a path is the file's neighbour, and no key is without a test."""
    write(
        project,
        'subject = "m:f"\nlaw = ["a", "b", "a"]\nprofile = "smoke"\nexamples = 3\nseed = 0\ndevice = ["cpu"]\n'
        'dtype = "float32"\ntime = 60\njobs = 0\ntimeout = 2\nknown = ["lists/known.toml", "/more.toml"]\n'
        "fail-fast = true\nfail-stale = true\ninline = false",
    )
    table = read_table(project)
    assert table == {
        "subject": ("m:f",),
        "law": ("a", "b"),
        "profile": "smoke",
        "examples": 3,
        "seed": 0,
        "device": ("cpu",),
        "dtype": ("float32",),
        "time": 60.0,
        "jobs": 0,
        "timeout": 2.0,
        "known": (str(project.resolve() / "lists" / "known.toml"), "/more.toml"),
        "fail-fast": True,
        "fail-stale": True,
        "inline": False,
    }
    assert table.keys() == KEYS.keys()


def test_the_nearest_file_is_the_one(project: Path):
    """A file further up counts where there is none below it, and not where there is one, even without a table."""
    write(project, 'profile = "smoke"\nknown = "known.toml"')
    inner = project / "a" / "b"
    inner.mkdir(parents=True)
    assert read_table(inner) == {"profile": "smoke", "known": (str(project.resolve() / "known.toml"),)}
    (inner / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    assert read_table(inner) == {}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("exmaples = 3", "unknown key 'exmaples'; did you mean 'examples'? Legal: subject, law, "),
        ("qqq = 3", "unknown key 'qqq'; Legal: subject, law, "),
        ("sweep = 3", "unknown key 'sweep'; "),
        ("examples = 0", "examples=0 must be a whole number >= 1"),
        ("examples = true", "examples=True must be a whole number >= 1"),
        ('examples = "3"', "examples='3' must be a whole number >= 1"),
        ("seed = -1", "seed=-1 must be a whole number >= 0"),
        ("seed = 1.5", "seed=1.5 must be a whole number >= 0"),
        ("timeout = 0.01", "timeout=0.01 must be a number from 0.1 to 1e+06"),
        ("timeout = 1e7", "timeout=10000000.0 must be a number from 0.1 to 1e+06"),
        ("timeout = nan", "timeout=nan must be a number from 0.1 to 1e+06"),
        ("timeout = true", "timeout=True must be a number from 0.1 to 1e+06"),
        ('timeout = "2"', "timeout='2' must be a number from 0.1 to 1e+06"),
        ("time = 0", "time=0 must be a number from 0.1 to 1e+09"),
        ("time = inf", "time=inf must be a number from 0.1 to 1e+09"),
        ("jobs = -1", "jobs=-1 must be a whole number >= 0"),
        ("jobs = 1.5", "jobs=1.5 must be a whole number >= 0"),
        ('fail-fast = "yes"', "fail-fast='yes' must be true or false"),
        ("fail_fast = true", "unknown key 'fail_fast'; did you mean 'fail-fast'? Legal: "),
        ("subject = 3", "subject=3 must be a string or a list of strings, none of them empty"),
        ('dtype = ["float32", 3]', "dtype=['float32', 3] must be a string or a list of strings, none of them empty"),
        ("law = []", "law=[] must be a string or a list of strings, none of them empty"),
        ('device = [""]', "device=[''] must be a string or a list of strings, none of them empty"),
        ("known = []", "known=[] must be a string or a list of strings, none of them empty"),
        ('known = ["a", 1]', "known=['a', 1] must be a string or a list of strings, none of them empty"),
        ('profile = ""', "profile='' must be a string that is not empty"),
        ("inline = 1", "inline=1 must be true or false"),
    ],
)
def test_a_mistake_is_named(project: Path, table: str, said: str):
    """An unknown key gets the nearest one, and a wrong value the rule; each with the file."""
    write(project, table)
    start = f"{project.resolve() / 'pyproject.toml'}: [tool.toeplitz_core]: {said}"
    with pytest.raises(ValueError, match=f"^{re.escape(start)}"):
        read_table(project)


def test_a_table_that_is_none(project: Path):
    """A value in the table's place, and a file that is no TOML, are errors with the file."""
    (project / "pyproject.toml").write_text("tool.toeplitz_core = 3\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"pyproject\.toml: \[tool\.toeplitz_core\]: 3 must be a table$"):
        read_table(project)
    (project / "pyproject.toml").write_text("[tool\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"pyproject\.toml: Expected"):
        read_table(project)


def test_no_table(project: Path):
    """A file that has none, or another tool, says nothing."""
    for text in ("", "tool = 3", "[tool.other]\nexmaples = 3"):
        (project / "pyproject.toml").write_text(text, encoding="utf-8")
        assert read_table(project) == {}
        assert default_subjects() == ()


def test_the_variable_wins_over_the_table(project: Path, monkeypatch: pytest.MonkeyPatch):
    """Subjects come from the variable, separated by commas or blanks; from the table where it is empty."""
    write(project, 'subject = ["a:b", "c:d"]')
    assert default_subjects() == ("a:b", "c:d")
    for value in (" ", ",", ""):
        monkeypatch.setenv(VARIABLE, value)
        assert default_subjects() == ("a:b", "c:d")
    for value in ("torch,m:f", "torch m:f", " torch,  m:f,torch\n"):
        monkeypatch.setenv(VARIABLE, value)
        assert default_subjects() == ("torch", "m:f")


def test_another_directory(project: Path, monkeypatch: pytest.MonkeyPatch):
    """The table is that of the directory that is given."""
    inner = project / "inner"
    inner.mkdir()
    write(inner, 'subject = "m:f"')
    assert default_subjects() == ()
    assert default_subjects(inner) == ("m:f",)
    write(inner, "subject = 3")
    monkeypatch.setenv(VARIABLE, "torch")
    assert default_subjects(inner) == ("torch",)
