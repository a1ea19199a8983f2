"""The plugin and its suite: outcomes of results, usage errors, and which options win."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import torch

import toeplitz_core
from tests.helpers.paths import CHECKOUT, KNOWN_TORCH
from tests.helpers.projects import KNOWN
from toeplitz_core.testing import plugin
from toeplitz_core.testing.case.dtypes import CASE_DTYPES
from toeplitz_core.testing.findings.known_failures.known import KnownFailures
from toeplitz_core.testing.laws import LAWS
from toeplitz_core.testing.reports.pytest_result import PROPERTY
from toeplitz_core.testing.run.options import OPTIONS
from toeplitz_core.testing.run.pyproject import VARIABLE

pytest_plugins = ["pytester"]

CUDA = torch.cuda.is_available()

SUITE = ("-p", "toeplitz_core.testing.plugin", "--pyargs", "toeplitz_core.testing.suite", "-p", "no:cacheprovider")
ONE = ("--law=forward-exact", "--dtype=float32", "--device=cpu")
ALL = [f"--subject=kernels:{name}" for name in ("right", "no_groups", "crashes", "colours", "one_tap")]


def test_what_each_result_is(project: pytest.Pytester):
    """Only a pass passes; failures and crashes have a replay line; the table is that of check."""
    result = project.runpytest_inprocess(*SUITE, *ONE, *ALL, "--examples=30", "--junitxml=junit.xml")
    result.assert_outcomes(passed=1, failed=4)
    case = "input=1x2x1x1 weight=2x1x1x1 groups=2 data=one-hot law=forward-exact"
    failed = "input=1x2x1x1 weight=2x1x1x1 groups=2 law=forward-exact"
    result.stdout.fnmatch_lines(
        [
            f"toeplitz-core {toeplitz_core.__version__}, torch {torch.__version__}, Python *",
            "subjects kernels:right, *; laws forward-exact; devices cpu",
            "profile gate: 30 cases *, seed 0",
            "outputs-dropped (????????): kernels:no_groups (fail)",
            "  wrong:  out[[]*elements wrong)",
            f"  case:   {case}",
            f'  replay: python -m toeplitz_core replay "{case}" --subject kernels:no_groups',
            "crash (????????): kernels:crashes (crash)",
            "  wrong:  was killed by SIGSEGV",
            "refused (????????): kernels:colours (fail)",
            r"  wrong:  raised RuntimeError: \x1b[[]31mred*",
            "nothing proven: only * of * cases could be judged; --where *",
            "*= toeplitz_core =*",
            "3 findings, the gravest first:",
            "F1 crash (????????): kernels:crashes, 1 test",
            "F2 outputs-dropped (????????): kernels:no_groups, 1 test",
            "Checked against T x + b: kernels:right on cpu",
            " forward-exact *exact * 30 *",
            "Checked against T x + b: kernels:crashes on cpu",
            " forward-exact *F1 *",
            "* 1 of 5 hold (each law with each dtype).",
        ]
    )
    assert "\x1b" not in result.stdout.str()
    assert "Traceback" not in result.stdout.str()
    properties = [
        json.loads(found.attrib["value"])
        for found in ET.parse(project.path / "junit.xml").iter("property")
        if found.attrib["name"] == PROPERTY
    ]
    assert [p["status"] for p in properties] == ["pass", "fail", "crash", "fail", "unsupported"]
    assert properties[1]["case"] == failed


NAMES = [
    f"toeplitz_core.testing.suite::test_law[kernels:{name}-forward-exact-float32-cpu]"
    for name in ("no_groups", "right")
]


def test_what_is_printed_of_a_test_runs_it_again(project: pytest.Pytester):
    """The printed id of a test runs it again with ``--pyargs``, also if the suite is installed elsewhere."""
    both = ("--subject=kernels:no_groups", "--subject=kernels:right", "--examples=30", "--inline", *ONE)
    printed = project.runpytest_inprocess(*SUITE, *both).stdout
    printed.fnmatch_lines([f"FAILED {NAMES[0].replace('[', '[[]')} - Failed: outputs-dropped (*"])
    project.runpytest_inprocess(*SUITE[:3], NAMES[0], *SUITE[4:], *both).assert_outcomes(failed=1)


def test_known_failures_under_xdist(project: pytest.Pytester):
    """Under xdist, a known failure is xfailed with its reason and count, and stale entries and the table are printed.

    Tests may also be selected by their ids.
    """
    subjects = ("--subject=kernels:no_groups", "--subject=kernels:right", "--known=known.toml")
    result = project.runpytest_inprocess(
        *SUITE[:3], *NAMES, *SUITE[4:], *ONE, *subjects, "--examples=30", "--inline", "-n2", "-rx"
    )
    result.assert_outcomes(passed=1, xfailed=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "--known known.toml; --inline",
            "Checked against T x + b: kernels:no_groups on cpu",
            " forward-exact *known * 30 *",
            "known: no-groups: * cases: Groups come next year.",
            "stale: mended for kernels:right: its example holds",
            "XFAIL *kernels:no_groups-forward-exact-float32-cpu* - *known: no-groups: * cases: Groups come next year.",
        ]
    )
    assert "\x1b" not in result.stdout.str()


def test_known_failures_where_they_are_not_to_be(project: pytest.Pytester):
    """With --runxfail a known failure fails, and with --fail-stale a stale entry fails the run."""
    result = project.runpytest_inprocess(
        *SUITE, *ONE, "--subject=kernels:no_groups", "--known=known.toml", "--examples=30", "--runxfail"
    )
    result.assert_outcomes(failed=1)
    result = project.runpytest_inprocess(
        *SUITE, *ONE, "--subject=kernels:right", "--known=known.toml", "--examples=2", "--fail-stale"
    )
    result.assert_outcomes(passed=1)
    assert result.ret == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--subject=trch", "no subject 'trch'; did you mean 'torch'?"),
        ("--law=forward-exat", "law='forward-exat' is unknown; did you mean 'forward-exact'?"),
        ("--dtype=float23", "dtype='float23' is unknown; did you mean 'float32'?"),
        ("--profile=gat", "profile='gat' is unknown; did you mean 'gate'?"),
        ("--device=nowhere", "device=nowhere must be a device as torch names them"),
        ("--examples=0", "examples=0 must be a whole number >= 1"),
        ("--known=nowhere.toml", "nowhere.toml: "),
        ("--fail-stale", "fail-stale needs known=FILE"),
        ("--law=forward-bound --dtype=int64", "nothing to check: "),
        ("--sweep=9", "sweep=9 must be a whole number from 1 to 8"),
        ("--sweep=2 --seed=3", "sweep=2 checks every convolution, so it cannot be combined with seed"),
        ("--time=5", "--time is not for pytest: use toeplitz-core check --time"),
        ("--jobs=2", "--jobs is not for pytest: use -n of pytest-xdist"),
        ("--fail-fast", "--fail-fast is not for pytest: use -x"),
        ("--write-known=k.toml", "--write-known is not for pytest: use toeplitz-core check --write-known"),
        ("--json=run.json", "--json is not for pytest: use --toeplitz-json"),
        ("--junit=run.xml", "--junit is not for pytest: use --junit-xml"),
        ("--resume=journal.jsonl", "--resume is not for pytest: use --lf"),
    ],
)
def test_a_wrong_value_is_a_usage_error(project: pytest.Pytester, options: str, said: str):
    """A wrong value is a usage error before anything runs, with the nearest name."""
    with pytest.raises(pytest.UsageError, match=f"^{re.escape(said)}"):
        project.parseconfigure(*SUITE, *options.split())


def test_every_option_of_check_is_there(project: pytest.Pytester):
    """Every option of check is in pytest's help, with its own text or with its replacement."""
    said = " ".join(project.runpytest_inprocess(*SUITE, "--help").stdout.str().split())
    for option in OPTIONS.values():
        text = f"Not for pytest: use {option.pytest}." if option.pytest else " ".join(option.help.split())
        assert f"--{option.name}" in said
        assert text in said


