"""The pytest plugin: the options of ``toeplitz-core check``, and its table at the end.

It is loaded by ``-p toeplitz_core.testing.plugin``, or by ``pytest_plugins`` in a conftest.py at the root; never
because it is installed.
"""

from __future__ import annotations

import io
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from toeplitz_core.testing import suite
from toeplitz_core.testing.isolation.sandbox import TIMEOUT, Isolation, SubjectError
from toeplitz_core.testing.reports.json import read_result
from toeplitz_core.testing.reports.pytest_outcome import PROPERTY
from toeplitz_core.testing.reports.terminal import (
    options_line,
    plain,
    print_assumed,
    print_known,
    print_results,
    run_header,
)
from toeplitz_core.testing.run.battery import Battery, Step
from toeplitz_core.testing.run.options import KEYS, default_subjects, read_table
from toeplitz_core.testing.run.plan import exit_code
from toeplitz_core.testing.run.record import Record
from toeplitz_core.testing.search.profiles import PROFILES
from toeplitz_core.testing.search.search import merged

if TYPE_CHECKING:
    from toeplitz_core.testing.findings.known import Stale
    from toeplitz_core.testing.search.search import Result

# What a session judges.
BATTERY = pytest.StashKey[Battery]()
_REPEATED = ("subject", "law", "device", "dtype", "known")

