"""One record of a pytest session: its files, its summary, and ``--lf``, with and without pytest-xdist."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest

from tests.helpers.command_line import call, validated
from toeplitz_core.testing.findings import gathering

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.usefixtures("own_command_line")

TESTS = """
import kernels
from toeplitz_core.testing import parametrize_with_laws

few = dict(dtypes=["float32", "float64"], devices=["cpu"], examples=2, inline=True)

@parametrize_with_laws(kernels.colours, laws=["forward-exact"], **few)
def test_one(law):
    law()

@parametrize_with_laws(kernels.colours, laws=["stride"], **few)
def test_two(law):
    law()

@parametrize_with_laws(kernels.right, laws=["forward-exact"], known=["known.toml"], **few)
def test_right(law):
    law()
"""
LOADED = ("-p", "toeplitz_core.testing.plugin")
NAMES = [
    f"{law}-{dtype}-cpu]" for law in ("test_one[forward-exact", "test_two[stride") for dtype in ("float32", "float64")
]
FAILED = [f"test_mine.py::{name}" for name in NAMES]


@pytest.fixture
def project(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """The project with tests of its own, of which two fail for one reason."""
    project.makepyfile(test_mine=TESTS)
    monkeypatch.setattr(gathering, "CALLS", dict.fromkeys(gathering.CALLS, (0, 0)))  # findings are tested elsewhere
    return project


def written(project: pytest.Pytester, name: str = "run.json") -> dict[str, Any]:
    """The record in a file, checked against the schema."""
    document: dict[str, Any] = validated((project.path / name).read_text(encoding="utf-8"))
    return document


def heads(result: pytest.RunResult) -> list[str]:
    """The lines of the output that are headings of findings, or name one."""
    return re.findall(r"^(?:F\d )?refused \(\w{8}\).*$", result.stdout.str(), re.MULTILINE)


def test_one_record_of_all_tests(project: pytest.Pytester):
    """Findings with one id are one, in the summary and in the file; workers of pytest-xdist write the same file.

    The tests that fail can be chosen by their ids and by ``--lf``, wherever they failed.
    """
    result = project.runpytest_inprocess(*LOADED, "-n0", "--toeplitz-json=run.json", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, failed=4)
    result.stdout.no_fnmatch_line("subjects torch*")  # the tests name others
    first, *others, last = heads(result)
    found = re.fullmatch(r"refused \((\w+)\): kernels:colours \(fail\)", first)
    assert found is not None
    again = f"refused ({found[1]}), as before; here: input="
    assert [line.startswith(again) for line in others] == [True] * 3
    assert last == f"F1 refused ({found[1]}): kernels:colours, 4 tests"
    case = "  case:   input=1x1x1x1 weight=1x1x1x1 law=forward-exact"
    replay = "  replay: python -m toeplitz_core replay * --subject kernels:colours"
    result.stdout.fnmatch_lines(["1 finding:", last, case, replay, "*forward-exact*F1*F1*"])
    assert "\x1b" not in result.stdout.str()
    alone = written(project)
    assert (alone["summary"]["exit_code"], alone["summary"]["ended"]) == (1, "completed")
    options, (finding,) = alone["options"], alone["findings"]
    assert options["command"].startswith("pytest -p toeplitz_core.testing.plugin -n0 --toeplitz-json=run.json")
    assert (options["subjects"], options["examples"]) == (["kernels:colours", "kernels:right"], 2)
    assert (finding["id"], finding["laws"]) == (found[1], ["forward-exact", "stride"])
    assert finding["dtypes"] == ["float64", "float32"]
    assert [each.get("finding") for each in alone["results"]] == [found[1]] * 4 + [None] * 2

    result = project.runpytest_inprocess(*LOADED, "-n2", "--toeplitz-json=both.json", "--toeplitz-html=run.html")
    result.assert_outcomes(passed=2, failed=4)
    assert sum(head.startswith("F1") for head in heads(result)) == 1
    both = written(project, "both.json")
    assert [document["options"].pop("jobs") for document in (alone, both)] == [1, 2]
    for document in (alone, both):
        del document["timing"], document["options"]["command"]
    assert both == alone
    assert call(f"compare {project.path / 'run.json'} {project.path / 'both.json'}").exit_code == 0
    assert f">{found[1]}<" in (project.path / "run.html").read_text(encoding="utf-8")

    for chosen in (["--lf"], FAILED, ["-k", "colours or test_one or test_two"]):
        result = project.runpytest_inprocess(*LOADED, "-v", "-rN", *chosen)
        result.assert_outcomes(failed=4, deselected=result.parseoutcomes().get("deselected", 0))
        assert re.findall(r"^(test_mine\S+) FAILED", result.stdout.str(), re.MULTILINE) == FAILED


def test_what_is_quiet(project: pytest.Pytester):
    """With -q only the findings are printed, with -qq nothing; without a finding there is no summary of findings."""
    said = {
        quiet: project.runpytest_inprocess(*LOADED, quiet, "-k", "test_one").stdout.str() for quiet in ("-q", "-qq")
    }
    assert "\nF1 refused (" in said["-q"]
    assert "Checked against" not in said["-q"]
    assert "= toeplitz_core =" not in said["-qq"]
    assert "F1" not in said["-qq"]
    said = {
        quiet: project.runpytest_inprocess(*LOADED, quiet, "-k", "test_right").stdout.str() for quiet in ("-q", "-v")
    }
    assert "= toeplitz_core =" not in said["-q"]
    assert "Checked against" in said["-v"]
    assert "finding" not in said["-v"]


def test_stopped_at_the_first_failure(project: pytest.Pytester):
    """With ``-x``, the record has what was found before, and says that the rest did not run."""
    project.runpytest_inprocess(*LOADED, "-x", "--toeplitz-json=run.json")
    found = written(project)
    assert (found["summary"]["exit_code"], found["summary"]["ended"]) == (1, "stopped at the first failure")
    assert [finding["cause"] for finding in found["findings"]] == ["refused"]


CUT_SHORT = """
import os, signal, time
from toeplitz_core.testing import parametrize_with_laws

