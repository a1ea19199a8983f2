"""The pytest plugin: the options of ``toeplitz-core check``, and its table at the end.

It is loaded by ``-p toeplitz_core.testing.plugin``, or by ``pytest_plugins`` in a conftest.py at the root; never
because it is installed.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from toeplitz_core.testing import suite
from toeplitz_core.testing.decorator import COMMAND_LINE
from toeplitz_core.testing.findings.staleness import Stale
from toeplitz_core.testing.isolation.isolated import SubjectError
from toeplitz_core.testing.laws.result import Result, Step
from toeplitz_core.testing.reports.in_pytest import PROPERTY
from toeplitz_core.testing.reports.table import print_assumed, print_known, print_results
from toeplitz_core.testing.reports.terminal import header, options_line
from toeplitz_core.testing.reports.text import plain
from toeplitz_core.testing.run.configuration import project
from toeplitz_core.testing.run.options import OPTIONS, Option, merged
from toeplitz_core.testing.run.record import Record, exit_code, read_result
from toeplitz_core.testing.run.session import Session
from toeplitz_core.testing.search.tally import merged as merged_results

# What a pytest session judges.
SESSION = pytest.StashKey[Session]()


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
    if any(option.dest == _dest(OPTIONS["subject"]) for option in there):
        return
    taken = {name for option in there for name in option.names()}
    group = parser.getgroup("toeplitz_core", "toeplitz_core: convolutions checked against their matrix")
    for option in OPTIONS.values():
        name = f"--toeplitz-{option.name}" if f"--{option.name}" in taken else f"--{option.name}"
        more: dict[str, Any] = {"action": "append" if option.repeatable else "store"}
        if option.kind is bool:
            more = {"action": "store_true"}
        elif not option.repeatable:
            more["type"] = option.kind
        if option.metavar:
            more["metavar"] = option.metavar
        said = f"Not for pytest: use {option.pytest}." if option.pytest else option.help
        group.addoption(name, dest=_dest(option), default=None, help=said.replace("%", "%%"), **more)


def _dest(option: Option) -> str:
    return f"toeplitz_{option.key}"


def pytest_configure(config: pytest.Config) -> None:
    """Read the options; what is wrong with them ends pytest before anything runs."""
    try:
        given = _given(config)
        session = _session(config, given)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[SESSION] = session
    # Decorators run when test files are imported, and have nobody to ask.
    before = COMMAND_LINE.set(given)
    config.add_cleanup(lambda: COMMAND_LINE.reset(before))
    driver = Driver(config, session, explicit="subject" in given)
    config.pluginmanager.register(driver, "toeplitz_core driver")


def _given(config: pytest.Config) -> dict[str, Any]:
    """The options of the command line, by their keys."""
    given = {}
    for option in OPTIONS.values():
        value = getattr(config.option, _dest(option), None)
        if value is None:
            continue
        if option.pytest:
            raise ValueError(f"--{option.name} is not for pytest: use {option.pytest}")
        given[option.key] = option.checked(value)
    return given


def _session(config: pytest.Config, given: Mapping[str, Any]) -> Session:
    table = {
        key: value
        for key, value in project(config.invocation_params.dir).items()
        if not OPTIONS[key.replace("_", "-")].pytest
    }
    return Session(merged(given, table, {"subject": ("torch",)}))


@pytest.fixture(scope="session")
def toeplitz_session(request: pytest.FixtureRequest) -> Session:
    """What judges the steps of this process."""
    return request.config.stash[SESSION]


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
        metafunc.parametrize("toeplitz_step", metafunc.config.stash[SESSION].steps, ids=str)


class Driver:
    """The hooks that need the options: header, start, table and end."""

    def __init__(self, config: pytest.Config, session: Session, *, explicit: bool) -> None:
        self.config = config
        self.session = session
        self.explicit = explicit
        self.reported: dict[str, Result] = {}
        self.stale: list[Stale] = []

    def pytest_report_header(self) -> list[str]:
        """Echo the options, so that a typo shows."""
        lines = header(self.session.plan).splitlines()
        return [*lines, *filter(None, [options_line(self.session.options)])]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Import the subjects that the command line names: one that is not there ends pytest before anything runs."""
        if not self.explicit or hasattr(self.config, "workerinput") or self.config.option.collectonly:
            return
        try:
            self.session.start()
        except SubjectError as error:
            self.session.close()
            raise pytest.UsageError(str(error)) from None
        if self.config.pluginmanager.hasplugin("dsession"):
            self.session.close()  # under xdist, tests run in other processes, which have workers of their own

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
            found.setdefault(result.step, []).append(result)
        ran = {step: [r for r in results if r.cases] or results[-1:] for step, results in found.items()}
        order = [step for step in self.session.steps if step in ran]
        return {step: merged_results(ran[step]) for step in dict.fromkeys([*order, *ran])}

    @property
    def asked_for(self) -> list[Result]:
        """The results of what the options name."""
        results, steps = self.results, set(self.session.steps)
        return [result for step, result in results.items() if step in steps]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Look for stale entries; end red where nothing of what was asked for has run."""
        asked_for = self.asked_for
        if hasattr(self.config, "workerinput") or not asked_for:
            return
        with contextlib.suppress(SubjectError):  # its tests have failed for that
            self.stale = self.session.stale(asked_for)
        refused = self.stale and self.session.options.fail_stale
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
        self.session.close()

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
        print_results(console, results, self.session.left_out if asked_for else ())
        record = Record(asked_for, 0, known=self.session.plan.known, stale=self.stale)
        print_known(console, record)
        print_assumed(console, results)
        if self._proved_nothing:
            plain(console, "nothing proven: no law could be checked on a subject that the command line names")
        file.seek(0)
        return file.read()
