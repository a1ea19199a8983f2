"""``parametrize_with_laws`` in a test file outside of this repository, with and without the plugin."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import torch

import toeplitz_core
from tests.helpers.workers import share_fork_servers
from toeplitz_core.testing import parametrize_with_laws
from toeplitz_core.testing.decorator import COMMAND_LINE, LawTest
from toeplitz_core.testing.reports.pytest_result import PROPERTY
from toeplitz_core.testing.run.pyproject import VARIABLE
from toeplitz_core.testing.run.record import read_result
from toeplitz_core.testing.subjects import ArraySubject, TorchSubject
from toeplitz_core.testing.support.importable import importable_name, needed_path

pytest_plugins = ["pytester"]

KERNELS = """
import torch
from torch.nn.functional import conv2d

def no_groups(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    return y.zero_() if groups > 1 else y

def crashes(*args):
    import ctypes
    ctypes.string_at(0)

def refuses(*args):
    if args[1].numel() > 1:
        raise NotImplementedError("some day")
    return conv2d(*args)
"""

TESTS = """
import sys
import torch
from torch.nn.functional import conv2d
from toeplitz_core.testing import parametrize_with_laws
import kernels

few = dict(laws=["forward-exact"], dtypes=["float32"], devices=["cpu"], examples=30)

def elsewhere(*args):
    frame = sys._getframe()
    while (frame := frame.f_back) is not None:
        if "pyfuncitem" in frame.f_locals:
            raise RuntimeError("in the process of the tests")
    return conv2d(*args)

@parametrize_with_laws(kernels.no_groups, **few)
def test_imported(law):
    law()

@parametrize_with_laws(elsewhere, **few)
def test_own(law):
    law()

def local():
    return lambda *args: 2 * conv2d(*args)

@parametrize_with_laws([local(), lambda *args: conv2d(*args), conv2d, "torch", kernels.crashes, kernels.refuses], **few)
def test_several(law):
    law()

@parametrize_with_laws(elsewhere, **(few | dict(devices=["meta"])))
def test_absent(law):
    law()

@parametrize_with_laws(elsewhere, laws=["forward-exact"], dtypes=["float32"], examples=1, inline=True)
def test_inline(law):
    law()
"""


@pytest.fixture(autouse=True)
def own_command_line() -> Iterator[None]:
    """Hide the options of this repository's tests from the tests inside these tests."""
    before = COMMAND_LINE.set({})
    yield
    COMMAND_LINE.reset(before)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project with a module next to the folder of its tests; pytest finds it by the working directory."""
    monkeypatch.setenv("PYTHONPATH", str(Path(toeplitz_core.__file__).parents[1]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "160")
    for variable in (VARIABLE, "PYTEST_ADDOPTS"):
        monkeypatch.delenv(variable, raising=False)
    share_fork_servers(monkeypatch)
    pytester.makepyfile(kernels=KERNELS)
    pytester.syspathinsert()
    folder = pytester.mkdir("tests")
    (folder / "test_kernels.py").write_text(TESTS, encoding="utf-8")
    return pytester


def lines(result: pytest.RunResult) -> dict[str, str]:
    """The outcome of each test."""
    found = re.findall(
        r"^(?:\[gw\d\] \[ *\d+%\] (\w+) )?tests/test_kernels\.py::(\S+)(?: (\w+))?", result.stdout.str(), re.MULTILINE
    )
    return {name: before or after for before, name, after in found if before or after}


EXPECTED = {
    "test_imported[forward-exact-float32-cpu]": "FAILED",
    "test_own[forward-exact-float32-cpu]": "PASSED",
    "test_several[<lambda>-forward-exact-float32-cpu]": "FAILED",
    "test_several[<lambda>-2-forward-exact-float32-cpu]": "PASSED",
    "test_several[torch:conv2d-forward-exact-float32-cpu]": "PASSED",
    "test_several[torch-forward-exact-float32-cpu]": "PASSED",
    "test_several[kernels:crashes-forward-exact-float32-cpu]": "FAILED",
    "test_several[kernels:refuses-forward-exact-float32-cpu]": "FAILED",
    "test_absent[forward-exact-float32-meta]": "FAILED",
    "test_inline[forward-exact-float32-cpu]": "FAILED",
}


def test_a_test_file_of_ones_own(project: pytest.Pytester):
    """Faults and crashes fail with a few lines and a replay command; nothing proven is not a pass."""
    result = project.runpytest_subprocess("-v", "-p", "no:cacheprovider")
    said = result.stdout.str()
    ended = lines(result)
    if not torch.cuda.is_available():
        assert ended.pop("test_inline[forward-exact-float32-cuda]") == "SKIPPED"
        assert ended == EXPECTED
    case = "input=1x2x1x1 weight=2x1x1x1 groups=2 law=forward-exact"
    result.stdout.fnmatch_lines(
        [
            "FAIL kernels:no_groups, forward-exact: out[[]*elements wrong)",
            f"  case:   {case}",
            f'  replay: python -m toeplitz_core replay "{case}" --subject kernels:no_groups',
            "FAIL <lambda>, forward-exact: *",
            "  case:   input=1x1x1x1 weight=1x1x1x1 law=forward-exact",
            "  replay: none: this implementation ran in the test's process, *",
            "CRASH kernels:crashes, forward-exact: was killed by SIGSEGV",
            "nothing proven: only * of 30 cases could be judged",
            "not run, although meta was requested: tensors on meta have no values",
            "FAIL test_kernels:elsewhere, forward-exact: raised RuntimeError: in the process of the tests",
            "  replay: PYTHONPATH=tests python -m toeplitz_core replay * --subject test_kernels:elsewhere",
        ]
    )
    assert "Traceback" not in said
    command = re.search(r"replay: python (-m toeplitz_core .*no_groups)$", said, re.MULTILINE)
    assert command is not None
    line = [sys.executable, *shlex.split(command[1]), "--runs", "2", "--inline"]
    again = subprocess.run(line, cwd=project.path, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert f"case:   {case}" in again.stdout


LOADED = ("-p", "toeplitz_core.testing.plugin")


@pytest.mark.parametrize("more", [(), LOADED], ids=" ".join)
def test_where_the_cases_went(project: pytest.Pytester, more: tuple[str, ...]):
    """Decorated tests have statistics of Hypothesis and a line in the report; the plugin adds its table."""
    chosen = ("-k", "imported or own", "-p", "no:cacheprovider", "--junitxml=junit.xml")
    result = project.runpytest_inprocess("-rA", "--hypothesis-show-statistics", *chosen, *more)
    result.assert_outcomes(passed=1, failed=1)
    name = "tests/test_kernels.py::test_own[[]forward-exact-float32-cpu[]]"
    result.stdout.fnmatch_lines_random(
        [
            f"{name}:",
            "      * *%, status: pass",
            "      * *%, region: stride",
            "      * *%, regime: exact, up to 10 products",
            "*- Captured toeplitz_core call -*",
            "test_kernels:elsewhere forward-exact float32 cpu: pass, 30 cases*",
            "kernels:no_groups forward-exact float32 cpu: fail, * cases*",
        ]
    )
    table = "Checked against T x + b: test_kernels:elsewhere on cpu"
    assert (table in result.stdout.lines) == bool(more)
    assert recorded(project) == ["fail", "pass"]


def recorded(project: pytest.Pytester) -> list[str]:
    """The statuses of the results in JUnit XML."""
    properties = ET.parse(project.path / "junit.xml").iter("property")
    found = [read_result(json.loads(p.attrib["value"])) for p in properties if p.get("name") == PROPERTY]
    return sorted(result.status.value for result in found)


SAME = """
from torch.nn.functional import conv2d
from toeplitz_core.testing import parametrize_with_laws

few = dict(laws=["forward-exact"], dtypes=["float32"], examples=5)

@parametrize_with_laws("torch", **few)
def test_one(law):
    law()

class TestMore:
    pytestmark = parametrize_with_laws("torch", **few)

    def test_another(self, law):
        law()
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="not run: there is a CUDA device")
def test_decorated_tests_of_the_same_step_and_of_those_of_the_options(project: pytest.Pytester):
    """The table adds up cases of the same step; decorated tests do not count for the command line's subject."""
    (project.path / "tests" / "test_kernels.py").write_text(SAME, encoding="utf-8")
    options = ("--subject=kernels:crashes", "-p", "no:cacheprovider", *LOADED)
    result = project.runpytest_inprocess(*options)
    result.assert_outcomes(passed=2, skipped=2)
    result.stdout.fnmatch_lines(
        [" forward-exact exact    10 *%", "10 cases; 1 of 1 hold *", "not run: torch on cuda: *"]
    )
    assert "nothing proven" not in result.stdout.str()
    assert result.ret == 0


