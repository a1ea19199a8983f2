"""Options from Python, pyproject.toml and the environment: precedence, and errors for mistakes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from toeplitz_core.testing.case.case import DEVICES
from toeplitz_core.testing.run import pyproject as configuration
from toeplitz_core.testing.run.options import OPTIONS, Options, by_key, merged_options
from toeplitz_core.testing.run.pyproject import VARIABLE, read_table


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project as the working directory, without the environment variable."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


def write(directory: Path, table: str) -> None:
    """Write a pyproject.toml with these lines in the table."""
    (directory / "pyproject.toml").write_text(f"[tool.toeplitz_core]\n{table}\n", encoding="utf-8")


def subjects(directory: Path | None = None) -> tuple[str, ...]:
    """The subjects of the environment and the table."""
    return configuration.project(directory).get("subject", ())


def test_every_key_is_read(project: Path):
    """All keys are read: names become tuples, and paths are relative to the file."""
    write(
        project,
        'subject = "m:f"\nlaw = ["matrix", "adjoint", "matrix"]\nprofile = "smoke"\nexamples = 3\nseed = 0\n'
        'device = ["cpu"]\ndtype = "float32"\narithmetic = ["tf32", "bfloat16=flush"]\n'
        "time = 60\njobs = 0\ntimeout = 2\n"
        'known = ["lists/known.toml", "/more.toml"]\nfail-fast = true\nfail-stale = true\n'
        "strict = true\ninline = false\nverbose = true\n"
        'where = "groups == 1"\nmax-products = 9\nmax-failures = 2\ndifferentiable = true\n'
        'baseline = "base.json"\nmin-judged = 0.5\nexecutor = "a.b:pool"\nmemory = "memory"\n',
    )
    table = read_table(project)
    assert table == {
        "subject": ("m:f",),
        "law": ("matrix", "adjoint"),
        "profile": "smoke",
        "examples": 3,
        "seed": 0,
        "device": ("cpu",),
        "dtype": ("float32",),
        "arithmetic": ("tf32", "bfloat16=flush"),
        "time": 60.0,
        "jobs": 0,
        "timeout": 2.0,
        "known": (str(project.resolve() / "lists" / "known.toml"), "/more.toml"),
        "fail_fast": True,
        "strict": True,
        "verbose": True,
        "fail_stale": True,
        "inline": False,
        "differentiable": True,
        "where": "groups == 1",
        "max_products": 9,
        "max_failures": 2,
        "baseline": str(project.resolve() / "base.json"),
        "min_judged": 0.5,
        "executor": "a.b:pool",
        "memory": (str(project.resolve() / "memory"),),
    }
    assert table.keys() == {option.key for option in OPTIONS.values() if option.in_table}


@pytest.mark.parametrize("name", [option.name for option in OPTIONS.values() if not option.in_table])
def test_what_is_for_one_run_is_not_in_the_table(project: Path, name: str):
    """Options for a single run (output files, a journal, a sweep) are unknown keys in the table."""
    write(project, f"{name} = 1")
    with pytest.raises(ValueError, match=f"unknown key '{name}'; "):
        read_table(project)


def test_the_nearest_file_is_the_one(project: Path):
    """Only the nearest pyproject.toml is read, even if it has no table."""
    write(project, 'profile = "smoke"\nknown = "known.toml"')
    inner = project / "a" / "b"
    inner.mkdir(parents=True)
    assert read_table(inner) == {"profile": "smoke", "known": (str(project.resolve() / "known.toml"),)}
    (inner / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    assert read_table(inner) == {}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("exmaples = 3", "unknown key 'exmaples'; did you mean 'examples'? legal: subject, law, "),
        ("qqq = 3", "unknown key 'qqq'; legal: subject, law, "),
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
        ("fail_fast = true", "unknown key 'fail_fast'; did you mean 'fail-fast'? legal: "),
        ("subject = 3", "subject=3 must be a string or a list of strings, none of them empty"),
        ('dtype = ["float32", 3]', "dtype=['float32', 3] must be a string or a list of strings, none of them empty"),
        ("law = []", "law=[] must be a string or a list of strings, none of them empty"),
        ('device = [""]', "device=[''] must be a string or a list of strings, none of them empty"),
        ("known = []", "known=[] must be a string or a list of strings, none of them empty"),
        ('known = ["a", 1]', "known=['a', 1] must be a string or a list of strings, none of them empty"),
        ('profile = ""', "profile='' must be a string that is not empty"),
        ('profile = "gates"', "profile='gates' is unknown; did you mean 'gate'? legal: smoke, gate, nightly"),
        ('law = "matrixx"', "law='matrixx' is unknown; did you mean 'matrix'? legal: forward-exact, "),
        ('dtype = "half"', "dtype='half' is unknown; did you mean 'float16'? legal: "),
        ('device = "gpu"', "device="),
        ("inline = 1", "inline=1 must be true or false"),
    ],
)
def test_a_mistake_is_named(project: Path, table: str, said: str):
    """An unknown key is an error with the nearest key, a wrong value is an error with the rule; both name the file."""
    write(project, table)
    start = f"{project.resolve() / 'pyproject.toml'}: [tool.toeplitz_core]: {said}"
    with pytest.raises(ValueError, match=f"^{re.escape(start)}"):
        read_table(project)


def test_a_table_that_is_none(project: Path):
    """A table that is not a table, and a file that is not TOML, are errors that name the file."""
    (project / "pyproject.toml").write_text("tool.toeplitz_core = 3\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"pyproject\.toml: \[tool\.toeplitz_core\]: 3 must be a table$"):
        read_table(project)
    (project / "pyproject.toml").write_text("[tool.toeplitz-core]\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"\[tool\.toeplitz-core\] must be spelt \[tool\.toeplitz_core\]"):
        read_table(project)
    (project / "pyproject.toml").write_text("[tool\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"pyproject\.toml: Expected"):
        read_table(project)


def test_no_table(project: Path):
    """A file without the table gives no options."""
    for text in ("", "tool = 3", "[tool.other]\nexmaples = 3"):
        (project / "pyproject.toml").write_text(text, encoding="utf-8")
        assert read_table(project) == {}
        assert subjects() == ()


def test_the_variable_wins_over_the_table(project: Path, monkeypatch: pytest.MonkeyPatch):
    """The variable names subjects, separated by commas or blanks; if it is empty, the table names them."""
    write(project, 'subject = ["a:b", "c:d"]')
    assert subjects() == ("a:b", "c:d")
    for value in (" ", ",", ""):
        monkeypatch.setenv(VARIABLE, value)
        assert subjects() == ("a:b", "c:d")
    for value in ("torch,m:f", "torch m:f", " torch,  m:f,torch\n"):
        monkeypatch.setenv(VARIABLE, value)
        assert subjects() == ("torch", "m:f")


def test_another_directory(project: Path):
    """The table of the given directory is read."""
    inner = project / "inner"
    inner.mkdir()
    write(inner, 'subject = "m:f"')
    assert subjects() == ()
    assert subjects(inner) == ("m:f",)


WRONG = [
    ({"examples": 0}, "examples=0 must be a whole number >= 1"),
    ({"seed": -1}, "seed=-1 must be a whole number >= 0"),
    ({"jobs": True}, "jobs=True must be a whole number >= 0"),
    ({"timeout": 0.05}, "timeout=0.05 must be a number from 0.1 to 1e+06"),
    ({"fail_fast": 1}, "fail-fast=1 must be true or false"),
    ({"law": ("matrix", "matrixx")}, "law='matrixx' is unknown; did you mean 'matrix'? "),
    ({"profile": "nigthly"}, "profile='nigthly' is unknown; did you mean 'nightly'? "),
    ({"fail_stale": True}, "fail-stale needs known=FILE"),
    ({"html": "-"}, "html='-' must be a file"),
    ({"html": "run", "markdown": "run"}, "html='run' is also the file of markdown: each needs its own"),
    ({"inline": True, "jobs": 2}, "jobs=2 needs separate processes, so it cannot be combined with inline"),
    ({"sweep": 2, "seed": 0}, "sweep=2 checks every convolution, so it cannot be combined with seed"),
    ({"sweep": 2, "profile": "gate"}, "sweep=2 checks every convolution, so it cannot be combined with profile"),
    ({"sweep": 2, "examples": 5}, "sweep=2 checks every convolution, so it cannot be combined with examples"),
    ({"sweep": 2, "time": 5}, "sweep=2 checks every convolution, so it cannot be combined with time"),
    (
        {"sweep": 2, "write_known": "k.toml"},
        "sweep=2 does not shrink failures, so it cannot be combined with write-known",
    ),
]


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_wrong_options_are_refused(given: Mapping[str, object], said: str):
    """Values out of range, unknown names and contradicting options are errors with the rule."""
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        Options(**given)


def test_what_is_not_given_has_a_default():
    """By default every law and dtype is checked on all devices, by one process."""
    options = Options()
    assert (options.devices, options.processes, options.document()["law"]) == (DEVICES, 1, [])
    assert set(options.laws) > {"forward-exact", "matrix"}
    assert set(options.dtypes) > {"float32", "bfloat16"}
    assert Options(law="matrix", dtype=["float32", "float32"]).laws == ("matrix",)


def test_options_of_python_have_plural_names():
    """``laws`` means ``law``, a dash means an underscore, and None means not given."""
    given = {"subjects": ["torch"], "laws": "matrix", "dtypes": None, "devices": ["cpu"], "fail-fast": True, "seed": 0}
    assert by_key(given) == {
        "subject": ["torch"], "law": "matrix", "device": ["cpu"], "fail_fast": True, "seed": 0,
    }  # fmt: skip
    with pytest.raises(ValueError, match="unknown option 'lawz'; did you mean 'law'"):
        by_key({"lawz": "matrix"})
    with pytest.raises(ValueError, match="'laws' and 'law' are the same option: give only one of them"):
        by_key({"law": "matrix", "laws": "adjoint"})


def test_the_strongest_source_wins():
    """The first source that has an option decides, whatever its value; without a source there is the default."""
    command_line, decorator, table = {"seed": 0}, {"seed": 1, "examples": 5}, {"seed": 2, "examples": 6, "jobs": 3}
    options = merged_options(command_line, decorator, table)
    assert (options.seed, options.examples, options.jobs, options.profile) == (0, 5, 3, None)
    assert merged_options(decorator, {"fail_fast": False}, {"fail_fast": True}).fail_fast is False


def test_a_sweep_leaves_out_what_weaker_sources_say_of_a_search():
    """A sweep ignores options of a search from weaker sources, and is refused with such options of the same source."""
    options = merged_options({"sweep": 2}, {"seed": 2, "profile": "smoke", "examples": 6, "time": 3.0, "jobs": 3})
    assert (options.sweep, options.seed, options.profile, options.examples, options.time) == (2, None, None, None, None)
    assert options.jobs == 3
    with pytest.raises(ValueError, match="sweep=2 checks every convolution, so it cannot be combined with seed"):
        merged_options({"sweep": 2, "seed": 0}, {})