calls = []

def conv2d(*args):
    calls.append(1)
    if len(calls) < 3:
        raise RuntimeError("wrong")
    {end}

@parametrize_with_laws(conv2d, laws=["forward-exact"], dtypes=["float32"], devices=["cpu"], examples=9, inline=True)
def test_mine(law):
    law()
"""


@pytest.mark.parametrize(
    ("end", "options", "summary"),
    [
        ("raise KeyboardInterrupt", (), (130, "interrupted")),
        ("os._exit(3)", ("-n1", "-x", "--max-worker-restart=0"), (1, "stopped at the first failure")),
        pytest.param(
            # What a worker sends in the same moment as the signal comes would be lost.
            "time.sleep(1); os.kill(os.getppid(), signal.SIGTERM); time.sleep(1); os._exit(3)",
            ("-n1",),
            (130, "interrupted"),
            marks=pytest.mark.skipif(sys.platform == "win32", reason="not run: no such signals"),
        ),
    ],
    ids=["Ctrl-C", "a worker that dies", "SIGTERM"],
)
def test_a_session_that_is_cut_short(
    project: pytest.Pytester, end: str, options: tuple[str, ...], summary: tuple[int, str]
):
    """What a test had found when the session, or its worker, ended is printed and written."""
    project.makepyfile(test_mine=CUT_SHORT.format(end=end))
    run = project.runpytest_subprocess if "getppid" in end else project.runpytest_inprocess
    result = run(*LOADED, *options, "--toeplitz-json=run.json")
    assert result.ret == (pytest.ExitCode.INTERRUPTED if summary[1] == "interrupted" else pytest.ExitCode.TESTS_FAILED)
    result.stdout.fnmatch_lines(["F1 refused (????????): test_mine:conv2d, 1 test"])
    found = written(project)
    assert (found["summary"]["exit_code"], found["summary"]["ended"]) == summary
    assert [(finding["cause"], finding["evidence"]) for finding in found["findings"]] == [("refused", "not examined")]
    (failed,) = found["results"]
    assert failed["message"] == "raised RuntimeError: wrong (not shrunk to the end)"


def test_a_second_interrupt(project: pytest.Pytester):
    """A second Ctrl-C, while pytest handles the first one, does not make a session complete."""
    project.makepyfile(test_mine=CUT_SHORT.format(end="raise KeyboardInterrupt"))
    project.makeconftest("def pytest_keyboard_interrupt(): raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        project.runpytest_inprocess(*LOADED, "--toeplitz-json=run.json")
    assert written(project)["summary"]["ended"] == "interrupted"


@pytest.mark.parametrize(
    ("path", "said"),
    [("-", "toeplitz-json='-' must be a file"), ("none/run.json", "must be in a directory that exists")],
)
def test_a_file_that_cannot_be_written(project: pytest.Pytester, path: str, said: str):
    """A file that cannot be written is a usage error before anything runs."""
    with pytest.raises(pytest.UsageError, match=said):
        project.parseconfigure(*LOADED, f"--toeplitz-json={path}")


def test_another_plugin_with_such_an_option(project: pytest.Pytester):
    """If another plugin has ``--json``, that is its own, and ``--toeplitz-json`` is still ours."""
    project.makepyfile(other="def pytest_addoption(parser): parser.addoption('--json')")
    project.syspathinsert()
    config = project.parseconfigure("-p", "other", *LOADED, "--json=x", "--toeplitz-json=run.json")
    assert (config.getoption("--json"), config.getoption("--toeplitz-json")) == ("x", "run.json")