INTERRUPTS = """
from toeplitz_core.testing import parametrize_with_laws

calls = []

def conv2d(*args):
    calls.append(1)
    if len(calls) == 3:
        raise KeyboardInterrupt
    raise RuntimeError("wrong")

@parametrize_with_laws(conv2d, devices=["cpu"], inline=True)
def test_mine(law):
    law()
"""


def test_interrupted(project: pytest.Pytester):
    """After Ctrl-C earlier failures are reported, and nothing else is run."""
    (project.path / "tests" / "test_kernels.py").write_text(INTERRUPTS, encoding="utf-8")
    result = project.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        [
            "FAIL test_kernels:conv2d, *: raised RuntimeError: wrong (not shrunk to the end)",
            "test_kernels:conv2d forward-exact float64 cpu: fail, 1 case, seed 0",
        ]
    )


def test_a_law_that_no_test_calls():
    """Outside of a test, a law can be called too."""
    law = parametrize_with_laws(
        torch.conv2d, laws=["forward-exact"], dtypes=["float32"], devices=["cpu"], examples=2, inline=True
    )
    thread = threading.Thread(target=law.args[1][0].values[0])
    thread.start()
    thread.join()


def test_several_processes_and_importlib(project: pytest.Pytester):
    """Under xdist, tests and reports are the same; a subject that cannot be imported runs inline."""
    apart = ("-n1", "--import-mode=importlib", "-o", "pythonpath=.", "-p", "no:cacheprovider", *LOADED)
    said = ("-v", "--hypothesis-show-statistics", "--junitxml=junit.xml")
    result = project.runpytest_inprocess("-k", "imported or own", *apart, *said)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines_random(
        [
            "  replay: * --subject kernels:no_groups",
            "FAIL elsewhere, forward-exact: raised RuntimeError: in the process of the tests",
            "  replay: none: *",
            "      * *%, status: pass",
            "kernels:no_groups forward-exact float32 cpu: fail, * cases*",
            "Checked against T x + b: elsewhere on cpu",
        ]
    )
    assert recorded(project) == ["fail", "fail"]