def test_a_sweep(project: pytest.Pytester):
    """A sweep checks every convolution; laws without a sweep are left out, with the reason."""
    two = ("--law=forward-exact", "--law=errors", "--dtype=float32", "--device=cpu")
    result = project.runpytest_inprocess(*SUITE, *two, "--subject=kernels:right", "--inline", "--sweep=1")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "subjects kernels:right; *",
            "sweep: all 17 convolutions up to 1 step from the smallest, *",
            "*forward-exact *exact * 17 *",
            "not run: errors: it is checked on calls*",
        ]
    )


def test_a_subject_that_is_not_there_is_a_usage_error(project: pytest.Pytester):
    """A missing subject of the command line is a usage error before anything is collected, under xdist too."""
    result = project.runpytest_inprocess(*SUITE, "--subject=kernels:rigth", "-n1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: subject 'kernels:rigth': kernels has no 'rigth'; nearest: right"])
    for said in ("INTERNALERROR", "worker", "collected"):
        assert said not in result.stdout.str()


def steps(config: pytest.Config) -> list[str]:
    """The ids of the steps of a session."""
    return [str(step) for step in config.stash[plugin.SESSION].steps]


def test_who_wins(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """The command line overrides the environment, which overrides the table of pyproject.toml."""
    table = '[tool.toeplitz_core]\nsubject = "kernels:right"\ndtype = "int64"\nlaw = "forward-exact"\ndevice = "cpu"\n'
    (project.path / "pyproject.toml").write_text(table, encoding="utf-8")
    assert steps(project.parseconfigure(*SUITE)) == ["kernels:right-forward-exact-int64-cpu"]
    monkeypatch.setenv(VARIABLE, "kernels:crashes,torch")
    both = ["kernels:crashes-forward-exact-int64-cpu", "torch-forward-exact-int64-cpu"]
    assert steps(project.parseconfigure(*SUITE)) == both
    given = project.parseconfigure(*SUITE, "--subject=toeplitz", "--dtype=float64")
    assert steps(given) == ["toeplitz-forward-exact-float64-cpu"]
    (project.path / "pyproject.toml").write_text("[tool.toeplitz_core]\nexmaples = 3\n", encoding="utf-8")
    with pytest.raises(
        pytest.UsageError, match=r"pyproject\.toml: \[tool\.toeplitz_core\]: unknown key 'exmaples'; did"
    ):
        project.parseconfigure(*SUITE)


def test_what_of_the_table_is_for_pytest(project: pytest.Pytester):
    """Of the table, pytest reads lists of known failures, but not ``time``, ``jobs`` and ``fail-fast``."""
    (project.path / "more.toml").write_text(KNOWN.replace("mended", "more").replace("no-groups", "other"))
    table = '[tool.toeplitz_core]\nknown = ["known.toml", "more.toml"]\ntime = 9\njobs = 2\nfail-fast = true\n'
    (project.path / "pyproject.toml").write_text(table, encoding="utf-8")
    config = project.parseconfigure(*SUITE)
    listed = config.stash[plugin.SESSION].plan.known
    assert [entry.name for entry in listed.entries] == ["no-groups", "mended", "other", "more"]
    (header,) = [
        line
        for line in config.hook.pytest_report_header(config=config, start_path=project.path)
        if "known" in str(line)
    ]
    assert header[-1] == f"--known {project.path / 'known.toml'}, {project.path / 'more.toml'}"
    given = project.parseconfigure(*SUITE, "--known=known.toml", "--known=more.toml")
    assert given.stash[plugin.SESSION].plan.known == listed


def test_torch_is_the_subject_where_none_is_named(project: pytest.Pytester):
    """Without a subject, torch is checked under every law."""
    found = steps(project.parseconfigure(*SUITE, "--device=cpu"))
    assert found == [
        f"torch-{law.name}-{dtype}-cpu" for law in LAWS.values() for dtype in CASE_DTYPES if dtype in law.dtypes
    ]


TIMEOUT_OF_OTHERS = """
def pytest_addoption(parser):
    parser.getgroup("timeout").addoption("--timeout", help="of a test")
"""


def test_a_name_that_another_plugin_has(project: pytest.Pytester):
    """If an earlier plugin has an option of the same name, ours is renamed."""
    project.makepyfile(other=TIMEOUT_OF_OTHERS)
    project.syspathinsert()
    config = project.parseconfigure("-p", "other", *SUITE, "--timeout=x", "--toeplitz-timeout=5")
    assert (config.getoption("--timeout"), config.getoption("toeplitz_timeout")) == ("x", 5.0)


def test_a_plugin_that_is_installed_comes_later_than_p(project: pytest.Pytester):
    """With -p, this plugin is imported before installed plugins, which still keep their option names."""
    project.makepyfile(installed=TIMEOUT_OF_OTHERS)
    info = project.mkdir("installed-1.0.dist-info")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[pytest11]\ninstalled = installed\n", encoding="utf-8")
    project.syspathinsert()
    config = project.parseconfigure(*SUITE, "--timeout=x", "--toeplitz-timeout=5")
    assert (config.getoption("--timeout"), config.getoption("toeplitz_timeout")) == ("x", 5.0)


def test_a_conftest_may_load_it(project: pytest.Pytester):
    """A conftest.py at the root can load the plugin, and any test file can import the tests."""
    project.makepyfile(test_mine="from toeplitz_core.testing.suite import test_law")
    project.makeconftest('pytest_plugins = ["toeplitz_core.testing.plugin"]')
    result = project.runpytest_inprocess(*ONE, "--subject=kernels:right", "--examples=2", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_mine.py .*", "2 cases; 1 of 1 hold (each law with each dtype)."])


def test_without_the_plugin_there_are_no_options_but_the_tests(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
):
    """Without -p, the suite loads the plugin itself, and its subject comes from the environment."""
    monkeypatch.setenv(VARIABLE, "kernels:no_groups")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(_installed(project)), str(project.path)]))
    table = '[tool.toeplitz_core]\nlaw = ["forward-exact", "stride"]\nexamples = 30\ninline = true\n'
    (project.path / "pyproject.toml").write_text(table, encoding="utf-8")
    result = project.runpytest_subprocess("--pyargs", "toeplitz_core.testing.suite", "-k", "exact-int64-cpu")
    result.assert_outcomes(failed=1, deselected=result.parseoutcomes()["deselected"])
    result.stdout.fnmatch_lines(["*replay * --subject kernels:no_groups"])


