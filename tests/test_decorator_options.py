"""The options of ``parametrize_with_laws``: what wins over what, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers.projects import KNOWN
from toeplitz_core.testing import parametrize_with_laws
from toeplitz_core.testing.decorator import COMMAND_LINE, LawTest
from toeplitz_core.testing.run.pyproject import VARIABLE

pytestmark = pytest.mark.usefixtures("own_command_line")


def options_of(mark: pytest.MarkDecorator) -> dict[str, object]:
    """The options of the first law of a decorated test."""
    law = mark.args[1][0].values[0]
    assert isinstance(law, LawTest)
    return law.session.options.document()


def steps_of(mark: pytest.MarkDecorator) -> list[str]:
    """The ids of the tests that a decorator makes."""
    return [param.id for param in mark.args[1]]


@pytest.mark.parametrize(
    ("given", "own", "left"),
    [
        ({"law": ("stride", "forward-exact")}, {"laws": ["forward-exact", "matrix"]}, ["forward-exact-int64-cpu"]),
        ({"dtype": ("int64", "float32")}, {"laws": "forward-exact"}, ["forward-exact-int64-cpu"]),
        ({"device": ("cpu",)}, {"laws": "forward-exact", "devices": ["meta", "cpu"]}, ["forward-exact-int64-cpu"]),
        ({"device": ("meta",)}, {"laws": "forward-exact", "devices": None}, ["forward-exact-int64-meta"]),
        ({"law": ("stride",)}, {"laws": "forward-exact"}, ["none"]),
        ({"dtype": ("float32",)}, {}, ["none"]),
        ({"device": ("meta",)}, {}, ["none"]),
        ({"law": ("forward-bound",)}, {}, ["none"]),  # does not apply to int64
        ({"subject": ("naive",)}, {"laws": "forward-exact"}, ["forward-exact-int64-cpu"]),
    ],
)
def test_the_command_line_restricts(given: dict[str, object], own: dict[str, object], left: list[str]):
    """Only laws, dtypes and devices that both name run; if none is left, one test is skipped."""
    COMMAND_LINE.set(given)
    mark = parametrize_with_laws("torch", **({"dtypes": "int64", "devices": "cpu"} | own))
    assert steps_of(mark) == left
    assert [len(param.marks) for param in mark.args[1]] == [left == ["none"]]


def test_the_command_line_wins(tmp_path: Path):
    """All other options of the command line override the decorator's, also a seed of 0."""
    (tmp_path / "known.toml").write_text(KNOWN, encoding="utf-8")
    given = {"profile": "smoke", "examples": 3, "seed": 0, "timeout": 2.0, "known": (str(tmp_path / "known.toml"),)}
    COMMAND_LINE.set(given)
    own = {"profile": "nightly", "examples": 9, "seed": 9, "timeout": 9, "inline": True, "laws": "stride"}
    found = options_of(parametrize_with_laws("torch", **own))
    assert {key: found[key] for key in given} == given | {"known": [str(tmp_path / "known.toml")]}
    assert (found["inline"], found["law"]) == (True, ["stride"])


def test_a_sweep_and_a_search():
    """A sweep on the command line applies to all tests; a test with a sweep ignores options of a search."""
    COMMAND_LINE.set({"sweep": 1})
    found = options_of(parametrize_with_laws("torch", laws="stride", examples=9, seed=2, profile="smoke"))
    assert [found[key] for key in ("sweep", "examples", "seed", "profile")] == [1, None, None, None]
    COMMAND_LINE.set({"examples": 3, "seed": 2, "timeout": 2.0})
    found = options_of(parametrize_with_laws("torch", laws="stride", sweep=2))
    assert [found[key] for key in ("sweep", "examples", "seed", "timeout")] == [2, None, None, 2.0]


def test_a_seed_of_0_is_not_a_new_one():
    """Nightly draws a seed only if none is given, and 0 is given."""
    (law,) = parametrize_with_laws(
        "torch", laws="stride", dtypes="int64", devices="cpu", profile="nightly", seed=0
    ).args[1]
    assert law.values[0].session.plan.seed == 0