LISTED = """
[[failure]]
name = "no-groups"
subject = "kernels:no_groups"
law = "forward-exact"
condition = "groups > 1"
example = "input=1x2x1x1 weight=2x1x1x1 groups=2"
reason = "Groups come next year."
"""
MINE = """
import torch
import kernels
from toeplitz_core.testing import parametrize_with_laws

@parametrize_with_laws(torch.conv2d, examples=20, devices=["cpu"], dtypes=["float32", "int64"], inline=True)
def test_mine(law):
    law()

@parametrize_with_laws(torch.conv2d, laws="stride")
def test_other(law):
    law()

@parametrize_with_laws(kernels.no_groups, dtypes="float32", devices="cpu", inline=True)
def test_known(law):
    law()
"""


def test_the_command_line_holds_for_decorated_tests(project: pytest.Pytester):
    """The command line selects tests, and sets their effort and known failures; a test without laws left is skipped."""
    project.makepyfile(test_mine=MINE)
    project.makefile(".toml", known=LISTED)
    line = "--profile=smoke --law=forward-exact --examples=30 --seed=3 --known=known.toml -v -rsx -p no:cacheprovider"
    result = project.runpytest_inprocess(*LOADED, "test_mine.py", *line.split())
    result.assert_outcomes(passed=2, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "*; profile smoke: 30 cases per law and dtype, seed 3",
            "test_mine.py::test_mine[[]forward-exact-float32-cpu[]] PASSED*",
            "test_mine.py::test_mine[[]forward-exact-int64-cpu[]] PASSED*",
            "test_mine.py::test_other[[]none[]] SKIPPED*",
            "test_mine.py::test_known[[]forward-exact-float32-cpu[]] XFAIL*",
            "*90 cases; 2 of 3 hold; 1 more fail only in known ways*",
            "SKIPPED * not run because of the command line: law=forward-exact is not among stride",
        ]
    )


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
    (tmp_path / "known.toml").write_text(LISTED, encoding="utf-8")
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
    assert [found[key] for key in ("jobs", "time", "fail_fast")] == [1, None, False]
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
        ({"json": "run.json"}, "toeplitz-core check --json"),
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


