"""``parametrize_with_laws`` in a test file outside of this repository, with and without the plugin."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
from xml.etree import ElementTree as ET

import pytest
import torch

from toeplitz_core.testing import parametrize_with_laws
from toeplitz_core.testing.reports.pytest_result import PROPERTY
from toeplitz_core.testing.run.record import read_result

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("own_command_line")

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

@parametrize_with_laws([local(), lambda *args: conv2d(*args), conv2d, "torch", kernels.crashes, kernels.one_tap], **few)
def test_several(law):
    law()

@parametrize_with_laws(elsewhere, **(few | dict(devices=["meta"])))
def test_absent(law):
    law()

@parametrize_with_laws(elsewhere, laws=["forward-exact"], dtypes=["float32"], examples=1, inline=True)
def test_inline(law):
    law()
"""


@pytest.fixture
def project(project: pytest.Pytester) -> pytest.Pytester:
    """The project, with tests in a folder next to its module; pytest finds the module by the working directory."""
    folder = project.mkdir("tests")
    (folder / "test_kernels.py").write_text(TESTS, encoding="utf-8")
    return project


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
    "test_several[kernels:one_tap-forward-exact-float32-cpu]": "FAILED",
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
    case = "input=1x2x1x1 weight=2x1x1x1 groups=2 data=one-hot law=forward-exact"
    result.stdout.fnmatch_lines(
        [
            "outputs-dropped (????????): kernels:no_groups (fail)",
            "  wrong:  out[[]*elements wrong)",
            f"  case:   {case}",
            f'  replay: python -m toeplitz_core replay "{case}" --subject kernels:no_groups',
            "outputs-scaled (????????): <lambda> (fail)",
            "  case:   input=1x1x1x1 weight=1x1x1x1 data=one-hot law=forward-exact",
            "  replay: none: this implementation ran in the test's process, *",
            "crash (????????): kernels:crashes (crash)",
            "  wrong:  was killed by SIGSEGV",
            "nothing proven: only * of * cases could be judged; --where *",
            "not run, although meta was requested: tensors on meta have no values",
            "refused (????????): test_kernels:elsewhere (fail)",
            "  wrong:  raised RuntimeError: in the process of the tests",
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
        [" forward-exact exact    10 *%", "not run: torch on cuda: *", "10 cases; 1 of 1 hold *"]
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


def test_several_processes_and_importlib(project: pytest.Pytester):
    """Under xdist, tests and reports are the same; a subject that cannot be imported runs inline."""
    apart = ("-n1", "--import-mode=importlib", "-o", "pythonpath=.", "-p", "no:cacheprovider", *LOADED)
    said = ("-v", "--hypothesis-show-statistics", "--junitxml=junit.xml")
    result = project.runpytest_inprocess("-k", "imported or own", *apart, *said)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines_random(
        [
            "  replay: * --subject kernels:no_groups",
            "refused (????????): elsewhere (fail)",
            "  wrong:  raised RuntimeError: in the process of the tests",
            "  replay: none: *",
            "      * *%, status: pass",
            "kernels:no_groups forward-exact float32 cpu: fail, * cases*",
            "Checked against T x + b: elsewhere on cpu",
        ]
    )
    assert recorded(project) == ["fail", "fail"]


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
    line = "--profile=smoke --law=forward-exact --examples=30 --seed=3 --known=known.toml -v -rsx -p no:cacheprovider"
    result = project.runpytest_inprocess(*LOADED, "test_mine.py", *line.split())
    result.assert_outcomes(passed=2, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "profile smoke: 30 cases per law and dtype, seed 3",
            "test_mine.py::test_mine[[]forward-exact-float32-cpu[]] PASSED*",
            "test_mine.py::test_mine[[]forward-exact-int64-cpu[]] PASSED*",
            "test_mine.py::test_other[[]none[]] SKIPPED*",
            "test_mine.py::test_known[[]forward-exact-float32-cpu[]] XFAIL*",
            "*90 cases; 2 of 3 hold; 1 more fail only in known ways*",
            "SKIPPED * not run because of the command line: law=forward-exact is not among stride",
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


def test_importing_the_testing_part_imports_no_test_tool():
    """Importing ``toeplitz_core.testing`` imports neither pytest nor Hypothesis; the decorator does on first use."""
    code = (
        "import sys, toeplitz_core.testing as t; print('pytest' in sys.modules, 'hypothesis' in sys.modules); "
        "print(hasattr(t, 'nothing'), t.parametrize_with_laws.__name__)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False", "False", "parametrize_with_laws"]