# As argparse takes them. None stands for "not given": the table may then say something.
_OPTIONS: dict[str, dict[str, Any]] = {
    "subject": {"help": "A name that 'toeplitz-core subjects' lists, or package.module:callable (repeatable)."},
    "law": {"help": "Only this law (repeatable)."},
    "profile": {"help": f"Effort: {', '.join(PROFILES)}; gate if not given."},
    "examples": {"type": int, "help": "Cases per law and dtype, instead of the profile's."},
    "seed": {"type": int, "help": "Of the search: the same seed gives the same cases."},
    "device": {"help": "cpu, cuda, cuda:1 ... (repeatable); absent ones then fail."},
    "dtype": {"help": "Only this dtype (repeatable)."},
    "timeout": {"type": float, "help": f"Seconds that one call may take; {TIMEOUT:g} if not given."},
    "known": {"metavar": "FILE", "help": "Known failures (TOML): they are xfailed (repeatable)."},
    "fail-stale": {"help": "Fail if an entry of the known failures is needed no longer."},
    "inline": {"help": "Call the subject in this process: for debuggers and coverage. A crash ends everything."},
}


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the options, unless plugins that have some of the same names may still come."""
    # With -p, this is called before installed plugins are loaded. The directory above which no conftest.py is looked
    # for is settled after them, and before a conftest.py can name this plugin.
    known = getattr(pluginmanager.get_plugin("pytestconfig"), "known_args_namespace", None)
    if getattr(known, "confcutdir", None) is not None:
        _add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(parser: pytest.Parser) -> None:
    """Add the options where that was put off."""
    _add_options(parser)


def _add_options(parser: pytest.Parser) -> None:
    # There is no public way to ask for the options of others, and an older pytest complains of doubles too late.
    there = [option for group in (parser._anonymous, *parser._groups) for option in group.options]
    if any(option.dest == _dest("subject") for option in there):
        return
    taken = {name for option in there for name in option.names()}
    group = parser.getgroup("toeplitz_core", "toeplitz_core: convolutions held against their matrix")
    for name, attributes in _OPTIONS.items():
        action = {"action": "append"} if name in _REPEATED else {}
        if name in ("fail-stale", "inline"):
            action = {"action": "store_true"}
        option = f"--toeplitz-{name}" if f"--{name}" in taken else f"--{name}"
        group.addoption(option, dest=_dest(name), default=None, **action, **attributes)


def _dest(name: str) -> str:
    return f"toeplitz_{name.replace('-', '_')}"


def pytest_configure(config: pytest.Config) -> None:
    """Read the options; what is wrong with them ends pytest before anything runs."""
    try:
        asked = _asked(config)
        battery = _battery(asked)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[BATTERY] = battery
    explicit = getattr(config.option, _dest("subject"), None) is not None
    driver = Driver(config, battery, asked, explicit=explicit)
    config.pluginmanager.register(driver, "toeplitz_core driver")


def _asked(config: pytest.Config) -> dict[str, Any]:
    """The options by their names: the command line, then the table, and for the subject the environment between."""
    given = {name: getattr(config.option, _dest(name), None) for name in _OPTIONS}
    given = {name: KEYS[name](name, value) for name, value in given.items() if value is not None}
    table = read_table(config.invocation_params.dir)
    asked = {name: value for name, value in table.items() if name in _OPTIONS} | given
    if "subject" not in given:
        asked["subject"] = default_subjects(config.invocation_params.dir) or ("torch",)
    if asked.get("fail-stale") and "known" not in asked:
        raise ValueError("fail-stale needs known=FILE")
    return asked


def _battery(asked: dict[str, Any]) -> Battery:
    return Battery(
        dict.fromkeys(asked["subject"]),
        laws=asked.get("law"),
        dtypes=asked.get("dtype"),
        devices=asked.get("device"),
        profile=asked.get("profile", "gate"),
        examples=asked.get("examples"),
        seed=asked.get("seed"),
        known=asked.get("known"),
        inline=asked.get("inline", False),
        isolation=partial(Isolation, timeout=asked.get("timeout", TIMEOUT)),
    )


@pytest.fixture(scope="session")
def toeplitz_battery(request: pytest.FixtureRequest) -> Battery:
    """What judges the steps of this process."""
    return request.config.stash[BATTERY]


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Name the suite where it is installed outside of the root: pytest calls a file there, given by itself, nothing.

    With ``--pyargs``, what is printed is then what runs one test again: ``toeplitz_core.testing.suite::test_law[...]``.
    """
    if module_path != Path(suite.__file__) or module_path.is_relative_to(parent.config.rootpath):
        return None
    module: pytest.Module = pytest.Module.from_parent(parent, path=module_path, nodeid=suite.__name__)
    return module


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of each step."""
    if "toeplitz_step" in metafunc.fixturenames:
        metafunc.parametrize("toeplitz_step", metafunc.config.stash[BATTERY].steps, ids=str)


class Driver:
    """The hooks that need the options: header, start, table and end."""

    def __init__(self, config: pytest.Config, battery: Battery, asked: dict[str, Any], *, explicit: bool) -> None:
        self.config = config
        self.battery = battery
        self.explicit = explicit
        self.options = {name.replace("-", "_"): value for name, value in asked.items()}
        self.reported: dict[str, Result] = {}
        self.stale: list[Stale] = []

    def pytest_report_header(self) -> list[str]:
        """Echo the options, so that a typo shows."""
        plan = self.battery.plan
        header = run_header(
            list(self.battery.subjects),
            [law.name for law in plan.laws],
            plan.devices,
            plan.profile,
            examples=plan.examples,
            seed=plan.seed,
        )
        return [*header.splitlines(), *filter(None, [options_line(self.options)])]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Import the subjects that the command line names: one that is not there ends pytest before anything runs."""
        if not self.explicit or hasattr(self.config, "workerinput") or self.config.option.collectonly:
            return
        try:
            self.battery.start()
        except SubjectError as error:
            self.battery.close()
            raise pytest.UsageError(str(error)) from None
        if self.config.pluginmanager.hasplugin("dsession"):
            self.battery.close()  # under xdist, tests run in other processes, which have workers of their own

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the result that a test has recorded."""
        if report.when == "call":
            for name, value in report.user_properties:
                if name == PROPERTY:
                    self.reported[report.nodeid] = read_result(json.loads(str(value)))

    @property
    def results(self) -> dict[Step, Result]:
        """What was reported of each step, those of the options first: decorated tests may have others, or the same."""
        found: dict[Step, list[Result]] = {}
        for result in self.reported.values():
            found.setdefault(Step(result.subject, result.law, result.dtype, result.device), []).append(result)
        ran = {step: [r for r in results if r.cases] or results[-1:] for step, results in found.items()}
        order = [step for step in self.battery.steps if step in ran]
        return {step: merged(ran[step]) for step in dict.fromkeys([*order, *ran])}

    @property
    def asked_for(self) -> list[Result]:
        """The results of what the options name."""
        results, steps = self.results, set(self.battery.steps)
        return [result for step, result in results.items() if step in steps]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Look for stale entries; end red where nothing of what was asked for has run."""
        asked_for = self.asked_for
        if hasattr(self.config, "workerinput") or not asked_for:
            return
        patient = bool(self.options.get("fail_stale"))
        self.stale = self.battery.stale(asked_for, patient=patient)
        refused = self.stale and patient
        if session.exitstatus == pytest.ExitCode.OK and (self._proved_nothing or refused):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The table of the command line."""
        if self.reported:
            terminalreporter.section("toeplitz_core")
            terminalreporter.write(self._summary())

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self) -> None:
        """End the workers."""
        self.battery.close()

    @property
    def _proved_nothing(self) -> bool:
        """Whether a subject was asked for, and check would end with 3 after such a run."""
        asked_for = self.asked_for
        return self.explicit and bool(asked_for) and exit_code(asked_for) == 3

    def _summary(self) -> str:
        results, asked_for = list(self.results.values()), self.asked_for
        writer = self.config.get_terminal_writer()
        # Rich asks the file what can be printed.
        file = io.TextIOWrapper(io.BytesIO(), encoding=getattr(sys.__stdout__, "encoding", None) or "utf-8")
        # A log has no width of its own.
        width = writer.fullwidth if writer.hasmarkup else 160
        console = Console(file=file, force_terminal=writer.hasmarkup, width=width, emoji=False)
        print_results(console, results, self.battery.left_out if asked_for else ())
        record = Record(asked_for, 0, known=self.battery.known, stale=self.stale)
        print_known(console, record)
        print_assumed(console, results)
        if self._proved_nothing:
            plain(console, "nothing proven: no law was held against a subject that the command line names")
        file.seek(0)
        return file.read()