def module_level(*args: torch.Tensor) -> torch.Tensor:
    """A function that other processes can import."""
    return torch.conv2d(*args)


SUBJECT = TorchSubject("mine", module_level)


def test_importable_names():
    """Objects of a module have a name, which leads to the same object: functions, classes, subjects."""
    assert importable_name(module_level) == "tests.test_decorator:module_level"
    assert importable_name(SUBJECT) == "tests.test_decorator:SUBJECT"
    assert importable_name(ArraySubject) == "toeplitz_core.testing.subjects.arrays:ArraySubject"
    assert importable_name(torch.nn.functional.conv2d) == "torch:conv2d"

    def module_level_(*args: torch.Tensor) -> torch.Tensor:
        return torch.conv2d(*args)

    module_level_.__qualname__ = "module_level"
    for without in (module_level_, lambda: 0, TorchSubject("mine", module_level)):
        assert importable_name(without) is None


def test_a_module_that_is_not_on_the_path_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """If the path leads to another module or to none, the object has no name."""
    import importlib.util

    file = tmp_path / "somewhere" / "colorsys_of_mine.py"
    file.parent.mkdir()
    file.write_text("def f(): pass\n", encoding="utf-8")
    for name in ("colorsys_of_mine", "colorsys"):
        spec = importlib.util.spec_from_file_location(name, file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        assert importable_name(module.f) is None
    monkeypatch.syspath_prepend(file.parent)
    monkeypatch.delitem(sys.modules, "colorsys")
    assert importable_name(sys.modules["colorsys_of_mine"].f) == "colorsys_of_mine:f"
    assert needed_path("colorsys_of_mine:f") == str(file.parent)
    monkeypatch.chdir(tmp_path)
    assert needed_path("colorsys_of_mine:f") == "somewhere"
    monkeypatch.chdir(file.parent)
    assert needed_path("colorsys_of_mine:f") is None
    for name in ("torch", "torch:conv2d", "no_such_module_of_mine:f", "math:sqrt", "colorsys:rgb_to_hsv"):
        assert needed_path(name) is None


def test_importing_the_testing_part_imports_no_test_tool():
    """Importing ``toeplitz_core.testing`` imports neither pytest nor Hypothesis; the decorator does on first use."""
    code = (
        "import sys, toeplitz_core.testing as t; print('pytest' in sys.modules, 'hypothesis' in sys.modules); "
        "print(hasattr(t, 'nothing'), t.parametrize_with_laws.__name__)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False", "False", "parametrize_with_laws"]