def _installed(project: pytest.Pytester) -> Path:
    """A directory like site-packages, with the package and nothing else of the checkout."""
    site = project.mkdir("site")
    (site / "toeplitz_core").symlink_to(CHECKOUT / "toeplitz_core", target_is_directory=True)
    return site


@pytest.mark.skipif(CUDA, reason="there is a CUDA device")
def test_a_device_that_is_absent(project: pytest.Pytester):
    """A test of a missing device is skipped, or fails if the device is named; a run without any result is not green."""
    few = ("--law=forward-exact", "--dtype=float32", "--subject=kernels:right", "--examples=2")
    result = project.runpytest_inprocess(*SUITE, *few, "-rs", "-k", "cuda")
    result.assert_outcomes(skipped=1, deselected=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "not run: kernels:right on cuda: torch sees no CUDA device",
            "nothing proven: no law could be checked on a subject that the command line names",
            "SKIPPED * not run: torch sees no CUDA device",
        ]
    )
    result = project.runpytest_inprocess(*SUITE, *few, "--device=cuda")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["not run, although cuda was requested: torch sees no CUDA device"])


def test_inline(project: pytest.Pytester):
    """Inline, the subject runs in this process, without the layouts on which torch can crash."""
    project.makepyfile(here="import os, kernels\nassert 'pytest' in __import__('sys').modules\nconv2d = kernels.right")
    result = project.runpytest_inprocess(*SUITE, *ONE, "--subject=here:conv2d", "--inline", "--examples=2")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["not run: layout channels_last: *", "not run: layout channel_slice: *"])