def test_the_table_says_what_the_decorator_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The table gives options that the decorator does not, except the subject and those that tests do not take."""
    table = 'subject = "naive"\nlaw = ["stride", "forward-exact"]\ndtype = "float64"\nseed = 4\nexamples = 7\n'
    table += "jobs = 3\ntime = 9\nfail-fast = true\n"
    (tmp_path / "pyproject.toml").write_text(f"[tool.toeplitz_core]\n{table}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "numpy")
    mark = parametrize_with_laws("torch", laws="stride", devices="cpu", examples=2)
    found = options_of(mark)
    assert steps_of(mark) == ["stride-float64-cpu"]
    assert [found[key] for key in ("subject", "examples", "seed")] == [["torch"], 2, 4]
    assert [found[key] for key in ("jobs", "time", "fail_fast")] == [None, None, False]
    COMMAND_LINE.set({"law": ("forward-exact",), "seed": 5})
    mark = parametrize_with_laws("torch", devices="cpu")
    assert (steps_of(mark), options_of(mark)["seed"]) == (["forward-exact-float64-cpu"], 5)
    (tmp_path / "pyproject.toml").write_text("[tool.toeplitz_core]\nsede = 4\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"pyproject\.toml: \[tool\.toeplitz_core\]: unknown key 'sede'; did"):
        parametrize_with_laws("torch")


@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ({"subject": "torch"}, "the first argument"),
        ({"time": 5}, "toeplitz-core check --time"),
        ({"jobs": 2}, "-n of pytest-xdist"),
        ({"fail_fast": True}, "-x"),
        ({"fail_stale": True}, "toeplitz-core check --fail-stale"),
        ({"write_known": "k.toml"}, "toeplitz-core check --write-known"),
        ({"json": "run.json"}, "--toeplitz-json"),
        ({"junit": "run.xml"}, "--junit-xml"),
        ({"resume": "journal.jsonl"}, "--lf"),
    ],
)
def test_what_is_not_for_tests_is_refused(option: dict[str, object], instead: str):
    """Options that tests do not take are refused, with their replacement."""
    ((key, value),) = option.items()
    said = f"{key}={value!r} is not for tests: use {instead}"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        parametrize_with_laws("torch", **option)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"laws": ["forward-exat"]}, "law='forward-exat' is unknown; did you mean 'forward-exact'?"),
        ({"dtypes": "float23"}, "dtype='float23' is unknown; did you mean 'float32'?"),
        ({"devices": ["nowhere"]}, "device=nowhere must be"),
        ({"profile": "gat"}, "profile='gat' is unknown; did you mean 'gate'?"),
        ({"examples": 0}, "examples=0 must be a whole number >= 1"),
        ({"laws": []}, r"law=\[\] must be a string or a list of strings"),
        ({"laws": ["forward-bound"], "dtypes": ["int64"]}, "nothing to check: "),
        ({"known": "nowhere.toml"}, "nowhere.toml: "),
        ({"exampels": 3}, r"unknown option 'exampels'; did you mean 'examples'\?"),
        ({"law": "stride", "laws": "stride"}, "'laws' and 'law' are the same option"),
    ],
)
def test_a_wrong_value_is_an_error_at_the_decorator(options: dict[str, object], said: str):
    """A wrong value is an error at the decorator, whatever the command line names."""
    COMMAND_LINE.set({"law": ("matrix",)})
    with pytest.raises(ValueError, match=f"^{said}"):
        parametrize_with_laws("torch", **options)


def test_a_wrong_subject_is_an_error_at_the_decorator():
    """An unknown name is refused with the nearest one; no subject, and an object that is not one, are refused."""
    with pytest.raises(ValueError, match=r"^no subject 'trch'; did you mean 'torch'\?"):
        parametrize_with_laws("trch")
    with pytest.raises(ValueError, match=r"^nothing to check: no subject$"):
        parametrize_with_laws([])
    with pytest.raises(ValueError, match="must be a callable or a Subject"):
        parametrize_with_laws([object()])