def test_interrupted(project: pytest.Pytester):
    """After Ctrl-C earlier failures are reported, and nothing else is run."""
    project.makepyfile(
        here="""
        calls = []

        def conv2d(*args):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            raise RuntimeError("wrong")
        """
    )
    result = project.runpytest_inprocess(*SUITE, "--device=cpu", "--subject=here:conv2d", "--inline")
    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["FAIL here:conv2d, *: raised RuntimeError: wrong (not shrunk to the end)", "*1 case; 0 of 1*"]
    )


def test_a_subject_in_this_repository(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """In this repository ``pytest --subject S`` runs only the conformance tests; with a path it runs that."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.chdir(CHECKOUT)
    config = pytester.parseconfigure("--subject=toeplitz", *ONE)
    assert config.args == [str(CHECKOUT / "tests" / "test_conformance.py")]
    assert steps(config) == ["toeplitz-forward-exact-float32-cpu"]
    header = config.hook.pytest_report_header(config=config, start_path=CHECKOUT)
    assert any("--subject without a path: only tests/test_conformance.py" in lines for lines in header)
    config = pytester.parseconfigure("--subject=toeplitz", "tests/laws/test_verdict.py")
    assert config.args == ["tests/laws/test_verdict.py"]
    config = pytester.parseconfigure()
    assert config.args == ["tests", "toeplitz_core"]
    assert config.stash[plugin.SESSION].plan.known == KnownFailures.load(KNOWN_TORCH)
